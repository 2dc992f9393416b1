"""The one place where HTTP clients are made. Imported on first need: an idle daemon saves what httpx costs."""

from __future__ import annotations

import ssl
from http.cookiejar import CookieJar

import httpx

from kairosd.errors import ConfigError
from kairosd.system.network import NetworkSettings

CONNECT_SECONDS = 10.0
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def make_client(settings: NetworkSettings, *, silence_seconds: float, secure: bool = True) -> httpx.AsyncClient:
    """A client that follows `settings` and never the environment, and follows no redirects by itself.

    `silence_seconds` bounds the wait for the first byte and between any two. With `secure` false no certificates are
    loaded (80 ms and 8 MB saved for a loopback server), and any https address is then refused, never trusted blindly.
    Raises `ConfigError` when the certificate file is unusable.
    """
    verify = _certificates(settings.ca_file) if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx.AsyncClient(
        verify=verify,
        cookies=_NoCookies(),
        trust_env=False,
        mounts=_mounts(settings, verify) if secure else None,
        timeout=httpx.Timeout(silence_seconds, connect=min(CONNECT_SECONDS, silence_seconds)),
        limits=httpx.Limits(max_connections=8, max_keepalive_connections=2, keepalive_expiry=30.0),
    )


class _NoCookies(CookieJar):
    """Keeps none: nobody we talk to needs to know us again."""

    def extract_cookies(self, response: object, request: object) -> None:
        """Takes nothing."""


def _certificates(ca_file: str) -> ssl.SSLContext:
    if not ca_file:
        return httpx.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the certificate file {ca_file} cannot be used: {error}", fix="check SSL_CERT_FILE"
        ) from error


def _mounts(settings: NetworkSettings, verify: ssl.SSLContext) -> dict[str, httpx.AsyncBaseTransport | None]:
    hosts = [host.strip() for host in settings.no_proxy if host.strip()]
    if "*" in hosts:
        return {}
    mounts: dict[str, httpx.AsyncBaseTransport | None] = {}
    for scheme, proxy in (("http://", settings.http_proxy), ("https://", settings.https_proxy)):
        if proxy:
            mounts[scheme] = httpx.AsyncHTTPTransport(proxy=_address(proxy), verify=verify)
    if mounts:
        mounts.update({f"all://{host}": None for host in LOOPBACK})
        mounts.update({_pattern(host): None for host in hosts})
    return mounts


def _address(proxy: str) -> str:
    return proxy if "://" in proxy else f"http://{proxy}"


def _pattern(host: str) -> str:
    bare = host.removeprefix("*").removeprefix(".")
    if bare.replace(".", "").replace(":", "").isdigit():
        return f"all://{bare}"
    return f"all://*{bare}" if host == bare else f"all://*.{bare}"
