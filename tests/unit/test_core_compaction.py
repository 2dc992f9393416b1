"""Compaction: what holds of every stage, of their projection, and of the estimate they go by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from math import prod

from hypothesis import given, settings
from hypothesis import strategies as st

from kairosd.core.compaction import Messages, collapse, microcompact, reactive, snip, summarise, trim
from kairosd.core.messages import Message, Prompt, ToolResult, ToolSpec, ToolUse
from kairosd.core.projection import KEPT_MESSAGES, KEPT_RESULTS, Cuts, Kinds, Room, lightened, project, recent, shrunk
from kairosd.core.tokens import estimate, estimate_prompt, estimate_text

KINDS = Kinds(frozenset({"read", "grep", "git_show"}), frozenset({"read", "grep", "git_show", "shell"}))
GOAL = Message("user", "Goal: find out why the bell is silent")
SUMMARY = "Done: nothing yet. Found: the bell is in bell.py. Next: ring it."
NAMES = ("read", "grep", "git_show", "shell", "write", "notify", "finish")
WORDS = ("", "ok", "two\nlines", "the bell is in bell.py", "0123456789" * 30, "Glöcke " * 90)
TIMES = 41  # how often words stand in a result, from never on
# A call with its result and what is said around it is drawn as one number: part by part it would take far longer.
# Small numbers are drawn more often, so what matters most comes first.
SIZES = (4, 6, len(WORDS), len(NAMES), len(WORDS), TIMES, 2, len(WORDS))
calls = st.integers(0, prod(SIZES) - 1)
many = settings(max_examples=60, deadline=None)  # of conversations with up to 20 calls each


def conversations(least: int = 0) -> st.SearchStrategy[Messages]:
    """Goals with whole steps, now and then a word of the owner's between two of them."""
    asked = st.integers(least, 20).flatmap(lambda count: st.lists(calls, min_size=count, max_size=count))
    return st.builds(conversation, st.sampled_from(WORDS), asked)


def conversation(goal: str, asked: Sequence[int]) -> Messages:
    made = [Message("user", f"Goal: {goal}")]
    step: list[tuple[ToolUse, ToolResult]] = []
    for number, code in enumerate(asked):
        joins, by_the_way, said, *call = parts(code)
        # Some servers count the ids of each turn from 0: only the step tells which result belongs to which call.
        step.append(exchange(f"call_{len(step)}", call, path=f"{number}.py"))
        if joins and len(step) < 4 and number + 1 < len(asked):
            continue
        uses, results = (tuple(each) for each in zip(*step, strict=True))
        made += [Message("assistant", WORDS[said], uses), Message("user", results=results)]
        if by_the_way == 1:
            made.append(Message("user", f"by the way, {number}"))
        step = []
    return tuple(made)


def parts(code: int) -> list[int]:
    found = []
    for size in SIZES:
        code, part = divmod(code, size)
        found.append(part)
    return found


def exchange(identifier: str, call: Sequence[int], *, path: str) -> tuple[ToolUse, ToolResult]:
    name, text, times, error, content = call
    use = ToolUse(identifier, NAMES[name], {"path": path, "content": WORDS[content]})
    return use, ToolResult(identifier, WORDS[text] * times, bool(error))


def is_whole(messages: Messages) -> bool:
    """Whether every call is followed by its results, in order, and no result stands without its call."""
    asked = [[use.id for use in message.uses] for message in messages]
    given_back = [[result.id for result in message.results] for message in messages]
    return given_back[0] == [] and asked[-1] == [] and all(a == b for a, b in zip(asked, given_back[1:], strict=False))


STAGES: dict[str, Callable[[Messages], Messages]] = {
    "snip": snip,
    "microcompact": lambda old: microcompact(old, KINDS.repeatable),
    "collapse": lambda old: collapse(old, KINDS.looks),
    "summarise": lambda old: summarise(old, SUMMARY),
    "reactive": lambda old: reactive(old, KINDS.looks),
    "trim": lambda old: trim(old, 300),
}


@many
@given(messages=conversations())
def test_every_stage_keeps_calls_with_results_and_the_goal_never_grows_and_is_idempotent(messages: Messages) -> None:
    for name, stage in STAGES.items():  # drawing a conversation takes longer than all of them
        made = stage(messages)
        assert is_whole(made), name
        assert made[0].text.startswith(messages[0].text), name
        assert estimate(made) <= estimate(messages), name
        assert stage(made) == made, name
        assert stage(messages) == made, name


