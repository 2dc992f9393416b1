"""One model over HTTP: sends a prompt in a dialect, reads the stream, retries what is temporary."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager, suppress

import httpx

from kairosd.config import ModelSection
from kairosd.core.messages import Done, NeedsRoomError, Prompt, StreamPart, TextDelta, UseBroken, UseReady
from kairosd.errors import EmptyAnswerError, ModelError, ModelUnavailableError
from kairosd.frozen import frozen
from kairosd.models import refusals
from kairosd.models.answers import AnswerCollector
from kairosd.models.deps import ModelDeps, key_fix
from kairosd.models.dialect import Dialect, Quirks, Reader
from kairosd.models.refusals import Origin
from kairosd.system.http import make_client
from kairosd.system.sse import EventDecoder, MalformedStreamError, ServerEvent

TRIES = 4
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0  # a server that wants more is left alone by whoever asks
READ_OUT_SECONDS = 0.05  # after an answer its connection is kept only if the body ends by then
ERROR_BYTES = 64 * 1024
LIST_BYTES = 8 * 1024 * 1024  # some servers list hundreds of models with all that is known of them
# A byte now and then is no silence. A local model writes 4,096 tokens in 3 minutes on two cores, and a rented one that
# thinks first seldom takes 10: Anthropic asks for a stream from there on.
ANSWER_SECONDS = 1800
# An event carries a token in about 300 bytes; what is beyond it is no answer to this prompt.
ANSWER_BYTES, TOKEN_BYTES = 1024 * 1024, 1024
ROOM_TOKENS = 8192  # for a model that used up its answer by thinking
PLAIN = {"accept-encoding": "identity"}  # pressed bytes would only hide how much an answer is
JSON = {**PLAIN, "content-type": "application/json"}


@frozen
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
        self._room = 0  # tokens that the model needs to think first
        self._client: httpx.AsyncClient | None = None
        self._urls: dict[str, httpx.URL] = {}  # by path, taken apart once
        self._tries = TRIES

    @property
    def thinking(self) -> int:
        """See `kairosd.ports.Model.thinking`: known once the endpoint has taught it."""
        return self._room

    async def stream(self, prompt: Prompt) -> AsyncGenerator[StreamPart, None]:
        """The parts of one answer, ending in `Done`; errors as `kairosd.ports.Model.stream` promises.

        Whatever failed to its last try is tried once the next time, until it has answered again.
        """
        tries = 0
        while True:
            try:
                async with aclosing(self._once(prompt)) as parts:
                    async for part in parts:
                        self._tries = TRIES
                        yield part
                return
            except _Lesson:
                continue  # the quirk is known now
            except _Again as again:
                tries += 1
                asked = again.error.retry_after
                if tries >= self._tries or (asked is not None and asked > LONGEST_WAIT_SECONDS):
                    again.error.tries, self._tries = tries, 1
                    raise again.error from again
                await self._deps.clock.sleep(self._wait(asked, tries))

    async def get(self, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        """Status and body of one GET, tried once. Raises `ModelUnavailableError` when nothing answers."""
        request = self._connected().build_request("GET", self._endpoint.base_url + path, headers={**PLAIN, **headers})
        async with self._sent(request) as answer:
            return answer.status_code, await self._body(answer, LIST_BYTES)

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
            return asked + self._deps.jitter(min(1.0, asked))
        return self._deps.jitter(min(FIRST_WAIT_SECONDS * 2.0**tries, LONGEST_WAIT_SECONDS))

    async def _once(self, prompt: Prompt) -> AsyncGenerator[StreamPart, None]:
        held = prompt.form is not None or (self._json_answers and bool(prompt.tools or prompt.block))
        collector = AnswerCollector(prompt) if held else None
        reader = self._dialect.reader(prompt)
        answered = False
        last: Iterable[StreamPart] = ()
        try:
            async with self._answer(prompt) as answer, aclosing(self._events(answer, reader, prompt=prompt)) as parts:
                async for part in parts:
                    answered = answered or _says_something(part)
                    if isinstance(part, Done):
                        self._judge_end(part, reader, prompt=prompt, given=answered and not held, answered=answered)
                        last = (part,) if collector is None else collector.take(part)
                        await _read_out(parts)
                        break
                    if collector is None:
                        yield part
                    else:
                        collector.take(part)
        except ModelUnavailableError as error:
            error.worked = reader.begun
            # Another try would be another answer to pay for, or double the work of a server that fell silent.
            if error.worked or isinstance(error, _SilentError):
                raise
            raise _Again(error) from error
        # Out here the connection is free again, also for a caller that stops at `Done` and never comes back.
        for ready in last:
            yield ready

    def _judge_end(self, done: Done, reader: Reader, *, prompt: Prompt, given: bool, answered: bool) -> None:
        if done.stop == "length" and reader.thought and not given and not prompt.thinking:
            self._room = ROOM_TOKENS
            raise NeedsRoomError(done.usage)
        if answered or done.stop == "refusal":
            return
        reason = "it used up max_tokens" if done.stop == "length" else "the stream ended properly"
        raise EmptyAnswerError(f"{self._endpoint.origin.place}: the answer is empty ({reason})")

    @asynccontextmanager
    async def _answer(self, prompt: Prompt) -> AsyncIterator[httpx.Response]:
        call = self._dialect.call(prompt, self._quirks)
        if (url := self._urls.get(call.path)) is None:
            url = self._urls[call.path] = httpx.URL(self._endpoint.base_url + call.path)
        request = self._connected().build_request("POST", url, headers={**JSON, **call.headers}, content=call.content)
        async with self._sent(request) as answer:
            if answer.status_code != 200:
                await self._refused(answer)
            if answer.headers.get("content-encoding", "identity") != "identity":
                kind = answer.headers["content-encoding"]
                raise ModelUnavailableError(f"{self._endpoint.origin.place}: the server answered in {kind}, unasked")
            if "text/event-stream" not in answer.headers.get("content-type", ""):
                await self._not_a_stream(answer)
            yield answer

    @asynccontextmanager
    async def _sent(self, request: httpx.Request) -> AsyncIterator[httpx.Response]:
        """The answer to `request` as soon as its headers are here, whatever they are dripped in."""
        try:
            async with asyncio.timeout(2 * self._endpoint.silence_seconds):
                answer = await self._connected().send(request, stream=True)
        except TimeoutError as error:
            place, seconds = self._endpoint.origin.place, 2 * self._endpoint.silence_seconds
            raise _SilentError(f"{place}: no answer began in {seconds:.0f} s", fix="see timeout_seconds") from error
        except httpx.TimeoutException as error:
            raise self._unreachable(error) if _not_connected(error) else self._silent() from error
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        try:
            yield answer
        finally:
            await answer.aclose()

    async def _refused(self, answer: httpx.Response) -> None:
        origin = self._endpoint.origin
        body = refusals.read_error(await self._body(answer))
        if answer.status_code in (400, 422):
            quirk = self._dialect.learn(body.message)
            if quirk is not None and quirk not in self._quirks:
                self._quirks |= {quirk}
                raise _Lesson
        asked = refusals.retry_after(answer.headers, self._deps.clock.now())
        raise refusals.from_status(answer.status_code, body, origin=origin, retry_after=asked)

    async def _not_a_stream(self, answer: httpx.Response) -> None:
        origin = self._endpoint.origin
        body = await self._body(answer)
        try:
            found = refusals.error_in(json.loads(body))
        except ValueError:
            found = None
        if found is not None:
            raise refusals.from_event(found, origin)
        kind = answer.headers.get("content-type", "nothing known")
        fix = f"check `base_url` in {origin.place}"
        raise ModelUnavailableError(f"{origin.place}: the server answered {kind}, no stream", fix=fix)

    async def _body(self, answer: httpx.Response, limit: int = ERROR_BYTES) -> bytes:
        """The beginning of an answer that is no stream; empty where it is pressed."""
        if answer.headers.get("content-encoding", "identity") != "identity":
            return b""
        body, deadline = b"", self._deps.clock.monotonic() + self._endpoint.silence_seconds
        try:
            async for piece in answer.aiter_raw():
                body += piece
                if len(body) > limit or self._deps.clock.monotonic() > deadline:
                    break
        except httpx.TimeoutException as error:
            raise self._silent() from error
        except httpx.TransportError as error:
            raise self._cut() from error
        return body[:limit]

    async def _events(
        self, answer: httpx.Response, reader: Reader, *, prompt: Prompt
    ) -> AsyncGenerator[StreamPart, None]:
        decoder, place = EventDecoder(), self._endpoint.origin.place
        deadline = self._deps.clock.monotonic() + ANSWER_SECONDS
        left = ANSWER_BYTES + TOKEN_BYTES * (prompt.max_tokens + prompt.thinking)
        try:
            async for piece in answer.aiter_raw():
                left -= len(piece)
                if left < 0:
                    raise ModelUnavailableError(f"{place}: the answer has no end: it is longer than max_tokens allows")
                if self._deps.clock.monotonic() > deadline:
                    raise ModelUnavailableError(f"{place}: no whole answer within {ANSWER_SECONDS // 60} min")
                for event in decoder.feed(piece):
                    for part in self._read(reader, event):
                        yield part
        except MalformedStreamError as error:
            raise ModelUnavailableError(f"{place}: the stream is malformed: {error}") from error
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

    by_schema = False

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


async def _read_out(parts: AsyncIterator[StreamPart]) -> None:
    """Reads the end of the body: a connection that is left before it cannot be used for the next request."""
    with suppress(TimeoutError, ModelError):
        async with asyncio.timeout(READ_OUT_SECONDS):
            async for _ in parts:
                pass  # nothing counts after the end


def _says_something(part: StreamPart) -> bool:
    return isinstance(part, (UseReady, UseBroken)) or (isinstance(part, TextDelta) and bool(part.text.strip()))


def _not_connected(error: httpx.TimeoutException) -> bool:
    return isinstance(error, (httpx.ConnectTimeout, httpx.PoolTimeout))
