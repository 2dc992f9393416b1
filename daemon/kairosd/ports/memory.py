"""Memory on disk, the journal as a dream reads it, and what a search must not lose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Protocol

from kairosd.core.json import Json, JsonObject
from kairosd.core.memory import Entry, Generation, Past
from kairosd.frozen import frozen


@frozen
class Proposal:
    """A change that waits for the owner: why it was not simply made, and the operations as a dream reads them."""

    id: str
    reason: str
    made: datetime
    base: int
    operations: tuple[JsonObject, ...]
    evidence: tuple[JsonObject, ...] = ()


class MemoryStore(Protocol):
    """Generations on disk. All methods block: call them in a thread. All raise `StoreError` when the disk does not do
    what it is asked; then what readers see is what it was.
    """

    def load(self) -> Generation:
        """The current generation with what the owner's hand changed since, each such line at tier `owner`.

        Never waits for a writer, and never sees half of one's work.
        """

    def commit(self, generation: Generation, *, base: Generation, files: Mapping[str, str] | None = None) -> Generation:
        """Makes `generation` the current one, its number the next free one; as it was stored.

        `base` is what it was made from: where the bytes on disk are no longer those, nothing changes and
        `StaleMemoryError` is raised. `generation.manifest` is kept in the manifest; `files` are more files of it.
        """

    def undo(self, steps: int) -> Generation:
        """Goes back that many generations, byte for byte, cursor too. Raises `UsageError` where there are not so many.

        What the owner's hand changed in a generation stays in its folder, and `redo` comes back to it.
        """

    def redo(self, steps: int) -> Generation:
        """Goes forward again along what was undone. Raises `UsageError` where there is nothing to redo."""

    def past(self) -> Sequence[Generation]:
        """Every generation that is kept, newest first, as it was committed, and without its entries."""

    def at(self, number: int) -> Generation:
        """One generation with its entries. Raises `NotFoundError`."""

    def forget(self, identifier: str, moment: datetime, *, sources: Sequence[str] = ()) -> int:
        """Leaves a tombstone in place of an entry in every generation, index and history; in how many it was found.

        The tombstone names `sources`, which say it still: search leaves them out for good.

        Raises `NotFoundError`. What a crash interrupts is finished by the next call of any method that writes.
        """

    def archive(self, generation: Generation | None = None) -> tuple[Past, ...]:
        """The oldest history, which no generation carries any more: what belongs to one of them, or all there is.

        Some of it may be in a generation's own history too.
        """

    def pins(self) -> tuple[str, ...]:
        """The lines of the owner's `pins.md`, plain; read and never written."""

    def propose(self, proposal: Proposal) -> None:
        """Keeps a change for the owner; one that was ever proposed under this id stays as it is."""

    def proposals(self) -> Sequence[Proposal]:
        """What waits for the owner, oldest first."""

    def settle(self, identifier: str, verdict: str) -> Proposal:
        """A proposal is `accepted` or `rejected` and waits no more; an unique start of its id is enough.

        Raises `NotFoundError`, `AmbiguousIdError`.
        """


class JournalLines(Protocol):
    """The journal as files. Blocks: call it in a thread."""

    def after(self, sequence: int, *, limit: int) -> Sequence[Mapping[str, Json]]:
        """At most `limit` lines with a higher number than `sequence`, oldest first."""

    def lines(self, sequences: Sequence[int]) -> Sequence[Mapping[str, Json]]:
        """The lines with these numbers that there are, oldest first."""

    def of_day(self, day: date) -> Sequence[Mapping[str, Json]]:
        """The lines of one day of the journal, oldest first."""


class Recall(Protocol):
    """Says what a search would no longer find. Blocks: call it in a thread."""

    def losses(self, old: Generation, new: Generation, *, added: Sequence[Entry]) -> Sequence[str]:
        """Questions made from the old memory and the added entries that search answers worse in `new` than in `old`.

        Each as a sentence for the owner; empty = nothing is lost. Scopes are kept apart.
        """
