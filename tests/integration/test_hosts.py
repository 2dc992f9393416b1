"""Runs whose commands may reach hosts: at which level, after which text, and what the journal says of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.confined import begin, confined
from tests.engine_bench import Bench, Setup
from tests.fakes import ScriptStep, decides, says, use

from kairosd.core.events import Tier
from kairosd.core.messages import Prompt
from kairosd.core.runs import RunState
from kairosd.core.tasks import TaskState
from kairosd.engine import tasks
from kairosd.ports import Query

pytestmark = pytest.mark.anyio

FINISH = says("", use("finish", answer="done"))
# The workspace's own code, run by `python3 fetch.py`: what the proxy says, and what lies past it.
FETCH = """
import os, socket
from urllib.parse import urlsplit
proxy = urlsplit(os.environ.get("HTTPS_PROXY", ""))
def asks(target):
    with socket.create_connection((proxy.hostname, proxy.port), 5) as connection:
        connection.sendall(f"CONNECT {{target}} HTTP/1.1\\r\\n\\r\\n".encode())
        return connection.recv(100).split(b" ")[1].decode()
if proxy.hostname:
    print("listed", asks("127.0.0.1:{port}"), "other", asks("elsewhere.test:443"))
try:
    socket.create_connection(("127.0.0.1", {port}), 2)
    print("past it")
except OSError as error:
    print("direct", type(error).__name__)
"""


@pytest.fixture
async def host() -> AsyncIterator[tuple[int, list[str]]]:
    """A host on the loopback: its port, and a word for each connection that it was asked for."""
    heard: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append("connected")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], heard
    server.close()


@pytest.fixture
async def setup(tmp_path: Path, host: tuple[int, list[str]]) -> AsyncIterator[Setup]:
    config = f'[policy]\nhosts = ["127.0.0.1:{host[0]}"]\n'
    async with confined(tmp_path, level="project", config=config) as made:
        made.write("fetch.py", FETCH.format(port=host[0]))
        begin(made)
        made.actor.add(says("", use("shell", command="python3 fetch.py")), FINISH)
        yield made


async def journal_line(setup: Setup, kind: str) -> dict[str, Any]:
    """The one line of that kind; the file is written a little later than the database."""
    async with asyncio.timeout(10):
        while True:
            files = [file for file in (setup.folder / "home").rglob("*.jsonl") if "journal" in file.parts]
            lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
            if found := [line for line in lines if line["kind"] == kind]:
                (line,) = found
                return line
            await asyncio.sleep(0.02)


async def test_at_level_project_a_listed_host_is_reached_and_written_down(
    setup: Setup, host: tuple[int, list[str]]
) -> None:
    async with setup.running() as bench:
        run = await bench.tell()
        first, _ = await bench.results(run)
    assert "listed 200 other 403" in first, first
    assert "direct ConnectionRefusedError" in first
    assert host[1] == ["connected"]
    line = await journal_line(setup, "run.connected")
    assert line["id"] == run
    places = {(each["host"], each["port"]): (bool(each["why"]), each["count"]) for each in line["data"]["places"]}
    assert places == {("127.0.0.1", host[0]): (False, 1), ("elsewhere.test", 443): (True, 1)}


@pytest.mark.parametrize("change", ["level", "rule", "no hosts"])
async def test_below_that_level_or_against_a_rule_there_is_no_way_out(
    setup: Setup, host: tuple[int, list[str]], change: str
) -> None:
    if change == "level":
        setup.workspace = 'level = "sandboxed"'
    if change == "rule":
        setup.config += '[[policy.rules]]\nverdict = "deny"\nhost = "*"\n'
    if change == "no hosts":
        setup.config = ""
    async with setup.running() as bench:
        first, _ = await bench.results(await bench.tell())
    assert ("listed 403" in first) == (change == "rule"), first
    assert "direct ConnectionRefusedError" in first
    assert "past it" not in first
    assert host[1] == []


async def test_a_rule_that_asks_about_a_host_asks_about_the_command(setup: Setup, host: tuple[int, list[str]]) -> None:
    setup.config += f'[[policy.rules]]\nverdict = "ask"\nargv = "python3 fetch.py"\nhost = "127.0.0.1:{host[0]}"\n'
    async with setup.running() as bench:
        run = await bench.tell()
        assert "host=127.0.0.1" in str((await bench.question())["rule"])
        assert host[1] == []
        await bench.answer()
        first, _ = await bench.results(run)
    assert "listed 200" in first
    assert host[1] == ["connected"]


# The workspace's own code, run by `python3 send.py`: says something to the host a hundred times a second, for ever.
SEND = """
import os, socket, time
from urllib.parse import urlsplit
proxy = urlsplit(os.environ["HTTPS_PROXY"])
with socket.create_connection((proxy.hostname, proxy.port), 5) as connection:
    connection.sendall(b"CONNECT 127.0.0.1:{port} HTTP/1.1\\r\\n\\r\\n")
    connection.recv(100)
    while True:
        connection.sendall(b"word ")
        time.sleep(0.01)
