"""A dream as its owner sees it: the real daemon, the real command, a restart in between."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.brain import IGNORE, PROVIDERS, Brain, first_words
from tests.e2e.conftest import Make
from tests.e2e.daemon import Settings, repository
from tests.servers import Reply, Request

PORT = "Deploys run on Hetzner, port 9090."


def remembers(request: Request) -> Mapping[str, Any]:
    """The dreaming model: takes over what the evidence says of deploys, and something it made up."""
    text = first_words(request)
    found = re.search(r"(j\d+) \S+ owner: Remember: deploys", text)
    if "Evidence:" not in text or found is None:
        return IGNORE if "Evidence:" not in text else {"operations": []}
    base = {"op": "add", "targets": [], "sources": [found[1]], "kind": "project", "check": "", "everywhere": False,
            "reason": ""}  # fmt: skip
    made_up = {**base, "key": "deploy.user", "text": "Deploys run as root on port 22."}
    return {"operations": [{**base, "key": "deploy.host", "text": PORT}, made_up]}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_dream_is_made_shown_undone_and_there_after_a_restart(
    provider: str, tmp_path: Path, brain: Brain, make_daemon: Make
) -> None:
    folder = repository(tmp_path / "engine", {"README.md": "# engine\n"})
    brain.decide = remembers
    brain.act = lambda _: Reply(text="Noted.")
    daemon = make_daemon(Settings({"engine": folder}, {"scripted": brain.section(provider)}, "scripted"))
    daemon.start()
    assert daemon.json("dream") == []
    daemon.json("tell", f"Remember: {PORT[0].lower()}{PORT[1:]}", "-w", "engine")

    def dreamt() -> bool:
        return daemon.json("dream", "now")["outcome"] == "done"  # once the journal's file has the line

    daemon.wait_for(dreamt, "a dream that finds something")
    shown = daemon.json("dream", "show")[0]
    assert shown["current"]
    one = daemon.kairos("dream", "show", str(shown["number"])).stdout
    assert PORT in one
    assert "rejected: add Deploys run as root on port 22." in one
    assert f"+ {PORT}" in daemon.kairos("dream", "diff").stdout
    assert "nothing is wrong" in daemon.kairos("dream", "verify").stdout
    memory = daemon.home / "data/memory/current/MEMORY.md"
    kept = memory.read_bytes()
    daemon.restart(kill=True)
    assert memory.read_bytes() == kept
    daemon.json("dream", "undo")
    assert PORT.encode() not in memory.read_bytes()
    daemon.json("dream", "redo")
    assert memory.read_bytes() == kept
    assert daemon.kairos("dream", "redo").returncode == 2
    assert "No change of memory waits" in daemon.kairos("dream", "proposals").stdout
    assert daemon.kairos("dream", "accept", "p123").returncode == 2
