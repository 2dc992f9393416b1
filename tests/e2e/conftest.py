"""Real daemons for real tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest
from tests.e2e.brain import Brain
from tests.e2e.daemon import Daemon, Settings

Make = Callable[[Settings], Daemon]


@pytest.fixture
def brain() -> Iterator[Brain]:
    """A scripted model that ignores every event until told otherwise."""
    made = Brain()
    yield made
    made.close()


@pytest.fixture
def make_daemon() -> Iterator[Make]:
    """Makes daemons (not started) that are ended, with their homes, when the test is over."""
    made: list[Daemon] = []

    def make(settings: Settings) -> Daemon:
        made.append(Daemon(settings))
        return made[-1]

    yield make
    for daemon in made:
        daemon.close()
        shutil.rmtree(daemon.root, ignore_errors=True)
