"""A bench for the engine: the real store, files and tools, wired as the daemon wires them, time standing still.

Two things are stood in for: models follow a script, and a checkout is a plain copy of the folder, so that no test needs
git or a sandbox. `Setup.running` may be entered again and again over the same home, which is how a crash is played:
leaving it cancels every task where it is, without a word to the database.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Dialect, event
from sqlalchemy import Engine as DatabaseEngine
from tests.fakes import ManualClock, ScriptedModel

from kairosd import wire
from kairosd.app.engine import build_engine
from kairosd.app.ground import Controls, Engine, Ground, Outside
from kairosd.config import load
from kairosd.config.editing import edit_level, edit_trigger
from kairosd.core.decisions import Decision
from kairosd.core.events import Draft, Event, Tier
from kairosd.core.json import JsonObject
from kairosd.core.levels import Permission
from kairosd.core.messages import ToolSpec
from kairosd.core.notices import Notice, Severity
from kairosd.core.runs import Call, Run
from kairosd.core.workspaces import Workspace
from kairosd.engine.authorship import Authorship
from kairosd.engine.checkouts import Checkout
from kairosd.engine.condition import Condition
from kairosd.engine.direct import ABSENT, Change
from kairosd.engine.landing import Landed
from kairosd.engine.notices import Channel, Outbox
from kairosd.engine.privacy import Privacy
from kairosd.engine.repository import Place, Repository
from kairosd.engine.supervise import Health, keep_running
from kairosd.errors import SandboxError
from kairosd.executor.client import ProcessExecutor
from kairosd.ports import Outcome, Query, Sandbox, Stores, Tool, ToolAnswer, ToolContext
from kairosd.sandbox.none import NoSandbox
from kairosd.store.assembly import open_stores
from kairosd.store.migrate import migrate
from kairosd.system.files import LocalFiles

MEMORY = Path("/dev/shm")
PATIENCE = 20.0  # seconds of real time; only a test that has failed already waits for so long
MODELS = """
[roles]
decide = "decider"
act = "actor"
[models.decider]
provider = "local"
[models.actor]
provider = "local"
"""


class FolderCheckouts:
    """Checkouts as copies of the folder. `landed` says what came back to the owner, as {path: content} a run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.landed: dict[str, dict[str, str]] = {}
        self.kept: set[str] = set()
        self.problems: dict[str, Exception] = {}

    def _fail(self, name: str) -> None:
        if name in self.problems:
            raise self.problems[name]

    async def ensure(self, run: Run, workspace: Workspace) -> Checkout:
        self._fail("ensure")
        tree = self._folder / run.id / "tree"
        if not tree.is_dir():
            shutil.copytree(workspace.path, tree)
        return Checkout(tree, "base", "snapshot")

    def git(self, run: Run, workspace: Workspace) -> Callable[..., Awaitable[Outcome]]:
        return no_git

    async def commit(self, run: Run, workspace: Workspace, **_given: object) -> str:
        return "c0ffee"

    async def nested(self, run: Run, workspace: Workspace) -> tuple[str, ...]:
        return ()

    async def land(self, run: Run, workspace: Workspace, *, slug: str) -> Landed:
        self._fail("land")
        tree = self._folder / run.id / "tree"
        changed = {name: text for name, text in texts(tree).items() if texts(workspace.path).get(name) != text}
        if not changed:
            return Landed()
        self.landed[run.id] = changed
        return Landed(f"kairos/{slug}", None, "c0ffee", tuple(changed), how=f"git merge kairos/{slug}")

    async def changed(self, run: Run, workspace: Workspace) -> tuple[Change, ...]:
        before, after = texts(workspace.path), texts(self._folder / run.id / "tree")
        names = (name for name in {**before, **after} if before.get(name) != after.get(name))
        return tuple(
            Change(name, *("100644" if name in each else ABSENT for each in (before, after)), "") for name in names
        )

    async def passed(self, run: Run, workspace: Workspace) -> tuple[Change, ...]:
        return await self.changed(run, workspace)

    async def digests(self, run: Run, workspace: Workspace, *, paths: Sequence[str]) -> Mapping[str, str]:
        tree = self._folder / run.id / "tree"
        return {path: hashlib.sha256((tree / path).read_bytes()).hexdigest() for path in paths}

    async def diff_of(self, run: Run, workspace: Workspace, *, paths: Sequence[str]) -> str:
        now = texts(self._folder / run.id / "tree")
        return "".join(f"{path}: {now.get(path)}\n" for path in paths)

    async def take_out(self, run: Run, workspace: Workspace, *, paths: Sequence[str]) -> None:
        tree, before = self._folder / run.id / "tree", texts(workspace.path)
        for path in paths:
            (tree / path).unlink(missing_ok=True)
            if path in before:
                (tree / path).write_text(before[path])

    async def diff(self, run: Run, workspace: Workspace) -> str:
        return "a diff"

    async def keep_base(self, run: Run, workspace: Workspace) -> None:
        self._fail("keep_base")
        self.kept.add(run.id)

    async def drop_base(self, run: Run, workspace: Workspace) -> None:
        self.kept.discard(run.id)

    async def kept_bases(self, workspace: Workspace) -> tuple[str, ...]:
        self._fail("kept_bases")
        return tuple(self.kept)

    def exists(self, run: Run) -> bool:
        return (self._folder / run.id / "tree").is_dir()

    async def discard(self, run: Run) -> None:
        shutil.rmtree(self._folder / run.id, ignore_errors=True)


