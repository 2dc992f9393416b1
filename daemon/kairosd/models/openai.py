"""OpenAI's Chat Completions, streaming, as spoken by OpenAI and by every compatible server."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from kairosd.config import ModelSection
from kairosd.core.messages import (
    Done,
    Form,
    Message,
    Prompt,
    StreamPart,
    TextDelta,
    ToolSpec,
    ToolUse,
    Usage,
    UseBroken,
    UseReady,
)
from kairosd.errors import ModelRefusedError
from kairosd.frozen import frozen
from kairosd.models.answers import (
    arguments_of,
    form_text,
    plain_messages,
    plain_schema,
    tools_schema,
    tools_text,
)
from kairosd.models.deps import ModelDeps
from kairosd.models.dialect import Call, JsonDict, Quirks, valid_name, whole, written
from kairosd.models.exchange import Exchange, Served, endpoint_of
from kairosd.models.refusals import StreamError, error_in
from kairosd.ports import Model
from kairosd.system.sse import ServerEvent

BASE_URL = "https://api.openai.com/v1"
OLD_LIMIT = "old-limit"  # the server knows max_tokens only
NEW_LIMIT = "new-limit"  # the model refuses max_tokens (reasoning models: it would not cover their thinking)
NO_SCHEMA = "no-schema"  # the server cannot constrain an answer to a schema
NO_REASONING = "no-reasoning"  # the model takes tools here only when it does not reason
WARMER, WARMEST = 0.35, 1.0  # temperature for each answer in vain, and at most
NO_USAGE = "no-usage"  # the server does not know stream_options
STOPS: Mapping[str, Literal["end", "tool_use", "length", "refusal"]] = {
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "length": "length",
    "content_filter": "refusal",
}


def build(name: str, section: ModelSection, *, deps: ModelDeps) -> Model:
    return OpenAIModel(name, section, deps=deps)


class OpenAIModel(Served):
    """`[models.NAME] provider = "openai"`."""

    provider = "openai"

    def __init__(self, name: str, section: ModelSection, *, deps: ModelDeps) -> None:
        base = (section.base_url or BASE_URL).rstrip("/")
        by_schema = section.tool_style == "schema"
        self._dialect = ChatCompletions(section.model, deps.api_key, by_schema=by_schema, official=_is_official(base))
        endpoint = endpoint_of(name, section, base_url=base, key=deps.api_key)
        exchange = Exchange(self._dialect, endpoint, deps=deps, json_answers=by_schema)
        super().__init__(name, section, exchange=exchange)
        self.by_schema = by_schema

    async def check(self) -> str:
        status, body = await self._exchange.get("/models", self._dialect.headers())
        if status != 200:
            raise self._exchange.refusal(status, body)
        names = _listed(body)
        if names and self.model not in names and f"{self.model}:latest" not in names:
            some = ", ".join(sorted(names)[:8])
            raise ModelRefusedError(
                f"[models.{self.name}]: the server has no model {self.model!r}; it has {some}",
                fix=f"set `model` in [models.{self.name}] to one of these",
            )
        return f"{self.model} is there" if names else "the server answers; it does not list its models"


@frozen
class ChatCompletions:
    """The dialect. `by_schema`: tools go in as one JSON schema; `extra` joins every request's body."""

    model: str
    key: str
    by_schema: bool = False
    official: bool = False
    extra: Mapping[str, int | float | bool] = field(default_factory=dict)

    def headers(self) -> dict[str, str]:
        """The authorisation, where there is a key."""
        return {"authorization": f"Bearer {self.key}"} if self.key else {}

    def call(self, prompt: Prompt, quirks: Quirks) -> Call:
        """The request for `prompt`."""
        basis = (
            self, prompt.system, prompt.tools, prompt.form, prompt.max_tokens, prompt.thinking, prompt.narrowed,
            prompt.vary, quirks
        )  # fmt: skip
        frame, system = prompt.memo.once(ChatCompletions, basis, make=lambda: self._frame(prompt, quirks))
        said = b",".join([*system, *self._messages(prompt)])
        return Call("/chat/completions", self.headers(), b'%b,"messages":[%b]}' % (frame[:-1], said))

    def _frame(self, prompt: Prompt, quirks: Quirks) -> tuple[bytes, list[bytes]]:
        """All but the conversation, and the message before it: from turn to turn they are the same."""
        schema = _answer_schema(prompt, by_schema=self.by_schema)
        body: JsonDict = {
            "model": self.model,
            "stream": True,
            self._limit(quirks): prompt.max_tokens + prompt.thinking,
            **self.extra,
        }
        if self.by_schema and prompt.vary:
            body["temperature"] = min(WARMEST, WARMER * prompt.vary)
        if NO_REASONING in quirks:
            body["reasoning_effort"] = "none"
        if NO_USAGE not in quirks:
            body["stream_options"] = {"include_usage": True}
        if schema is not None and NO_SCHEMA not in quirks:
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif prompt.tools and not self.by_schema:
            body["tools"] = [_tool(tool) for tool in prompt.tools]
        return written(body), [written(message) for message in self._system(prompt, quirks)]

    def reader(self, prompt: Prompt) -> ChunkReader:
        """A fresh reader."""
        return ChunkReader()

    def learn(self, refusal: str) -> str | None:
        """The quirk behind a refusal, from the parameter it names."""
        if "max_completion_tokens" in refusal:
            return NEW_LIMIT if "instead" in refusal else OLD_LIMIT
        if "reasoning_effort" in refusal:
            return NO_REASONING
        if "stream_options" in refusal:
            return NO_USAGE
        if "response_format" in refusal or "json_schema" in refusal:
            return NO_SCHEMA
        return None

    def _limit(self, quirks: Quirks) -> str:
        new = NEW_LIMIT in quirks or (self.official and OLD_LIMIT not in quirks)
        return "max_completion_tokens" if new else "max_tokens"

    def _system(self, prompt: Prompt, quirks: Quirks) -> list[JsonDict]:
        text = prompt.system
        if prompt.form is not None and (NO_SCHEMA in quirks or self.by_schema):
            text += form_text(prompt.form)
        elif prompt.tools and self.by_schema:
            text += tools_text(prompt.tools)
        return [{"role": "system", "content": text}] if text else []

    def _messages(self, prompt: Prompt) -> list[bytes]:
        if self.by_schema:
            return [written(message) for message in plain_messages(prompt.messages)]
        return prompt.memo.grown(_Said, prompt.messages, begin=_Said).written


