"""One model over HTTP: sends a prompt in a dialect, reads the stream, retries what is temporary."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace

import httpx

from kairosd.config import ModelSection
from kairosd.core.messages import Done, Prompt, StreamPart, TextDelta, Usage, UseBroken, UseReady
from kairosd.errors import ModelError, ModelProtocolError, ModelUnavailableError
from kairosd.models import refusals
from kairosd.models.answers import AnswerCollector
from kairosd.models.deps import ModelDeps, key_fix
from kairosd.models.dialect import ROOM, ROOM_TOKENS, Call, Dialect, Quirks, Reader
from kairosd.models.refusals import Origin
from kairosd.system.http import make_client
from kairosd.system.sse import EventDecoder, MalformedStreamError, ServerEvent

TRIES = 4
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0
ERROR_BODY_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model is: `base_url` without a slash at its end; `silence_seconds` bounds the wait between two bytes."""

    base_url: str
    silence_seconds: float
    origin: Origin


def endpoint_of(name: str, section: ModelSection, *, base_url: str, key: str) -> Endpoint:
    """The endpoint of `[models.NAME]` at `base_url`."""
    return Endpoint(base_url, section.timeout_seconds, Origin(name, section.model, key, key_fix(name, section)))


class _Lesson(Exception):
    """The server's refusal taught a quirk: the same prompt is worth asking again, differently."""

    def __init__(self, quirk: str, spent: Usage | None = None) -> None:
        super().__init__(quirk)
        self.quirk = quirk
        self.spent = spent


class _Again(Exception):
    """A failure before the first part that another try may cure."""

    def __init__(self, error: ModelUnavailableError) -> None:
        super().__init__(str(error))
        self.error = error


