"""SIGKILL in the middle of every kind of effect: exactly once by files, git and ntfy, or the next turn is told.

A part of `python -m bench.kills`, which has every point for every tool.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.kills import EFFECTS, Bench
from bench.ntfy import ntfy_program


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    yield from opened(tmp_path_factory.mktemp("kills"))


@pytest.fixture(scope="module")
def sabotaged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    yield from opened(tmp_path_factory.mktemp("sabotaged"), sabotage=True)


def opened(folder: Path, *, sabotage: bool = False) -> Iterator[Bench]:
    made = Bench(folder, ntfy_program(), sabotage=sabotage)
    yield made
    made.close()
    shutil.rmtree(made.daemon.root, ignore_errors=True)


@pytest.mark.parametrize(
    ("name", "point", "word"),
    [
        ("write", "outcome-before", "once"),
        ("edit", "outcome-in", "once"),
        ("git_commit", "effect-half", "once"),
        ("notify", "effect-half", "once"),
        ("shell", "effect-half", "unknown"),
        ("shell", "result-torn", "once"),
        ("land: branch", "outcome-before", "once"),
        ("land: patch", "outcome-in", "once"),
        ("land: direct", "outcome-before", "once"),
        ("task", "begin-after", "unknown"),
        ("task", "end-before", "unknown"),
        ("task", "end-after", "once"),
    ],
)
def test_a_kill_in_the_middle_repeats_nothing(bench: Bench, name: str, point: str, word: str) -> None:
    if name == "notify" and bench.ntfy is None:
        pytest.skip("no ntfy server: KAIROS_NTFY is not set")
    cell = bench.kill(EFFECTS[name], point)
    assert cell is not None, "the point was not passed"
    assert (cell.word, cell.trouble) == (word, [])
    assert cell.count <= 1


@pytest.mark.parametrize(("name", "point"), [("edit", "outcome-before"), ("shell", "outcome-before")])
def test_without_the_intent_row_the_same_kill_repeats_it(sabotaged: Bench, name: str, point: str) -> None:
    """The test above can fail."""
    cell = sabotaged.kill(EFFECTS[name], point)
    assert cell is not None
    assert cell.word == "TWICE"
