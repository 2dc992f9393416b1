"""Hosts that commands may reach: what the owner lists, and which addresses a name may lead to."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from kairosd.frozen import frozen

PORT = 443  # of a host that is listed without one
EVERY = "*"
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_PATTERN = re.compile(
    rf"(?P<name>\*|(?:\*\.)?{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{{1,5}}))?", re.ASCII
)
_TARGET = re.compile(
    rf"(?P<name>{_LABEL}(?:\.{_LABEL}){{0,126}}\.?|\[[0-9a-f:.]{{2,45}}\]):(?P<port>[0-9]{{1,5}})", re.ASCII
)
_NUMBER = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)")
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the last four bytes are an IPv4 address


@frozen
class Reach:
    """Where a command may connect to: what `allow` lists and `deny` does not. Patterns as `read_pattern` takes them.

    A port that is left out is 443 in `allow`, and any in `deny`.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    def allows(self, host: str, port: int) -> bool:
        """Whether the name (or the plain address) is listed."""
        listed = any(_covers(pattern, host, port=port, otherwise=PORT) for pattern in self.allow)
        return listed and not self._denies(host, port)

    def allows_address(self, address: str, port: int) -> bool:
        """Whether a listed name may lead to `address`: to one of the internet's, or to one that is listed itself."""
        if self._denies(address, port):
            return False
        named = (each for each in self.allow if read_pattern(each)[0] != EVERY)  # every host is not every network
        return is_public(address) or any(_covers(each, address, port=port, otherwise=PORT) for each in named)

    def _denies(self, host: str, port: int) -> bool:
        known = _address(host)
        names = {host} if known is None else {host, str(known), str(_inner(known))}
        return any(_covers(pattern, name, port=port, otherwise=port) for pattern in self.deny for name in names)


@frozen
class Connection:
    """What a command's connections to one place came to. `why` is empty where they were allowed; sizes in bytes."""

    host: str
    port: int
    why: str
    count: int
    sent: int
    received: int


def read_pattern(text: str) -> tuple[str, int | None]:
    """The name and port of `example.org`, `*.example.org` (whatever lies below it), `192.0.2.1:8080` or `*`.

    Raises `ValueError` for anything else.
    """
    found = _PATTERN.fullmatch(text)
    if found is None:
        raise ValueError(f'"{text}" is no host: write example.org, *.example.org or example.org:8443, in lower case')
    name, port = found["name"].strip("[]"), int(found["port"]) if found["port"] else None
    if port is not None and not 0 < port < 65536:
        raise ValueError(f"{port} is no port")
    # What looks like a number is taken for an address by whoever connects, in forms (0x7f.1) that no list knows.
    if ("[" in text or _NUMBER.fullmatch(name.rsplit(".", 1)[-1])) and str(_address(name)) != name:
        raise ValueError(f'"{name}" is neither a name nor an address as it is usually written')
    return name, port


def read_target(text: str) -> tuple[str, int] | None:
    """Host and port of a request's `host:port`; None for what is not plainly that."""
    found = _TARGET.fullmatch(text.lower())
    if found is None or not 0 < int(found["port"]) < 65536:
        return None
    return found["name"].strip("[]").removesuffix("."), int(found["port"])


def is_public(address: str) -> bool:
    """Whether an address is one of the internet's: not this machine's, its network's, or one inside another's shape."""
    known = _address(address)
    known = known and _inner(known)
    return known is not None and known.is_global and not (known.is_multicast or known.is_reserved)


def _inner(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that one of IPv6 leads to, where it does; else itself."""
    if not isinstance(address, IPv6Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _covers(pattern: str, host: str, *, port: int, otherwise: int) -> bool:
    name, given = read_pattern(pattern)
    if port != (otherwise if given is None else given):
        return False
    return name in (EVERY, host) or (name.startswith("*.") and host.endswith(name[1:]))


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
