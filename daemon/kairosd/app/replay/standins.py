"""What stands before everything outside while a record is played: it knows what is on record and can do nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn, cast

from kairosd.app.replay.tape import BRIEF_REST, OffRecordError, Tape
from kairosd.core.budget import Payer, Purse
from kairosd.core.exchanges import mark
from kairosd.core.json import Json, JsonObject
from kairosd.core.messages import Prompt, ToolUse, UseBroken
from kairosd.core.runs import Run
from kairosd.core.workspaces import Workspace
from kairosd.engine.asking import Asking, Listener, Reply
from kairosd.engine.checkouts import Checkout
from kairosd.engine.exchanges import read_outcome, read_uses
from kairosd.engine.landing import Landed
from kairosd.engine.purses import Purses
from kairosd.engine.repository import Survey
from kairosd.engine.witness import Witness
from kairosd.errors import CheckoutError, ToolError
from kairosd.frozen import frozen
from kairosd.ports import Git, Model, Outcome


@dataclass
class Played:
    """The tape that is played now, and what of the recorded calls the tools are to answer."""

    tape: Tape
    results: Callable[[ToolUse], RecordedCall | None]
    fingerprint: str = ""


@frozen
class RecordedCall:
    """A call as it was. In this part of its run it came to `outcome`: succeeded, failed, or "" where nobody knows."""

    id: str
    result: str
    evidence: str
    outcome: str
    plan: JsonObject | None
    happened: bool | None


class Off:
    """Reaches nowhere."""

    name = "off"

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._refuse

    def _refuse(self, *what: object, **_given: object) -> NoReturn:
        raise OffRecordError(f"something outside was to be used: {what[:2]}")


class PlayedFiles(Off):
    """Standing files and links as they were."""

    def __init__(self, played: Played) -> None:
        self._played = played

    def read(self, root: Path, path: str, *, limit: int) -> bytes:
        known, content = self._played.tape.seen("file", str(root), path)
        if not known:
            raise OffRecordError(f"the content of {path} is not on record")
        if content is None:
            raise ToolError(f"there is no {path}")
        return str(content).encode("utf-8", "surrogateescape")[:limit]

    def resolve(self, root: Path, path: str) -> str:
        _, leads = self._played.tape.seen("link", str(root), path)
        return path if leads is None else str(leads)

    def digest(self, root: Path, path: str) -> str | None:
        known, content = self._played.tape.seen("file", str(root), path)
        if not known:
            raise OffRecordError(f"the content of {path} is not on record")
        return None if content is None else mark(content)


@frozen
class PlayedSurvey(Survey):
    """A survey whose fingerprint is the recorded one."""

    known: str = ""

    def fingerprint(self, extra: Sequence[str] = ()) -> str:
        return self.known


class PlayedRepository(Off):
    """A workspace as it looked."""

    def __init__(self, played: Played, name: str) -> None:
        self._played = played
        self._name = name

    async def survey(self) -> Survey:
        known, value = self._played.tape.seen("survey", self._name)
        if not known or not isinstance(value, Mapping):
            return PlayedSurvey(git=False, known=self._played.fingerprint)
        plain = {each.name: value[each.name] for each in fields(Survey) if each.name in value}
        standing = value.get("changed")
        changed = tuple(("M", str(path)) for path in standing) if isinstance(standing, list) else ()
        return PlayedSurvey(**{**plain, "changed": changed, "known": self._played.fingerprint})  # type: ignore[arg-type]

    async def describe(self, survey: Survey, **how: Json) -> str:
        known, words = self._played.tape.seen("described", self._name, repr(sorted(how.items())))
        if not known:
            raise OffRecordError(f"what {self._name} looked like is not on record")
        return str(words)

    def git(self, **_given: object) -> Git:
        return cast("Git", Off())


class PlayedCheckouts(Off):
    """Checkouts that are only named."""

    def __init__(self, played: Played) -> None:
        self._played = played

    async def ensure(self, run: Run, workspace: Workspace) -> Checkout:
        known, value = self._played.tape.seen("checkout", run.id)
        if not known or not isinstance(value, Mapping):
            raise OffRecordError(f"the checkout of {run.id} is not on record")
        _raise_recorded(value)
        return Checkout(Path(str(value["path"])), str(value["base"]), str(value["snapshot"]))

    def git(self, run: Run, workspace: Workspace, **_given: object) -> Git:
        async def git(*arguments: str, stdin: bytes = b"", writable: bool = False) -> Outcome:
            known, value = self._played.tape.seen("git", run.id, *arguments)
            if not known or not isinstance(value, Mapping):
                raise OffRecordError(f"git {' '.join(arguments)} is not on record")
            _raise_recorded(value)
            return Outcome(int(str(value["code"])), str(value["out"]).encode("latin-1"), b"")

        return git

    async def keep_base(self, run: Run, workspace: Workspace) -> None: ...

    async def drop_base(self, run: Run, workspace: Workspace) -> None: ...

    async def discard(self, run: Run) -> None: ...

    async def kept_bases(self, workspace: Workspace) -> tuple[str, ...]:
        return ()


class PlayedHandover(Off):
    """Landings as they were."""

    def __init__(self, played: Played) -> None:
        self._played = played

    async def clear(self, run: Run, workspace: Workspace, *, subject: str) -> bool:
        """What was not allowed to land is not in what landed."""
        return False

    async def land(self, run: Run, workspace: Workspace) -> Landed:
        known, value = self._played.tape.seen("landed", run.id)
        if not known or not isinstance(value, Mapping):
            raise OffRecordError(f"the landing of {run.id} is not on record")
        _raise_recorded(value)
        told = {each.name: value[each.name] for each in fields(Landed) if each.name in value}
        patch, files = value.get("patch"), value.get("files")
        told["files"] = tuple(map(str, files)) if isinstance(files, list) else ()
        return Landed(**{**told, "patch": Path(str(patch)) if patch else None})  # type: ignore[arg-type]


class PlayedPurses(Witness[Purses]):
    """Purses as full as the models were told."""

    def __init__(self, real: Purses, played: Played) -> None:
        self._real = real
        self._played = played

    async def quarters_left(self, purse: Purse) -> int:
        known, left = self._played.tape.seen("purse", purse.value)
        return left if known and isinstance(left, int) else 4


class PlayedMemory(Off):
    """Memory as prompts were told of it."""

    def __init__(self, played: Played) -> None:
        self._played = played

    def of(self, run: Run) -> None: ...

    async def hints(self, workspace: str | None, *, limit: int) -> str:
        _, told = self._played.tape.seen("hints", workspace or "", str(limit))
        return str(told or "")


class PlayedAsking(Witness[Asking]):
    """Answers from the record."""

    def __init__(self, real: Asking, played: Played) -> None:
        self._real = real
        self._played = played
        self.purses = cast("Purses", PlayedPurses(real.purses, played))

    async def ask(
        self, model: Model, prompt: Prompt, *, payer: Payer, role: str, listener: Listener | None = None
    ) -> Reply:
        tape = self._played.tape
        exchange = tape.ask(prompt, model.name, role=role)
        if exchange is None:
            return await self._beyond(tape, listener if role == "act" else None)
        entry = exchange.entry
        try:
            outcome = read_outcome(entry)
        except (TypeError, KeyError, ValueError) as error:
            raise OffRecordError(f"the reply on record cannot be read: {error}") from error
        tape.advance()
        if isinstance(outcome, Exception):
            heard = entry.get("heard")
            if isinstance(heard, Mapping) and listener is not None:
                tape.turn += bool(heard["uses"])
                _hear(listener, str(heard["text"]), uses=read_uses(heard))
            raise outcome
        tape.turn += role == "act"
        if listener is not None:
            _hear(listener, outcome.text, uses=outcome.uses)
        return outcome

    async def _beyond(self, tape: Tape, listener: Listener | None) -> Reply:
        """Beyond the last exchange of a part: what the transcript alone has, then what was cut off, then nothing."""
        if listener is None:
            await end_of_record(tape)
        if (spare := tape.take_spare()) is not None:
            tape.turn += 1
            _hear(listener, spare.text, uses=spare.uses)
            return spare
        if tape.torn is not None:
            tape.turn += 1
            _hear(listener, tape.torn[0], uses=tape.torn[1])
            await asyncio.sleep(2 * BRIEF_REST)  # what it asked for is made until the crash came
        return await end_of_record(tape)


class PlayedModels(Off):
    """Models that are only named: whoever was asked next."""

    def __init__(self, played: Played) -> None:
        self._played = played

    def get(self, name: str) -> Model:
        tape = self._played.tape
        asked = tape.next
        chosen = str(asked.entry["model"]) if asked else name
        known, value = tape.seen("model", chosen)
        if not known or not isinstance(value, Mapping):
            raise OffRecordError(f"the model {chosen} is not on record")
        return cast("Model", SimpleNamespace(**value, thinking=0))


async def end_of_record(tape: Tape) -> NoReturn:
    """Here the recorded part ended: whoever comes here waits, as if in the moment of a crash."""
    tape.stop()
    await asyncio.Event().wait()
    raise OffRecordError("the record ends here")


def _hear(listener: Listener, text: str, *, uses: Sequence[ToolUse | UseBroken]) -> None:
    if text:
        listener.text(text)
    for use in uses:
        listener.use(use)


def _raise_recorded(value: Mapping[str, Json]) -> None:
    if "error" in value:
        fix = value.get("fix")
        raise CheckoutError(str(value["error"]), fix=fix if isinstance(fix, str) else None)
