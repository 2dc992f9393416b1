"""Scripted HTTP servers on real sockets: a model server (Anthropic's and OpenAI's wire protocols) and a file server.

In a test: `async with ModelServer(respond) as server:` with `respond(request) -> Reply`, `server.url`, `server.log`.
By hand: `python tests/servers.py --port P --script FILE.json`, where the file holds a list of rules, first match wins:
`[{"contains": "in the request", "form": "decide", "times": 1, "reply": {"form": {...}}}, {"reply": {"text": "hi"}}]`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class Request:
    """One request as it came. `body` is the parsed JSON, empty where there was none."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]

    @property
    def provider(self) -> str:
        return "anthropic" if self.path.endswith("/messages") else "openai"

    @property
    def form(self) -> str:
        """The name of the form that is asked for, `answer` where the protocol does not carry one, else empty."""
        if self.body.get("tool_choice", {}).get("type") == "tool":
            return str(self.body["tool_choice"]["name"])
        if "output_config" in self.body:
            return "answer"
        schema = self.body.get("response_format", {}).get("json_schema", {})
        return "" if self.by_schema else str(schema.get("name", ""))

    @property
    def by_schema(self) -> bool:
        """Tool calls are asked for as JSON text (tool_style = "schema")."""
        schema = self.body.get("response_format", {}).get("json_schema", {}).get("schema", {})
        return "anyOf" in schema and all("tool" in each.get("properties", {}) for each in schema["anyOf"])

    @property
    def tools(self) -> list[str]:
        """The names of the tools offered."""
        if self.by_schema:
            each = self.body["response_format"]["json_schema"]["schema"]["anyOf"]
            return [one["properties"]["tool"]["const"] for one in each]
        return [tool.get("name") or tool["function"]["name"] for tool in self.body.get("tools", [])]

    @property
    def system(self) -> str:
        system = self.body.get("system", "")
        if isinstance(system, list):
            return "\n".join(block["text"] for block in system)
        return "\n".join(m["content"] for m in self.body.get("messages", []) if m["role"] == "system") or system

    @property
    def turns(self) -> int:
        """How many answers the conversation already holds."""
        return sum(message["role"] == "assistant" for message in self.body.get("messages", []))

    @property
    def text(self) -> str:
        """Everything that was said, results of tools included."""
        return json.dumps(self.body.get("messages", []), ensure_ascii=False)


@dataclass(frozen=True)
class Reply:
    """What to answer. Text, `uses` (name, arguments) and a filled `form` become the protocol's own shape.

    `raw_uses` are (name, JSON text): for broken arguments. `cut_after`: so many events, then the socket closes.
    `without_last`: so many events are left out at the end, which is neat otherwise. `events`: exactly these
    `(event, data)` instead. `drip`: seconds between pieces; `delay`: seconds before the first byte; `stall`: the
    headers, then nothing. `usage`: (input, output, cache_read, cache_write) or None. `error`: the message of a refusal,
    or of an error in the middle of the stream.
    """

    text: str = ""
    uses: Sequence[tuple[str, Mapping[str, Any]]] = ()
    raw_uses: Sequence[tuple[str, str]] = ()
    form: Mapping[str, Any] | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    events: Sequence[tuple[str, str]] | None = None
    cut_after: int | None = None
    without_last: int = 0
    malformed: bool = False
    drip: float = 0.0
    delay: float = 0.0
    stall: bool = False
    usage: tuple[int, int, int, int] | None = (100, 20, 0, 0)
    stop: str = ""
    error: str = ""
    thinking: bool = False


Respond = Callable[[Request], Reply]


