"""A model server that fails in every way that providers do, on real sockets, and writes down what it sent.

`FaultServer.fault` names the fault that every request meets from now on; None = it answers properly. Each connection
and request leaves a `Served` in `served`: what reached the server, and each byte that it handed to the system for the
client (up to `SHOWN`). A fault that no server of ours can log (nobody listens, a name that does not resolve) is proved
by a client of the test's own: `prove`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.servers import ModelServer, Reply, Request

SHOWN = 20_000  # bytes of an answer that the log keeps
DRIP = 0.02  # real seconds between two dripped bytes
LONG = "It is all there, and it is as it should be. " * 6
DECISION = {"verdict": "ignore", "reason": "nothing to do here, all is as it was", "goal": "", "confidence": 80}


@dataclass
class Served:
    """One request, or one connection that never became one, and what was sent back."""

    fault: str | None
    request: Request | None = None
    sent: bytes = b""
    size: int = 0
    closed: str = ""  # how the server ended it by itself: close, abort
    pause: float = 0.0  # seconds of deliberate silence


class Tap:
    """A `StreamWriter` that keeps what goes through it."""

    def __init__(self, writer: asyncio.StreamWriter, served: Served) -> None:
        self._writer = writer
        self.served = served
        self.transport = self

    def write(self, data: bytes) -> None:
        self.served.size += len(data)
        self.served.sent = (self.served.sent + data)[:SHOWN]
        self._writer.write(data)

    async def drain(self) -> None:
        await self._writer.drain()

    def close(self) -> None:
        self.served.closed = "close"
        self._writer.close()

    def abort(self) -> None:
        self.served.closed = "abort"
        self._writer.transport.abort()


Misbehave = Callable[["FaultServer", Request, Tap], Awaitable[bool]]


@dataclass(frozen=True)
class Fault:
    """`shows` finds the fault in what the log holds of one request. `where`: how the client gets to meet it.

    `turn` marks an answer that is no outage: the model is there, and has to be told or asked again. `slow` takes
    real time, since it is the system's own timers that end it.
    """

    name: str
    answer: Misbehave | None = None
    shows: Callable[[Served], bool] = lambda served: served.size > 0
    where: str = "server"  # or refused, dns, tls, backlog
    turn: bool = False
    slow: bool = False


class FaultServer(ModelServer):
    """Proper while `fault` is None."""

    def __init__(self) -> None:
        super().__init__(proper)
        self.fault: str | None = None
        self.served: list[Served] = []
        self._held: list[socket.socket] = []

    async def answer(self, request: Request, writer: Any) -> bool:
        served = Served(self.fault, request)
        self.served.append(served)
        tap = Tap(writer, served)
        fault = FAULTS.get(self.fault or "")
        if request.method == "GET" or fault is None or fault.answer is None:
            return await super().answer(request, tap)  # type: ignore[arg-type]
        self.log.append(request)
        if fault.turn and not request.form:
            self.fault = None  # met once: how a run that meets it again and again ends is another question
        return await fault.answer(self, request, tap)

    def met(self, fault: str) -> list[Served]:
        """What was sent while `fault` was on."""
        return [served for served in self.served if served.fault == fault]

    async def stream(self, request: Request, reply: Reply, tap: Tap) -> bool:
        """A scripted stream through the tap."""
        return await self._stream(request, reply, writer=tap)  # type: ignore[arg-type]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.fault == "tls":
            # Keeps the client's first bytes as the proof: a ClientHello begins with 0x16 0x03.
            served = Served("tls", sent=await reader.read(3))
            self.served.append(served)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()
            return
        with contextlib.suppress(ValueError):  # a client that gave up in the middle of its request
            await super()._serve(reader, writer)

    def full_backlog(self) -> str:
        """The address of a socket that accepts no more connections: the system drops whoever knocks."""
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        self._held.append(listener)
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            self._held.append(filler)
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    async def stop(self) -> None:
        for one in self._held:
            one.close()
        self._held.clear()
        await super().stop()


def proper(request: Request) -> Reply:
    """What a model in good health says: nothing to do, and done."""
    return Reply(form=DECISION) if request.form else Reply(text=LONG)


def prove(url: str) -> str:
    """What a client of the test's own meets at `url`. Empty when it meets a server."""
    host, _, port = url.split("://")[1].partition("/")[0].partition(":")
    try:
        with socket.create_connection((host, int(port or 80)), timeout=0.5):
            return ""
    except OSError as error:
        return f"{type(error).__name__}: {error}"


def _head(status: int, kind: str, more: Mapping[str, str] | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} Fault", f"content-type: {kind}", *(f"{k}: {v}" for k, v in (more or {}).items())]
    return "\r\n".join([*lines, "", ""]).encode()


def _stream_head(more: Mapping[str, str] | None = None) -> bytes:
    return _head(200, "text/event-stream", {"transfer-encoding": "chunked", **(more or {})})


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def status(code: int, body: Any, headers: Mapping[str, str] | None = None, kind: str = "") -> Misbehave:
    """A whole answer with that status."""

    async def answer(server: FaultServer, request: Request, tap: Tap) -> bool:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        kind_ = kind or ("text/html" if isinstance(body, str) else "application/json")
        tap.write(_head(code, kind_, {"content-length": str(len(data)), **(headers or {})}) + data)
        await tap.drain()
        return True

    return answer


