"""Answers that come as JSON text: forms, and tool calls of models that are driven by a schema."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from kairosd.core.blocks import FENCE, block_of
from kairosd.core.json import Json, JsonObject
from kairosd.core.messages import (
    TAKES_BACK,
    Block,
    Done,
    Form,
    Message,
    Prompt,
    StreamPart,
    TextDelta,
    ToolResult,
    ToolSpec,
    ToolUse,
    UseBroken,
    UseReady,
)
from kairosd.errors import ModelProtocolError
from kairosd.models.dialect import JsonDict

# Keywords that providers refuse in a constrained schema; the engine validates the answer anyway.
UNSUPPORTED = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern",
     "minItems", "maxItems", "uniqueItems", "default", "$schema"}
)  # fmt: skip


def arguments_of(text: str) -> Mapping[str, Json]:
    """The object in `text`, empty for empty text. Raises `ValueError` naming what is wrong."""
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"the arguments are not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError("the arguments are not an object")
    return value


def object_in(text: str) -> Mapping[str, Json] | None:
    """The one JSON object in `text`, also inside a code fence or between prose; None where there is none."""
    fenced = re.search(r"```(?:json)?\s*(\{.*\})\s*```", text, re.DOTALL)
    start, end = text.find("{"), text.rfind("}")
    for candidate in (text, fenced[1] if fenced else "", text[start : end + 1] if 0 <= start < end else ""):
        try:
            value = json.loads(candidate)
        except ValueError:
            continue  # the next candidate may be the object
        if isinstance(value, dict):
            return value
    return None


def plain_schema(schema: JsonObject) -> JsonDict:
    """`schema` as constrained decoders take it: every object closed, unsupported keywords left out."""
    cleaned = {key: _plain(value, named=key == "properties") for key, value in schema.items() if key not in UNSUPPORTED}
    if cleaned.get("type") == "object" or "properties" in cleaned:
        cleaned["additionalProperties"] = False
    return cleaned


def _plain(value: Any, *, named: bool) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each, named=False) for key, each in value.items()} if named else plain_schema(value)
    return [_plain(each, named=False) for each in value] if isinstance(value, (list, tuple)) else value


def tools_schema(tools: tuple[ToolSpec, ...]) -> JsonDict:
    """One schema that admits exactly a call of one of `tools`."""
    return {
        "anyOf": [
            {
                "type": "object",
                "properties": {"tool": {"const": tool.name}, "arguments": dict(tool.schema)},
                "required": ["tool", "arguments"],
                "additionalProperties": False,
            }
            for tool in tools
        ]
    }


def tools_text(tools: tuple[ToolSpec, ...]) -> str:
    """The tools in a line each, for a model that sees no tool definitions."""
    lines = [f"- {tool.name}({_signature(tool.schema)}): {_first_line(tool.description)}" for tool in tools]
    return '\n\nReply with one call as JSON: {"tool": NAME, "arguments": {...}}. Tools:\n' + "\n".join(lines)


def form_text(form: Form) -> str:
    """What a model that takes no schema is told of a form."""
    return f"\n\nReply with one JSON object and nothing else: {form.description}\nSchema: {json.dumps(form.schema)}"


def plain_messages(messages: tuple[Message, ...]) -> list[JsonDict]:
    """The history as text: calls as the JSON the model wrote, results under a heading that no reply looks like."""
    uses = {use.id: use for message in messages for use in message.uses}
    vain = _in_vain(messages)
    rendered: list[JsonDict] = []
    for message in messages:
        parts = [_call_text(use) for use in message.uses if use.id not in vain]
        parts += [_result_text(result, uses.get(result.id), vain=vain) for result in message.results]
        # A reply that was a call may hold nothing but the call: prose before it would teach the model to write some.
        text = "\n\n".join([*parts, message.words] if message.words and not message.uses else parts)
        if text and rendered and rendered[-1]["role"] == message.role:
            rendered[-1]["content"] += f"\n\n{text}"
        elif text:
            rendered.append({"role": message.role, "content": text})
    return rendered


class AnswerCollector:
    """Holds back the text of a prompt whose answer is JSON, and gives it out as a tool use at the end."""

    def __init__(self, prompt: Prompt) -> None:
        self._prompt = prompt
        self._text: list[str] = []
        self._parts: list[StreamPart] = []

    def take(self, part: StreamPart) -> Iterable[StreamPart]:
        """What `part` completes: nothing until the end. Raises `ModelProtocolError` for a form left unfilled."""
        if isinstance(part, TextDelta):
            self._text.append(part.text)
            return ()
        if not isinstance(part, Done):
            self._parts.append(part)
            return ()
        if part.stop == "refusal":
            return (part,)
        text, form, block = "".join(self._text), self._prompt.form, self._prompt.block
        if form is not None:
            found = self._filled(form, text, done=part)
        else:
            found = self._call(text, part) if block is None else _whole(block, text, done=part)
        called = part.stop == "end" and not isinstance(found[0], TextDelta)
        return (*found, Done("tool_use" if called else part.stop, part.usage))

    def _filled(self, form: Form, text: str, *, done: Done) -> tuple[StreamPart, ...]:
        for part in self._parts:
            if isinstance(part, UseReady) and part.use.name == form.name:
                return (part,)
        value = object_in(text) if done.stop != "length" else None
        if value is None:
            reason = "was cut at max_tokens" if done.stop == "length" else "is not the object that was asked for"
            raise ModelProtocolError(f"the answer to the form {form.name!r} {reason}")
        return (UseReady(ToolUse(self._new_id(), form.name, value)),)

    def _call(self, text: str, done: Done) -> tuple[StreamPart, ...]:
        if self._parts:
            return tuple(self._parts)
        value, use = object_in(text), self._new_id()
        names = {tool.name for tool in self._prompt.tools}
        name = str(value.get("tool", "")) if value else ""
        arguments = value.get("arguments", {}) if value else None
        if name in names and isinstance(arguments, Mapping):
            return (UseReady(ToolUse(use, name, arguments)),)
        if done.stop == "length":
            return (UseBroken(use, name, "the call was cut at max_tokens: make it shorter"),)
        if name:
            return (UseBroken(use, name, "there is no such tool, or its arguments are not an object"),)
        return (TextDelta(text),)

    def _new_id(self) -> str:
        # Not the count of calls: of an old conversation only a part may be shown.
        known = [use.id.removeprefix("call_") for message in self._prompt.messages for use in message.uses]
        return f"call_{max((int(number) for number in known if number.isdecimal()), default=0) + 1}"


def _whole(block: Block, text: str, *, done: Done) -> tuple[StreamPart, ...]:
    use, cut = block.use, done.stop == "length"
    if (found := block_of(text, block.like, cut=cut)) is None:
        problem = "was cut at max_tokens" if cut else f"holds no block between {FENCE} and {FENCE}"
        return (UseBroken(use.id, use.name, f"the answer {problem}"),)
    return (UseReady(replace(use, arguments={**use.arguments, block.argument: found})),)


def _call_text(use: ToolUse) -> str:
    return json.dumps({"tool": use.name, "arguments": use.arguments}, ensure_ascii=False)


def _result_text(result: ToolResult, use: ToolUse | None, *, vain: Collection[str]) -> str:
    name = use.name if use else "tool"
    if use is None or use.id not in vain:
        return f"# {name} {'failed' if result.error else 'returned'}\n{result.text}"
    if use.id.startswith(TAKES_BACK):
        return "# that change was taken back, since it did not help"
    given = {key: value for key, value in use.arguments.items() if key != "content"}
    told = ", ".join(f"{key} {json.dumps(value, ensure_ascii=False)}" for key, value in given.items())
    return f"# {name} was tried with {told}\n{result.text}"


def _in_vain(messages: tuple[Message, ...]) -> frozenset[str]:
    """The calls that failed, and changes that were taken back: shown as calls, a small model would make them again."""
    found: set[str] = set()
    change = ""
    for message in messages:
        found |= {result.id for result in message.results if result.error}
        for use in message.uses:
            if use.id.startswith(TAKES_BACK):
                found |= {use.id, change}
            elif use.name in ("edit", "write"):
                change = use.id
    return frozenset(found)


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""


def _signature(schema: JsonObject) -> str:
    properties = schema.get("properties")
    required = schema.get("required")
    needed = required if isinstance(required, (list, tuple)) else ()
    names = list(properties) if isinstance(properties, Mapping) else []
    return ", ".join(name if name in needed else f"{name}?" for name in names)
