"""The process environment, read once and by nobody else (`wire` finds the home from it)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType

from kairosd.frozen import frozen


@frozen
class Environment:
    """What the daemon wants to know of its environment; empty = not set.

    `variables` is the whole of it, for secrets that the configuration names; like the proxies, which may carry a
    password, it stays out of `repr`. `no_proxy` holds host names, `.domain` suffixes or `*`.
    """

    notify_socket: str = ""
    watchdog_usec: str = ""
    watchdog_pid: str = ""
    journal_stream: str = ""
    invocation_id: str = ""
    path: str = ""
    dbus_session_bus_address: str = ""
    credentials_directory: str = ""
    ssl_cert_file: str = ""
    https_proxy: str = field(default="", repr=False)
    http_proxy: str = field(default="", repr=False)
    no_proxy: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)


def read_environment(variables: Mapping[str, str] | None = None) -> Environment:
    """The environment as it is now; `variables` stands in for the process's own."""
    given = MappingProxyType(dict(os.environ if variables is None else variables))
    return Environment(
        notify_socket=given.get("NOTIFY_SOCKET", ""),
        watchdog_usec=given.get("WATCHDOG_USEC", ""),
        watchdog_pid=given.get("WATCHDOG_PID", ""),
        journal_stream=given.get("JOURNAL_STREAM", ""),
        invocation_id=given.get("INVOCATION_ID", ""),
        path=given.get("PATH", ""),
        dbus_session_bus_address=given.get("DBUS_SESSION_BUS_ADDRESS", ""),
        credentials_directory=given.get("CREDENTIALS_DIRECTORY", ""),
        ssl_cert_file=given.get("SSL_CERT_FILE", ""),
        https_proxy=_either(given, "https_proxy"),
        http_proxy=_either(given, "http_proxy"),
        no_proxy=tuple(host.strip() for host in _either(given, "no_proxy").split(",") if host.strip()),
        variables=given,
    )


def _either(given: Mapping[str, str], name: str) -> str:
    """Lower case wins, as in curl."""
    return given.get(name) or given.get(name.upper(), "")
