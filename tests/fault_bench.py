"""Drives the real engine, with real providers over real sockets, through one fault of the fault server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.engine_bench import Bench, Setup
from tests.fakes import ManualClock
from tests.fault_server import FAULTS, Fault, FaultServer, prove

from kairosd.config import ModelSection
from kairosd.core.events import EventState
from kairosd.core.json import JsonObject
from kairosd.core.runs import ENDED, RunState
from kairosd.models import anthropic, openai
from kairosd.models.deps import ModelDeps
from kairosd.ports import Model, Query

OUTAGE = 600.0  # seconds of the Clock
SILENCE = 0.5  # real seconds: less than the configuration takes, so that a test is over sooner
RECOVERY = 1200.0  # the most that is waited for it
ONE_MODEL = """
[roles]
decide = "main"
act = "main"
[models.main]
provider = "local"
"""
NAMES = {"anthropic": "claude-haiku-4-5", "openai": "gpt-5.4-mini"}


class ForwardClock(ManualClock):
    """A clock that providers may move on while a test does."""

    def _step(self, moment: datetime) -> None:
        super()._step(max(moment, self.now()))


class BriskClock:
    """The bench's clock as a provider sees it: its back-offs take no real time, and each look at a span `pace`."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.pace = 0.0
        self.slept = 0

    def now(self) -> datetime:
        return self._clock.now()

    def monotonic(self) -> float:
        self._pass(self.pace)
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        self.slept += 1
        self._pass(seconds)
        await asyncio.sleep(0)

    async def sleep_until(self, moment: datetime) -> None:
        await self.sleep((moment - self.now()).total_seconds())

    def _pass(self, seconds: float) -> None:
        self._clock._step(self._clock.now() + timedelta(seconds=seconds))


@dataclass
class FaultSetup(Setup):
    """A bench whose one model is a real one; `address` says where it is now."""

    provider: str = "anthropic"
    address: str = ""
    built: dict[str, Model] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.brisk = BriskClock(self.clock)
        self.moving = MovingModel(self)

    def get(self, name: str) -> Model:  # type: ignore[override]
        return self.moving

    @property
    def real(self) -> Model:
        """The one at the address of now."""
        address = self.address
        if address not in self.built:
            section = ModelSection(
                provider=self.provider,  # type: ignore[arg-type]
                model=NAMES[self.provider],
                base_url=address + ("/v1" if self.provider == "openai" else ""),
                api_key_env="THE_KEY",
            ).model_copy(update={"timeout_seconds": SILENCE})
            deps = ModelDeps(self.brisk, "sk-secret", Path("/nowhere"), jitter=lambda seconds: seconds)
            module = {"anthropic": anthropic, "openai": openai}[self.provider]
            self.built[address] = module.build("main", section, deps=deps)
        return self.built[address]

    async def close(self) -> None:
        """Closes what was built."""
        for model in self.built.values():
            await model.close()


class MovingModel:
    """One model for the engine, wherever its server is."""

    name = "main"

    def __init__(self, setup: FaultSetup) -> None:
        self._setup = setup

    def __getattr__(self, name: str) -> Any:
        return getattr(self._setup.real, name)


@dataclass
class Outcome:
    """What one fault led to. `recovery` in seconds of the Clock from the moment the server was whole again."""

    fault: str
    provider: str
    reached: str = ""  # the proof, from the server's own log
    calls: int = 0
    recovery: float = -1.0
    notices: list[str] = field(default_factory=list)
    lost: int = 0
    run: str = ""
    reserved: int = -1
    booked: list[JsonObject] = field(default_factory=list)

    @property
    def settled(self) -> bool:
        """Whether every call's reservation was settled, and what came of nothing cost nothing."""
        return self.reserved == 0 and all(row["outcome"] for row in self.booked)

    @property
    def charged(self) -> int:
        """Micro-dollars for calls that brought no answer: their worst case, where a provider may charge for them."""
        return sum(int(str(row["charged_price"] or 0)) for row in self.booked if row["outcome"] != "ok")