def _answer_schema(prompt: Prompt, *, by_schema: bool) -> JsonDict | None:
    if prompt.form is not None:
        return _named(prompt.form)
    if prompt.tools and by_schema:
        return {"name": "call", "schema": tools_schema(prompt.narrowed or prompt.tools)}
    return None


def _named(form: Form) -> JsonDict:
    return {"name": form.name, "schema": plain_schema(form.schema), "strict": False}


def _tool(tool: ToolSpec) -> JsonDict:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.schema}
    return {"type": "function", "function": function}


class _Said:
    """A conversation as the API takes it; each message is written as JSON once."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def take(self, message: Message) -> None:
        self.written += map(written, _native(message))


def _native(message: Message) -> Iterable[JsonDict]:
    for result in message.results:
        text = f"Error: {result.text}" if result.error else result.text
        yield {"role": "tool", "tool_call_id": result.id, "content": text}
    if not message.words and not message.uses:
        return
    rendered: JsonDict = {"role": message.role, "content": message.words or None}
    if message.uses:
        rendered["tool_calls"] = [
            {
                "id": use.id,
                "type": "function",
                "function": {"name": valid_name(use.name), "arguments": json.dumps(use.arguments)},
            }
            for use in message.uses
        ]
    yield rendered


@dataclass
class _PartialCall:
    id: str = ""
    name: str = ""
    arguments: str = ""


class ChunkReader:
    """Reads `chat.completion.chunk` events; unknown fields are skipped."""

    def __init__(self) -> None:
        self.begun = self.thought = False
        self._calls: dict[int, _PartialCall] = {}
        self._usage = Usage()
        self._finish: str | None = None
        self._refused = False

    def feed(self, event: ServerEvent) -> Iterable[StreamPart]:
        """The parts in one chunk; `[DONE]` ends the stream."""
        if event.data.strip() == "[DONE]":
            yield from self._complete()
            if self._finish is None:
                raise ValueError("[DONE] without a finish_reason")
            yield self._done(self._finish)
            return
        data = json.loads(event.data)
        body = error_in(data)
        if body is not None:
            raise StreamError(body)
        if isinstance(data.get("usage"), dict):
            self._count(data["usage"])
        for choice in data.get("choices") or ():
            yield from self._choice(choice)

    def end(self) -> Done | None:
        """Some servers leave out `[DONE]`: a finish_reason is as good."""
        return None if self._finish is None else self._done(self._finish)

    def _choice(self, choice: JsonDict) -> Iterable[StreamPart]:
        delta = choice.get("delta") or {}
        self.begun = self.begun or any(delta.get(name) for name in delta if name != "role")
        self.thought = self.thought or bool(delta.get("reasoning_content") or delta.get("reasoning"))
        if delta.get("content"):
            yield TextDelta(delta["content"])
        if delta.get("refusal"):
            self._refused = True
            yield TextDelta(delta["refusal"])
        for position, call in enumerate(delta.get("tool_calls") or ()):
            yield from self._call(call.get("index", position), call)
        if choice.get("finish_reason"):
            self._finish = choice["finish_reason"]
            yield from self._complete()

    def _call(self, index: int, call: JsonDict) -> Iterable[StreamPart]:
        function = call.get("function") or {}
        had = self._calls.get(index)
        # Some servers count every call as the first: another id with a name of its own is another call.
        if had is None or (had.id and function.get("name") and call.get("id") not in (None, "", had.id)):
            yield from self._complete()  # calls come one after the other: a new one says that the last is whole
            self._calls[index] = _PartialCall()
        partial = self._calls[index]
        partial.id = call.get("id") or partial.id
        partial.name = partial.name or function.get("name") or ""
        partial.arguments += function.get("arguments") or ""

    def _complete(self) -> Iterable[StreamPart]:
        calls, self._calls = self._calls, {}
        for index, call in sorted(calls.items()):
            use = call.id or f"call_{index}"
            try:
                yield UseReady(ToolUse(use, call.name, arguments_of(call.arguments)))
            except ValueError as error:
                yield UseBroken(use, call.name, str(error))

    def _count(self, usage: JsonDict) -> None:
        prompt, details = whole(usage.get("prompt_tokens")), usage.get("prompt_tokens_details") or {}
        cached, written = whole(details.get("cached_tokens")) or 0, whole(details.get("cache_write_tokens")) or 0
        fresh = None if prompt is None else max(0, prompt - cached - written)  # OpenAI counts the cached ones in
        self._usage = Usage(fresh, whole(usage.get("completion_tokens")), cached, written)
        thinking = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens")
        self.thought = self.thought or bool(thinking)

    def _done(self, finish: str) -> Done:
        return Done("refusal" if self._refused else STOPS.get(finish, "end"), self._usage)


def _is_official(base: str) -> bool:
    return (urlsplit(base).hostname or "").endswith("api.openai.com")


def _listed(body: bytes) -> set[str]:
    try:
        data = json.loads(body)
        return {str(each["id"]) for each in data["data"]}
    except (ValueError, KeyError, TypeError):
        return set()
