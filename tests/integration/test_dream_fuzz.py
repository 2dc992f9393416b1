"""10,000 answers of a fuzzed model, and every planted fault: no invariant is broken (I18, and with it the others)."""

from __future__ import annotations

import pytest
from bench.dream import ANSWERS, answers, fuzz, judge, planted
from tests.dreams import generation
from tests.unit.test_dream_validators import BATCH, BROKEN, right


def test_a_fuzzed_model_breaks_nothing() -> None:
    found = fuzz(ANSWERS, seed=20261121)
    assert found["broken"] == {}
    assert found["seen"]["audits"] == 0, "what the audit stops, the checks of single operations should have found"
    assert found["seen"]["accepted"] > ANSWERS // 10, "a fuzz that nothing passes proves nothing"
    assert set(found["refused"]) >= {"I2", "I3", "I4", "I5", "I6", "I9", "I10", "I11", "I14", "I15", "I18", "I22"}


def test_every_planted_fault_is_caught() -> None:
    found = planted()
    assert sum(made for made, _ in found.values()) >= 40
    assert [name for name, (made, caught) in found.items() if made != caught] == []


def test_the_same_seed_gives_the_same_answers() -> None:
    assert list(answers(50, 3)) == list(answers(50, 3)) != list(answers(50, 4))


@pytest.mark.parametrize(
    "name", ["an entry is just gone", "one letter of another entry", "a pin dropped", "two values of one key"]
)
def test_the_judge_of_the_fuzz_finds_faults_too(name: str) -> None:
    """The rules it judges by are its own, so they too must be able to fail."""
    invariant, change = BROKEN[name]
    assert judge(generation(), change(right()), BATCH)[invariant] > 0
    assert +judge(generation(), right(), BATCH) == {}
