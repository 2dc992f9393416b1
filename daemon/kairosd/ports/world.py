"""The outside world: time, triggers, models, notifiers, files, and what one adapter may be given."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from kairosd.core.events import Draft, Receipt
from kairosd.core.journal import Note
from kairosd.core.messages import Prompt, StreamPart
from kairosd.core.notices import Notice
from kairosd.core.workspaces import Workspace
from kairosd.frozen import frozen


class Clock(Protocol):
    """The only source of "now"."""

    def now(self) -> datetime:
        """The moment, aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds that never go backwards; for measuring spans, never for deadlines across a suspend."""

    async def sleep(self, seconds: float) -> None:
        """Returns after `seconds` of this clock."""

    async def sleep_until(self, moment: datetime) -> None:
        """Returns once `now() >= moment`; looks at the wall at least once a minute, so that a suspend is seen."""


class Intake(Protocol):
    """Where triggers hand in what they saw."""

    async def submit(self, draft: Draft) -> Receipt:
        """Makes the event durable before it returns. Raises `StoreError` when it could not."""

    async def tick(self, workspace: str) -> bool:
        """Whether the world of `workspace` changed since the last look; only then is there an event."""

    def next_wake(self, workspace: str) -> datetime | None:
        """When a `wait` asked to be woken, if one did."""

    async def quiet_until(self, moment: datetime) -> bool:
        """Sleeps until `moment` (False), or until any event comes in or a wake is set (True)."""


class Trigger(Protocol):
    """An adapter that yields events."""

    name: str

    async def run(self) -> None:
        """Watches until cancelled. An exception is logged and the trigger restarted with back-off by the supervisor."""


class Model(Protocol):
    """A language model behind some provider's wire protocol."""

    name: str  # its `[models.NAME]`
    provider: str
    model: str  # the provider's own name for it; key of the price table
    context: int  # tokens of its window
    by_schema: bool  # its calls are forced by a schema, one an answer: it is too small to call tools by itself

    @property
    def thinking(self) -> int:
        """Tokens that it needs beyond a prompt's `max_tokens`, to think first: what its `thinking` has to be."""

    def stream(self, prompt: Prompt) -> AsyncGenerator[StreamPart, None]:
        """Streams one answer, ending in `Done`. Retries what is temporary before the first part only.

        Raises `ModelUnavailableError` (temporary, also a stream cut in the middle), `ModelRefusedError` (permanent),
        `ModelProtocolError` (the stream or the form is not what was asked for), `NeedsRoomError` (asked again, the
        model gets room to think). One call is one request that may be charged for: `worked` says that a cut one may.
        """

    async def check(self) -> str:
        """One sentence that says the model is reachable; costs nothing. Raises `ModelError` with the fix."""

    async def close(self) -> None:
        """Lets go of connections and child processes."""


@frozen
class Heard:
    """A message that came over a channel for answers. `at` is when, by our clock; with an empty `id` it says nothing
    but that the channel is heard."""

    id: str
    text: str
    at: datetime


class Notifier(Protocol):
    """A screen of the owner's."""

    name: str

    async def deliver(self, notice: Notice) -> str:
        """Delivers and returns the transport's own receipt.

        Raises `NotifierError` (try again later) or `NotifierRefusedError` (permanent).
        """

    async def arrived(self, notice: Notice) -> bool:
        """Whether an attempt that a crash cut off did arrive; False also when the transport cannot tell."""

    async def close(self) -> None:
        """Lets go of connections."""


class Correspondent(Notifier, Protocol):
    """A notifier that takes answers."""

    async def deliver(self, notice: Notice, replies: Sequence[str] = (), *, private: bool = False) -> str:
        """As any; `replies` go along as buttons, with a secret only where the channel is `private`."""

    def answers(self, since: str) -> AsyncGenerator[Heard, None]:
        """What is said there, from a message's id or a second since 1970 on, until it breaks off.

        Raises as `deliver` does.
        """


@frozen
class Deps:
    """What an adapter may be given. Fields an adapter does not need stay unused; none reaches into another adapter."""

    clock: Clock
    intake: Intake
    workspaces: Sequence[Workspace]
    state_folder: Path
    data_folder: Path
    note: Callable[[Note], None]  # journals in the background; never blocks, never raises
