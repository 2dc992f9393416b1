"""The spine against a model server that others wrote: @copilotkit/aimock, whose wire formats are not ours.

`KAIROS_AIMOCK` names the `node_modules` folder it is installed in.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.e2e.brain import IGNORE, PROVIDERS
from tests.e2e.conftest import Make
from tests.e2e.daemon import Daemon, Settings, end_process, free_port, git, repository

MODULES = os.environ.get("KAIROS_AIMOCK", "")
PROGRAM = Path(MODULES or "/nonexistent") / "@copilotkit" / "aimock" / "dist" / "cli.js"

pytestmark = pytest.mark.skipif(
    not PROGRAM.is_file() or shutil.which("node") is None,
    reason="KAIROS_AIMOCK names no node_modules with @copilotkit/aimock, or there is no node",
)

HELLO = {"kind": "file_contains", "path": "README.md", "text": "hello"}
SAID = {"name": "finish", "arguments": json.dumps({"answer": "The line is there.", "checks": [HELLO]})}
FIXTURES = {
    "fixtures": [
        {
            "match": {"toolName": "decide"},
            "response": {"toolCalls": [{"name": "decide", "arguments": json.dumps(IGNORE)}]},
        },
        {"match": {"responseFormat": "json_schema"}, "response": {"content": json.dumps(IGNORE)}},
        {
            "match": {"userMessage": "last commit", "hasToolResult": False},
            "response": {"toolCalls": [{"name": "git_show", "arguments": "{}"}]},
        },
        {
            # Only what git_show really showed leads here.
            "match": {"toolResultContains": "subject: Begin the engine"},
            "response": {
                "toolCalls": [{"name": "finish", "arguments": '{"answer": "It was Begin the engine.", "checks": []}'}]
            },
        },
        {
            "match": {"userMessage": "hello", "hasToolResult": False},
            "response": {
                "content": "I add the line.",
                "toolCalls": [
                    {"name": "edit", "arguments": json.dumps({"path": "README.md", "old": "", "new": "hello\n"})}
                ],
            },
        },
        {"match": {"toolResultContains": "edited README.md"}, "response": {"toolCalls": [SAID]}},
        # How the checkout stands is told behind the results: in this protocol a message of its own, and the last one.
        {"match": {"userMessage": "M README.md"}, "response": {"toolCalls": [SAID]}},
    ]
}


@dataclass
class Mock:
    """The running server; its own journal is the truth about calls."""

    url: str

    def requests(self) -> int:
        with urllib.request.urlopen(f"{self.url}/__aimock/journal", timeout=10) as answer:
            return len(json.load(answer))


@pytest.fixture
def mock(tmp_path: Path) -> Iterator[Mock]:
    fixtures = tmp_path / "fixtures.json"
    fixtures.write_text(json.dumps(FIXTURES))
    port = free_port()
    command = ["node", str(PROGRAM), "-p", str(port), "-f", str(fixtures), "--strict", "--log-level", "warn"]
    with (tmp_path / "aimock.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    found = Mock(f"http://127.0.0.1:{port}")
    try:
        _wait(found, process)
        yield found
    finally:
        end_process(process)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_spine_against_aimock(provider: str, mock: Mock, tmp_path: Path, make_daemon: Make) -> None:
    folder = repository(tmp_path / "engine")
    base = mock.url if provider == "anthropic" else f"{mock.url}/v1"
    model = {"provider": provider, "model": "test-model", "base_url": base, "api_key_env": "SCRIPTED_KEY"}
    daemon = make_daemon(Settings({"engine": folder}, {"aimock": model}, "aimock"))
    daemon.start()
    _a_question(daemon, folder)
    _a_saved_file(daemon, mock, folder)
    _a_change(daemon, folder)


def _a_question(daemon: Daemon, folder: Path) -> None:
    told = daemon.kairos("tell", "what changed in the last commit?", cwd=folder)
    assert told.returncode == 0, (told, daemon.tail())
    assert "It was Begin the engine." in told.stdout


def _a_saved_file(daemon: Daemon, mock: Mock, folder: Path) -> None:
    before = mock.requests()
    (folder / "src" / "engine.py").write_text("SPEED = 3\n")
    daemon.wait_for(lambda: mock.requests() > before, "the change is looked at")
    time.sleep(3)
    assert mock.requests() - before == 1
    (decision,) = [one for one in daemon.json("decisions") if one["source"] != "owner"]
    assert (decision["verdict"], decision["reason"]) == ("ignore", IGNORE["reason"])
    git(folder, "checkout", "--quiet", "--", "src/engine.py")


def _a_change(daemon: Daemon, folder: Path) -> None:
    told = daemon.kairos("tell", "add a line 'hello' to README.md", cwd=folder)
    assert told.returncode == 0, (told, daemon.tail())
    (branch,) = git(folder, "branch", "--list", "kairos/*", "--format=%(refname:short)").split()
    git(folder, "merge", "--quiet", "--no-edit", branch)
    assert (folder / "README.md").read_text() == "# Engine\nhello\n"


def _wait(mock: Mock, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        assert process.poll() is None, "aimock ended"
        try:
            mock.requests()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("aimock does not answer")
