"""Fakes of the ports, for tests that need a world they can steer. Each passes the contract tests of its port."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TypeAlias

from kairosd.core.json import Json, JsonObject
from kairosd.core.messages import Done, Prompt, StreamPart, TextDelta, ToolUse, Usage, UseBroken, UseReady
from kairosd.errors import NotFoundError
from kairosd.ports import Query, Update


class ManualClock:
    """A clock that moves when a test says so: `advance` wakes every sleeper whose time has come, in order."""

    def __init__(self, start: datetime = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)) -> None:
        self._now = start
        self._elapsed = 0.0
        self._sleepers: list[tuple[datetime, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        await self.sleep_until(self._now + timedelta(seconds=seconds))

    async def sleep_until(self, moment: datetime) -> None:
        if moment <= self._now:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (moment, self._count, future))
        await future

    async def advance(self, seconds: float) -> None:
        """Moves time on by `seconds`, letting everything that wakes on the way run."""
        target = self._now + timedelta(seconds=seconds)
        await settle()
        while self._sleepers and self._sleepers[0][0] <= target:
            moment, _, future = heapq.heappop(self._sleepers)
            self._step(max(moment, self._now))
            if not future.done():
                future.set_result(None)
            await settle()
        self._step(target)

    def jump(self, seconds: float) -> None:
        """Moves the wall without waking anybody, as a suspend or a set clock does."""
        self._now += timedelta(seconds=seconds)

    def _step(self, moment: datetime) -> None:
        self._elapsed += (moment - self._now).total_seconds()
        self._now = moment


async def settle(rounds: int = 20) -> None:
    """Lets every task that can run do so."""
    for _ in range(rounds):
        await asyncio.sleep(0)


class FakeDesk:
    """A desk that answers what a test put into it, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.rows: dict[str, list[JsonObject]] = {}
        self.things: dict[str, JsonObject] = {}
        self.chain: list[JsonObject] = []
        self.updates: list[Update] = []
        self.unending = False  # a followed run then says nothing more after its updates, and never ends
        self.left = asyncio.Event()  # set when a follower is gone
        self.error: Exception | None = None
        self.state: JsonObject = {"version": "0.1.0", "pid": 1, "state": "ready", "problems": []}

    async def status(self) -> JsonObject:
        self._ask("status")
        return self.state

    async def tell(self, text: str, workspace: str | None, folder: str | None) -> JsonObject:
        self._ask("tell", text, workspace, folder)
        return {"event": "e_1", "run": "r_1", "workspace": workspace or "api"}

    async def follow(self, run: str) -> AsyncIterator[Update]:
        self._ask("follow", run)
        try:
            for update in self.updates:
                yield update
                await asyncio.sleep(0)
                if isinstance(update.data.get("then"), str):
                    raise NotFoundError(str(update.data["then"]))
            if self.unending:
                await asyncio.Event().wait()
        finally:
            self.left.set()

    async def listing(self, kind: str, query: Query) -> Sequence[JsonObject]:
        self._ask("listing", kind, query)
        if kind not in ("events", "decisions", "runs", "approvals", "grants", "notices"):
            raise NotFoundError(f"there is no list of {kind}")
        return self.rows.get(kind, [])

    async def costs(self, by: str, *, since: datetime, limit: int) -> Sequence[JsonObject]:
        self._ask("costs", by, since, limit)
        return self.rows.get("costs", [])

    async def calibration(self, since: datetime) -> Sequence[JsonObject]:
        self._ask("calibration", since)
        return self.rows.get("calibration", [])

    async def rate(self, identifier: str, rating: str) -> JsonObject:
        self._ask("rate", identifier, rating)
        about = "add a line"
        return {"id": "d_1", "rating": rating, "was": None, "trigger": "files", "about": about, "shadow": False}

    async def triggers(self, since: datetime, workspace: str | None) -> Sequence[JsonObject]:
        self._ask("triggers", since, workspace)
        return self.rows.get("triggers", [])

    async def set_trigger(self, trigger: str, mode: str) -> JsonObject:
        self._ask("set_trigger", trigger, mode)
        was = next((str(row["mode"]) for row in self.rows.get("triggers", []) if row["trigger"] == trigger), "on")
        return {"trigger": trigger, "mode": mode, "was": was, "changed": ["initiative"]}

    async def show(self, identifier: str) -> JsonObject:
        self._ask("show", identifier)
        if identifier not in self.things:
            raise NotFoundError(f"there is no {identifier}", fix="look into the journal")
        return self.things[identifier]

    async def why(self, identifier: str) -> Sequence[JsonObject]:
        self._ask("why", identifier)
        return self.chain

    async def retry(self, event: str) -> JsonObject:
        self._ask("retry", event)
        return {"id": event, "state": "pending"}

    async def pause(self, reason: str) -> JsonObject:
        self._ask("pause", reason)
        return {"state": "paused", "reason": reason}

    async def resume(self) -> JsonObject:
        self._ask("resume")
        return {"state": "ready"}

    async def stop(self, run: str | None) -> JsonObject:
        self._ask("stop", run)
        return {"stopped": [run or "r_1"], **({} if run else {"recorded": True, "marked": False})}

    async def answer(self, code: str, *, approve: bool, channel: str, always: bool = False) -> JsonObject:
        self._ask("answer", code, approve, channel, *(["always"] if always else []))
        return {"code": code, "state": "approved" if approve else "denied", "question": "edit .ci/run?", "run": "r_1"}

    async def revoke(self, grant: str) -> JsonObject:
        self._ask("revoke", grant)
        return {"id": grant, "state": "revoked", "question": "shell: make"}

    async def workspaces(self) -> Sequence[JsonObject]:
        self._ask("workspaces")
        return self.rows.get("workspaces", [])

    async def trust(self, workspace: str) -> JsonObject:
        self._ask("trust", workspace)
        return {"workspace": workspace, "files": ["KAIROS.md"]}

    async def set_workspace(self, name: str, path: str | None) -> JsonObject:
        self._ask("set_workspace", name, path)
        return {"workspace": name, "changed": ["workspaces"], "restart_needed": []}

    async def set_level(self, workspace: str, level: str) -> JsonObject:
        self._ask("set_level", workspace, level)
        return {"workspace": workspace, "level": level, "was": "suggest", "changed": ["workspaces"]}

    async def reload(self) -> JsonObject:
        self._ask("reload")
        return {"changed": ["tick.min_seconds"], "restart_needed": []}

    async def test_notice(self) -> JsonObject:
        self._ask("test_notice")
        return {"queued": True}

    def _ask(self, *what: object) -> None:
        self.asked.append(what)
        if self.error is not None:
            raise self.error


