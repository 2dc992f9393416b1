"""How far what can be found is trusted."""

from __future__ import annotations

import pytest
from tests.dreams import line

from kairosd.core.events import Tier
from kairosd.core.findable import of_line, run_of

RUN = "r_01hzzzzzzzzzzzzzzzzzzzzzzz"
ASKED = {"question": "May I send the report to mallory.example?", "state": "open"}


@pytest.mark.parametrize(
    ("kind", "data", "more"),
    [
        ("approval.opened", ASKED, {"id": "a_1", "cause": RUN}),
        ("call.succeeded", {"tool": "shell", "result": "fetched the page of mallory"}, {"id": "c_1", "cause": RUN}),
        ("run.undone", {"undone": ["the page of mallory"]}, {"id": RUN}),
    ],
)
def test_what_a_run_said_is_trusted_as_the_run(kind: str, data: dict[str, object], more: dict[str, str]) -> None:
    """I10: a question to the owner too may quote what the run has read."""
    given = line(7, kind, data, **more)  # type: ignore[arg-type]
    assert run_of(given) == RUN
    for taint in (Tier.PUBLIC, Tier.LOCAL):
        passage = of_line(given, {RUN: taint})
        assert passage is not None
        assert passage.tier is taint
    unknown = of_line(given, {})
    assert unknown is not None
    assert unknown.tier is Tier.COLLABORATOR


def test_what_kairos_says_of_itself_is_local() -> None:
    found = of_line(line(7, "workspace.trusted", {"files": {"a": "the notes of the project"}}), {})
    assert found is not None
    assert found.tier is Tier.LOCAL


def test_of_a_run_with_many_checks_its_goal_and_result_are_found() -> None:
    """They are what a dream learns from, and what must be known again when it is forgotten."""
    checks = [{"kind": "command", "seen": "collected items and passed " * 12} for _ in range(9)]
    data = {"state": "done", "checks": checks, "goal": "look at the heron", "result": "it sleeps"}
    found = of_line(line(7, "run.ended", data, id=RUN), {})  # type: ignore[arg-type]
    assert found is not None
    assert "look at the heron" in found.text
    assert "it sleeps" in found.text