@many
@given(messages=conversations())
def test_no_stage_gives_a_result_to_another_call_or_changes_their_order(messages: Messages) -> None:
    for stage in (snip, lambda old: microcompact(old, KINDS.repeatable), lambda old: trim(old, 300)):
        made = stage(messages)
        assert [message.uses for message in made] == [message.uses for message in messages]
        outcomes = [[(result.id, result.error) for result in message.results] for message in made]
        assert outcomes == [[(result.id, result.error) for result in message.results] for message in messages]
    left = [use for message in collapse(messages, KINDS.looks) for use in message.uses]
    rest = iter(use for message in messages for use in message.uses)
    assert all(use in rest for use in left)  # a subsequence
    assert [use for use in left if use.name not in KINDS.looks] == [
        use for message in messages for use in message.uses if use.name not in KINDS.looks
    ]


@st.composite
def rooms(draw: st.DrawFn) -> Room:
    return Room.of(draw(st.integers(1024, 200_000)), draw(st.integers(0, 4000)))


@many
@given(messages=conversations(least=1), room=rooms())
def test_the_projection_keeps_what_the_stages_keep_and_the_newest_whole(messages: Messages, room: Room) -> None:
    cuts = lightened(messages, Cuts(), kinds=KINDS, room=room)
    shown = project(messages, cuts, kinds=KINDS)
    assert is_whole(shown)
    assert shown[0] == messages[0]
    assert estimate(shown) <= estimate(messages)
    start = recent(messages, kinds=KINDS, room=room)
    assert messages[start].role == "assistant"
    assert shown[len(shown) - len(messages) + start :] == messages[start:]
    assert lightened(messages, cuts, kinds=KINDS, room=room) == cuts


@many
@given(messages=conversations(least=1), more=conversations(least=1), room=rooms())
def test_what_comes_later_changes_nothing_of_what_is_compacted(messages: Messages, more: Messages, room: Room) -> None:
    cuts = lightened(messages, Cuts(), kinds=KINDS, room=room)
    longer = (*messages, *more[1:])
    before, after = project(messages, cuts, kinds=KINDS), project(longer, cuts, kinds=KINDS)
    assert after == (*before, *more[1:])
    later = lightened(longer, cuts, kinds=KINDS, room=room)
    assert all(new >= old for new, old in zip(counts(later), counts(cuts), strict=True))


@many
@given(messages=conversations(least=1), tokens=st.integers(0, 3000), upto=st.integers(0, 40), summed=st.booleans())
def test_the_last_stage_leaves_the_goal_and_the_last_step(
    messages: Messages, tokens: int, upto: int, summed: bool
) -> None:
    steps = [index for index, message in enumerate(messages) if message.role == "assistant"]
    had = Cuts(summarise=steps[upto % len(steps)], summary=SUMMARY) if summed else Cuts()
    cuts = shrunk(messages, had, kinds=KINDS, tokens=tokens)
    shown = project(messages, cuts, kinds=KINDS)
    assert is_whole(shown)
    assert shown[0].text.startswith(messages[0].text)
    assert estimate(shown) <= max(estimate(project(messages, had, kinds=KINDS)), estimate(messages))
    last = messages[steps[-1]]
    assert last in shown
    assert shrunk(messages, cuts, kinds=KINDS, tokens=tokens) == cuts
    assert estimate(shown) <= tokens or all(len(result.text) <= 400 for result in shown[-1].results)


def counts(cuts: Cuts) -> tuple[int, ...]:
    return (cuts.snip, cuts.microcompact, cuts.collapse, cuts.summarise, cuts.reactive)


# What each stage leaves, by example.


def step(number: int, name: str = "read", text: str = "line\n" * 400, said: str = "") -> Messages:
    use = ToolUse(f"call_{number}", name, {"path": f"src/{number}.py"})
    return (Message("assistant", said, (use,)), Message("user", results=(ToolResult(use.id, text),)))


def test_snip_keeps_the_first_line_and_says_how_much_is_gone() -> None:
    first, _, rest = snip(step(1))[1].results[0].text.partition("\n")
    assert first == "line"
    assert rest == f"[{5 * 400 - 4} characters left out]"
    assert snip(step(1, text="short"))[1].results[0].text == "short"


def test_microcompact_names_the_tool_to_call_again_and_leaves_the_results_of_effects() -> None:
    old = (*step(1), *step(2, "shell"), *step(3, "write"))
    texts = [result.text for message in microcompact(old, KINDS.repeatable) for result in message.results]
    assert texts[0] == "[the result of read was left out; call it again if you need it]"
    assert "shell" in texts[1]
    assert texts[2] == "line\n" * 400


