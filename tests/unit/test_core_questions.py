"""What a question shows, what a yes is bound to, and who may say it."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kairosd.core.channels import (
    NTFY,
    SILENT_FOR,
    STRENGTHS,
    UNKNOWN_CODES,
    Asked,
    Guesses,
    read_answer,
    refusal,
    replies_to,
)
from kairosd.core.levels import Permission
from kairosd.core.questions import (
    EFFECTS,
    bound_hash,
    describe,
    effect_of,
    escaped,
    exact_hash,
    paused_by,
)
from kairosd.core.runs import Approval, ApprovalState, Call, CallState, call_hash
from kairosd.core.shell.plans import Command, Pipeline, Plan

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
YES = Asked(approve=True, always=False, guarded=False)


def call(tool: str = "shell", plan: dict[str, object] | None = None, **arguments: str) -> Call:
    return Call(
        "c_1", "r_1", 1, 0, tool, arguments, call_hash(tool, arguments), CallState.REQUESTED, NOW, effect=True,
        plan=plan,  # type: ignore[arg-type]
    )  # fmt: skip


def plan_of(*argv: str, cwd: str = ".") -> Plan:
    return Plan((Pipeline((Command(argv),), cwd=cwd),))


# Shown.


@given(st.text())
def test_nothing_invisible_is_shown_raw(text: str) -> None:
    for shown in (escaped(text), describe(call("write", content=text), None), describe(call(), plan_of("echo", text))):
        assert not [char for char in shown if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")]


@pytest.mark.parametrize("hidden", ["\u202e", "\u200b", "\x1b[2J", "\u2066", "\ufe0f", "\u3164", "\U000e0041", "\x07"])
def test_what_could_fool_a_reader_is_an_escape(hidden: str) -> None:
    for shown in (describe(call("write", path=f"a{hidden}b"), None), describe(call(), plan_of("rm", f"a{hidden}b"))):
        assert hidden not in shown
        assert f"{ord(hidden[0]):x}" in shown


def test_a_command_is_never_cut_and_other_values_tell_their_length() -> None:
    long = "x" * 5000
    assert long in describe(call(), plan_of("echo", long))
    assert "(5000 characters)" in describe(call("write", content=long), None)


def test_what_the_model_says_stands_on_a_line_of_its_own() -> None:
    shown = describe(
        call("request_approval", reason='it is safe"\nAsked because: you said so'), plan_of("bash", "-c", "x")
    )
    assert shown.splitlines() == [
        "request_approval: bash -c x", 'The model says: "it is safe"\\nAsked because: you said so"'
    ]  # fmt: skip


def test_every_permission_has_words_and_the_gravest_is_told() -> None:
    assert set(EFFECTS) == set(Permission)
    assert effect_of([Permission.READER, Permission.UNLISTED, Permission.CONFINED]) == EFFECTS[Permission.UNLISTED]


# Bound.


def test_a_yes_is_bound_to_everything_that_decides_what_happens() -> None:
    base = bound_hash(call(plan={"p": 1}, command="x"), "/w", aims={"a": "a"})
    others = [
        bound_hash(call(plan={"p": 1}, command="y"), "/w", aims={"a": "a"}),
        bound_hash(call("bell", plan={"p": 1}, command="x"), "/w", aims={"a": "a"}),
        bound_hash(call(plan={"p": 2}, command="x"), "/w", aims={"a": "a"}),
        bound_hash(call(plan={"p": 1}, command="x"), "/v", aims={"a": "a"}),
        bound_hash(call(plan={"p": 1}, command="x"), "/w", aims={"a": "b"}),
    ]
    assert len({base, *others}) == 6
    assert bound_hash(replace(call(plan={"p": 1}, command="x"), hash="forged"), "/w", aims={"a": "a"}) == base


def test_a_grant_is_bound_to_the_folder_and_not_to_the_models_words() -> None:
    def exact(reason: str, cwd: str = ".", script: str = "1") -> str:
        asked = call("request_approval", plan={"scripts": {"a": script}}, command="x", reason=reason)
        return exact_hash(asked, plan_of("bash", "-c", "x", cwd=cwd), aims={})

    assert exact("please") == exact("now")
    assert len({exact(""), exact("", cwd="sub"), exact("", script="2")}) == 3
    # Where nothing is run a `reason` is an argument like any other.
    assert exact_hash(call("sleep", reason="a"), None, aims={}) != exact_hash(call("sleep", reason="b"), None, aims={})


# Who may answer.


@pytest.mark.parametrize("channel", ["socket", "ntfy", "telegram", ""])
@pytest.mark.parametrize("proven", [False, True])
def test_every_channel_may_say_no(channel: str, proven: bool) -> None:
    assert refusal(channel, Asked(approve=False, always=False, guarded=True), proven=proven) is None


def test_only_the_socket_may_say_everything() -> None:
    asked = Asked(approve=True, always=True, guarded=True)
    assert [name for name in (*STRENGTHS, "telegram") if refusal(name, asked, proven=True) is None] == ["socket"]


def test_ntfy_says_yes_when_proven_and_never_to_what_is_guarded() -> None:
    assert refusal("ntfy", YES, proven=True) is None
    assert refusal("ntfy", YES, proven=False)
    assert refusal("ntfy", replace(YES, guarded=True), proven=True)
    assert refusal("ntfy", replace(YES, always=True), proven=True)
    assert refusal("telegram", YES, proven=True)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("yes bcdfg", (True, "bcdfg")),
        (" Allow  BCDFG\n", (True, "bcdfg")),
        ("approve bcdfg", (True, "bcdfg")),
        ("no bcdfg", (False, "bcdfg")),
        ("DENY bcdfg", (False, "bcdfg")),
        ("yes", None),
        ("yes bcdfgh", None),
        ("yes a_01", None),
        ("yes bcdfg please", None),
        ("yes bcdfg\nno bcdfg", None),
        ("yesbcdfg", None),
        ("y bcdfg", None),
        ("yes " + " " * 5000 + "bcdfg", None),
        ("", None),
    ],
)
def test_only_a_plain_word_with_a_code_is_an_answer(text: str, read: tuple[bool, str] | None) -> None:
    assert read_answer(text) == read


def test_a_button_says_only_what_its_channel_may() -> None:
    assert replies_to(NTFY, "bcdfg", guarded=False, proven=True) == ("yes bcdfg", "no bcdfg")
    assert replies_to(NTFY, "bcdfg", guarded=True, proven=True) == ("no bcdfg",)
    assert replies_to(NTFY, "bcdfg", guarded=False, proven=False) == ("no bcdfg",)


def test_five_unknown_codes_a_minute_silence_a_channel_for_a_while() -> None:
    guesses = Guesses()
    for number in range(UNKNOWN_CODES - 1):
        assert not guesses.unknown("ntfy", NOW + timedelta(seconds=number))
    assert guesses.silent_until("ntfy", NOW) is None
    assert guesses.unknown("ntfy", NOW + timedelta(seconds=59))
    assert guesses.silent_until("ntfy", NOW + timedelta(minutes=5)) == NOW + timedelta(seconds=59) + SILENT_FOR
    assert guesses.silent_until("telegram", NOW + timedelta(minutes=5)) is None
    assert guesses.silent_until("ntfy", NOW + timedelta(minutes=1) + SILENT_FOR) is None


def test_an_older_silence_does_not_end_a_longer_one() -> None:
    guesses = Guesses()
    for at in (NOW, NOW - timedelta(minutes=10)):
        for _ in range(UNKNOWN_CODES):
            guesses.unknown("ntfy", at)
    assert guesses.silent_until("ntfy", NOW) == NOW + SILENT_FOR


def test_slow_guesses_and_the_socket_are_not_silenced() -> None:
    guesses = Guesses()
    for number in range(50):
        assert not guesses.unknown("ntfy", NOW + timedelta(seconds=16 * number))
        assert not guesses.unknown("socket", NOW)


# When the initiative rests.


def answers(*states: ApprovalState, every: timedelta = timedelta(minutes=1)) -> list[Approval]:
    """Newest first."""
    return [
        Approval("a", "b", state, "r", "c", "w", "h", "q", "r", NOW, NOW, answered_at=NOW - number * every)
        for number, state in enumerate(states)
    ]


def test_three_denials_in_a_row_are_enough_and_a_yes_ends_the_row() -> None:
    no, yes = ApprovalState.DENIED, ApprovalState.USED
    assert paused_by(answers(no, no, no), NOW)
    assert paused_by(answers(no, no, yes, no, no), NOW) is None
    assert paused_by(answers(no, no), NOW) is None
    assert paused_by(answers(), NOW) is None


def test_twenty_denials_a_day_are_enough() -> None:
    mixed = [ApprovalState.DENIED, ApprovalState.APPROVED] * 20
    assert "20 times" in str(paused_by(answers(*mixed), NOW))
    assert paused_by(answers(*mixed[:38]), NOW) is None
    assert paused_by(answers(*mixed, every=timedelta(hours=1)), NOW) is None
