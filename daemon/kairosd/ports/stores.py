"""The stores: each method is one transaction, with its journal line (design §2, §5)."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from kairosd.core.budget import Amount, Breach, Cap, Caps, Order
from kairosd.core.decisions import Decision
from kairosd.core.events import Draft, Event, Receipt, Tier
from kairosd.core.journal import Note
from kairosd.core.json import Json, JsonObject
from kairosd.core.messages import Usage
from kairosd.core.notices import Notice
from kairosd.core.runs import Approval, ApprovalState, Call, CallState, Grant, ParkedOn, Run, RunState
from kairosd.core.tasks import Task
from kairosd.core.workspaces import World
from kairosd.frozen import frozen
from kairosd.ports.ratings import Ratings


@frozen
class Query:
    """Which rows a listing wants, newest first. `prefix` is the start of an id."""

    state: str | None = None
    workspace: str | None = None
    since: datetime | None = None
    prefix: str | None = None
    limit: int = 100
    shadow: bool = False  # of decisions: only those that were not followed


@frozen
class Used:
    """What counts against one cap: what was spent, and what calls under way may still take."""

    cap: Cap
    spent: Amount
    reserved: Amount


@frozen
class Spending:
    """What the model calls of one group took: `price` of those whose price is known (None = of none), and tokens.

    `input` does not hold what was read from or written to the provider's cache.
    """

    key: str
    label: str
    calls: int
    price: int | None
    input: int
    output: int
    cache_read: int
    cache_write: int
    unpriced_calls: int
    unpriced_tokens: int


@frozen
class Claim:
    """A batch taken from the inbox and the decision that was opened for it in the same transaction."""

    decision: Decision
    events: tuple[Event, ...]


class Events(Protocol):
    """The inbox on disk."""

    async def add(self, draft: Draft, now: datetime) -> Receipt:
        """Stores a pending event and its journal line, unless its key or body is known. Durable when it returns."""

    async def add_direct(self, draft: Draft, run: Run, *, decision: Decision, now: datetime) -> Receipt:
        """Stores an event that needs no decision by a model, settled, with its decision and queued run, at once."""

    async def next_due(self, workspace: str | None, now: datetime) -> datetime | None:
        """When the next pending event of one workspace that waits for a retry is due; always after `now`."""

    async def pending(self, workspace: str | None, now: datetime) -> tuple[Event, ...]:
        """The due pending events of one workspace, oldest first."""

    async def claim(self, decision: Decision, events: Sequence[str], *, now: datetime) -> Claim | None:
        """pending → claimed for those still pending, with the asked decision. None when none was left."""

    async def coalesce(self, events: Sequence[str], reason: str, *, now: datetime) -> None:
        """pending → coalesced: the world they report is the one already looked at."""

    async def release(self, decision: str, error: str, *, retry_at: datetime, blame: bool) -> None:
        """claimed → pending and the decision → unusable. With `blame` tries + 1, and dead after the fifth."""

    async def recover(self, now: datetime) -> int:
        """At boot: claimed → pending (tries + 1) or dead; their decisions → unusable. Returns how many."""

    async def retry(self, event: str, now: datetime) -> Event:
        """dead → pending with no tries. Raises `NotFoundError`, `TransitionError`."""

    async def get(self, event: str) -> Event:
        """By id or unique prefix. Raises `NotFoundError`, `AmbiguousIdError`."""

    async def find(self, query: Query) -> tuple[Event, ...]:
        """Newest first."""


class Decisions(Protocol):
    """Decisions and what followed from them."""

    async def conclude(
        self, decision: Decision, world: World | None, *, run: Run | None, notices: Sequence[Notice], now: datetime
    ) -> None:
        """asked → its verdict, events → settled, run or notices, world and journal lines: one transaction."""

    async def get(self, decision: str) -> Decision:
        """By id or unique prefix. Raises `NotFoundError`, `AmbiguousIdError`."""

    async def find(self, query: Query) -> tuple[Decision, ...]:
        """Newest first."""


class Worlds(Protocol):
    """What the initiative remembers of each workspace."""

    async def get(self, workspace: str) -> World | None:
        """None for a workspace never looked at."""

    async def put(self, world: World, note: Note | None, *, now: datetime) -> None:
        """Replaces the row."""


class Runs(Protocol):
    """Runs and their ledger of tool calls."""

    async def start(self, run: str, now: datetime) -> Run | None:
        """queued → running; None when another run holds the workspace or the state has moved on."""

    async def queued(self) -> tuple[Run, ...]:
        """Oldest first."""

    async def update(self, run: Run) -> None:
        """Stores counters, taint, branch, base and the like of a run; not its state."""

    async def escalate(self, run: Run, *, now: datetime) -> None:
        """Stores as `update` does that failed checks go back to the run; the first time with its journal line."""

    async def park(
        self, run: Run, on: ParkedOn, *, approval: Approval | None, notices: Sequence[Notice], now: datetime
    ) -> None:
        """running / interrupted → parked, with the open approval and its call → parked.

        An approval with an empty `call` asks about the run itself.
        """

    async def requeue(self, run: str, reason: str, *, now: datetime) -> None:
        """parked / interrupted → queued. Raises `TransitionError`."""

    async def end(self, run: Run, notices: Sequence[Notice], *, now: datetime) -> None:
        """→ the ended state in `run`, open approvals → withdrawn, intents → unknown. Raises `TransitionError`."""

    async def interrupt_running(self, now: datetime, *, alive: datetime | None = None) -> tuple[Run, ...]:
        """At boot: running → interrupted. Returns every interrupted run, also from earlier boots.

        `alive` is the daemon's last sign of life; a run's `rested` is when it was last at work.
        """

    async def call(self, call: Call, now: datetime) -> None:
        """Inserts a requested call."""

    async def move_call(self, call: Call, state: CallState, *, now: datetime, taint: Tier | None = None) -> Call:
        """Moves a call along `CALL_MOVES` with plan, rule and result, its run to `taint`. Raises `TransitionError`."""

    def end_look(self, call: Call, *, now: datetime) -> Future[Call]:
        """→ succeeded, for a call that only read: with the next transaction of any store, or a moment later."""

    async def calls(self, run: str) -> tuple[Call, ...]:
        """All calls of a run, in order of turn and position."""

    async def get_call(self, call: str) -> Call:
        """By id or unique prefix. Raises `NotFoundError`, `AmbiguousIdError`."""

    async def get(self, run: str) -> Run:
        """By id or unique prefix. Raises `NotFoundError`, `AmbiguousIdError`."""

    async def find(self, query: Query) -> tuple[Run, ...]:
        """Newest first."""

    async def in_state(self, *states: RunState) -> tuple[Run, ...]:
        """Oldest first."""


class Tasks(Protocol):
    """Commands that go on in the background. A run's end stops those it has left, in its own transaction."""

    async def begin(self, task: Task, now: datetime) -> None:
        """Inserts a running task."""

    async def end(self, task: Task, now: datetime) -> None:
        """running → the ended state in `task`, with its event; a run parked on its tasks → queued after the last one.

        Raises `TransitionError` where it has ended before.
        """

    async def recover(self, now: datetime) -> tuple[Task, ...]:
        """At boot: running → lost, each with its event. Returns them."""

    async def heard(self, task: str, *, now: datetime) -> None:
        """Its run was told of the end: a pending event of it → coalesced."""

    async def of_run(self, run: str) -> tuple[Task, ...]:
        """All tasks of a run, oldest first."""

    async def running(self) -> tuple[Task, ...]:
        """All that run, oldest first."""

    async def get(self, task: str) -> Task:
        """By id or unique prefix. Raises `NotFoundError`, `AmbiguousIdError`."""

    async def find(self, query: Query) -> tuple[Task, ...]:
        """Newest first."""


