"""The embedded model: llama.cpp in a child process, started on first need, gone when idle."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import secrets
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

from kairosd.config import ModelSection
from kairosd.core.json import JsonObject
from kairosd.core.messages import Done, Prompt, StreamPart
from kairosd.errors import ModelRefusedError, ModelUnavailableError
from kairosd.models.deps import ModelDeps
from kairosd.models.exchange import Endpoint, Exchange
from kairosd.models.openai import ChatCompletions
from kairosd.models.refusals import Origin
from kairosd.models.weights import Weights, weights_of
from kairosd.ports import Model
from kairosd.system.network import NetworkSettings

CONTEXT_LIMIT = 8192  # tokens; the key cache of a larger window costs 29 kB a token
IDLE_SECONDS = 600
START_SECONDS = 180  # 9 s on two idle cores with a cold disk; a busy machine takes its time
HEALTH_SECONDS = 0.25
HEALTH_TRIES = 120
MOST_THREADS = 8  # beyond it a small model gets slower, not faster


def build(name: str, section: ModelSection, *, deps: ModelDeps) -> Model:
    return LocalModel(name, section, deps=deps)


class LocalModel:
    """`[models.NAME] provider = "local"`. One request at a time: the file fits one conversation in its cache."""

    provider = "local"
    by_schema = True

    def __init__(
        self, name: str, section: ModelSection, *, deps: ModelDeps, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        self.name = name
        self.weights: Weights = weights_of(name, section, data_folder=deps.data_folder)
        self.model = section.model or self.weights.path.stem
        self.context = min(section.context, CONTEXT_LIMIT)
        self._section = section
        self._deps = deps
        self._idle_seconds = idle_seconds
        self._turn = asyncio.Lock()
        self._server: _Server | None = None

    @property
    def thinking(self) -> int:
        exchange = self._server.exchange if self._server else None
        return exchange.thinking if exchange else 0

    async def stream(self, prompt: Prompt) -> AsyncGenerator[StreamPart, None]:
        last: StreamPart | None = None
        async with self._turn:
            server = await self._ready()
            async with server.busy(), aclosing(server.stream(prompt)) as parts:
                async for part in parts:
                    if isinstance(part, Done):
                        last = part
                    else:
                        yield part
        # The turn is over here, also for a caller that stops at `Done` and never comes back.
        if last is not None:
            yield last

    async def check(self) -> str:
        self._demand()
        return f"{self.model} is there, {self.weights.path.stat().st_size / 1e9:.1f} GB, started on first need"

    async def close(self) -> None:
        if self._server is not None:
            await self._server.stop()
            self._server = None

    def _demand(self) -> None:
        if not self.weights.present:
            raise ModelUnavailableError(
                f"[models.{self.name}]: the file {self.weights.path} is not there yet", fix="kairos model fetch"
            )
        if importlib.util.find_spec("xllamacpp") is None:
            raise ModelRefusedError(
                f"[models.{self.name}]: xllamacpp is not installed", fix=f"{sys.executable} -m pip install xllamacpp"
            )

    async def _ready(self) -> _Server:
        if self._server is not None and await self._server.wake():
            return self._server
        await self.close()
        self._demand()
        self._server = await self._start()
        if not await self._server.wake():
            raise ModelUnavailableError(f"[models.{self.name}]: the model's process ended right after its start")
        return self._server

    async def _start(self) -> _Server:
        key = secrets.token_urlsafe(24)
        # Isolated (-I) and with an empty environment: the daemon may stand in a folder that holds a module of our name,
        # and the child needs none of the owner's secrets.
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-m", "kairosd.models.local_server",
            stdin=PIPE, stdout=PIPE, stderr=asyncio.subprocess.DEVNULL, env={}, cwd="/",
        )  # fmt: skip
        orders: JsonObject = {
            "model": str(self.weights.path),
            "key": key,
            "context": self.context,
            "threads": self._section.threads or min(MOST_THREADS, _cores()),
            "idle_seconds": str(self._idle_seconds),
        }
        server = _Server(process, self.name)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(server.stop)
            try:
                async with asyncio.timeout(START_SECONDS):
                    address = await server.begin(orders)
            except TimeoutError as error:
                raise ModelUnavailableError(f"[models.{self.name}]: no start within {START_SECONDS} s") from error
            server.exchange = self._exchange(address, key)
            await self._healthy(server.exchange)
            stack.pop_all()
        return server

    def _exchange(self, address: str, key: str) -> Exchange:
        origin = Origin(self.name, self.model, key, "restart Kairos")
        dialect = ChatCompletions(self.model, key, by_schema=True, extra={"temperature": 0, "cache_prompt": True})
        deps = ModelDeps(self._deps.clock, key, self._deps.data_folder, NetworkSettings(), self._deps.jitter)
        endpoint = Endpoint(f"{address}/v1", self._section.timeout_seconds, origin)
        return Exchange(dialect, endpoint, deps=deps, json_answers=True)

    async def _healthy(self, exchange: Exchange) -> None:
        for _ in range(HEALTH_TRIES):
            status, _ = await exchange.get("/health", {})
            if status == 200:
                return
            await self._deps.clock.sleep(HEALTH_SECONDS)
        raise ModelUnavailableError(f"[models.{self.name}]: the model was started and is not healthy")


class _Server:
    """One child and the way to talk to it."""

    def __init__(self, process: Process, name: str) -> None:
        self._process = process
        self._name = name
        self.exchange: Exchange | None = None

    async def begin(self, orders: JsonObject) -> str:
        await self._tell(json.dumps(orders))
        answer = await self._hear()
        if not answer:
            fix = "kairos doctor; is there enough memory, and is the file whole?"
            raise ModelUnavailableError(f"[models.{self._name}]: the model's process ended while loading", fix=fix)
        return str(json.loads(answer)["address"])

    async def wake(self) -> bool:
        """Whether the child is there and now knows that it is needed; `busy` takes that over."""
        return self._process.returncode is None and await self._tell("busy") and await self._hear() == "ok"

    @asynccontextmanager
    async def busy(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await self._tell("idle")

    def stream(self, prompt: Prompt) -> AsyncGenerator[StreamPart, None]:
        if self.exchange is None:
            raise ModelUnavailableError(f"[models.{self._name}]: the model has not begun")
        return self.exchange.stream(prompt)

    async def stop(self) -> None:
        if self.exchange is not None:
            await self.exchange.close()
        if self._process.stdin is not None:
            self._process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()  # it holds nothing that a gentler end would save
        await self._process.wait()

    async def _tell(self, line: str) -> bool:
        pipe = self._process.stdin
        if pipe is None or pipe.is_closing():
            return False
        try:
            pipe.write(f"{line}\n".encode())
            await pipe.drain()
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    async def _hear(self) -> str:
        pipe = self._process.stdout
        return (await pipe.readline()).decode().strip() if pipe is not None else ""


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