class Exchange:
    """Streams answers of one endpoint. The HTTP client is made at the first call and kept for the next ones."""

    def __init__(self, dialect: Dialect, endpoint: Endpoint, *, deps: ModelDeps, json_answers: bool = False) -> None:
        self._dialect = dialect
        self._endpoint = endpoint
        self._deps = deps
        self._json_answers = json_answers  # tool calls come as JSON text too, not only forms
        self._quirks: Quirks = frozenset()
        self._client: httpx.AsyncClient | None = None

    @property
    def thinking(self) -> int:
        """See `kairosd.ports.Model.thinking`: known once the endpoint has taught it."""
        return ROOM_TOKENS if ROOM in self._quirks else 0

    async def stream(self, prompt: Prompt) -> AsyncGenerator[StreamPart, None]:
        """The parts of one answer, ending in `Done`; errors as `kairosd.ports.Model.stream` promises."""
        tries, spent = 0, None
        while True:
            try:
                async with aclosing(self._once(prompt)) as parts:
                    async for part in parts:
                        yield _with_spent(part, spent)
                return
            except _Lesson as lesson:
                self._quirks |= {lesson.quirk}
                spent = lesson.spent or spent
            except _Again as again:
                tries += 1
                if tries >= TRIES:
                    raise again.error from again
                await self._deps.clock.sleep(self._wait(again.error.retry_after, tries))

    async def get(self, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        """Status and body of one GET, tried once. Raises `ModelUnavailableError` when nothing answers."""
        try:
            answer = await self._connected().get(self._endpoint.base_url + path, headers=headers)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        return answer.status_code, answer.content

    def refusal(self, status: int, body: bytes) -> ModelError:
        """The error that an answer to `get` stands for."""
        return refusals.from_status(status, refusals.read_error(body), origin=self._endpoint.origin, retry_after=None)

    async def close(self) -> None:
        """Closes the connections; the next call opens new ones."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _wait(self, asked: float | None, tries: int) -> float:
        if asked is not None:
            return min(asked + self._deps.jitter(min(1.0, asked)), LONGEST_WAIT_SECONDS)
        return self._deps.jitter(min(FIRST_WAIT_SECONDS * 2.0**tries, LONGEST_WAIT_SECONDS))

    async def _once(self, prompt: Prompt) -> AsyncGenerator[StreamPart, None]:
        held = prompt.form is not None or (self._json_answers and bool(prompt.tools))
        collector = AnswerCollector(prompt) if held else None
        reader = self._dialect.reader(prompt)
        given = answered = False
        last: Iterable[StreamPart] = ()
        try:
            async with self._answer(prompt) as answer, aclosing(self._events(answer, reader)) as parts:
                async for part in parts:
                    answered = answered or _says_something(part)
                    if isinstance(part, Done):
                        self._judge_end(part, given=given, answered=answered, thought=reader.thought)
                        last = (part,) if collector is None else collector.take(part)
                        break
                    if collector is None:
                        given = True
                        yield part
                    else:
                        collector.take(part)
        except _SilentError:
            raise
        except ModelUnavailableError as error:
            if given:
                raise
            raise _Again(error) from error
        # Out here the connection is free again, also for a caller that stops at `Done` and never comes back.
        for ready in last:
            yield ready

    def _judge_end(self, done: Done, *, given: bool, answered: bool, thought: bool) -> None:
        if done.stop == "length" and thought and not given and ROOM not in self._quirks:
            raise _Lesson(ROOM, done.usage)
        if answered or done.stop == "refusal":
            return
        reason = "it used up max_tokens" if done.stop == "length" else "the stream ended properly"
        raise ModelProtocolError(f"{self._endpoint.origin.place}: the answer is empty ({reason})")

    @asynccontextmanager
    async def _answer(self, prompt: Prompt) -> AsyncIterator[httpx.Response]:
        call = self._dialect.call(prompt, self._quirks)
        request = self._connected().build_request(
            "POST", self._endpoint.base_url + call.path, headers=dict(call.headers), content=_encode(call)
        )
        try:
            answer = await self._connected().send(request, stream=True)
        except httpx.TimeoutException as error:
            raise self._unreachable(error) if _not_connected(error) else self._silent() from error
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        try:
            if answer.status_code != 200:
                await self._refused(answer)
            if "text/event-stream" not in answer.headers.get("content-type", ""):
                await self._not_a_stream(answer)
            yield answer
        finally:
            await answer.aclose()

    async def _refused(self, answer: httpx.Response) -> None:
        origin = self._endpoint.origin
        body = refusals.read_error(await self._body(answer))
        if answer.status_code in (400, 422):
            quirk = self._dialect.learn(body.message)
            if quirk is not None and quirk not in self._quirks:
                raise _Lesson(quirk)
        asked = refusals.retry_after(answer.headers, self._deps.clock.now())
        raise refusals.from_status(answer.status_code, body, origin=origin, retry_after=asked)

    async def _not_a_stream(self, answer: httpx.Response) -> None:
        origin = self._endpoint.origin
        body = await self._body(answer)
        try:
            found = refusals.error_in(json.loads(body))
        except ValueError as error:
            kind = answer.headers.get("content-type", "nothing known")
            fix = f"check `base_url` in {origin.place}"
            raise ModelUnavailableError(f"{origin.place}: the server answered {kind}, no stream", fix=fix) from error
        if found is None:
            raise ModelProtocolError(f"{origin.place}: the server answered without streaming")
        raise refusals.from_event(found, origin)

    async def _body(self, answer: httpx.Response) -> bytes:
        body = b""
        try:
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > ERROR_BODY_LIMIT:
                    break
        except httpx.TransportError as error:
            raise self._cut() from error
        return body

    async def _events(self, answer: httpx.Response, reader: Reader) -> AsyncGenerator[StreamPart, None]:
        decoder = EventDecoder()
        try:
            async for piece in answer.aiter_bytes():
                for event in decoder.feed(piece):
                    for part in self._read(reader, event):
                        yield part
        except MalformedStreamError as error:
            raise ModelUnavailableError(f"{self._endpoint.origin.place}: the stream is malformed: {error}") from error
        except httpx.TimeoutException as error:
            raise self._silent() from error
        except httpx.TransportError as error:
            raise self._cut() from error
        done = reader.end()
        if done is None:
            raise self._cut()
        yield done

    def _read(self, reader: Reader, event: ServerEvent) -> Iterable[StreamPart]:
        origin = self._endpoint.origin
        try:
            return tuple(reader.feed(event))
        except refusals.StreamError as error:
            raise refusals.from_event(error.body, origin) from error
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise ModelUnavailableError(f"{origin.place}: the stream is malformed ({type(error).__name__})") from error

    def _connected(self) -> httpx.AsyncClient:
        if self._client is None:
            url = self._endpoint.base_url
            self._client = make_client(
                self._deps.network,
                silence_seconds=self._endpoint.silence_seconds,
                secure=url.startswith("https:") or bool(self._deps.network.http_proxy),
            )
        return self._client

    def _unreachable(self, error: httpx.HTTPError) -> ModelUnavailableError:
        origin = self._endpoint.origin
        reason = str(error) or type(error).__name__
        fix = f"check `base_url` in {origin.place} and the network"
        return ModelUnavailableError(f"{origin.place}: {self._endpoint.base_url} cannot be reached: {reason}", fix=fix)

    def _silent(self) -> ModelUnavailableError:
        seconds = self._endpoint.silence_seconds
        return _SilentError(f"{self._endpoint.origin.place}: not a byte for {seconds:.0f} s", fix="see timeout_seconds")

    def _cut(self) -> ModelUnavailableError:
        return ModelUnavailableError(f"{self._endpoint.origin.place}: the stream was cut before its end")


class Served:
    """What every model behind an `Exchange` has; a subclass adds `provider` and `check`."""

    def __init__(self, name: str, section: ModelSection, *, exchange: Exchange) -> None:
        self.name = name
        self.model = section.model
        self.context = section.context
        self._exchange = exchange

    @property
    def thinking(self) -> int:
        return self._exchange.thinking

    def stream(self, prompt: Prompt) -> AsyncGenerator[StreamPart, None]:
        return self._exchange.stream(prompt)

    async def close(self) -> None:
        await self._exchange.close()


class _SilentError(ModelUnavailableError):
    """The server accepted and fell silent: asking again at once would only double its work."""


def _with_spent(part: StreamPart, spent: Usage | None) -> StreamPart:
    if spent is None or not isinstance(part, Done):
        return part
    usage = part.usage
    total = Usage(
        _sum(usage.input, spent.input),
        _sum(usage.output, spent.output),
        usage.cache_read + spent.cache_read,
        usage.cache_write + spent.cache_write,
    )
    return replace(part, usage=total)


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def _says_something(part: StreamPart) -> bool:
    return isinstance(part, (UseReady, UseBroken)) or (isinstance(part, TextDelta) and bool(part.text.strip()))


def _not_connected(error: httpx.TimeoutException) -> bool:
    return isinstance(error, (httpx.ConnectTimeout, httpx.PoolTimeout))


def _encode(call: Call) -> bytes:
    return json.dumps(call.body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