class Approvals(Protocol):
    """Questions to the owner."""

    async def answer(
        self, code: str, verdict: ApprovalState, *, channel: str, now: datetime, grant: Grant | None = None
    ) -> Approval:
        """open → approved / denied by code or id, and the run → queued. The first answer wins.

        With `grant` (for a yes only) the standing grant is stored in the same transaction; one that stands for the same
        call already is left as it is. Raises `NotFoundError`, `TransitionError` (answered, expired or withdrawn before,
        or nothing that can be granted).
        """

    async def move(self, approval: str, state: ApprovalState, *, now: datetime) -> Approval:
        """approved → used / stale. Raises `TransitionError`."""

    async def expire(self, now: datetime) -> tuple[Approval, ...]:
        """open → expired where its time is over, and the runs → queued, so that they hear the "no"."""

    async def withdraw(self, approval: str, reason: str, *, now: datetime) -> None:
        """open → withdrawn, and the run → queued. Raises `TransitionError`."""

    async def answers(self, since: datetime) -> tuple[Approval, ...]:
        """The owner's answers after `since`, newest first: at most 200. What expired was not answered."""

    async def of_call(self, call: str) -> Approval | None:
        """The newest approval of a call."""

    async def of_run(self, run: str) -> tuple[Approval, ...]:
        """All approvals of a run, newest first. Those with an empty `call` are about the run itself."""

    async def get(self, approval: str) -> Approval:
        """By id, unique prefix or code. Raises `NotFoundError`, `AmbiguousIdError`."""

    async def find(self, query: Query) -> tuple[Approval, ...]:
        """Newest first."""


