"""Anthropic's Messages API, streaming (https://docs.anthropic.com/en/api/messages-streaming)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kairosd.config import ModelSection
from kairosd.core.messages import (
    Done,
    Form,
    Message,
    Prompt,
    StreamPart,
    TextDelta,
    ToolResult,
    ToolUse,
    Usage,
    UseBroken,
    UseReady,
)
from kairosd.frozen import frozen
from kairosd.models.answers import arguments_of, plain_schema
from kairosd.models.deps import ModelDeps
from kairosd.models.dialect import Call, JsonDict, Quirks, valid_name, whole, written
from kairosd.models.exchange import Exchange, Served, endpoint_of
from kairosd.models.refusals import StreamError, error_in
from kairosd.ports import Model
from kairosd.system.sse import ServerEvent

BASE_URL = "https://api.anthropic.com"
VERSION = "2023-06-01"
# Opus, Sonnet and Haiku 5.5 refuse a forced tool and take a schema for the answer instead; older models and most
# compatible servers know only the forced tool. The refusal costs nothing and is met once per process.
ANSWER_SCHEMA = "answer-schema"
# The API takes four at most: tools, system, and two in the messages. What comes before one is cached as a whole.
BREAKPOINT: JsonDict = {"cache_control": {"type": "ephemeral"}}
MARK = b"," + written(BREAKPOINT)[1:]  # in place of the brace that ends a block
STOPS: Mapping[str, Literal["end", "tool_use", "length", "refusal"]] = {
    "tool_use": "tool_use",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}


def build(name: str, section: ModelSection, *, deps: ModelDeps) -> Model:
    return AnthropicModel(name, section, deps=deps)


class AnthropicModel(Served):
    """`[models.NAME] provider = "anthropic"`."""

    provider = "anthropic"

    def __init__(self, name: str, section: ModelSection, *, deps: ModelDeps) -> None:
        base = (section.base_url or BASE_URL).rstrip("/").removesuffix("/v1")
        self._dialect = _Messages(section.model, deps.api_key)
        endpoint = endpoint_of(name, section, base_url=base, key=deps.api_key)
        super().__init__(name, section, exchange=Exchange(self._dialect, endpoint, deps=deps))

    async def check(self) -> str:
        status, body = await self._exchange.get(f"/v1/models/{self.model}", self._dialect.headers())
        if status == 200:
            return f"{self.model} is there, the key is accepted"
        raise self._exchange.refusal(status, body)


@frozen
class _Messages:
    model: str
    key: str

    def headers(self) -> dict[str, str]:
        return {"x-api-key": self.key, "anthropic-version": VERSION}

    def call(self, prompt: Prompt, quirks: Quirks) -> Call:
        basis = (self, prompt.system, prompt.tools, prompt.form, prompt.max_tokens, prompt.thinking, quirks)
        frame = prompt.memo.once(_Messages, basis, make=lambda: written(self._frame(prompt, quirks)))
        said = prompt.memo.grown(_Said, prompt.messages, begin=_Said).joined(marked=prompt.form is None)
        return Call("/v1/messages", self.headers(), b'%b,"messages":[%b]}' % (frame[:-1], said))

    def _frame(self, prompt: Prompt, quirks: Quirks) -> JsonDict:
        """All but the messages: from turn to turn it is the same."""
        body: JsonDict = {
            "model": self.model,
            "max_tokens": prompt.max_tokens + prompt.thinking,
            "stream": True,
        }
        if prompt.system:
            body["system"] = [{"type": "text", "text": prompt.system, **BREAKPOINT}]
        if prompt.form is not None:
            body.update(_form(prompt.form, quirks))
        elif prompt.tools:
            body["tools"] = [
                {"name": tool.name, "description": tool.description, "input_schema": tool.schema}
                for tool in prompt.tools
            ]
            body["tools"][-1] |= BREAKPOINT
        return body

    def reader(self, prompt: Prompt) -> _MessagesReader:
        return _MessagesReader()

    def learn(self, refusal: str) -> str | None:
        return ANSWER_SCHEMA if "tool_choice" in refusal or "forced tool" in refusal.lower() else None


def _form(form: Form, quirks: Quirks) -> JsonDict:
    if ANSWER_SCHEMA in quirks:
        return {"output_config": {"format": {"type": "json_schema", "schema": plain_schema(form.schema)}}}
    tool = {"name": form.name, "description": form.description, "input_schema": form.schema}
    return {"tools": [tool], "tool_choice": {"type": "tool", "name": form.name}}


class _Said:
    """A conversation as the API takes it; of each message every block is written as JSON once."""

    def __init__(self) -> None:
        self._written: list[bytes] = []
        self._asked: list[int] = []  # which of them are the user's
        self._role = ""  # of the last one
        self._given: set[str] = set()
        self._ids: dict[str, str] = {}  # each as it was given to the API: that of its last use, which a result is for

    def take(self, message: Message) -> None:
        # Results come first: the API refuses text between a tool's use and its result.
        content: list[JsonDict] = [_result(each, self._ids.get(each.id, each.id)) for each in message.results]
        if message.words.strip():  # an empty text block is refused
            content.append({"type": "text", "text": message.words})
        self._ids |= _fresh_ids(message, taken=self._given)
        content += [
            {"type": "tool_use", "id": self._ids[use.id], "name": valid_name(use.name), "input": dict(use.arguments)}
            for use in message.uses
        ]
        blocks = b",".join(map(written, content))
        if content and self._role == message.role:
            self._written[-1] = b"%b,%b]}" % (self._written[-1][:-2], blocks)
        elif content:
            self._role = message.role
            if message.role == "user":
                self._asked.append(len(self._written))
            self._written.append(b'{"role":"%b","content":[%b]}' % (message.role.encode(), blocks))

    def joined(self, *, marked: bool) -> bytes:
        """All messages; where `marked`, with a mark at the end of the prompt, and at that of the one before it.

        From a mark the API looks back over 20 blocks only for what it has cached, and a turn of ten calls adds as many.
        """
        parts = list(self._written)
        for index in self._asked[-2:] if marked else ():
            parts[index] = b"%b%b]}" % (parts[index][:-3], MARK)
        return b",".join(parts)


def _fresh_ids(message: Message, *, taken: set[str]) -> dict[str, str]:
    """Ids that the API takes, none of them `taken`: a model before this one may have had the same ids every turn."""
    found: dict[str, str] = {}
    for use in message.uses:
        name = valid_name(use.id)
        while name in taken:
            name = f"{name[:50]}_{len(taken)}"
        taken.add(name)
        found[use.id] = name
    return found


def _result(result: ToolResult, use: str) -> JsonDict:
    block: JsonDict = {"type": "tool_result", "tool_use_id": use, "content": result.text or "(nothing)"}
    return {**block, "is_error": True} if result.error else block


@dataclass
class _Block:
    kind: str
    id: str = ""
    name: str = ""
    json: list[str] = field(default_factory=list)
    given: Mapping[str, Any] = field(default_factory=dict)


class _MessagesReader:
    def __init__(self) -> None:
        self.begun = self.thought = False
        self._blocks: dict[int, _Block] = {}
        self._usage: dict[str, int] = {}
        self._stop: str | None = None

    def feed(self, event: ServerEvent) -> Iterable[StreamPart]:
        data = json.loads(event.data)
        kind = data.get("type") or event.name
        if kind == "message_start":
            self._count(data["message"].get("usage"))
        elif kind == "content_block_start":
            yield from self._open(data["index"], data["content_block"])
        elif kind == "content_block_delta":
            yield from self._grow(self._blocks[data["index"]], data["delta"])
        elif kind == "content_block_stop":
            yield from self._shut(self._blocks.pop(data["index"]))
        elif kind == "message_delta":
            self._stop = data["delta"].get("stop_reason") or self._stop
            self._count(data.get("usage"))
        elif kind == "message_stop":
            yield self._done()
        elif kind == "error":
            body = error_in(data)
            raise StreamError(body) if body else ValueError("an error event without an error")

    def end(self) -> Done | None:
        return None  # only message_stop ends a message

    def _open(self, index: int, block: JsonDict) -> Iterable[StreamPart]:
        self._blocks[index] = _Block(
            block["type"], str(block.get("id", "")), str(block.get("name", "")), given=block.get("input") or {}
        )
        self.begun = True
        self.thought = self.thought or block["type"] in ("thinking", "redacted_thinking")
        if block["type"] == "text" and block.get("text"):
            yield TextDelta(block["text"])

    def _grow(self, block: _Block, delta: JsonDict) -> Iterable[StreamPart]:
        if delta["type"] == "text_delta" and delta["text"]:
            yield TextDelta(delta["text"])
        elif delta["type"] == "input_json_delta":
            block.json.append(delta["partial_json"])

    def _shut(self, block: _Block) -> Iterable[StreamPart]:
        if block.kind != "tool_use":
            return
        try:
            arguments = arguments_of("".join(block.json)) or block.given
        except ValueError as error:
            yield UseBroken(block.id, block.name, str(error))
            return
        yield UseReady(ToolUse(block.id, block.name, arguments))

    def _count(self, usage: object) -> None:
        if isinstance(usage, dict):
            self._usage.update({key: count for key, value in usage.items() if (count := whole(value)) is not None})

    def _done(self) -> Done:
        if self._blocks:
            raise ValueError("the message ended inside a block")
        if self._stop is None:
            raise ValueError("message_stop without a stop_reason")
        usage = Usage(
            self._usage.get("input_tokens"),
            self._usage.get("output_tokens"),
            self._usage.get("cache_read_input_tokens", 0),
            self._usage.get("cache_creation_input_tokens", 0),
        )
        return Done(STOPS.get(self._stop, "end"), usage)