def said(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


def scripted(reply: Callable[[Request], Reply]) -> Misbehave:
    """A stream of the scripted server's, also a cut one."""

    async def answer(server: FaultServer, request: Request, tap: Tap) -> bool:
        return await server.stream(request, reply(request), tap)

    return answer


def calling(**more: Any) -> Callable[[Request], Reply]:
    """A reply with a long tool call, or a long form."""

    def reply(request: Request) -> Reply:
        if request.form:
            return Reply(form={**DECISION, "reason": LONG}, **more)
        return Reply(uses=[("read", {"path": "README.md", "why": LONG})], **more)

    return reply


def talking(**more: Any) -> Callable[[Request], Reply]:
    """A reply with long text, or a long form where one is asked for."""
    return lambda request: Reply(form={**DECISION, "reason": LONG}, **more) if request.form else Reply(LONG, **more)


async def silence(server: FaultServer, request: Request, tap: Tap) -> bool:
    tap.served.pause = 3600.0
    await asyncio.sleep(3600)
    return False


async def stall(server: FaultServer, request: Request, tap: Tap) -> bool:
    return await server.stream(request, Reply(stall=True), tap)


async def drip_headers(server: FaultServer, request: Request, tap: Tap) -> bool:
    for letter in _stream_head({"x-filler": "x" * 10_000}):
        tap.write(bytes([letter]))
        await tap.drain()
        await asyncio.sleep(0.1)
    return False


async def drip_body(server: FaultServer, request: Request, tap: Tap) -> bool:
    """Never silent, and never done: a comment's letter at a time."""
    tap.write(_stream_head())
    while True:
        tap.write(_chunk(b":" if tap.served.size % 2 else b": \n"))
        await tap.drain()
        await asyncio.sleep(DRIP)


async def endless(server: FaultServer, request: Request, tap: Tap) -> bool:
    """Words without end, far beyond max_tokens."""
    tap.write(_stream_head())
    if request.provider == "anthropic":
        start = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        tap.write(_chunk(f"data: {json.dumps(start)}\n\n".encode()))
        delta: Any = {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": "word " * 4000},
        }
    else:
        delta = {"choices": [{"index": 0, "delta": {"content": "word " * 4000}, "finish_reason": None}]}
    piece = _chunk(f"data: {json.dumps(delta)}\n\n".encode())
    while True:
        tap.write(piece)
        await tap.drain()


async def huge_line(server: FaultServer, request: Request, tap: Tap) -> bool:
    tap.write(_stream_head())
    tap.write(_chunk(b'data: {"type": "'))
    while True:
        tap.write(_chunk(b"x" * 65_536))
        await tap.drain()


async def gzip_bomb(server: FaultServer, request: Request, tap: Tap) -> bool:
    """A hundred megabytes in a hundred kilobytes."""
    tap.write(_stream_head({"content-encoding": "gzip"}))
    tap.write(_chunk(_bomb()))
    await tap.drain()
    return False


@cache
def _bomb() -> bytes:
    return gzip.compress(b"data: " + b"x" * 100_000_000, compresslevel=1)


def raw_events(*events: str) -> Misbehave:
    """Exactly these data lines after the headers, then a neat end."""

    async def answer(server: FaultServer, request: Request, tap: Tap) -> bool:
        tap.write(_stream_head())
        for event in events:
            tap.write(_chunk(f"data: {event}\n\n".encode()))
        tap.write(b"0\r\n\r\n")
        await tap.drain()
        return True

    return answer


async def wrong_type(server: FaultServer, request: Request, tap: Tap) -> bool:
    data = b'event: message_start\ndata: {"type": "message_start"}\n\n'
    tap.write(_head(200, "text/plain", {"content-length": str(len(data))}) + data)
    await tap.drain()
    return True


async def not_text(server: FaultServer, request: Request, tap: Tap) -> bool:
    tap.write(_stream_head() + _chunk(b"data: \xff\xfe\xfa\n\n") + b"0\r\n\r\n")
    await tap.drain()
    return True


async def hang_up(server: FaultServer, request: Request, tap: Tap) -> bool:
    tap.abort()
    return False


async def half_head(server: FaultServer, request: Request, tap: Tap) -> bool:
    tap.write(b"HTTP/1.1 200 OK\r\ncontent-ty")
    await tap.drain()
    tap.close()
    return False


async def nonsense(server: FaultServer, request: Request, tap: Tap) -> bool:
    tap.write(b"220 mail.example.org ESMTP ready\r\n")
    await tap.drain()
    tap.close()
    return False


HTML = "<html><body><h1>Bad gateway</h1></body></html>"
BUSY = said("overloaded_error", "Overloaded")
LIMITED = said("rate_limit_error", "slow down")


def has(*words: bytes) -> Callable[[Served], bool]:
    """Whether all of these were sent."""
    return lambda served: all(word in served.sent for word in words)


def _cut(served: Served) -> bool:
    return bool(served.closed) and served.size > 0


def _said(served: Served) -> bytes:
    """What was sent after the head, without the marks between its chunks."""
    rest, said_ = served.sent.partition(b"\r\n\r\n")[2], b""
    while rest:
        mark, _, rest = rest.partition(b"\r\n")
        size = int(mark, 16)
        said_, rest = said_ + rest[:size], rest[size + 2 :]
    return said_


def _unended(served: Served) -> bool:
    return len(_said(served)) > 100 and b"message_stop" not in _said(served) and b"[DONE]" not in _said(served)


def _empty(served: Served) -> bool:
    return (b"message_stop" in _said(served) or b"[DONE]" in _said(served)) and b"text_delta" not in served.sent


def _faults() -> Sequence[Fault]:
    return (
        Fault("refused", where="refused"),
        Fault("dns", where="dns"),
        Fault("connect timeout", where="backlog", slow=True),
        Fault("tls", where="tls", shows=lambda served: served.sent[:2] == b"\x16\x03"),
        Fault("hang up", hang_up, lambda served: served.closed == "abort" and served.size == 0),
        Fault("half a head", half_head, _cut),
        Fault("not http", nonsense, has(b"ESMTP")),
        Fault("silence", silence, lambda served: served.pause > 0 and served.size == 0, slow=True),
        Fault("headers, then silence", stall, lambda served: 50 < served.size < 200, slow=True),
        Fault("headers dripped", drip_headers, lambda served: 1 < served.size < 10_000, slow=True),
        Fault("body dripped", drip_body, lambda served: served.size > 100),
        Fault("400", status(400, said("invalid_request_error", "tools: too many")), has(b" 400 ")),
        Fault("401", status(401, said("authentication_error", "invalid x-api-key")), has(b" 401 ")),
        Fault("402 no credit", status(402, said("billing_error", "credit balance is too low")), has(b" 402 ")),
        Fault("403", status(403, said("permission_error", "no")), has(b" 403 ")),
        Fault("404", status(404, said("not_found_error", "model: gone")), has(b" 404 ")),
        Fault("301", status(301, "", {"location": "http://elsewhere.invalid/"}), has(b" 301 ", b"elsewhere")),
        Fault("429", status(429, LIMITED), has(b" 429 ")),
        Fault("429, retry after 20", status(429, LIMITED, {"retry-after": "20"}), has(b" 429 ", b"retry-after: 20")),
        Fault("429, retry after 400", status(429, LIMITED, {"retry-after": "400"}), has(b"retry-after: 400")),
        Fault("500", status(500, said("api_error", "Internal server error")), has(b" 500 ")),
        Fault("502 html", status(502, HTML), has(b" 502 ", b"<html>")),
        Fault("503", status(503, said("api_error", "try later")), has(b" 503 ")),
        Fault("529 overloaded", status(529, BUSY), has(b" 529 ", b"overloaded_error")),
        Fault("overloaded at once", raw_events(json.dumps(BUSY)), has(b" 200 ", b"Overloaded")),
        Fault("overloaded in mid-stream", scripted(talking(error="Overloaded")), has(b" 200 ", b"Overloaded")),
        Fault("cut before the first part", scripted(talking(cut_after=1)), _cut),
        Fault("cut in the text", scripted(talking(cut_after=9)), _cut),
        Fault("cut in a call", scripted(calling(cut_after=11)), _cut),
        Fault("broken JSON in an event", scripted(talking(malformed=True)), lambda served: served.size > 100),
        Fault("not utf-8", not_text, has(b"\xff\xfe")),
        Fault("no final event", scripted(talking(usage=None, without_last=2)), _unended),
        Fault("empty answer", scripted(lambda request: Reply(text="")), _empty),
        Fault("empty stream", raw_events(), has(b" 200 ", b"0\r\n\r\n")),
        Fault("200 with an error", status(200, BUSY), has(b" 200 ", b"overloaded_error")),
        Fault("200 with json", status(200, {"content": "hello"}), has(b" 200 ", b"hello")),
        Fault("200 html", status(200, HTML), has(b" 200 ", b"<html>")),
        Fault("wrong content type", wrong_type, has(b"text/plain", b"message_start")),
        Fault("endless answer", endless, lambda served: served.size > 1_000_000),
        Fault("huge line", huge_line, lambda served: served.size > 1_000_000),
        Fault("gzip bomb", gzip_bomb, has(b"content-encoding: gzip", b"\x1f\x8b")),
        Fault("broken arguments", scripted(_broken_arguments), has(b"tool_"), turn=True),
        Fault("unknown tool", scripted(_unknown_tool), has(b"levitate"), turn=True),
        Fault("no usage", scripted(talking(usage=None)), lambda served: b"input_tokens" not in served.sent, turn=True),
    )


def _broken_arguments(request: Request) -> Reply:
    return proper(request) if request.form else Reply(raw_uses=[("read", '{"path": "README')])


def _unknown_tool(request: Request) -> Reply:
    return proper(request) if request.form else Reply(uses=[("levitate", {"path": "README.md"})])


FAULTS: Mapping[str, Fault] = {fault.name: fault for fault in _faults()}