async def no_git(*_arguments: str, stdin: bytes = b"", writable: bool = False) -> Outcome:
    raise SandboxError


def texts(folder: Path) -> dict[str, str]:
    return {path: (folder / path).read_text() for path, _, _ in LocalFiles().walk(folder, 1000)}


@dataclass
class Bell:
    """A tool with an effect outside: `rung` holds the ids of the calls that rang it, and outlives every engine.

    `stall` names the point where it hangs (plan, before, after, probe), `tells` whether its probe can tell, `errors`
    what its plan and its run raise.
    """

    rung: list[str] = field(default_factory=list)
    planned: int = 0
    state: str = "still"
    stall: str = ""
    tells: bool = True
    errors: dict[str, Exception] = field(default_factory=dict)

    spec = ToolSpec("bell", "Rings.", {"type": "object", "properties": {"note": {"type": "string"}}})
    permission = Permission.NOTIFY
    effect = True

    def paths(self, arguments: JsonObject) -> tuple[str, ...]:
        self._fail("paths")
        return ()

    def commands(self, arguments: JsonObject) -> None:
        return None

    async def plan(self, arguments: JsonObject, context: ToolContext) -> JsonObject:
        self.planned += 1
        await self._point("plan")
        return {"state": self.state}

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        await self._point("before")
        self.rung.append(context.call)
        await self._point("after")
        return ToolAnswer("the bell rang")

    async def probe(self, call: Call, context: ToolContext) -> bool | None:
        await self._point("probe")
        return call.id in self.rung if self.tells else None

    async def _point(self, name: str) -> None:
        self._fail(name)
        if self.stall == name:
            await forever()

    def _fail(self, name: str) -> None:
        if name in self.errors:
            raise self.errors[name]


def share_statements(engine: DatabaseEngine) -> None:
    """Compiled SQL is kept for a whole session: compiling it anew for every engine takes half the time of the tests."""
    engine.dialect = _dialects.setdefault(engine.dialect.name, engine.dialect)
    engine.update_execution_options(compiled_cache=_statements)


_dialects: dict[str, Dialect] = {}
_statements: dict[object, object] = {}


async def forever() -> None:
    """Hangs until the engine is stopped."""
    await asyncio.Event().wait()