async def drive(name: str, setup: FaultSetup) -> Outcome:
    """An event and a run of the owner's meet the fault; after ten minutes the server is whole again."""
    fault, found = FAULTS[name], Outcome(name, setup.provider)
    async with FaultServer() as server:
        setup.address = server.url
        async with setup.running() as bench:
            await _meet(fault, server, setup)
            event = await bench.hint()
            told = await bench.engine.desk.tell("look around", "lib", folder=None)
            await bench.quiet()
            await bench.advance(5 if fault.turn else OUTAGE)
            found.reached, found.calls = _proof(fault, server, setup), await _calls(fault, server, bench)
            await _heal(fault, server, setup)
            healed = setup.clock.now()
            while setup.clock.now() < healed + timedelta(seconds=RECOVERY):
                state = (await bench.stores.events.get(event.id)).state
                run = await bench.run(str(told["run"]))
                if state is EventState.SETTLED and run.state in ENDED:
                    break
                await bench.advance(5)
            found.recovery = (setup.clock.now() - healed).total_seconds()
            found.run = (await bench.run(str(told["run"]))).state.value
            await _collect(bench, found)
        await setup.close()
    return found


async def _meet(fault: Fault, server: FaultServer, setup: FaultSetup) -> None:
    server.fault = fault.name
    setup.brisk.pace = 30.0 if "drip" in fault.name else 0.0
    if fault.where == "refused":
        await server.stop()
    elif fault.where == "dns":
        setup.address = "http://nowhere.invalid"
    elif fault.where == "tls":
        setup.address = server.url.replace("http:", "https:")
    elif fault.where == "backlog":
        setup.address = server.full_backlog()


async def _heal(fault: Fault, server: FaultServer, setup: FaultSetup) -> None:
    if fault.where == "refused":
        await server.start(server.port)
    server.fault, setup.brisk.pace = None, 0.0
    setup.address = server.url


def _proof(fault: Fault, server: FaultServer, setup: FaultSetup) -> str:
    if fault.where in ("refused", "dns", "backlog"):
        return prove(setup.address)
    met = server.met(fault.name)
    shown = next((served for served in met if fault.shows(served)), None)
    return f"{shown.size} bytes: {shown.sent[:60]!r}" if shown else ""


async def _calls(fault: Fault, server: FaultServer, bench: Bench) -> int:
    """Requests that met the fault: counted by the server, or (where none of ours was there) by books and back-offs."""
    if fault.where in ("server", "tls"):
        return len(server.met(fault.name))
    assert isinstance(bench.setup, FaultSetup)
    return len(await _booked(bench)) + bench.setup.brisk.slept


async def _collect(bench: Bench, found: Outcome) -> None:
    found.notices = [one.title for one in await bench.notices() if one.key.startswith("model-")]
    events = await bench.stores.events.find(Query())
    decisions = {made.id: made for made in await bench.decisions()}
    found.lost = sum(
        event.state is not EventState.SETTLED or decisions[str(event.decision)].reason.startswith("the model's answer")
        for event in events
    )
    purses = await bench.engine.asking.purses.view()
    found.reserved = sum(
        int(str(window["tokens_reserved"]))
        for windows in purses.values()
        for window in windows.values()  # type: ignore[union-attr]
    )
    found.booked = await _booked(bench)


async def _booked(bench: Bench) -> list[JsonObject]:
    causes = [made.id for made in await bench.decisions()]
    causes += [run.id for state in RunState for run in await bench.stores.runs.in_state(state)]
    return [row for cause in causes for row in await bench.stores.model_calls.of(cause)]


async def measure(name: str, provider: str, folder: Path) -> Outcome:
    """`drive` in the home below `folder`."""
    return await drive(name, FaultSetup(folder, ForwardClock(), provider=provider, models=ONE_MODEL, second=True))
