"""A model's answer becomes a decision only if it is one."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kairosd.core.decisions import (
    ANSWERS,
    GOAL_MAX,
    REASON_MAX,
    WAKE_MAX_SECONDS,
    Answer,
    Verdict,
    allowed_answers,
    answer_schema,
    parse_answer,
)
from kairosd.core.events import Tier, backoff_seconds, is_fact_name
from kairosd.core.json import canonical

quick = settings(max_examples=40, deadline=None)
GOOD = {"verdict": "act", "reason": "r", "goal": "g", "confidence": 80}
values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
answers = st.dictionaries(st.sampled_from(["verdict", "reason", "goal", "confidence", "wake_seconds", "x"]), values)


def test_a_stranger_leads_to_words_a_collaborator_to_a_run_and_only_ones_own_events_to_waiting() -> None:
    for tier, has_workspace in product(Tier, (True, False)):
        found = allowed_answers(tier, has_workspace=has_workspace)
        assert (Verdict.ACT in found) == (tier >= Tier.COLLABORATOR and has_workspace)
        assert (Verdict.WAIT in found) == (tier >= Tier.LOCAL and has_workspace)
        assert {Verdict.NOTIFY, Verdict.IGNORE} <= set(found)


@pytest.mark.parametrize("allowed", [ANSWERS, (Verdict.NOTIFY, Verdict.IGNORE)])
def test_the_schema_offers_what_is_allowed_and_nothing_else(allowed: tuple[Verdict, ...]) -> None:
    schema = answer_schema(allowed)
    assert schema["properties"]["verdict"]["enum"] == list(allowed)  # type: ignore[index, call-overload]
    assert ("wake_seconds" in schema["properties"]) == (Verdict.WAIT in allowed)  # type: ignore[operator]
    assert schema["additionalProperties"] is False
    canonical(schema)


@quick
@given(answers | st.fixed_dictionaries({"verdict": st.sampled_from(["act", "WAIT", "notify", "ignore"])}, optional={
    "reason": values, "goal": values, "confidence": values, "wake_seconds": values,
}))  # fmt: skip
def test_any_answer_is_either_refused_or_within_bounds(answer: dict[str, object]) -> None:
    for allowed in (ANSWERS, (Verdict.NOTIFY, Verdict.IGNORE)):
        try:
            found = parse_answer(answer, allowed)
        except ValueError:
            continue
        assert found.verdict in allowed
        assert 0 <= found.confidence <= 100
        assert 0 <= found.wake_seconds <= (WAKE_MAX_SECONDS if found.verdict is Verdict.WAIT else 0)
        assert len(found.goal) <= GOAL_MAX
        assert len(found.reason) <= REASON_MAX
        assert found.goal or found.verdict in (Verdict.WAIT, Verdict.IGNORE)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"verdict": "dance"}, "verdict must be one of act, notify, wait, ignore"),
        ({"verdict": "asked"}, "not allowed"),
        ({"goal": " "}, "act needs a goal"),
        ({"goal": 5}, "goal must be a string"),
        ({"confidence": "high"}, "confidence must be a number"),
        ({"confidence": True}, "confidence must be a number"),
        ({"verdict": "wait", "wake_seconds": "soon"}, "wake_seconds must be a number"),
    ],
)
def test_the_first_thing_that_is_wrong_is_named(change: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_answer({**GOOD, **change}, ANSWERS)


def test_a_good_answer() -> None:
    assert parse_answer(GOOD, ANSWERS) == Answer(Verdict.ACT, "r", "g", 80, 0)
    wait = parse_answer({"verdict": "wait", "wake_seconds": 90.0}, ANSWERS)
    assert wait == Answer(Verdict.WAIT, "", "", 0, 90)


@quick
@given(st.text())
def test_a_fact_name_has_nothing_that_could_be_read_as_words(text: str) -> None:
    assert not is_fact_name(f"{text} {text}")
    assert not is_fact_name(f"{text}\n")
    assert not is_fact_name("x" * 101)
    assert is_fact_name("ada/engine.v2")


def test_back_off() -> None:
    assert [backoff_seconds(tries) for tries in range(5)] == [5, 5, 20, 80, 320]