class Hooked:
    """A store whose methods named in `hooks` are those instead; each is given the real one first."""

    def __init__(self, store: object, hooks: Mapping[str, Callable[..., Awaitable[object]]]) -> None:
        self._store = store
        self._hooks = hooks

    def __getattr__(self, name: str) -> object:
        real = getattr(self._store, name)
        if name not in self._hooks:
            return real
        return lambda *given, **named: self._hooks[name](real, *given, **named)


Hooks = dict[str, dict[str, Callable[..., Awaitable[object]]]]


@dataclass
class Setup:
    """One home with its workspaces, over as many engines as a test starts there.

    `config` is more TOML, `workspace` more keys of the workspace `app`, `hooks` replace methods of stores.
    """

    folder: Path
    clock: ManualClock = field(default_factory=ManualClock)
    decider: ScriptedModel = field(default_factory=lambda: ScriptedModel("decider"))
    actor: ScriptedModel = field(default_factory=lambda: ScriptedModel("actor"))
    bell: Bell = field(default_factory=Bell)
    config: str = ""
    models: str = MODELS
    workspace: str = ""
    second: bool = False
    hooks: Hooks = field(default_factory=dict)
    sandbox: Sandbox = field(default_factory=NoSandbox)
    tools: list[Tool] = field(default_factory=list)  # besides the bell and the real ones
    failures: bool = False  # whether a part or a run may break
    engines: int = 0
    privacy: Privacy = field(default_factory=lambda: Privacy([], ManualClock()))
    channels: list[Channel] = field(default_factory=list)  # besides the screen

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.write("README.md", "# app\n")
        self.checkouts = FolderCheckouts(self.folder / "home/checkouts")

    @property
    def root(self) -> Path:
        return self.folder / "app"

    def write(self, path: str, content: str) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        return target

    def ground(self, stores: Stores) -> Ground:
        home = self.folder / "home"
        place = wire.Home(home / "config.toml", home / "state", data=home / "data", run=home / "run", is_default=False)
        spaces = f'[[workspaces]]\nname = "app"\npath = "{self.root}"\n{self.workspace}\n'
        if self.second:
            other = self.folder / "lib"
            other.mkdir(exist_ok=True)
            spaces += f'[[workspaces]]\nname = "lib"\npath = "{other}"\n'
        place.config.write_text(f"{self.config}\n{self.models}\n{spaces}")
        config = load(None, folder=self.folder, place=place, environment={})
        condition = Condition(self.clock)
        condition.state = "ready"
        return Ground(config, place, None, self.clock, condition, stores)  # type: ignore[arg-type]

    @asynccontextmanager
    async def running(self, *, housekeeping: bool = False) -> AsyncIterator[Bench]:
        """An engine at work; on leaving, it is stopped dead."""
        self.engines += 1
        home = self.folder / "home"
        home.mkdir(mode=0o700, exist_ok=True)
        opened = open_stores(
            home / "kairos.db", home / "state/journal", transcripts_folder=home / "transcripts", clock=self.clock
        )
        # A crash is a cancelled task here, never a power cut: waiting for the disk would only cost speed.
        opened.engine.dispose()
        share_statements(opened.engine)
        event.listen(opened.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
        opened.start()
        try:
            hooked = {name: Hooked(getattr(opened.stores, name), hooks) for name, hooks in self.hooks.items()}
            bench = self._wire(replace(opened.stores, **hooked))
            async with bench.working(housekeeping):
                yield bench
            bench.engine.memory.close()
        finally:
            await opened.close()
        if not self.failures:
            assert self.decider.unexpected + self.actor.unexpected == 0
            assert [health for health in bench.health if health.failures] == []

    def _wire(self, stores: Stores) -> Bench:
        ground = self.ground(stores)
        files, sandbox = LocalFiles(), self.sandbox
        places = {one.name: Place(one, Repository(sandbox, files, workspace=one)) for one in ground.config.workspaces}
        screen = Channel("screen", Severity.LOW, lambda: None)  # type: ignore[arg-type, return-value]
        outbox = Outbox(stores.notices, stores.approvals, clock=self.clock, channels=[screen, *self.channels])
        author = Authorship("Ada", "ada@example.org", repositories=[])
        outside = Outside(files, ProcessExecutor(), sandbox, places, self.checkouts, self, outbox, author, self.privacy)  # type: ignore[arg-type]
        controls = Controls(
            lambda: {"changed": [], "restart_needed": []},
            lambda _name, _path: None,
            lambda name, level: edit_level(ground.config, ground.place, name=name, level=level),
            lambda name, mode: edit_trigger(ground.config, ground.place, name=name, mode=mode),
        )
        engine = build_engine(ground, outside, controls=controls)
        for tool in (self.bell, *self.tools):
            engine.dispatcher._t.tools._tools[tool.spec.name] = tool  # type: ignore[attr-defined]
        return Bench(self, ground, outbox, engine, stores)

    def get(self, name: str) -> ScriptedModel:
        """As the book of models."""
        return {"decider": self.decider, "actor": self.actor}[name]


@dataclass
class Bench:
    """One running engine, and short words for what tests do with it."""

    setup: Setup
    ground: Ground
    outbox: Outbox
    engine: Engine
    stores: Stores
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    health: list[Health] = field(default_factory=list)
    hints: int = 0

    @asynccontextmanager
    async def working(self, housekeeping: bool) -> AsyncIterator[None]:
        now = self.setup.clock.now()
        self.ground.condition.paused = await self.stores.state.get("paused") is not None
        await self.stores.events.recover(now)
        await self.stores.model_calls.recover(now)
        await self.engine.emergency.recover()
        await self.engine.dispatcher.recover()
        parts = [self.engine.dispatcher.run, self.engine.emergency.run, self.outbox._store_drafts]
        parts += [initiative.run for initiative in self.engine.initiatives.values()]
        parts += [self.engine.housekeeping.run] if housekeeping else []
        loop = asyncio.get_running_loop()
        for part in parts:
            self.health.append(Health(part.__qualname__))
            self.tasks.append(loop.create_task(keep_running(part, self.health[-1], clock=self.setup.clock)))
        try:
            await self.quiet()
            yield
        finally:
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)

    async def quiet(self) -> None:
        """Until nothing moves any more: every task sleeps on an alarm, on the clock, or on something held by a test."""
        rounds = 0
        async with asyncio.timeout(PATIENCE):
            while rounds < 5:  # what has just been woken needs some rounds of the loop to be seen moving
                workers = list(self.engine.dispatcher._workers.values())
                resting = all(task.done() or self._rests(task) for task in [*self.tasks, *workers])
                rounds = rounds + 1 if resting else 0
                await asyncio.sleep(0 if resting else 0.0005)

    def _rests(self, task: asyncio.Task[None]) -> bool:
        awaited: object = task.get_coro()
        in_turn = False
        while awaited is not None:
            code = getattr(awaited, "cr_code", None)
            if code is not None and code.co_qualname in ("Alarm.wait", "ManualClock.sleep_until", "forever"):
                return True
            in_turn = in_turn or (code is not None and code.co_qualname in ("Turn.record", "TaskGroup.__aexit__"))
            if type(awaited).__name__ == "async_generator_asend":
                return self.setup.decider.waiting + self.setup.actor.waiting > 0 and not (
                    self.setup.decider.held.is_set() and self.setup.actor.held.is_set()
                )
            awaited = getattr(awaited, "cr_await", None)
        return in_turn and self._calls_rest()

    def _calls_rest(self) -> bool:
        """Whether no call of any turn can go on: each rests, or waits for one that does."""
        named = {task: getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()}
        calls = [task for task, name in named.items() if name == "Turn._carry_out"]
        waiting = [task for task in calls if _waits_for_another(task)]
        return len(calls) > len(waiting) and all(task in waiting or self._rests(task) for task in calls)

    async def advance(self, seconds: float) -> None:
        """Moves the clock on, sleeper by sleeper, each with all it leads to."""
        clock = self.setup.clock
        target = clock.now() + timedelta(seconds=seconds)
        await self.quiet()
        while clock._sleepers and clock._sleepers[0][0] <= target:
            await clock.advance((max(clock._sleepers[0][0], clock.now()) - clock.now()).total_seconds())
            await self.quiet()
        await clock.advance((target - clock.now()).total_seconds())
        await self.quiet()

    async def submit(self, source: str = "files", kind: str = "changed", **more: object) -> Event:
        """Hands in an event of workspace `app`, tier `local`, with a key of its own."""
        self.hints += 1
        key = f"{source}:{self.setup.engines}:{self.hints}"
        given = {"source": source, "kind": kind, "key": key, "tier": Tier.LOCAL, "workspace": "app", **more}
        receipt = await self.engine.inbox.submit(Draft(**given))  # type: ignore[arg-type]
        return await self.stores.events.get(receipt.id)

    async def hint(self, path: str = "a.txt", content: str | None = None) -> Event:
        """A file changes, and the watcher says so."""
        self.setup.write(path, content if content is not None else f"{self.hints}-{self.setup.clock.now()}")
        event = await self.submit()
        await self.quiet()
        return event

    async def tick(self, name: str = "app") -> bool:
        changed = await self.engine.inbox.tick(name)
        await self.quiet()
        return changed

    async def tell(self, text: str = "do it") -> str:
        """The id of the run, which has come as far as it can."""
        told = await self.engine.desk.tell(text, "app", folder=None)
        await self.quiet()
        return str(told["run"])

    async def answer(self, approve: bool = True) -> None:
        """Answers the open question a second later."""
        await self.advance(1)
        await self.engine.desk.answer((await self.question())["code"], approve=approve, channel="socket")  # type: ignore[arg-type]
        await self.quiet()

    async def question(self) -> JsonObject:
        """The one open approval."""
        (found,) = await self.engine.desk.listing("approvals", Query(state="open"))
        return found

    async def run(self, run: str) -> Run:
        return await self.stores.runs.get(run)

    async def calls(self, run: str, tool: str = "bell") -> list[Call]:
        return [call for call in await self.stores.runs.calls(run) if call.tool == tool]

    async def decisions(self) -> list[Decision]:
        """Oldest first."""
        return list(reversed(await self.stores.decisions.find(Query())))

    async def notices(self) -> list[Notice]:
        return list(reversed(await self.stores.notices.find(Query())))

    async def results(self, run: str) -> list[str]:
        """What went back to the model, in order."""
        entries = await self.stores.transcripts.read(run)
        return [str(entry["text"]) for entry in entries if entry["kind"] == "result"]


def _waits_for_another(task: asyncio.Task[None]) -> bool:
    """Whether a call of a turn has not begun."""
    awaited = getattr(task.get_coro(), "cr_await", None)
    code = getattr(awaited, "cr_code", None)
    return code is not None and code.co_qualname in ("Event.wait", "Semaphore.acquire", "Semaphore.__aenter__")


def age(path: Path, seconds: float) -> None:
    """Makes a file look changed that long after it was."""
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + int(seconds * 1e9)))


@contextmanager
def open_setup(folder: Path) -> Iterator[Setup]:
    """A setup whose database needs no migration: one is made a session, beside `folder` (a `tmp_path`), and copied.

    It lives in memory where there is such a place: what a disk survives is tested elsewhere.
    """
    template = folder.parent / "migrated.db"
    if not template.exists():
        migrate(template)
    with tempfile.TemporaryDirectory(prefix="kairos-", dir=MEMORY if os.access(MEMORY, os.W_OK) else folder) as place:
        home = Path(place) / "home"
        home.mkdir(mode=0o700)
        shutil.copy(template, home / "kairos.db")
        yield Setup(Path(place))
