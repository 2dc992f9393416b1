"""The embedded model: what happens without its file, and (slow) what the real one answers from its child process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import pytest

from kairosd.config import ModelSection
from kairosd.config.choice import LOCAL_BYTES, LOCAL_SHA256
from kairosd.core.messages import Done, Form, Message, Prompt, StreamPart, ToolSpec, UseReady
from kairosd.errors import ConfigError, ModelUnavailableError
from kairosd.models import local, prices
from kairosd.models.deps import ModelDeps
from kairosd.models.weights import weights_of

pytestmark = pytest.mark.anyio

FILE = Path(os.environ.get("KAIROS_MODEL_FILE", "/nowhere/model.gguf"))
DECIDE = Form(
    "decide",
    "the verdict",
    {
        "type": "object",
        "properties": {
            "verdict": {"enum": ["act", "notify", "wait", "ignore"]},
            "reason": {"type": "string", "maxLength": 200},
            "confidence": {"type": "integer"},
        },
        "required": ["verdict", "reason", "confidence"],
        "additionalProperties": False,
    },
)


class WallClock:
    """The real one."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def sleep_until(self, moment: datetime) -> None:
        await asyncio.sleep(max(0.0, (moment - self.now()).total_seconds()))


def make(folder: Path, *, idle_seconds: float = 600, **keys: object) -> local.LocalModel:
    section = ModelSection(provider="local", **keys)  # type: ignore[arg-type]
    return local.LocalModel("local", section, deps=ModelDeps(WallClock(), "", folder), idle_seconds=idle_seconds)


async def test_without_its_file_the_model_is_unavailable_and_names_the_verb(tmp_path: Path) -> None:
    model = make(tmp_path)
    assert isinstance(
        local.build("local", ModelSection(provider="local"), deps=ModelDeps(WallClock(), "", tmp_path)),
        local.LocalModel,
    )
    with pytest.raises(ModelUnavailableError) as caught:
        await anext(aiter(model.stream(Prompt("", (Message("user", "hi"),)))))
    assert caught.value.fix == "kairos model fetch"
    with pytest.raises(ModelUnavailableError):
        await model.check()
    await model.close()


async def test_a_file_of_the_wrong_length_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    weights = weights_of("local", ModelSection(provider="local"), data_folder=tmp_path)
    weights.path.write_bytes(b"torn")
    assert not weights.present


async def test_a_file_that_is_no_model_ends_the_child_and_says_so(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(b"GGUF" + b"\0" * 4096)
    model = make(tmp_path, file=str(wrong))
    with pytest.raises(ModelUnavailableError) as caught:
        await anext(aiter(model.stream(Prompt("", (Message("user", "hi"),)))))
    assert "ended while loading" in str(caught.value)
    await model.close()


async def test_defaults_are_the_known_file_and_another_file_needs_its_hash(tmp_path: Path) -> None:
    weights = weights_of("local", ModelSection(provider="local"), data_folder=tmp_path)
    assert (weights.sha256, weights.size) == (LOCAL_SHA256, LOCAL_BYTES)
    assert weights.sources[0].startswith("https://")
    with pytest.raises(ConfigError):
        weights_of(
            "local",
            ModelSection(provider="local", file="other.gguf", url=("https://example.invalid/x",)),
            data_folder=tmp_path,
        )


async def test_local_calls_are_known_to_be_free(tmp_path: Path) -> None:
    assert prices.tariff_of(make(tmp_path)) == prices.FREE


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[local.LocalModel]:
    if not FILE.exists():
        pytest.skip("needs KAIROS_MODEL_FILE=… (the default model's file)")
    model = make(tmp_path, idle_seconds=3, file=str(FILE))
    yield model
    await model.close()


async def answer(model: local.LocalModel, prompt: Prompt) -> list[StreamPart]:
    async with asyncio.timeout(570):
        return [part async for part in model.stream(prompt)]


@pytest.mark.slow
async def test_the_real_model_fills_a_form_calls_a_tool_and_leaves_when_idle(real: local.LocalModel) -> None:
    assert "is there" in await real.check()
    event = "README.md changed: one line was added. Standing instructions: none."
    ready, done = await answer(real, Prompt("You decide whether to act.", (Message("user", event),), form=DECIDE))
    assert isinstance(ready, UseReady)
    assert ready.use.arguments["verdict"] in ("act", "notify", "wait", "ignore")
    assert isinstance(ready.use.arguments["confidence"], int)
    assert isinstance(done, Done)
    assert done.usage.output

    path = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
    words = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
    tools = (ToolSpec("read", "Reads a file.", path), ToolSpec("finish", "Ends the task with the answer.", words))
    ready, _ = await answer(real, Prompt("You use tools.", (Message("user", "What does setup.py say?"),), tools=tools))
    assert isinstance(ready, UseReady)
    assert ready.use.name in ("read", "finish")
    assert set(ready.use.arguments) <= {"path", "answer"}

    child = real._server._process  # type: ignore[union-attr]
    async with asyncio.timeout(60):
        await child.wait()
    again = await answer(real, Prompt("", (Message("user", "Say yes."),), max_tokens=5))
    assert isinstance(again[-1], Done)


@pytest.mark.slow
async def test_the_child_dies_with_its_parent(real: local.LocalModel) -> None:
    async for _ in real.stream(Prompt("", (Message("user", "Say yes."),), max_tokens=2)):
        pass
    child = real._server._process  # type: ignore[union-attr]
    assert child.stdin is not None
    child.stdin.close()  # what the kernel does when the parent is gone
    async with asyncio.timeout(60):
        await child.wait()