class _Server:
    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()
        await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while (request := await _read(reader)) is not None:
                if request.body and request.headers.get("content-type") != "application/json":
                    await _whole(writer, 415, {"error": {"message": "the body is to be application/json"}})
                elif not await self.answer(request, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the peer is gone, or the test is over
        finally:
            self._writers.discard(writer)
            writer.close()

    async def answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Writes the answer; False closes the connection."""
        raise NotImplementedError


class ModelServer(_Server):
    """Answers `/v1/messages`, `/v1/chat/completions` and `/v1/models`; keeps every request in `log`."""

    def __init__(self, respond: Respond, models: Sequence[str] = ("test-model",)) -> None:
        super().__init__()
        self._respond = respond
        self._models = models
        self.log: list[Request] = []
        self.sent: list[tuple[float, str]] = []  # when each event of a stream had gone out, and its data

    @property
    def asked(self) -> list[Request]:
        """The requests for an answer, without the look-ups."""
        return [request for request in self.log if request.method == "POST"]

    async def answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        self.log.append(request)
        if request.method == "GET":
            return await self._look_up(request, writer)
        reply = self._respond(request)
        if reply.delay:
            await asyncio.sleep(reply.delay)
        if reply.status != 200 or reply.body is not None:
            body = reply.body if reply.body is not None else _error_body(request, reply)
            return await _whole(writer, reply.status, body, reply.headers)
        return await self._stream(request, reply, writer=writer)

    async def _look_up(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        name = request.path.rpartition("/")[2]
        if name == "models":
            return await _whole(writer, 200, {"object": "list", "data": [{"id": each} for each in self._models]})
        if name in self._models:
            return await _whole(writer, 200, {"id": name, "type": "model"})
        body = {"type": "error", "error": {"type": "not_found_error", "message": f"model: {name}"}}
        return await _whole(writer, 404, body)

    async def _stream(self, request: Request, reply: Reply, *, writer: asyncio.StreamWriter) -> bool:
        writer.write(_head(200, {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"}))
        await writer.drain()
        if reply.stall:
            await asyncio.sleep(3600)
        events = reply.events
        if events is None:
            events = _anthropic(request, reply) if request.provider == "anthropic" else _openai(request, reply)
        for number, (event, data) in enumerate(events[: len(events) - reply.without_last]):
            if reply.cut_after is not None and number >= reply.cut_after:
                writer.transport.abort() if number % 2 else writer.close()
                return False
            name = f"event: {event}\n" if event else ""
            text = f"{name}data: {data[: len(data) // 2] if reply.malformed and number == 1 else data}\n\n"
            await _chunks(writer, text.encode(), drip=reply.drip)
            self.sent.append((time.monotonic(), data))
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


class FileServer(_Server):
    """Serves one file under any path, with ranges and an ETag.

    `drop_after`: bytes after which the next connections are cut, one number each. `ranges`: whether it knows ranges.
    """

    def __init__(
        self, content: bytes, *, drop_after: Sequence[int] = (), ranges: bool = True, status: int = 200
    ) -> None:
        super().__init__()
        self.content = content
        self.drops = list(drop_after)
        self.ranges = ranges
        self.status = status
        self.log: list[Request] = []

    async def answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        self.log.append(request)
        if self.status != 200:
            return await _whole(writer, self.status, {"error": "no"})
        tag = f'"{hashlib.sha256(self.content).hexdigest()[:16]}"'
        start = self._start(request, tag)
        if start >= len(self.content):
            return await _whole(writer, 416, {}, {"content-range": f"bytes */{len(self.content)}"})
        rest = self.content[start:]
        headers = {"content-length": str(len(rest)), "etag": tag, "accept-ranges": "bytes"}
        if start:
            headers["content-range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        writer.write(_head(206 if start else 200, headers))
        drop = self.drops.pop(0) if self.drops else None
        writer.write(rest if drop is None else rest[:drop])
        await writer.drain()
        if drop is not None:
            writer.close()
        return drop is None

    def _start(self, request: Request, tag: str) -> int:
        wanted = request.headers.get("range", "")
        if not self.ranges or not wanted or request.headers.get("if-range", tag) != tag:
            return 0
        return int(wanted.removeprefix("bytes=").partition("-")[0])


async def _read(reader: asyncio.StreamReader) -> Request | None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
    }
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, json.loads(body) if body else {})


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")


async def _whole(
    writer: asyncio.StreamWriter, status: int, body: Any, headers: Mapping[str, str] | None = None
) -> bool:
    text = body if isinstance(body, str) else json.dumps(body)
    kind = "text/html" if isinstance(body, str) else "application/json"
    data = text.encode()
    writer.write(_head(status, {"content-type": kind, "content-length": str(len(data)), **(headers or {})}) + data)
    await writer.drain()
    return True


async def _chunks(writer: asyncio.StreamWriter, data: bytes, *, drip: float) -> None:
    middle = len(data) // 2  # each event in two pieces: a decoder that needs whole events does not survive this
    for piece in (data[:middle], data[middle:]):
        writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        await writer.drain()
        if drip:
            await asyncio.sleep(drip)


def _error_body(request: Request, reply: Reply) -> Any:
    kind = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error",
            529: "overloaded_error"}.get(reply.status, "api_error")  # fmt: skip
    error = {"type": kind, "message": reply.error or f"scripted {reply.status}"}
    return {"type": "error", "error": error} if request.provider == "anthropic" else {"error": error}


def _pieces(text: str) -> list[str]:
    return [text[at : at + 7] for at in range(0, len(text), 7)]


def _answer_text(request: Request, reply: Reply) -> str:
    if reply.form is not None and not (request.provider == "anthropic" and request.form not in ("", "answer")):
        return json.dumps(reply.form)
    if request.by_schema and reply.uses:
        name, arguments = reply.uses[0]
        return json.dumps({"tool": name, "arguments": arguments})
    return reply.text


def _calls(request: Request, reply: Reply) -> list[tuple[str, str]]:
    if request.by_schema:
        return []
    calls = [(name, json.dumps(arguments)) for name, arguments in reply.uses] + list(reply.raw_uses)
    if reply.form is not None and request.provider == "anthropic" and request.form not in ("", "answer"):
        calls.append((request.form, json.dumps(reply.form)))
    return calls


def _anthropic(request: Request, reply: Reply) -> list[tuple[str, str]]:
    events: list[dict[str, Any]] = []
    counts: dict[str, int] = {}
    if reply.usage:
        counts = dict(zip(("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
                          (reply.usage[0], reply.usage[2], reply.usage[3]), strict=True))  # fmt: skip
    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "stop_reason": None}
    events.append(
        {"type": "message_start", "message": {**message, "usage": {**counts, "output_tokens": 1} if counts else {}}}
    )
    events.append({"type": "ping"})
    for index, (start, deltas) in enumerate(_anthropic_blocks(request, reply)):
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    if reply.error:
        events.append({"type": "error", "error": {"type": "overloaded_error", "message": reply.error}})
    else:
        stop = reply.stop or ("tool_use" if _calls(request, reply) else "end_turn")
        usage = {"output_tokens": reply.usage[1]} if reply.usage else {}
        events.append({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": usage})
        events.append({"type": "message_stop"})
    return [(event["type"], json.dumps(event)) for event in events]


def _anthropic_blocks(request: Request, reply: Reply) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    if reply.thinking:
        blocks.append(({"type": "thinking", "thinking": ""}, [{"type": "signature_delta", "signature": "abc"}]))
    if text := _answer_text(request, reply):
        blocks.append(
            ({"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in _pieces(text)])
        )
    for number, (name, arguments) in enumerate(_calls(request, reply)):
        start = {"type": "tool_use", "id": f"toolu_{request.turns}_{number}", "name": name, "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *_pieces(arguments)]]
        blocks.append((start, deltas))
    return blocks


def _openai(request: Request, reply: Reply) -> list[tuple[str, str]]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m", "choices": [choice], "novelty": 1}

    chunks = [chunk({"role": "assistant", "content": None})]
    if reply.thinking:
        chunks.append(chunk({"reasoning_content": "hm"}))
    chunks += [chunk({"content": piece}) for piece in _pieces(_answer_text(request, reply))]
    calls = _calls(request, reply)
    for number, (name, arguments) in enumerate(calls):
        function = {"name": name, "arguments": ""}
        call = {"index": number, "id": f"call_{request.turns}_{number}", "type": "function", "function": function}
        chunks.append(chunk({"tool_calls": [call]}))
        chunks += [
            chunk({"tool_calls": [{"index": number, "function": {"arguments": piece}}]}) for piece in _pieces(arguments)
        ]
    if reply.error:
        return [
            ("", json.dumps(each)) for each in [*chunks, {"error": {"type": "server_error", "message": reply.error}}]
        ]
    chunks.append(chunk({}, reply.stop or ("tool_calls" if calls else "stop")))
    if reply.usage and request.body.get("stream_options", {}).get("include_usage"):
        fresh, output, read, _ = reply.usage
        details = {
            "prompt_tokens": fresh + read,
            "completion_tokens": output,
            "prompt_tokens_details": {"cached_tokens": read},
        }
        chunks.append({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": details})
    return [*(("", json.dumps(each)) for each in chunks), ("", "[DONE]")]


def scripted(rules: Sequence[Mapping[str, Any]]) -> Respond:
    """A responder from rules: `contains` (in the whole request), `form`, `tool` (offered), `times`, and `reply`."""
    left = [rule.get("times", -1) for rule in rules]

    def respond(request: Request) -> Reply:
        text = f"{request.system}\n{request.text}"
        for number, rule in enumerate(rules):
            fits = (
                left[number] != 0
                and rule.get("contains", "") in text
                and rule.get("form", request.form) == request.form
                and (rule.get("tool") in request.tools if "tool" in rule else True)
            )
            if fits:
                left[number] -= 1
                return Reply(**rule["reply"])
        return Reply(status=500, error="no rule fits this request")

    return respond


@contextlib.asynccontextmanager
async def serve(respond: Respond) -> AsyncIterator[ModelServer]:
    """A model server for the length of a block."""
    async with ModelServer(respond) as server:
        yield server


async def _main(port: int, script: Path) -> None:
    server = ModelServer(scripted(json.loads(script.read_text())))
    await server.start(port)
    sys.stdout.write(f"{server.url}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--script", type=Path, required=True)
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(options.port, options.script))
