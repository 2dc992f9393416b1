"""What the parts of one daemon are given: bundles without behaviour."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from kairosd import wire
from kairosd.config import Config, Environment
from kairosd.core.json import JsonObject
from kairosd.core.levels import Level
from kairosd.engine.asking import Asking
from kairosd.engine.authorship import Authorship
from kairosd.engine.checkouts import Checkouts
from kairosd.engine.condition import Condition
from kairosd.engine.desk import OwnersDesk
from kairosd.engine.dispatch import Dispatcher
from kairosd.engine.housekeeping import Housekeeping
from kairosd.engine.inbox import Inbox
from kairosd.engine.initiative import Initiative
from kairosd.engine.notices import Outbox
from kairosd.engine.repository import Place
from kairosd.engine.signals import Feed
from kairosd.engine.stopping import EmergencyStop
from kairosd.engine.terms import Terms
from kairosd.models.book import ModelBook
from kairosd.ports import Clock, Executor, Files, Sandbox, Stores

Part = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Ground:
    """What everything else stands on."""

    config: Config
    place: wire.Home
    environment: Environment
    clock: Clock
    condition: Condition
    stores: Stores


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Controls:
    """What the desk may do to the daemon itself."""

    reload: Callable[[], JsonObject]
    edit_workspace: Callable[[str, str | None], None]
    edit_level: Callable[[str, Level], None]


@dataclass(frozen=True, slots=True)
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
