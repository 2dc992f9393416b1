"""Telling systemd how the daemon is (sd_notify(3)): one datagram a message, nothing at all without systemd."""

from __future__ import annotations

import logging
import os
import socket
import time

log = logging.getLogger("kairosd.notify")


class ServiceManager:
    """The other end of `NOTIFY_SOCKET`. With an empty `address` every method does nothing.

    A message that cannot be sent is logged: systemd judges the silence itself, and the daemon's work goes on.
    """

    def __init__(self, address: str) -> None:
        # "@" stands for the zero byte of Linux's abstract sockets.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if address else None
        if self._socket is not None:
            self._socket.setblocking(False)

    def ready(self, status: str = "") -> None:
        """Start-up (or a reload) is through."""
        self._send("READY=1", *_status(status))

    def reloading(self) -> None:
        """The configuration is being read again; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Shutdown has begun."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(*_status(text))

    def watchdog(self) -> None:
        """Still alive."""
        self._send("WATCHDOG=1")

    def close(self) -> None:
        """Lets go of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str) -> None:
        if self._socket is None or not lines:
            return
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.warning("systemd could not be told %s: %s", lines[0], error)


def watchdog_seconds(interval: str, pid: str) -> float | None:
    """How often to feed the watchdog: half of `WATCHDOG_USEC`; None when there is none or it is for another process."""
    if not interval.isdigit() or int(interval) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(interval) / 2_000_000


def _status(text: str) -> tuple[str, ...]:
    return (f"STATUS={' '.join(text.split())}",) if text else ()
