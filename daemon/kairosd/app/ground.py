"""What the parts of one daemon are given: bundles without behaviour."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from kairosd import wire
from kairosd.config import Config, Environment
from kairosd.core.json import JsonObject
from kairosd.core.levels import Level
from kairosd.engine.absence import Absence
from kairosd.engine.asking import Asking
from kairosd.engine.authorship import Authorship
from kairosd.engine.checkouts import Checkouts
from kairosd.engine.condition import Condition
from kairosd.engine.desk import OwnersDesk
from kairosd.engine.dispatch import Dispatcher
from kairosd.engine.dreaming import Dreamer
from kairosd.engine.hints import Hints
from kairosd.engine.housekeeping import Housekeeping
from kairosd.engine.inbox import Inbox
from kairosd.engine.initiative import Initiative
from kairosd.engine.notices import Outbox
from kairosd.engine.privacy import Privacy
from kairosd.engine.replies import Replies
from kairosd.engine.repository import Place
from kairosd.engine.signals import Feed
from kairosd.engine.stopping import EmergencyStop
from kairosd.engine.terms import Terms
from kairosd.frozen import frozen
from kairosd.models.book import ModelBook
from kairosd.ports import Clock, Executor, Files, MemoryStore, Sandbox, Stores, Tool

if TYPE_CHECKING:  # they are loaded when they are first used
    from kairosd.engine.checks import Sight
    from kairosd.engine.handover import Handover
    from kairosd.engine.keeping import Keeper
    from kairosd.engine.memory_desk import MemoryDesk

Part = Callable[[], Awaitable[None]]


async def _evaluate(checks: Sequence[JsonObject], sight: Sight) -> tuple[JsonObject, ...]:
    found: tuple[JsonObject, ...] = await importlib.import_module("kairosd.engine.checks").evaluate(checks, sight)
    return found


@frozen
class Seams:
    """Where something may stand before the engine's own parts: witnesses of a record, or the record played back."""

    outside: Callable[[Outside], Outside] = lambda real: real
    asking: Callable[[Asking], Asking] = lambda real: real
    tool: Callable[[Tool], Tool] = lambda real: real
    handover: Callable[[Handover], Handover] = lambda real: real
    remembering: Callable[[Hints], Hints] = lambda real: real
    evaluate: Callable[[Sequence[JsonObject], Sight], Awaitable[tuple[JsonObject, ...]]] = _evaluate


@frozen
class Ground:
    """What everything else stands on."""

    config: Config
    place: wire.Home
    environment: Environment
    clock: Clock
    condition: Condition
    stores: Stores
    seams: Seams = Seams()


@frozen
class Outside:
    """What reaches out of the process: programs, models and the owner's screens. `author` yields (name, email)."""

    files: Files
    executor: Executor
    sandbox: Sandbox
    places: Mapping[str, Place]
    checkouts: Checkouts
    models: ModelBook
    outbox: Outbox
    author: Authorship
    privacy: Privacy


@frozen
class Controls:
    """What the desk may do to the daemon itself."""

    reload: Callable[[], JsonObject]
    edit_workspace: Callable[[str, str | None], None]
    edit_level: Callable[[str, Level], None]
    edit_trigger: Callable[[str, str], None]


@frozen
class Memory:
    """The parts of memory that others need."""

    store: MemoryStore
    absence: Absence
    dreamer: Dreamer
    desk: MemoryDesk
    keeper: Keeper
    close: Callable[[], None]


@frozen
class Engine:
    """The use cases, wired."""

    asking: Asking
    dispatcher: Dispatcher
    emergency: EmergencyStop
    initiatives: Mapping[str | None, Initiative]
    inbox: Inbox
    housekeeping: Housekeeping
    desk: OwnersDesk
    feed: Feed
    terms: Terms
    memory: Memory
    replies: Replies
