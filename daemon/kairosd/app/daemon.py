"""The daemon: its start, its work and its stop."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from kairosd import wire
from kairosd.app.engine import build_engine, own_secrets
from kairosd.app.ground import Controls, Engine, Ground, Outside, Part
from kairosd.app.outside import fetch_missing_model, open_outside, open_sandbox
from kairosd.app.recording import on_record
from kairosd.config import Config, Environment, address, describe, load, read_environment
from kairosd.config.editing import edit_level, edit_trigger, edit_workspace
from kairosd.core.journal import Note
from kairosd.core.json import JsonObject
from kairosd.core.secrets import Scrubber
from kairosd.engine.condition import Condition
from kairosd.engine.supervise import keep_running
from kairosd.engine.terms import Terms
from kairosd.errors import KairosError, StoreError
from kairosd.ports import Deps
from kairosd.system.clock import SystemClock
from kairosd.system.disks import FIX, short_of_room
from kairosd.system.lock import lock_home, lock_workspace, locks_folder
from kairosd.system.logs import start_logging
from kairosd.system.notify import ServiceManager, watchdog_seconds

if TYPE_CHECKING:  # SQLAlchemy, FastAPI and uvicorn are imported while the sandbox is tried out
    from kairosd.http.server import Serving
    from kairosd.store.assembly import OpenStores

log = logging.getLogger("kairosd")

CANARY_SECONDS = 60.0  # until a sandbox that did not hold is tried again
DOORS_SECONDS = 3.0  # for answers under way
STOP_SECONDS = 9.0  # an ordered stop is over by then, or the process ends itself (the promise is 10 s)


def run(config_file: Path | None, place: wire.Home) -> int:
    """Runs the daemon until SIGTERM or SIGINT: then 0. Raises `KairosError` when it cannot start."""
    environment = read_environment()
    config = _load(config_file, place, environment=environment)
    start_logging(journald=bool(environment.invocation_id), folder=place.state / "log")
    while asyncio.run(Daemon(config, place, environment=environment).serve()):
        log.info("starting again with the configuration as it is now")
        config = _load(config_file, place, environment=environment)
    return 0


def _load(config_file: Path | None, place: wire.Home, *, environment: Environment) -> Config:
    config = load(config_file, folder=Path.cwd(), place=place, environment=environment, detect=True)
    config.demand_workspace()
    return config


class Daemon:
    """Everything between one configuration and its end."""

    def __init__(self, config: Config, place: wire.Home, *, environment: Environment) -> None:
        self._config = config
        self._place = place
        self._environment = environment
        self._clock = SystemClock()
        self._condition = Condition(self._clock)
        self._manager = ServiceManager(environment.notify_socket)
        self._parts: list[tuple[str, Part]] = []
        self._servers: list[Serving] = []
        self._notes: asyncio.Queue[Note] = asyncio.Queue()
        self._stop = asyncio.Event()
        self._again = False
        self._terms: Terms | None = None

    async def serve(self) -> bool:
        """Starts, works until told to stop, stops. True = begin again with the configuration as it is now."""
        async with AsyncExitStack() as stack:
            stack.callback(self._manager.close)
            self._handle_signals()
            self._lock(stack)
            sandbox, executor = open_sandbox(self._place, stack)
            # The canary mostly waits for its processes: it is proved while everything else is imported and starts.
            canary = asyncio.gather(sandbox.check())
            opened = await asyncio.to_thread(self._open_stores)
            stack.push_async_callback(opened.close)
            ground = Ground(self._config, self._place, self._environment, self._clock, self._condition, opened.stores)
            self._condition.paused = await opened.stores.state.get("paused") is not None
            ground = self._on_record(ground, stack)
            outside = open_outside(ground, (sandbox, executor), stack=stack)
            engine = self._wire(ground, outside)
            stack.push_async_callback(asyncio.to_thread, engine.memory.close)
            await self._recover(ground, engine)
            sights = asyncio.gather(self._look_first(canary, engine))
            stack.callback(sights.cancel)
            await self._serve_control(engine, stack)
            self._serve_hooks(ground, engine, stack=stack)
            self._watch_outside(engine)
            self._keep_alive(ground, outside)
            self._report(opened)
            await sights
            await self._work(engine)
            # On a full disk the stop is no less orderly; the next start then counts from an earlier sign of life.
            with contextlib.suppress(StoreError):
                now = self._clock.now()
                await opened.stores.state.put("last_seen", now.isoformat(), note=None, now=now)
        return self._again

    def _on_record(self, ground: Ground, stack: AsyncExitStack) -> Ground:
        scrub = Scrubber(own_secrets(ground))
        recorder = _module("store.exchanges").ExchangeWriter(self._place.exchanges, self._clock, scrub=scrub)
        stack.push_async_callback(asyncio.to_thread, recorder.close)
        return on_record(ground, recorder)

    def _report(self, opened: OpenStores) -> None:
        """What `status` shows as a problem although nothing failed just now."""
        for number, warning in enumerate(self._config.warnings):
            self._condition.set(f"config_{number}", warning, fix="see docs/configuration.md")
        if opened.repairs:
            text = f"the journal had to be mended at {opened.repairs} places when Kairos started"
            self._condition.set("journal_repairs", text, fix="kairos journal verify shows them", degrades=False)
        self._condition.ask(partial(_disk_problems, opened, (self._place.state, self._place.data)))

    def _lock(self, stack: AsyncExitStack) -> None:
        for folder in (self._place.state, self._place.data, self._place.run):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            wire.check_private(folder)
        stack.callback(lock_home(self._place).release)
        folder = locks_folder(self._environment.variables.get("XDG_RUNTIME_DIR"))
        for workspace in self._config.workspaces:
            if workspace.path.is_dir():
                stack.callback(lock_workspace(workspace.path, folder).release)

    async def _look_first(self, canary: Awaitable[object], engine: Engine) -> None:
        await canary
        await asyncio.gather(*(one.first_sight() for one in engine.initiatives.values()))

    def _open_stores(self) -> OpenStores:
        place = self._place
        opened: OpenStores = _module("store.assembly").open_stores(
            place.database, place.journal, transcripts_folder=place.transcripts, clock=self._clock
        )
        opened.start()
        return opened

    def _wire(self, ground: Ground, outside: Outside) -> Engine:
        engine = build_engine(ground, outside, controls=_controls_of(self._config, self._place, reload=self._reload))
        self._terms = engine.terms
        self._parts += [("notices", outside.outbox.run), ("privacy of channels", outside.privacy.run)]
        self._parts.append(("runs", engine.dispatcher.run))
        self._parts.append(("emergency stop", engine.emergency.run))
        self._parts.append(("answers from afar", partial(engine.replies.run, engine.desk.answer)))
        for name, initiative in engine.initiatives.items():
            self._parts.append((f"initiative {name or '(no workspace)'}", initiative.run))
        self._parts += [("housekeeping", engine.housekeeping.run), ("dream", engine.memory.dreamer.run)]
        return engine

    async def _recover(self, ground: Ground, engine: Engine) -> None:
        """Takes up what the last daemon left behind. Costs no model call."""
        now = self._clock.now()
        await ground.stores.events.recover(now)
        await ground.stores.model_calls.recover(now)
        await engine.emergency.recover()
        interrupted = await engine.dispatcher.recover()
        seen = await ground.stores.state.get("last_seen")
        last_seen = datetime.fromisoformat(seen) if isinstance(seen, str) else None
        deps = self._deps(engine)
        boot = _module("triggers.boot").build(
            None, deps, last_seen=last_seen, interrupted=[run.id for run in interrupted]
        )
        self._parts.append(("trigger boot", boot.run))
        if self._config.schedules:
            schedule = _module("triggers.schedule").build(self._config.schedules, deps, last_seen=last_seen)
            self._parts.append(("trigger schedule", schedule.run))

    async def _serve_control(self, engine: Engine, stack: AsyncExitStack) -> None:
        app = await asyncio.to_thread(_build_control, engine)
        server = _module("http.server")
        path = wire.socket_path(self._place, self._config.daemon.socket or None)
        bound = server.bind_unix(path)
        stack.callback(path.unlink, missing_ok=True)
        stack.callback(bound.close)
        self._add_server("control", server.control_server(app, bound))

    def _serve_hooks(self, ground: Ground, engine: Engine, *, stack: AsyncExitStack) -> None:
        github = self._config.github
        if github is None:
            return
        host, port = address(self._config.daemon.hooks_listen)
        try:
            bound = _module("http.server").bind_tcp(host, port)
        except OSError as error:
            # The rest of the daemon is worth running: `status` says what is missing (design §6).
            text = f"webhooks are not received: {host}:{port} cannot be bound ({error.strerror})"
            self._condition.set("hooks_port", text, fix="free the port or change [daemon] hooks_listen")
            return
        stack.callback(bound.close)
        # Loaded only here: without [webhooks.github] nothing of it is needed.
        hooks = _module("http.hooks")
        drafter = _module("triggers.github").drafter(self._config.workspaces)
        app = hooks.build_hooks(
            engine.inbox, drafter, secrets=self._config.github_secrets, settings=github, count=self._condition.count
        )
        self._add_server("hooks", _module("http.hook_server").hooks_server(app, bound))

    def _add_server(self, name: str, server: Serving) -> None:
        self._servers.append(server)
        self._parts.append((name, server.run))

    def _watch_outside(self, engine: Engine) -> None:
        deps = self._deps(engine)
        self._parts.append(("trigger tick", _module("triggers.tick").build(self._config.tick, deps).run))
        files = _module("triggers.files").build(None, deps)
        self._parts.append(("trigger files", files.run))

        def watch_problem() -> list[JsonObject]:
            fix = "see docs/operations.md on watch limits"
            return [{"code": "watch", "text": files.problem, "fix": fix}] if files.problem else []

        self._condition.ask(watch_problem)

    def _deps(self, engine: Engine) -> Deps:
        def note(note: Note) -> None:
            self._notes.put_nowait(note)

        return Deps(self._clock, engine.inbox, self._config.workspaces, self._place.state, self._place.data, note)

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload_on_signal)

    async def _work(self, engine: Engine) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = {
                name: group.create_task(keep_running(part, self._condition.watch(name), clock=self._clock))
                for name, part in self._parts
            }
            self._condition.state = "ready"
            self._manager.ready("at work")
            log.info("ready", extra={"home": str(self._place.state), "workspaces": len(self._config.workspaces)})
            await self._stop.wait()
            self._condition.state = "stopping"
            self._manager.stopping()
            # Whatever does not let itself be stopped in time must not keep the service from stopping.
            asyncio.get_running_loop().call_later(STOP_SECONDS, os._exit, 1)
            await self._close_doors(engine, [tasks[name] for name in ("control", "hooks") if name in tasks])
            for task in reversed(tasks.values()):
                task.cancel()

    async def _close_doors(self, engine: Engine, tasks: list[asyncio.Task[None]]) -> None:
        """What was asked before is answered, for a moment: a delivery without an answer comes back as a duplicate."""
        engine.feed.close()
        for server in self._servers:
            server.stop()
        if tasks:
            await asyncio.wait(tasks, timeout=DOORS_SECONDS)

    def _keep_alive(self, ground: Ground, outside: Outside) -> None:
        async def write_notes() -> None:
            while True:
                await ground.stores.state.note(await self._notes.get(), self._clock.now())

        async def check_sandbox() -> None:
            while reason := await outside.sandbox.check():
                self._condition.set("sandbox", f"commands and git are refused: {reason}", fix="kairos doctor")
                await self._clock.sleep(CANARY_SECONDS)
            self._condition.clear("sandbox")

        self._parts.append(("author", outside.author.read))
        self._parts += [("journal notes", write_notes), ("sandbox canary", check_sandbox)]
        if seconds := watchdog_seconds(self._environment.watchdog_usec, self._environment.watchdog_pid):
            self._parts.append(("watchdog", lambda: self._feed_watchdog(ground, seconds)))
        if self._config.path is None:
            self._parts.append(("model fetch", lambda: fetch_missing_model(ground)))

    async def _feed_watchdog(self, ground: Ground, seconds: float) -> None:
        """Fed only while the loop runs, its timers fire and the database takes a durable write."""
        while True:
            await ground.stores.state.touch(self._clock.now())
            self._manager.watchdog()
            await self._clock.sleep(seconds)

    def _reload(self) -> JsonObject:
        """Reads the configuration again. What changed is applied by beginning again: all state is on disk."""
        fresh = load(
            self._config.path, folder=Path.cwd(), place=self._place, environment=self._environment, detect=True
        )
        before, after = describe(self._config), describe(fresh)
        changed = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
        if changed:
            self._again = True
            # After the answer has gone out.
            asyncio.get_running_loop().call_later(0.2, self._stop.set)
        closed = self._terms.close() if self._terms else ()
        return {"changed": changed, "restart_needed": [], **({"no_longer_open": closed} if closed else {})}

    def _reload_on_signal(self) -> None:
        try:
            self._reload()
        except KairosError as error:
            log.error("the configuration stays as it was: %s", error)


def _controls_of(config: Config, place: wire.Home, *, reload: Callable[[], JsonObject]) -> Controls:
    return Controls(
        reload=reload,
        edit_workspace=lambda name, path: edit_workspace(config, place, name=name, path=path),
        edit_level=lambda name, level: edit_level(config, place, name=name, level=level),
        edit_trigger=lambda name, mode: edit_trigger(config, place, name=name, mode=mode),
    )


def _disk_problems(opened: OpenStores, folders: Sequence[Path]) -> list[JsonObject]:
    found: list[JsonObject] = []
    if folder := next(short_of_room(folders), None):
        text = f"{folder[1] // 1_000_000} MB free for {folder[0]}: with none, webhooks are turned away and runs stop"
        found.append({"code": "disk", "text": text, "fix": FIX})
    if opened.journal.problem:
        fix = "nothing is lost: its lines wait in the database until they can be written"
        found.append({"code": "journal", "text": opened.journal.problem, "fix": fix})
    return found


def _build_control(engine: Engine) -> object:
    app = _module("http.control").build_control(engine.desk, wire.VERSION)
    routes = _module("http.memory")
    routes.add_dream(app, engine.memory.desk)
    routes.add_memory(app, engine.memory.keeper)
    return app


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"kairosd.{name}")