class Grants(Protocol):
    """The owner's standing yeses, each to one exact call. They are made by `Approvals.answer`."""

    async def match(self, run: Run, tool: str, *, exact: str) -> Grant | None:
        """The active grant of the run's workspace for exactly this call.

        None too for a run that has read what is trusted less than what the run it was given to had read.
        """

    async def use(self, grant: str, call: str, *, now: datetime) -> Grant:
        """Counts one use, for `call`. Raises `TransitionError` when it was revoked meanwhile."""

    async def revoke(self, grant: str, *, now: datetime) -> Grant:
        """active → revoked, by id or unique prefix. Raises `NotFoundError`, `AmbiguousIdError`, `TransitionError`."""

    async def get(self, grant: str) -> Grant:
        """By id or unique prefix. Raises `NotFoundError`, `AmbiguousIdError`."""

    async def find(self, query: Query) -> tuple[Grant, ...]:
        """Newest first."""


class Notices(Protocol):
    """The outbox of notices: one row a channel."""

    async def queue(self, notices: Sequence[Notice], now: datetime) -> None:
        """Inserts those whose key is new on their channel."""

    async def move(self, notice: Notice, now: datetime) -> None:
        """Stores `notice` with its new state along `NOTICE_MOVES`. Raises `TransitionError`."""

    async def recover(self, now: datetime) -> tuple[Notice, ...]:
        """At boot: the attempting ones, unchanged, for the caller to ask the transport about."""

    async def get(self, notice: str) -> Notice:
        """By id or unique prefix. Raises `NotFoundError`, `AmbiguousIdError`."""

    async def find(self, query: Query) -> tuple[Notice, ...]:
        """Newest first."""


class ModelCalls(Protocol):
    """What every model call used and cost, and what it counts for against its purse. Prices in micro-dollars."""

    async def reserve(self, order: Order, caps: Caps, *, now: datetime) -> int | Breach:
        """Records that a call is about to be made and returns its number; a breach where a cap has no room for it.

        Looking and recording are one transaction, so that runs beside each other cannot spend the same money.
        """

    async def settle(self, number: int, usage: Usage, *, price: int | None, outcome: str, now: datetime) -> None:
        """Records what became of it: `ok` or the error's class. What was reserved beyond that is given back.

        What nobody could count stays as it was reserved; so does the price of a call whose end nobody saw.
        """

    def settle_soon(self, number: int, usage: Usage, *, price: int | None, outcome: str, now: datetime) -> Future[None]:
        """`settle`, with the next transaction of any store, or a moment later."""

    async def recover(self, now: datetime) -> int:
        """At boot: calls that never settled are closed as `lost`, priced as reserved. Returns how many."""

    async def of(self, cause: str) -> tuple[JsonObject, ...]:
        """The calls made for one decision or run, oldest first."""

    async def breach(self, order: Order, caps: Caps, *, now: datetime) -> Breach | None:
        """What `reserve` would refuse the call for; nothing is recorded."""

    async def used(self, purses: Mapping[str, Caps], now: datetime) -> Mapping[str, tuple[Used, ...]]:
        """What counts against each cap of each purse."""

    async def costs(self, by: str, *, since: datetime, limit: int) -> tuple[Spending, ...]:
        """What was spent, by `day`, `trigger`, `workspace`, `run` or `model`: days newest first, else dearest first."""


class State(Protocol):
    """Small durable facts about the daemon itself: paused, counters, last boot."""

    async def get(self, key: str) -> Json:
        """None where nothing was set."""

    async def put(self, key: str, value: Json, *, note: Note | None, now: datetime) -> None:
        """Replaces the value, with its journal line."""

    async def note(self, note: Note, now: datetime) -> None:
        """Adds a journal line that belongs to no other transition."""

    async def drain(self) -> None:
        """Returns once every journal line noted before the call is in the journal's files. Raises `StoreError`."""

    async def counters(self) -> Mapping[str, int]:
        """Everything `status` counts: rows by state, sums of calls, notices."""

    async def touch(self, now: datetime) -> None:
        """A small durable write; proves to the watchdog that the database still takes them."""


class Transcript(Protocol):
    """The turns of a run, verbatim, one JSON object a line, never altered."""

    async def append(self, run: str, *entries: JsonObject) -> None:
        """Written when it returns: a kill loses nothing of it; after one in the middle the first ones may be there."""

    async def sync(self, run: str) -> None:
        """Returns when all that was appended is on disk, so that a power cut loses nothing of it either."""

    async def read(self, run: str) -> tuple[JsonObject, ...]:
        """All whole entries; a torn last line is left out and cut before the next append."""


class Blobs(Protocol):
    """Contents that direct edits replaced. Both methods block: call them in a thread."""

    def put(self, content: bytes) -> str:
        """Keeps `content`, on disk before it returns; its SHA-256 in hex. Raises `StoreError`."""

    def get(self, name: str) -> bytes:
        """The content of that name. Raises `NotFoundError` when it is gone or damaged."""


@frozen
class Stores:
    """All stores of one database."""

    events: Events
    decisions: Decisions
    worlds: Worlds
    runs: Runs
    tasks: Tasks
    approvals: Approvals
    grants: Grants
    notices: Notices
    model_calls: ModelCalls
    ratings: Ratings
    state: State
    transcripts: Transcript
    blobs: Blobs
