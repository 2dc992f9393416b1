"""Every trigger is one file with `build(section, deps)`; what it builds runs until cancelled, and runs again."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from pathlib import Path
from types import ModuleType

import pytest
from tests.fakes import ManualClock, settle
from tests.intake import RecordingIntake, deps_for

import kairosd.triggers
from kairosd.config.sections import TickSection
from kairosd.core.events import Tier
from kairosd.core.workspaces import Workspace
from kairosd.ports.world import Trigger

pytestmark = pytest.mark.anyio

FOLDER = Path(next(iter(kairosd.triggers.__path__)))
MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
SECTIONS: dict[str, object] = {"tick": TickSection(), "schedule": []}
PURE = {"github"}  # its events come in through the webhook server


def load(name: str) -> ModuleType:
    return importlib.import_module(f"kairosd.triggers.{name}")


def make(name: str, workspaces: tuple[Workspace, ...] = ()) -> tuple[Trigger, RecordingIntake, ManualClock]:
    clock = ManualClock()
    deps = deps_for(clock, workspaces=workspaces)
    assert isinstance(deps.intake, RecordingIntake)
    return load(name).build(SECTIONS.get(name), deps), deps.intake, clock


@pytest.mark.parametrize("name", [name for name in MODULES if name not in PURE])
async def test_a_trigger_is_built_from_a_section_and_deps(name: str) -> None:
    parameters = list(inspect.signature(load(name).build).parameters.values())
    assert [found.kind for found in parameters[:2]] == [inspect.Parameter.POSITIONAL_OR_KEYWORD] * 2
    assert all(found.default is not inspect.Parameter.empty for found in parameters[2:])
    assert make(name)[0].name == name


@pytest.mark.parametrize("name", [name for name in MODULES if name not in PURE])
async def test_a_trigger_ends_when_cancelled_and_can_be_started_again(name: str, tmp_path: Path) -> None:
    trigger, _, _ = make(name, (Workspace("one", tmp_path),))
    for _ in range(2):
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(trigger.run())
        await settle()
        task.cancel()
        await asyncio.wait([task], timeout=20)
        assert task.done()
        assert task.cancelled() or task.exception() is None


async def test_a_boot_says_how_long_the_daemon_was_away_and_only_once() -> None:
    clock = ManualClock()
    deps = deps_for(clock, workspaces=())
    assert isinstance(deps.intake, RecordingIntake)
    seen = clock.now()
    await clock.advance(90)
    trigger = load("boot").build(None, deps, last_seen=seen, interrupted=["r_1", "r_2"])
    await trigger.run()
    await trigger.run()
    (draft,) = deps.intake.drafts
    assert (draft.source, draft.kind, draft.tier, draft.workspace) == ("boot", "boot", Tier.LOCAL, None)
    assert draft.facts == {"first": False, "away_seconds": 90, "interrupted": 2, "runs": ["r_1", "r_2"]}


async def test_the_first_boot_was_away_from_nothing() -> None:
    trigger, intake, _ = make("boot")
    await trigger.run()
    assert intake.drafts[0].facts == {"first": True, "away_seconds": 0, "interrupted": 0, "runs": []}
