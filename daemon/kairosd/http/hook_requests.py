"""Reading webhook requests: HTTP/1.1 by httptools, with a bound on everything a stranger can make us keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus

import httptools

HEAD_MAX = 32 * 1024  # bytes of request line and headers; GitHub sends less than 2 kB
HEADERS_MAX = 100
DRAIN_MAX = 26_000_000  # bytes read and dropped of a body over the cap, so that its sender lives to read the answer


@dataclass(slots=True)
class Request:
    """A request as it came: `headers` by lower-case name, where one that is there twice is empty.

    `body` is None when it was longer than its room. Behind the `last` one nothing more is read.
    """

    method: bytes = b""
    path: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes | None = None
    last: bool = False


class RequestError(Exception):
    """What is sent cannot be read on; `status` is the answer."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class RequestReader:
    """Takes apart the bytes of one connection.

    `room(request)` says, when a head is read, how many bytes of body may follow (0 = it is dropped); `done(request)` is
    called for each whole request.
    """

    def __init__(self, room: Callable[[Request], int], done: Callable[[Request], None]) -> None:
        self._room_for = room
        self._done = done
        self._parser = httptools.HttpRequestParser(self)
        self._request = Request()
        self._url = b""
        self._body: list[bytes] = []
        self._room = 0
        self._size = 0  # of the body so far
        self._held = 0  # bytes since the last that ended a request or were body: the parser may keep all of them
        self._told = 0  # bytes of the head as the parser told of them
        self._lines = 0
        self._error = HTTPStatus.BAD_REQUEST
        self.idle = True  # before the first byte of a request
        self.awaited = False  # the sender wants to hear "100 Continue" before it sends the body

    def feed(self, data: memoryview) -> None:
        """Reads on. Raises `RequestError`; call it no more after that, or after the last request."""
        self._held += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._request.last:
                raise RequestError(self._error) from None
        # A header that never ends, before the body or behind its last chunk, is kept inside the parser and calls nobody
        # back, so the bytes are counted here too.
        if self._held > HEAD_MAX:
            raise RequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_message_begin(self) -> None:
        self.idle = False
        self._request = Request()
        self._body = []
        self._url = b""
        self._size = self._told = self._lines = 0

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._measure(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        headers, key = self._request.headers, name.lower()
        headers[key] = b"" if key in headers else value
        self._lines += 1
        self._measure(len(name) + len(value))

    def on_headers_complete(self) -> None:
        request = self._request
        request.method = self._parser.get_method()
        request.path = httptools.parse_url(self._url).path or b""
        self._room = self._room_for(request)
        length = int(request.headers.get(b"content-length") or 0)
        self.awaited = b"expect" in request.headers
        if length > DRAIN_MAX or (self.awaited and length > self._room):
            self._cut()

    def on_body(self, body: bytes) -> None:
        self.awaited = False
        self._held = 0
        self._size += len(body)
        if self._size <= self._room:
            self._body.append(body)
        else:
            self._body.clear()
            if self._size > DRAIN_MAX:
                self._cut()

    def on_message_complete(self) -> None:
        request = self._request
        request.body = b"".join(self._body) if self._size <= self._room else None
        request.last = self._parser.should_upgrade() or not self._parser.should_keep_alive()
        self._held = 0
        self.idle = True
        self.awaited = False
        self._done(request)

    def _cut(self) -> None:
        """Hands in the request without its body, of which no more is read."""
        self._request.last = True
        self._held = 0
        self.awaited = False
        self._done(self._request)
        raise ValueError("the rest is not read")  # stops the parser

    def _measure(self, size: int) -> None:
        self._told += size
        if self._told > HEAD_MAX or self._lines > HEADERS_MAX:
            self._error = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise ValueError("the head is too large")  # stops the parser
