"""The proxy of one command: a process outside of the sandbox, the only way from it to the hosts that it may reach.

The sandbox has a network of its own with nothing in it. Before its program starts, a socket that listens in there is
sent to us (SCM_RIGHTS); what connects to it reaches us, and nothing else. We speak `CONNECT host:port` of HTTP
(RFC 9110) and nothing more: the listed host's name is looked up here, once, and only an address of the internet, or
one that is listed itself, is connected to, so that no name can lead back to this machine or its network.

Standard library and `core.hosts`. It ends by SIGTERM, with its account on stdout, and dies with its parent.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

from kairosd.core.hosts import Connection, Reach, read_target

CONNECTIONS_MAX = 64  # at the same time; more wait
CONNECTIONS_EVER = 10_000
BYTES_MAX = 4_000_000_000  # of one command, to and fro
PLACES_MAX = 100  # told apart in the account
HEAD_MAX = 8192
HEAD_SECONDS = 10.0
CONNECT_SECONDS = 15.0
ADDRESSES_MAX = 4  # tried of one name
CHUNK = 65536
ONLY_CONNECT = "only HTTPS, by CONNECT, goes out"
UNLISTED = "not on the owner's list of hosts"
INWARD = "its name leads to an address of this machine or its network"
NAMELESS = "its name is not known"
AWAY = "it does not answer"


class Account:
    """What has been connected, by place; threads write it."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, int, str], list[int]] = {}
        self._lock = threading.Lock()
        self._bytes = 0

    def count(self, host: str, port: int, *, why: str = "") -> list[int]:
        """One more connection to there; the numbers that its bytes are added to."""
        with self._lock:
            known = (host, port, why) in self._places or len(self._places) < PLACES_MAX
            numbers = self._places.setdefault((host, port, why) if known else ("others", 0, why), [0, 0, 0])
            numbers[0] += 1
            return numbers

    def add(self, numbers: list[int], direction: int, *, size: int) -> bool:
        """Adds bytes sent (1) or received (2); False when it is enough."""
        with self._lock:
            numbers[direction] += size
            self._bytes += size
            return self._bytes <= BYTES_MAX

    def write(self) -> None:
        """Writes it to stdout, also where a thread holds the lock for too long."""
        held = self._lock.acquire(timeout=0.2)
        told = [asdict(Connection(*place, *numbers)) for place, numbers in list(self._places.items())]
        os.write(1, json.dumps(told).encode())
        if held:
            self._lock.release()


class RefusedError(Exception):
    """Why a request does not go out."""

    def __init__(self, status: int, host: str, *, port: int, why: str) -> None:
        super().__init__(why)
        self.status, self.host, self.port, self.why = status, host, port, why


class Proxy:
    """Serves one listening socket."""

    def __init__(self, reach: Reach, account: Account) -> None:
        self._reach = reach
        self._account = account
        self._room = threading.BoundedSemaphore(CONNECTIONS_MAX)

    def serve(self, listener: socket.socket) -> None:
        """Accepts until there have been too many, then lets those under way go on until we are told to end."""
        for _ in range(CONNECTIONS_EVER):
            self._room.acquire()
            client, _ = listener.accept()
            threading.Thread(target=self._one, args=(client,), daemon=True).start()
        listener.close()
        signal.pause()

    def _one(self, client: socket.socket) -> None:
        try:
            with client:
                self._converse(client)
        except OSError:
            return  # either side has gone
        finally:
            self._room.release()

    def _converse(self, client: socket.socket) -> None:
        try:
            head, rest = _head(client)
            host, port, server = self._open(head)
        except RefusedError as refused:
            self._account.count(refused.host, refused.port, why=refused.why)
            client.sendall(_answer(refused.status, f"Kairos: {refused.why}"))
            return
        numbers = self._account.count(host, port)
        with server:
            client.sendall(_answer(200, "Connection established"))
            server.sendall(rest)
            self._account.add(numbers, 1, size=len(rest))
            client.settimeout(None)
            server.settimeout(None)
            sent, received = (partial(self._account.add, numbers, direction) for direction in (1, 2))
            back = threading.Thread(target=_pump, args=(server, client), kwargs={"tally": received}, daemon=True)
            back.start()
            _pump(client, server, tally=sent)
            back.join()

    def _open(self, head: bytes) -> tuple[str, int, socket.socket]:
        method, _, target = head.partition(b"\r\n")[0].decode("latin-1").rpartition(" ")[0].partition(" ")
        place = read_target(target)
        if method != "CONNECT" or place is None:
            raise RefusedError(405, "", port=0, why=ONLY_CONNECT)
        host, port = place
        if not self._reach.allows(host, port):
            raise RefusedError(403, host, port=port, why=UNLISTED)
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise RefusedError(502, host, port=port, why=NAMELESS) from None
        addresses = [each for each in found if self._reach.allows_address(str(each[4][0]), port)]
        if not addresses:
            raise RefusedError(403, host, port=port, why=INWARD)
        for family, kind, protocol, _, address in addresses[:ADDRESSES_MAX]:
            server = socket.socket(family, kind, protocol)
            server.settimeout(CONNECT_SECONDS)
            try:
                server.connect(address)
            except OSError:
                server.close()
            else:
                return host, port, server
        raise RefusedError(504, host, port=port, why=AWAY)


def _pump(source: socket.socket, sink: socket.socket, *, tally: Callable[..., bool]) -> None:
    """One direction, to its end; the other may go on."""
    try:
        while data := source.recv(CHUNK):
            if not tally(size=len(data)):
                break
            sink.sendall(data)
        else:
            sink.shutdown(socket.SHUT_WR)
            return
    except OSError:
        pass  # gone, so the other direction has nobody left either
    for end in (source, sink):
        _close(end)


def _close(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # closed by the other side


def _head(client: socket.socket) -> tuple[bytes, bytes]:
    """A request's head, and what came behind it. Raises `RefusedError`, or `OSError` for one that never ends."""
    deadline, data = time.monotonic() + HEAD_SECONDS, b""
    while b"\r\n\r\n" not in data:
        client.settimeout(max(0.01, deadline - time.monotonic()))
        if len(data) > HEAD_MAX:
            raise RefusedError(431, "", port=0, why=ONLY_CONNECT)
        if not (more := client.recv(CHUNK)):
            raise ConnectionResetError
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def _answer(status: int, phrase: str) -> bytes:
    closing = "" if status == 200 else "Connection: close\r\nContent-Length: 0\r\n"
    return f"HTTP/1.1 {status} {phrase}\r\n{closing}\r\n".encode()


def main() -> None:
    """Serves the socket that comes over the descriptor named by the first argument; stdin has the `Reach` as JSON."""
    account = Account()

    def end(number: int, frame: object) -> None:
        account.write()
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    given = json.load(sys.stdin.buffer)
    with socket.socket(fileno=int(sys.argv[1])) as door:
        _, descriptors, _, _ = socket.recv_fds(door, 1, 1)
    if not descriptors:
        return  # the sandbox could not be built
    with socket.socket(fileno=descriptors[0]) as listener:
        Proxy(Reach(tuple(given["allow"]), tuple(given["deny"])), account).serve(listener)
