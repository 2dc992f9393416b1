"""How the outside network is reached: proxies and trusted certificates. Values only; `system.http` acts on them."""

from __future__ import annotations

from kairosd.frozen import frozen


@frozen
class NetworkSettings:
    """What `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY` and `SSL_CERT_FILE` said; empty = not set.

    `no_proxy` holds host names, `.domain` suffixes or `*`. Loopback addresses never go through a proxy.
    """

    https_proxy: str = ""
    http_proxy: str = ""
    no_proxy: tuple[str, ...] = ()
    ca_file: str = ""