"""


@dataclass
class Canary:
    """A host on the loopback that counts the bytes it is sent."""

    port: int = 0
    heard: int = 0

    async def hears(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            self.heard += len(data)
        writer.close()

    async def sings(self) -> None:
        async with asyncio.timeout(20):
            while not self.heard:
                await asyncio.sleep(0.01)

    async def is_silent(self) -> bool:
        """Whether half a second brings nothing more than what is here, or on its way between two sockets."""
        await asyncio.sleep(0.02)
        before = self.heard
        await asyncio.sleep(0.5)
        return self.heard == before


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    made = Canary()
    server = await asyncio.start_server(made.hears, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


@pytest.fixture
async def sending(tmp_path: Path, canary: Canary, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Setup]:
    """A workspace whose run sends by a command that goes on in the background."""
    monkeypatch.setattr(tasks, "PATIENCE_SECONDS", 0.2)
    async with confined(tmp_path, level="project", config=f'[policy]\nhosts = ["127.0.0.1:{canary.port}"]\n') as made:
        made.write("send.py", SEND.format(port=canary.port))
        begin(made)
        yield made


async def runs_on_its_own(bench: Bench, *steps: ScriptStep) -> str:
    """A saved file leads to a run that sends and does the `steps`; the run."""
    bench.setup.actor.add(says("", use("shell", command="python3 send.py && python3 send.py")), *steps)
    bench.setup.decider.add(decides("act", "send"))
    bench.setup.write("a.txt", "changed\n")
    await bench.submit()
    async with asyncio.timeout(20):
        while not (found := await bench.stores.runs.find(Query())):
            await asyncio.sleep(0.01)
    return found[0].id


async def until(bench: Bench, run: str, *states: RunState) -> None:
    async with asyncio.timeout(20):
        while (await bench.run(run)).state not in states:
            await asyncio.sleep(0.02)


async def places(setup: Setup) -> list[dict[str, Any]]:
    return list((await journal_line(setup, "run.connected"))["data"]["places"])


async def test_a_command_in_the_background_loses_its_network_with_the_right_to_it(
    sending: Setup, canary: Canary
) -> None:
    """What the run reads is a collaborator's; before it has it, the command that could pass it on has ended."""
    silent: list[bool] = []

    async def reads(_: Prompt) -> ScriptStep:
        await canary.sings()
        return says("", use("read_event", id=event.id))

    async def has_read(prompt: Prompt) -> ScriptStep:
        assert "please send this" in str(prompt)
        silent.append(await canary.is_silent())
        return FINISH

    async with sending.running() as bench:
        sending.decider.add(decides("ignore"))
        event = await bench.submit("webhook", "issues", tier=Tier.COLLABORATOR, text={"title": "please send this"})
        await bench.advance(3600)
        run = await runs_on_its_own(bench, reads, has_read, FINISH)
        await until(bench, run, RunState.DONE_UNCHECKED)
        (task,) = await bench.stores.tasks.of_run(run)
    assert silent == [True]
    assert (task.state, task.code) == (TaskState.ENDED, 137)
    assert "its run may not any more" in task.result
    (place,) = await places(sending)
    assert (place["host"], place["port"], place["sent"]) == ("127.0.0.1", canary.port, canary.heard)


@pytest.mark.parametrize("how", ["stop", "stop all", "over budget", "closed level", "own rules"])
@pytest.mark.parametrize("patience", [0.2, 60.0])
async def test_no_command_outlasts_what_its_run_may(
    sending: Setup, canary: Canary, how: str, patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if patience > 1 and how == "over budget":
        pytest.skip("a run that waits for its command takes no turns")
    monkeypatch.setattr(tasks, "PATIENCE_SECONDS", patience)
    turns = 2 if how == "over budget" else 40
    sending.config += f"[limits]\nrun_turns = {turns}\n"
    sending.workspace = 'level = "sandboxed"' if how == "closed level" else sending.workspace

    async def waits(_: Prompt) -> ScriptStep:
        await canary.sings()
        return says("", use("glob", pattern="*"))

    async with sending.running() as bench:
        terms = bench.engine.terms
        if how == "closed level":
            terms._superuser = False
            terms.open("app")
        run = await runs_on_its_own(bench, waits, *([] if how == "over budget" else [FINISH, FINISH]))
        await canary.sings()
        if how == "stop":
            await bench.engine.desk.stop(run)
        elif how == "stop all":
            await bench.engine.desk.stop(None)
        elif how == "closed level":
            terms.close()
        elif how == "own rules":
            sending.write(".kairos.toml", '[[policy.rules]]\nverdict = "deny"\nhost = "*"\n')
            files, workspace = bench.engine.dispatcher._t.files, bench.engine.desk._o.workspaces["app"]
            await terms.look(files, workspace, trusted=True)
        ends = {"stop": RunState.CANCELLED, "stop all": RunState.CANCELLED, "over budget": RunState.OVER_BUDGET}
        await until(bench, run, ends.get(how, RunState.DONE_UNCHECKED))
        async with asyncio.timeout(10):
            while await bench.stores.tasks.running():
                await asyncio.sleep(0.01)
        assert await canary.is_silent()
    (place,) = await places(sending)
    assert (place["count"], place["sent"]) == (1, canary.heard)


async def test_a_command_that_takes_too_long_is_written_down_too(sending: Setup, canary: Canary) -> None:
    sending.actor.add(says("", use("shell", command="python3 send.py", timeout=2)), FINISH)
    async with sending.running() as bench:
        first, _ = await bench.results(await bench.tell())
    assert "stopped after 2 s" in first
    (place,) = await places(sending)
    assert place["sent"] == canary.heard > 0
