"""Duplicates: what says the same as an entry confirms it, and what turns it round takes its place."""

from __future__ import annotations

import pytest
from tests.dreams import add, entry, frame, told

from kairosd.core.dream import Op
from kairosd.core.dream_checks import problems_of
from kairosd.core.duplicates import fitted, same

TURNED = [
    ("Use tabs, not spaces.", "Use spaces, not tabs."),
    ("The web listens on 8080 and the api on 9090", "The web listens on 9090 and the api on 8080"),
    ("Replication runs from Frankfurt to Dublin", "Replication runs from Dublin to Frankfurt"),
    ("The monthly budget is 30 €", "The monthly budget is 30 $"),
    ("The threshold of the alarm is -5", "The threshold of the alarm is 5"),
    ("The answer takes > 50 ms", "The answer takes < 50 ms"),
    ("The port was 9000", "The port is 9000"),
]
ALIKE = [
    ("Deploys run on Hetzner, port 9090.", "Deploys run on port 9090, Hetzner."),
    ("Deploys run on Hetzner.", "The deploy runs on Hetzner"),
    ("Never push to release!", "never push to release"),
]


@pytest.mark.parametrize(("one", "other"), TURNED)
def test_the_same_words_turned_round_say_something_else(one: str, other: str) -> None:
    assert not same(one, other)
    assert not same(other, one)


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_other_forms_of_the_same_words_say_the_same(one: str, other: str) -> None:
    assert same(one, other)
    assert same(other, one)


@pytest.mark.parametrize(("before", "now"), TURNED)
def test_what_the_owner_turns_round_takes_the_place_of_what_was_said(before: str, now: str) -> None:
    """I5, I9: it is neither lost as a duplicate, nor beside its opposite."""
    given = frame([entry("aaaa0001", "a.key", f"{before} in the office.")], [told(101, f"{now} in the office.")])
    operation = add(f"{now} in the office.", "j101", key="another.key")
    made = fitted(operation, given.generation, workspace="app", told=given.evidence)
    assert (made.op, made.targets, made.key) == (Op.SUPERSEDE, ("aaaa0001",), "a.key")
    assert "I9" not in {problem.invariant for problem in problems_of(made, given)}