ScriptStep: TypeAlias = "Sequence[StreamPart] | Exception | Callable[[Prompt], Awaitable[ScriptStep]]"


class ScriptedModel:
    """A model that says what a test wrote down, one step a call, and keeps every prompt.

    A step is the parts of an answer, an exception to raise, or a coroutine function of the prompt that returns either.
    A call beyond the script fails and is counted in `unexpected`. While `held` is cleared, calls wait in mid-stream.
    """

    provider = "scripted"
    context = 32_000
    by_schema = False
    thinking = 0

    def __init__(self, name: str, model: str = "claude-haiku-4-5") -> None:
        self.name = name
        self.model = model
        self.script: deque[ScriptStep] = deque()
        self.prompts: list[Prompt] = []
        self.unexpected = 0
        self.waiting = 0
        self.held = asyncio.Event()
        self.held.set()

    def add(self, *steps: ScriptStep) -> None:
        """Adds to the end of the script."""
        self.script.extend(steps)

    async def stream(self, prompt: Prompt) -> AsyncGenerator[StreamPart, None]:
        self.prompts.append(prompt)
        if not self.script:
            self.unexpected += 1
            raise AssertionError(f"{self.name} was asked once more than its script says")
        step = self.script.popleft()
        while not isinstance(step, (Sequence, Exception)):
            step = await step(prompt)
        if isinstance(step, Exception):
            raise step
        for part in step:
            await self._hold()
            yield part

    async def _hold(self) -> None:
        self.waiting += 1
        try:
            await self.held.wait()
        finally:
            self.waiting -= 1

    async def check(self) -> str:
        return f"{self.model} is scripted"

    async def close(self) -> None:
        """Has nothing to let go of."""


TOKENS = Usage(input=100, output=10)


def says(text: str, *uses: ToolUse | UseBroken, usage: Usage = TOKENS) -> Sequence[StreamPart]:
    """A whole answer: words, then calls."""
    parts: list[StreamPart] = [TextDelta(text)] if text else []
    parts += [use if isinstance(use, UseBroken) else UseReady(use) for use in uses]
    return (*parts, Done("tool_use" if uses else "end", usage))


_numbers = count(1)


def use(tool: str, **arguments: Json) -> ToolUse:
    """A tool call with an id of its own."""
    return ToolUse(f"use_{next(_numbers)}", tool, arguments)


def files(kind: str = "bug", **more: str) -> Sequence[StreamPart]:
    """A quarantined model's answer: what a stranger's text is about."""
    answer = {"kind": kind, "area": "code", "urgency": "normal", "wants": "fix", "orders": "no", **more}
    return says("", use("triage", **answer))


def decides(verdict: str, goal: str = "", **more: Json) -> Sequence[StreamPart]:
    """A deciding model's answer in the form it was asked for."""
    answer = {"reason": f"because of {verdict}", "verdict": verdict, "goal": goal, "confidence": 80, **more}
    return says("", use("decide", **answer))