def test_collapse_leaves_a_line_for_each_row_of_looks_with_what_was_said() -> None:
    old = (*step(1, said="It starts in 1."), *step(2, "grep"), *step(3, "write"), *step(4), *step(5))
    made = collapse(old, KINDS.looks)
    assert [[use.id for use in message.uses] for message in made[::2]] == [["call_2"], ["call_3"], ["call_5"]]
    assert made[0].text == "It starts in 1."
    line = made[1].results[0].text
    assert "\n" not in line
    assert 'read "src/1.py"; grep "src/2.py"' in line


def test_a_summary_stands_behind_the_goal_with_what_the_owner_said() -> None:
    (made,) = summarise((GOAL, *step(1), Message("user", "hurry up"), *step(2)), SUMMARY)
    assert made.role == "user"
    assert made.text.startswith(f"{GOAL.text}\n\n")
    assert "hurry up" in made.text
    assert made.text.endswith(SUMMARY)


def test_the_last_stage_names_what_was_done_beside_looking() -> None:
    (made,) = reactive((GOAL, *step(1), *step(2, "write")), KINDS.looks)
    assert "2 earlier calls" in made.text
    assert 'write "src/2.py"' in made.text
    assert "src/1.py" not in made.text


def test_trimming_keeps_both_ends() -> None:
    text = "begin" + "x" * 5000 + "end"
    (result,) = trim(step(1, text=text), 500)[1].results
    assert len(result.text) <= 500
    assert result.text.startswith("begin")
    assert result.text.endswith("end")


# When they are applied.


def test_a_stage_that_brings_it_down_is_the_last_one_that_is_applied() -> None:
    messages = (GOAL, *[each for number in range(40) for each in step(number)])
    wide = lightened(messages, Cuts(), kinds=KINDS, room=Room(20_000, 15_000))
    assert (wide.microcompact, wide.collapse) == (0, 0)
    assert wide.snip > 60
    narrow = lightened(messages, Cuts(), kinds=KINDS, room=Room(5000, 3700))
    assert narrow.collapse == narrow.microcompact == narrow.snip > 0


def test_five_results_and_four_messages_stay_where_there_is_room() -> None:
    messages = (GOAL, *[each for number in range(40) for each in step(number)])
    start = recent(messages, kinds=KINDS, room=Room.of(200_000, 3000))
    assert len(messages) - start == 2 * KEPT_RESULTS
    effects = (GOAL, *[each for number in range(40) for each in step(number, "write")])
    assert recent(effects, kinds=KINDS, room=Room.of(200_000, 3000)) == 1
    parallel = (Message("assistant", uses=tuple(ToolUse(f"c{n}", "read", {}) for n in range(8))),)
    answers = (Message("user", results=tuple(ToolResult(f"c{n}", "x") for n in range(8))),)
    assert (
        recent((*messages, *parallel, *answers), kinds=KINDS, room=Room.of(200_000, 0))
        == len(messages) + 2 - KEPT_MESSAGES
    )
    assert recent(messages, kinds=KINDS, room=Room.of(1024, 0)) == len(messages) - 2


def test_the_reserves_of_a_window() -> None:
    assert Room.of(200_000, 0).high == 200_000 - 20_000 - 13_000
    assert Room.of(8192, 0).high == 8192 - 2048 - 819
    windows = [Room.of(window, 0).high for window in range(1024, 300_000, 512)]
    assert all(one < other for one, other in pairwise(windows))
    assert Room.of(8192, 2000).high == Room.of(8192, 0).high - 2000
    assert Room.of(8192, 9999).high > 0
    assert Room.of(8192, 0, percent=200).high == Room.of(8192, 0).high // 2


# The estimate.


@given(st.text(), st.text())
def test_more_text_is_never_fewer_tokens(one: str, other: str) -> None:
    assert max(estimate_text(one), estimate_text(other)) <= estimate_text(one + other)
    assert estimate_text(one + other) <= estimate_text(one) + estimate_text(other)


def test_the_estimate_of_a_prompt_counts_all_of_it() -> None:
    bare = Prompt("", (GOAL,))
    tool = ToolSpec("read", "Reads.", {"type": "object"})
    with_all = Prompt("You are Kairos.", (GOAL, *step(1)), (tool,))
    assert estimate_prompt(bare) == estimate((GOAL,))
    assert estimate_prompt(with_all) > estimate_prompt(replace(with_all, tools=())) > estimate((GOAL, *step(1)))
    assert estimate_text("2026-11-21 12:49:14") >= 14  # a digit is a token
