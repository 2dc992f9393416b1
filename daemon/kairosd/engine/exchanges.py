"""Exchanges with models as entries of a record: every answer, fault and refusal, so that it can be given again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Protocol

from kairosd import errors
from kairosd.core.budget import Amount, Breach, Cap
from kairosd.core.journal import stamp
from kairosd.core.json import Json, JsonObject, without_floats
from kairosd.core.messages import ToolUse, Usage, UseBroken
from kairosd.engine.asking import Reply
from kairosd.engine.purses import NoRoom
from kairosd.errors import ModelError, ModelProtocolError, ModelUnavailableError

MODEL_FACTS = ("name", "provider", "model", "context", "by_schema")  # what prompts depend on


class Recorder(Protocol):
    """Where entries go. Neither method blocks or raises."""

    def put(self, make: Callable[[], JsonObject]) -> None:
        """Keeps the entry that `make` yields; it is called later, on another thread."""

    def saw(self, *what: str, value: Json) -> None:
        """Keeps what something outside is like, where that is not what it was like before."""


def write_reply(reply: Reply) -> JsonObject:
    """A whole answer as JSON."""
    told: dict[str, Json] = {}
    for each in fields(reply):
        value = getattr(reply, each.name)
        told[each.name] = _write_usage(value) if isinstance(value, Usage) else value
    return {**told, **write_uses(reply.text, reply.uses)}


def write_uses(text: str, uses: Sequence[ToolUse | UseBroken]) -> JsonObject:
    """Words and calls as JSON. The order of arguments is kept: a prompt shows it."""
    told: list[Json] = [
        {"id": use.id, "name": use.name, "problem": use.problem}
        if isinstance(use, UseBroken)
        else {
            "id": use.id, "name": use.name, "arguments": without_floats(use.arguments),
            "order": list(map(str, use.arguments)),
        }
        for use in uses
    ]  # fmt: skip
    return {"text": text, "uses": told}


def read_reply(entry: Mapping[str, Json]) -> Reply:
    """The answer that `write_reply` wrote. Raises `TypeError`, `KeyError`, `ValueError` for anything else."""
    known = {each.name for each in fields(Reply)}
    told = {
        name: Usage(**value) if isinstance(value, Mapping) else value  # type: ignore[arg-type]
        for name, value in entry.items()
        if name in known
    }
    return Reply(**{**told, "uses": read_uses(entry)})  # type: ignore[arg-type]


def read_uses(entry: Mapping[str, Json]) -> tuple[ToolUse | UseBroken, ...]:
    """The calls that `write_uses` wrote. Raises as `read_reply` does."""
    uses = entry["uses"]
    if not isinstance(uses, list):
        raise TypeError("not an answer")
    return tuple(map(_read_use, uses))


def read_outcome(entry: Mapping[str, Json]) -> Reply | Exception:
    """What became of an exchange: the answer, or what was raised. Raises as `read_reply` does."""
    match entry:
        case {"reply": Mapping() as reply}:
            return read_reply(reply)
        case {"refused": Mapping() as breach}:
            return _with_spent(NoRoom(_read_breach(breach)), entry)
        case {"error": Mapping() as told}:
            return _with_spent(_read_error(told), entry)
    raise ValueError("neither an answer nor a fault")


def _read_use(use: Json) -> ToolUse | UseBroken:
    if not isinstance(use, Mapping):
        raise TypeError("not a call")
    arguments, order = use.get("arguments"), use.get("order")
    if isinstance(arguments, Mapping):
        names = [str(name) for name in order if str(name) in arguments] if isinstance(order, list) else []
        ordered = {name: arguments[name] for name in names}
        return ToolUse(str(use["id"]), str(use["name"]), {**ordered, **arguments})
    return UseBroken(str(use["id"]), str(use["name"]), str(use["problem"]))


def _with_spent(error: ModelError | NoRoom, entry: Mapping[str, Json]) -> Exception:
    if isinstance(spent := entry.get("spent"), Mapping):
        price = spent["price"]
        error.spent = (int(str(spent["tokens"])), None if price is None else int(str(price)))
    return error


def write_error(error: ModelError) -> JsonObject:
    """A fault as JSON."""
    told: dict[str, Json] = {"class": type(error).__name__, "message": error.message, "fix": error.fix}
    if isinstance(error, ModelUnavailableError) and error.retry_after is not None:
        told["retry_after_ms"] = int(error.retry_after * 1000)
    return {"error": told, **_write_spent(error)}


def _read_error(told: Mapping[str, Json]) -> ModelError:
    found = getattr(errors, str(told["class"]), ModelProtocolError)
    kind = found if isinstance(found, type) and issubclass(found, ModelError) else ModelProtocolError
    fix = told.get("fix")
    error: ModelError = kind(str(told["message"]), fix=fix if isinstance(fix, str) else None)
    if isinstance(error, ModelUnavailableError) and isinstance(after := told.get("retry_after_ms"), int):
        error.retry_after = after / 1000
    return error


def write_refusal(refused: NoRoom) -> JsonObject:
    """A refusal for want of money as JSON."""
    breach = refused.breach
    span = breach.cap.span
    cap: JsonObject = {
        "seconds": None if span is None else int(span.total_seconds()),
        "price": breach.cap.price,
        "tokens": breach.cap.tokens,
    }
    amounts: dict[str, Json] = {
        name: {"price": amount.price, "tokens": amount.tokens}
        for name, amount in (("used", breach.used), ("need", breach.need))
    }
    frees = None if breach.frees_at is None else stamp(breach.frees_at)
    told: JsonObject = {"purse": breach.purse, "cap": cap, **amounts, "frees_at": frees}
    return {"refused": told, **_write_spent(refused)}


def _write_spent(error: ModelError | NoRoom) -> JsonObject:
    if error.spent is None:
        return {}
    tokens, price = error.spent
    return {"spent": {"tokens": tokens, "price": price}}


def _read_breach(told: Mapping[str, Json]) -> Breach:
    cap, used, need = told["cap"], told["used"], told["need"]
    if not isinstance(cap, Mapping) or not isinstance(used, Mapping) or not isinstance(need, Mapping):
        raise TypeError("not a breach")
    seconds, frees = cap["seconds"], told["frees_at"]
    span = None if seconds is None else timedelta(seconds=int(str(seconds)))
    return Breach(
        str(told["purse"]),
        Cap(span, int(str(cap["price"])), int(str(cap["tokens"]))),
        _amount(used),
        _amount(need),
        None if frees is None else datetime.fromisoformat(str(frees)),
    )


def _write_usage(usage: Usage) -> JsonObject:
    return {each.name: getattr(usage, each.name) for each in fields(usage)}


def _amount(told: Mapping[str, Json]) -> Amount:
    price = told["price"]
    return Amount(None if price is None else int(str(price)), int(str(told["tokens"])))
