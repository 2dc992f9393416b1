"""Runs: the loop, its ends, its questions, and that a crash at any point repeats no effect and loses none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine_bench import Bench, Setup, forever, open_setup
from tests.fakes import files, says, use

from kairosd.core.events import Tier
from kairosd.core.levels import LEVELS, Level
from kairosd.core.messages import Message, ToolUse, Usage, UseBroken
from kairosd.core.runs import ApprovalState, CallState, ParkedOn, RunState
from kairosd.engine.circles import MAX_REPEATS
from kairosd.engine.conversation import Conversation
from kairosd.errors import (
    CheckoutError,
    DiskFullError,
    ExecutorError,
    ModelProtocolError,
    ModelRefusedError,
    ModelUnavailableError,
    SandboxError,
    ToolError,
)
from kairosd.ports import Finish, Query

pytestmark = pytest.mark.anyio

ASK_BELL = '[[policy.rules]]\nverdict = "ask"\ntool = "bell"\n'
WRITE = use("write", path="a.txt", content="hello\n")


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with open_setup(tmp_path) as made:
        yield made


def a_finish(*checks: dict[str, str]) -> object:
    return says("", use("finish", answer="all done", checks=list(checks)))


# The loop and its ends.


async def test_words_without_a_call_end_the_run_unchecked(setup: Setup) -> None:
    setup.actor.add(says("The last commit is about bells."))
    async with setup.running() as bench:
        run = await bench.run(await bench.tell("what changed?"))
    assert (run.state, run.result) == (RunState.DONE_UNCHECKED, "The last commit is about bells.")
    assert (run.turns, run.tokens, run.price) == (1, 110, 150)
    assert "what changed?" in setup.actor.prompts[0].messages[0].text


async def test_an_unknown_price_of_one_turn_makes_the_runs_unknown(setup: Setup) -> None:
    setup.actor.add(says("", use("bell"), usage=Usage()), says("done"))
    async with setup.running() as bench:
        run = await bench.run(await bench.tell())
    assert run.price is None


async def test_what_passed_its_checks_is_done_and_lands(setup: Setup) -> None:
    setup.actor.add(says("", WRITE), a_finish({"kind": "file_contains", "path": "a.txt", "text": "hello"}))  # type: ignore[arg-type]
    async with setup.running() as bench:
        run = await bench.run(await bench.tell("add a.txt"))
        assert [check["passed"] for check in run.checks] == [True, True]
        (notice,) = await bench.notices()
    assert (run.state, run.branch, run.result) == (RunState.DONE, "kairos/add-a-txt", "all done")
    assert setup.checkouts.landed == {run.id: {"a.txt": "hello\n"}}
    assert "git merge kairos/add-a-txt" in notice.body
    assert not (setup.root / "a.txt").exists()


async def test_that_it_landed_is_no_check(setup: Setup) -> None:
    setup.actor.add(says("", WRITE), a_finish())  # type: ignore[arg-type]
    async with setup.running() as bench:
        run = await bench.run(await bench.tell("add a.txt"))
        (notice,) = await bench.notices()
    assert (run.state, run.branch) == (RunState.DONE_UNCHECKED, "kairos/add-a-txt")
    assert [check["kind"] for check in run.checks] == ["landed"]
    assert "done unchecked" in notice.title


async def test_what_failed_a_check_is_failed_and_nothing_lands(setup: Setup) -> None:
    missing = a_finish({"kind": "file_exists", "path": "b.txt"})
    setup.actor.add(says("", WRITE), missing, missing)  # type: ignore[arg-type]
    async with setup.running() as bench:
        run = await bench.run(await bench.tell())
        (notice,) = await bench.notices()
    assert (run.state, run.branch, run.commit) == (RunState.FAILED, None, None)
    assert setup.checkouts.landed == {}
    assert "b.txt is not there" in notice.body


async def test_a_check_that_cannot_be_made_has_not_passed(setup: Setup) -> None:
    setup.actor.add(a_finish({"kind": "git_clean"}), a_finish())  # type: ignore[arg-type]
    async with setup.running() as bench:
        run = await bench.run(await bench.tell())
    assert run.state is RunState.FAILED


async def test_what_is_wrong_with_a_call_goes_back_to_the_model(setup: Setup) -> None:
    broken = UseBroken("use_broken", "read", "not valid JSON")
    wrong = [use("fly"), broken, use("read", path="nowhere.txt"), use("read", path="/etc/passwd"), use("read")]
    setup.actor.add(says("", *wrong), says("I give up."))
    async with setup.running() as bench:
        run = await bench.tell()
        told = await bench.results(run)
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
    assert "there is no tool fly" in told[0]
    assert "not valid JSON" in told[1]
    assert "nowhere.txt" in told[2]
    assert "/etc/passwd does not start in the workspace" in told[3]
    results = setup.actor.prompts[1].messages[-1].results
    assert [result.error for result in results] == [True] * 5
    assert [result.id for result in results] == [one.id for one in wrong]


async def test_results_go_back_in_the_order_of_the_calls(setup: Setup) -> None:
    uses = [use("bell", note="1"), use("read", path="README.md"), use("bell", note="2")]
    setup.actor.add(says("", *uses), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        assert [call.state for call in await bench.calls(run)] == [CallState.SUCCEEDED] * 2
    assert [result.id for result in setup.actor.prompts[1].messages[-1].results] == [one.id for one in uses]


async def test_the_same_call_again_and_again_is_told_and_then_ended(setup: Setup) -> None:
    setup.actor.add(*[says("", use("bell", note="again")) for _ in range(MAX_REPEATS)])
    async with setup.running() as bench:
        run = await bench.tell()
        told = await bench.results(run)
        found = await bench.run(run)
    assert told[:2] == ["the bell rang"] * 2
    assert all("just made this very call" in text for text in told[2:])
    assert len(setup.bell.rung) == 2
    assert (found.state, found.turns) == (RunState.FAILED, MAX_REPEATS)
    assert "bell" in found.result


async def test_other_calls_in_between_are_no_circle(setup: Setup) -> None:
    for number in range(MAX_REPEATS):
        setup.actor.add(says("", use("bell", note=str(number % 2))))
    setup.actor.add(says("done"))
    async with setup.running() as bench:
        assert (await bench.run(await bench.tell())).state is RunState.DONE_UNCHECKED
    assert len(setup.bell.rung) == MAX_REPEATS


async def test_too_many_turns_end_over_budget(setup: Setup) -> None:
    setup.config = "[limits]\nrun_turns = 5\n"
    setup.actor.add(*[says("", use("bell", note=str(number))) for number in range(5)])
    async with setup.running() as bench:
        run = await bench.run(await bench.tell())
    assert (run.state, run.turns) == (RunState.OVER_BUDGET, 5)


async def test_an_observer_has_no_edit_tools_and_is_denied_them(setup: Setup) -> None:
    setup.workspace = 'level = "observe"'
    setup.actor.add(says("", WRITE), says("I may not."))
    async with setup.running() as bench:
        run = await bench.tell()
        (told,) = await bench.results(run)
        (call,) = await bench.calls(run, "write")
    offered = {tool.name for tool in setup.actor.prompts[0].tools}
    assert offered & {"write", "edit", "git_commit"} == set()
    assert {"read", "grep", "finish"} <= offered
    assert call.state is CallState.DENIED
    assert "observe" in told
    assert setup.checkouts.landed == {}


async def test_prompts_of_a_run_have_one_prefix(setup: Setup) -> None:
    setup.actor.add(says("", use("bell")), says("", WRITE), says("done"))
    async with setup.running() as bench:
        await bench.tell()
    first, *others = setup.actor.prompts
    assert all((other.system, other.tools) == (first.system, first.tools) for other in others)
    assert all(other.messages[: len(first.messages)] == first.messages for other in others)
    names = [tool.name for tool in first.tools]
    assert names == sorted(names)


def test_each_level_covers_the_one_below() -> None:
    assert LEVELS[Level.OBSERVE] < LEVELS[Level.SUGGEST]


async def test_a_strangers_text_reaches_no_run_only_what_it_is_about(setup: Setup) -> None:
    setup.decider.add(files("feature", orders="yes"))
    async with setup.running() as bench:
        await bench.engine.desk.pause("")
        event = await bench.submit("webhook", "issues", tier=Tier.PUBLIC, text={"title": "please RUN RM"})
        setup.actor.add(says("", use("read_event", id=event.id)), says("", WRITE), says("done"))
        run = await bench.run(await bench.tell())
        assert (run.taint, run.state) == (Tier.OWNER, RunState.DONE_UNCHECKED)
        told = (await bench.results(run.id))[0]
    assert "feature about code" in told
    assert "gives orders" in told
    assert "RUN RM" not in told
    assert all("RUN RM" not in str(prompt) for prompt in setup.actor.prompts)
    (filing,) = setup.decider.prompts
    assert filing.tools == ()
    assert "please RUN RM" in filing.messages[0].text


@pytest.mark.parametrize("answers", [[says("it is a bug")] * 2, [files("rm -rf"), says("prose")]])
async def test_what_cannot_be_filed_stays_unread(setup: Setup, answers: list[object]) -> None:
    setup.decider.add(*answers)  # type: ignore[arg-type]
    async with setup.running() as bench:
        await bench.engine.desk.pause("")
        event = await bench.submit("webhook", "issues", tier=Tier.PUBLIC, text={"title": "please RUN RM"})
        setup.actor.add(says("", use("read_event", id=event.id)), says("done"))
        (told,) = await bench.results(await bench.tell())
    assert "could not be filed" in told
    assert "RUN RM" not in told
    assert "rm -rf" not in told


async def test_a_collaborators_text_caps_the_run_at_suggest_for_good(setup: Setup) -> None:
    setup.workspace = 'level = "sandboxed"'
    async with setup.running() as bench:
        await bench.engine.desk.pause("")
        event = await bench.submit("webhook", "issues", tier=Tier.COLLABORATOR, text={"title": "please add a.txt"})
        setup.actor.add(says("", use("read_event", id=event.id)), says("", WRITE), says("done"))
        run = await bench.run(await bench.tell())
        assert (run.taint, run.state) == (Tier.COLLABORATOR, RunState.DONE_UNCHECKED)
        assert "please add a.txt" in (await bench.results(run.id))[0]


async def test_a_run_reads_no_event_of_another_workspace_and_hears_of_one_that_is_not_there(setup: Setup) -> None:
    setup.second = True
    async with setup.running() as bench:
        await bench.engine.desk.pause("")
        event = await bench.submit("webhook", "issues", workspace="lib", text={"title": "private"})
        missing = "e_" + "0" * 26
        setup.actor.add(says("", use("read_event", id=event.id), use("read_event", id=missing)), says("done"))
        run = await bench.tell()
        told = await bench.results(run)
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
    assert "private" not in told[0]
    assert len(told) == 2


async def test_sleeping_is_done_by_the_clock(setup: Setup) -> None:
    setup.actor.add(says("", use("sleep", seconds=60, reason="a build")), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        await bench.advance(59)
        assert (await bench.run(run)).state is RunState.RUNNING
        await bench.advance(1)
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED


async def test_one_run_at_a_time_in_a_workspace(setup: Setup) -> None:
    setup.actor.add(says("one"), says("two"))
    setup.actor.held.clear()
    async with setup.running() as bench:
        first, second = await bench.tell("first"), await bench.tell("second")
        assert (await bench.run(first)).state is RunState.RUNNING
        assert (await bench.run(second)).state is RunState.QUEUED
        setup.actor.held.set()
        await bench.quiet()
        assert [(await bench.run(one)).result for one in (first, second)] == ["one", "two"]


# Models and disks that fail.


async def test_a_run_waits_for_its_model(setup: Setup) -> None:
    setup.actor.add(*[ModelUnavailableError("gone")] * 3, says("back"))
    async with setup.running() as bench:
        run = await bench.tell()
        await bench.advance(60)
        assert (await bench.run(run)).result == "back"
        assert [notice.key.split(":")[0] for notice in await bench.notices()] == ["model-down", "model-up", "run"]


async def test_a_model_that_stays_away_fails_the_run(setup: Setup) -> None:
    setup.actor.add(*[ModelUnavailableError("gone")] * 100)
    async with setup.running() as bench:
        run = await bench.tell()
        await bench.advance(7 * 3600)
        found = await bench.run(run)
    assert found.state is RunState.FAILED
    assert "gone" in found.result


async def test_answers_that_stay_unusable_fail_the_run(setup: Setup) -> None:
    setup.actor.add(*[ModelProtocolError("cut")] * 3)
    async with setup.running() as bench:
        assert (await bench.run(await bench.tell())).state is RunState.FAILED


async def test_a_model_that_refuses_fails_the_run_and_frees_the_workspace(setup: Setup) -> None:
    setup.actor.add(ModelRefusedError("the key is wrong"), says("later"))
    async with setup.running() as bench:
        found = await bench.run(await bench.tell())
        assert found.state is RunState.FAILED
        assert "the key is wrong" in found.result
        assert (await bench.run(await bench.tell())).result == "later"


@pytest.mark.parametrize("where", ["plan", "before"])
async def test_a_tool_that_breaks_does_not_leave_the_run_behind(setup: Setup, where: str) -> None:
    """A fault that nobody foresaw: the run ends or goes on, but it does not hold its workspace for ever."""
    setup.bell.errors[where] = RuntimeError("a bug")
    setup.actor.add(says("", use("bell")), says("done"), says("later"))
    async with setup.running() as bench:
        run = await bench.tell()
        await bench.advance(3600)
        assert (await bench.run(run)).state in (RunState.FAILED, RunState.DONE_UNCHECKED)
        setup.bell.errors.clear()
        assert (await bench.run(await bench.tell())).state is RunState.DONE_UNCHECKED


async def test_an_error_of_an_effect_is_an_outcome(setup: Setup) -> None:
    setup.bell.errors["before"] = ToolError("the rope is torn")
    setup.actor.add(says("", use("bell")), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        (call,) = await bench.calls(run)
        assert await bench.results(run) == ["the rope is torn"]
    assert (call.state, call.result) == (CallState.FAILED, "the rope is torn")


async def test_a_full_disk_makes_the_run_wait_and_not_fail(setup: Setup) -> None:
    full = [True] * (MAX_REPEATS + 1)

    async def call(real: object, *given: object, **named: object) -> None:
        if full:
            full.pop()
            raise DiskFullError
        await real(*given, **named)  # type: ignore[operator]

    setup.hooks = {"runs": {"call": call}}
    setup.actor.add(says("", use("bell")), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        await bench.advance(3600)
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
        assert await bench.results(run) == ["the bell rang"]
    assert len(setup.bell.rung) == 1


async def test_a_checkout_that_cannot_be_made_asks_the_owner_and_is_tried_again(setup: Setup) -> None:
    setup.checkouts.problems["ensure"] = CheckoutError("this is no git checkout.")
    setup.actor.add(says("", WRITE), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        assert (await bench.run(run)).parked_on is ParkedOn.OWNER
        assert "no git checkout" in str((await bench.question())["question"])
        setup.checkouts.problems.clear()
        await bench.answer()
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
    assert list(setup.checkouts.landed) == [run]


@pytest.mark.parametrize("error", [SandboxError("no bubblewrap"), ExecutorError("it died"), CheckoutError("gone")])
@pytest.mark.parametrize("where", ["ensure", "land", "keep_base"])
async def test_whatever_is_wrong_with_a_checkout_the_run_is_not_left_behind(
    setup: Setup, where: str, error: Exception
) -> None:
    """It parks or ends; as `running` without a worker it would hold its workspace for ever."""
    protected = use("write", path=".envrc", content="")
    setup.actor.add(says("", WRITE, *([protected] if where == "keep_base" else [])), says("done"))
    setup.checkouts.problems[where] = error
    async with setup.running() as bench:
        run = await bench.tell()
        assert (await bench.run(run)).state in (RunState.PARKED, RunState.FAILED, RunState.DONE_UNCHECKED)


async def test_a_parked_runs_base_is_kept_from_the_owners_gc_until_it_is_through(setup: Setup) -> None:
    setup.actor.add(says("", WRITE, use("write", path=".envrc", content="")), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        assert setup.checkouts.kept == {run}
        await bench.answer()
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
    assert setup.checkouts.kept == set()


@pytest.mark.parametrize(
    "error", [None, SandboxError("no bubblewrap"), ExecutorError("it died"), CheckoutError("gone")]
)
async def test_a_base_that_a_kill_left_behind_is_swept_soon_after_the_start(
    setup: Setup, error: Exception | None
) -> None:
    setup.actor.add(says("", WRITE), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
    setup.checkouts.kept = {run, "r_of_another_home"}
    setup.checkouts.problems = {"kept_bases": error} if error else {}
    async with setup.running(housekeeping=True) as bench:
        await bench.advance(100)
    assert setup.checkouts.kept == ({run, "r_of_another_home"} if error else {"r_of_another_home"})


async def test_a_stopped_runs_base_is_let_go(setup: Setup) -> None:
    setup.actor.add(says("", WRITE, use("write", path=".envrc", content="")))
    async with setup.running() as bench:
        run = await bench.tell()
        await bench.engine.desk.stop(run)
    assert setup.checkouts.kept == set()


async def test_a_no_to_going_on_cancels_the_run(setup: Setup) -> None:
    setup.checkouts.problems["ensure"] = CheckoutError("this is no git checkout.")
    setup.actor.add(says("", WRITE))
    async with setup.running() as bench:
        run = await bench.tell()
        await bench.answer(approve=False)
        assert (await bench.run(run)).state is RunState.CANCELLED


# Crashes. Each test stops the engine dead at one point and starts another over the same home.


async def crash_at(setup: Setup, *, state: CallState) -> str:
    """Runs until the one call of the bell hangs in `state`."""
    setup.actor.add(says("", use("bell")), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        (call,) = await bench.calls(run)
        assert call.state is state
    setup.bell.stall = ""
    setup.hooks = {}
    return run


async def ended(bench: Bench, run: str) -> list[str]:
    assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
    return await bench.results(run)


@pytest.mark.parametrize(
    ("stall", "state"),
    [("plan", CallState.REQUESTED), ("before", CallState.INTENDED), ("after", CallState.INTENDED)],
)
async def test_a_crash_around_an_effect_repeats_and_loses_nothing(setup: Setup, stall: str, state: CallState) -> None:
    setup.bell.stall = stall
    run = await crash_at(setup, state=state)
    async with setup.running() as bench:
        (told,) = await ended(bench, run)
        (call,) = await bench.calls(run)
    assert call.state is CallState.SUCCEEDED
    assert setup.bell.rung == [call.id]
    assert "had happened just before" in told if stall == "after" else told == "the bell rang"
    assert len(setup.actor.prompts) == 2


@pytest.mark.parametrize("stall", ["before", "after"])
async def test_an_effect_that_cannot_be_probed_is_told_as_unknown_and_not_repeated(setup: Setup, stall: str) -> None:
    setup.bell.stall, setup.bell.tells = stall, False
    run = await crash_at(setup, state=CallState.INTENDED)
    rung = len(setup.bell.rung)
    async with setup.running() as bench:
        (told,) = await ended(bench, run)
        (call,) = await bench.calls(run)
    assert told.startswith("unknown:")
    assert call.state is CallState.UNKNOWN
    assert len(setup.bell.rung) == rung


async def test_a_crash_in_the_middle_of_a_probe_probes_again(setup: Setup) -> None:
    setup.bell.stall = "after"
    run = await crash_at(setup, state=CallState.INTENDED)
    setup.bell.stall = "probe"
    async with setup.running() as bench:
        assert [call.state for call in await bench.calls(run)] == [CallState.UNKNOWN]
    setup.bell.stall = ""
    async with setup.running() as bench:
        (told,) = await ended(bench, run)
    assert "had happened just before" in told
    assert len(setup.bell.rung) == 1


async def test_a_plan_that_fails_after_an_effect_was_found_undone_goes_back_to_the_model(setup: Setup) -> None:
    setup.bell.stall = "before"
    run = await crash_at(setup, state=CallState.INTENDED)
    setup.bell.errors["plan"] = ToolError("the bell is gone")
    async with setup.running() as bench:
        assert await ended(bench, run) == ["the bell is gone"]


async def test_a_rule_made_after_a_crash_holds_for_an_effect_that_was_found_undone(setup: Setup) -> None:
    setup.bell.stall = "before"
    run = await crash_at(setup, state=CallState.INTENDED)
    setup.config = ASK_BELL.replace("ask", "deny")
    async with setup.running() as bench:
        (told,) = await ended(bench, run)
    assert "deny" in told
    assert setup.bell.rung == []


async def test_a_result_that_did_not_reach_the_transcript_is_told_after_the_crash(setup: Setup) -> None:
    async def append(real: object, run: str, *entries: dict[str, object]) -> None:
        if any(entry["kind"] == "result" for entry in entries):
            await forever()
        await real(run, *entries)  # type: ignore[operator]

    setup.hooks = {"transcripts": {"append": append}}
    run = await crash_at(setup, state=CallState.SUCCEEDED)
    async with setup.running() as bench:
        assert await ended(bench, run) == ["the bell rang"]
    assert len(setup.bell.rung) == 1
    assert len(setup.actor.prompts) == 2


@pytest.mark.parametrize("last", ["words", "finish"])
async def test_a_crash_between_the_last_word_and_its_end_asks_the_model_nothing_more(setup: Setup, last: str) -> None:
    """The turn is in the transcript, and whatever was to follow it is not."""

    async def append(real: object, run: str, *entries: dict[str, object]) -> None:
        await real(run, *entries)  # type: ignore[operator]
        if any(entry["kind"] == ("turn" if last == "words" else "result") for entry in entries):
            await forever()

    setup.hooks = {"transcripts": {"append": append}}
    setup.actor.add(says("all done") if last == "words" else a_finish())  # type: ignore[arg-type]
    async with setup.running() as bench:
        run = await bench.tell()
        assert (await bench.run(run)).state is RunState.RUNNING
    setup.hooks = {}
    async with setup.running() as bench:
        found = await bench.run(run)
    assert (found.state, found.result) == (RunState.DONE_UNCHECKED, "all done")
    assert len(setup.actor.prompts) == 1


async def test_a_question_outlives_a_crash_and_its_yes_is_used_once(setup: Setup) -> None:
    setup.config = ASK_BELL
    run = await crash_at(setup, state=CallState.PARKED)
    async with setup.running() as bench:
        assert (await bench.run(run)).state is RunState.PARKED
        await bench.answer()
        assert await ended(bench, run) == ["the bell rang"]
        (approval,) = await bench.stores.approvals.find(Query())
    assert approval.state is ApprovalState.USED
    assert len(setup.bell.rung) == 1


async def test_a_yes_given_just_before_a_crash_is_used_once(setup: Setup) -> None:
    setup.config = ASK_BELL
    run = await crash_at(setup, state=CallState.PARKED)

    async def start(_real: object, *_given: object, **_named: object) -> None:
        """The daemon dies before it starts anything."""

    setup.hooks = {"runs": {"start": start}}
    async with setup.running() as bench:
        await bench.answer()
        assert (await bench.run(run)).state is RunState.QUEUED
    setup.hooks = {}
    async with setup.running() as bench:
        assert await ended(bench, run) == ["the bell rang"]
    assert len(setup.bell.rung) == 1


async def test_a_yes_that_was_used_stands_for_the_call_that_a_crash_cut_off(setup: Setup) -> None:
    setup.config = ASK_BELL
    run = await crash_at(setup, state=CallState.PARKED)

    async def move_call(real: object, call: object, state: CallState, **named: object) -> object:
        if state is CallState.INTENDED:
            await forever()
        return await real(call, state, **named)  # type: ignore[operator]

    setup.hooks = {"runs": {"move_call": move_call}}
    async with setup.running() as bench:
        await bench.answer()
        (approval,) = await bench.stores.approvals.find(Query())
        assert approval.state is ApprovalState.USED
        assert setup.bell.rung == []
    setup.hooks = {}
    async with setup.running() as bench:
        assert await ended(bench, run) == ["the bell rang"]
    assert len(setup.bell.rung) == 1


@pytest.mark.parametrize("first", [use("read", path="README.md"), use("read", path=".")])
async def test_what_a_run_has_read_it_knows_after_a_crash_too(setup: Setup, first: ToolUse) -> None:
    more = use("write", path="README.md", content="# app\nmore\n")
    setup.actor.add(says("", first, use("bell")), says("", more), says("done"))
    setup.bell.stall = "before"
    async with setup.running() as bench:
        run = await bench.tell()
        assert (await bench.run(run)).state is RunState.RUNNING
    setup.bell.stall = ""
    async with setup.running() as bench:
        (call,) = await bench.calls(run, "write")
    known = first.arguments["path"] == "README.md"
    assert call.state is (CallState.SUCCEEDED if known else CallState.FAILED)
    assert setup.checkouts.landed.get(run, {}) == ({"README.md": "# app\nmore\n"} if known else {})


async def test_a_crash_while_landing_lands_once(setup: Setup) -> None:
    async def end(_real: object, *_given: object, **_named: object) -> None:
        await forever()

    setup.hooks = {"runs": {"end": end}}
    setup.actor.add(says("", WRITE), a_finish())  # type: ignore[arg-type]
    async with setup.running() as bench:
        run = await bench.tell()
        assert list(setup.checkouts.landed) == [run]
    setup.hooks = {}
    async with setup.running() as bench:
        found = await bench.run(run)
        assert [call.state for call in await bench.calls(run, "land")] == [CallState.SUCCEEDED]
    assert (found.state, found.branch) == (RunState.DONE_UNCHECKED, "kairos/do-it")
    assert len(setup.actor.prompts) == 2


async def test_what_was_interrupted_long_ago_asks_first(setup: Setup) -> None:
    setup.actor.add(says("cut"), says("done"))
    setup.actor.held.clear()
    async with setup.running() as bench:
        run = await bench.tell()
    setup.actor.held.set()
    setup.clock.jump(3601)
    async with setup.running() as bench:
        assert (await bench.run(run)).parked_on is ParkedOn.OWNER
        assert len(setup.actor.prompts) == 1
        await bench.answer()
        assert (await bench.run(run)).result == "done"


async def test_a_conversation_is_the_same_after_it_was_read_back(setup: Setup) -> None:
    broken = UseBroken("use_x", "read", "cut")
    setup.actor.add(
        says("first", use("bell", note="ä\n"), broken, use("fly")), says("", use("bell", share=0.5)), says("the end")
    )
    async with setup.running() as bench:
        run = await bench.tell()
        again = await Conversation.load(bench.stores.transcripts, run)
    sent = setup.actor.prompts[-1].messages
    assert again.messages[: len(sent)] == sent
    assert again.messages[len(sent) :] == (Message("assistant", "the end"),)
    assert (again.open_uses, again.turn, again.finish) == ((), 3, Finish("the end"))
