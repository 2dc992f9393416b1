"""Arguments of a tool call: read against the tool's own schema, with what was obviously meant put right.

Small models misname a parameter or quote a number. Where only one reading is possible it is taken and said in the
result; everything else is a `ToolError` that names the fix.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence

from kairosd.core.json import Json, JsonObject
from kairosd.core.messages import ToolSpec
from kairosd.errors import ToolError
from kairosd.frozen import frozen

CLOSE = 0.75  # difflib's ratio from which a misspelt name counts as meant
WRAPPERS = ("arguments", "parameters", "args", "input", "properties")
TRUE = frozenset({"true", "yes", "on", "1"})
FALSE = frozenset({"false", "no", "off", "0", ""})


@frozen
class Arguments:
    """Checked values, every parameter present (its default where none was given), and what was put right."""

    values: Mapping[str, Json]
    notes: tuple[str, ...] = ()

    def text(self, name: str) -> str:
        value = self.values[name]
        return value if isinstance(value, str) else ""

    def number(self, name: str) -> int:
        value = self.values[name]
        return value if isinstance(value, int) else 0

    def flag(self, name: str) -> bool:
        return self.values[name] is True

    def items(self, name: str) -> Sequence[Json]:
        value = self.values[name]
        return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def string(description: str, *, default: str | None = None, choices: Sequence[str] = ()) -> JsonObject:
    """A string in a schema; without a default it is required and must not be empty."""
    enum: JsonObject = {"enum": list(choices)} if choices else {}
    return {"type": "string", "description": description, **enum, **({} if default is None else {"default": default})}


def integer(description: str, *, default: int | None = None, least: int, most: int) -> JsonObject:
    """An integer from `least` to `most` in a schema; without a default it is required."""
    bounds: JsonObject = {"minimum": least, "maximum": most}
    return {
        "type": "integer", "description": description, **bounds, **({} if default is None else {"default": default}),
    }  # fmt: skip


def boolean(description: str) -> JsonObject:
    """A switch in a schema that is off when not given."""
    return {"type": "boolean", "description": description, "default": False}


def schema(*, may_be_empty: Sequence[str] = (), **properties: JsonObject) -> JsonObject:
    """The schema of a tool's parameters, in the order given; those without a default are required.

    Of the required strings only `may_be_empty` ones may be "".
    """
    required = [name for name, spec in properties.items() if "default" not in spec]
    strict = {
        name: {**spec, "minLength": 1}
        if name in required and spec["type"] == "string" and name not in may_be_empty
        else spec
        for name, spec in properties.items()
    }
    return {"type": "object", "properties": strict, "required": required, "additionalProperties": False}


def read_arguments(spec: ToolSpec, arguments: JsonObject) -> Arguments:
    """Checks `arguments` against the schema of `spec`. Raises `ToolError` naming the parameter and the fix."""
    properties = _mapping(spec.schema.get("properties"))
    notes: list[str] = []
    given = _renamed(spec, _unwrapped(arguments, properties), notes=notes)
    values: dict[str, Json] = {}
    for name, rule in properties.items():
        kind = _mapping(rule)
        value = given.get(name)
        if value is not None:
            values[name] = _Reading(spec.name, name, kind, notes).of(value)
        elif "default" in kind:
            values[name] = kind["default"]
        else:
            raise ToolError(f"{spec.name} needs `{name}`", fix=f"call {signature(spec)}")
    return Arguments(values, tuple(notes))


def signature(spec: ToolSpec) -> str:
    """The call as a model may write it, such as `read(path, from_line=1, lines=200)`."""
    parts = [
        f"{name}={json.dumps(_mapping(rule)['default'])}" if "default" in _mapping(rule) else name
        for name, rule in _mapping(spec.schema.get("properties")).items()
    ]
    return f"{spec.name}({', '.join(parts)})"


def _unwrapped(arguments: JsonObject, properties: JsonObject) -> JsonObject:
    if len(arguments) == 1:
        name, inner = next(iter(arguments.items()))
        if name in WRAPPERS and name not in properties and isinstance(inner, Mapping):
            return inner
    return arguments


def _renamed(spec: ToolSpec, arguments: JsonObject, *, notes: list[str]) -> dict[str, Json]:
    properties = _mapping(spec.schema.get("properties"))
    given: dict[str, Json] = {name: each for name, each in arguments.items() if name in properties and each is not None}
    unknown = {name: value for name, value in arguments.items() if name not in properties and value not in (None, "")}
    for name, value in unknown.items():
        open_names = [each for each in properties if each not in given]
        required = [each for each in _names(spec.schema.get("required")) if each not in given]
        meant = _meant(name, open_names, required=required if len(unknown) == 1 else [])
        if meant is None:
            raise ToolError(f"{spec.name} has no parameter `{name}`", fix=f"call {signature(spec)}")
        given[meant] = value
        notes.append(f"took `{name}` as `{meant}`")
    return given


def _meant(name: str, candidates: Sequence[str], *, required: Sequence[str]) -> str | None:
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().replace("-", "_")
    if plain in candidates:
        return plain
    words = [each for each in candidates if each in plain.split("_")]
    if len(words) == 1:
        return words[0]
    close = difflib.get_close_matches(plain, candidates, n=1, cutoff=CLOSE)
    if close:
        return close[0]
    return required[0] if len(required) == 1 else None


@frozen
class _Reading:
    """How one value is read by its part of the schema."""

    tool: str
    name: str
    kind: JsonObject
    notes: list[str]

    def of(self, value: Json) -> Json:
        match self.kind["type"]:
            case "string":
                return self._string(value)
            case "integer":
                return self._integer(value)
            case "boolean":
                return self._boolean(value)
            case "array":
                return self._array(value)
        raise ToolError(f"{self.tool}: `{self.name}` has a type no reader exists for")

    def _string(self, value: Json) -> str:
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(text, str):
            raise self._wrong("a string")
        choices = _names(self.kind.get("enum"))
        if choices and text not in choices:
            if text.strip().lower() not in choices:
                raise self._wrong(f"one of {', '.join(choices)}")
            text = text.strip().lower()
        if not text and "minLength" in self.kind:
            raise ToolError(f"{self.tool}: `{self.name}` is empty", fix=f"give `{self.name}` a value")
        return text

    def _integer(self, value: Json) -> int:
        number = _whole(value)
        if number is None:
            raise self._wrong("an integer")
        least, most = self.kind["minimum"], self.kind["maximum"]
        if isinstance(least, int) and isinstance(most, int) and not least <= number <= most:
            bounded = min(max(number, least), most)
            self.notes.append(f"took `{self.name}` {number} as {bounded}: it goes from {least} to {most}")
            return bounded
        return number

    def _boolean(self, value: Json) -> bool:
        word = str(value).strip().lower() if isinstance(value, (bool, int, str)) else "?"
        if word not in TRUE | FALSE:
            raise self._wrong("true or false")
        return word in TRUE

    def _array(self, value: Json) -> Json:
        if isinstance(value, str):
            try:
                value = json.loads(value or "[]")
            except ValueError:
                return [value]
        if isinstance(value, Sequence) and not isinstance(value, str):
            return list(value)
        return [value]

    def _wrong(self, wanted: str) -> ToolError:
        return ToolError(f"{self.tool}: `{self.name}` is not {wanted}", fix=f"give {wanted} for `{self.name}`")


def _whole(value: Json) -> int | None:
    """The integer meant by `5` or `"5"`; floats were made integers where the model's bytes came in."""
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"\s*-?\d{1,12}\s*", value) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _mapping(value: Json) -> JsonObject:
    return value if isinstance(value, Mapping) else {}


def _names(value: Json) -> tuple[str, ...]:
    return tuple(str(each) for each in value) if isinstance(value, Sequence) and not isinstance(value, str) else ()
