"""The gate and its questions: deny wins, a yes is for one exact call, nothing is read before it is allowed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.engine_bench import Bell, Setup, open_setup
from tests.fakes import says, use

from kairosd.core.events import Tier
from kairosd.core.levels import Level, Ruling
from kairosd.core.policy import Policy, Rule
from kairosd.core.runs import ApprovalState, CallState, ParkedOn, Run, RunState
from kairosd.engine.gate import Gate
from kairosd.errors import ToolError, TransitionError
from kairosd.ports import Query
from kairosd.tools import edit, git_commit, read, write

pytestmark = pytest.mark.anyio

ASK_BELL = '[[policy.rules]]\nverdict = "ask"\ntool = "bell"\n'
DENY_BELL = '[[policy.rules]]\nverdict = "deny"\ntool = "bell"\n'
RUN = Run("r_1", RunState.RUNNING, "g", "app", "owner", None, 1, Tier.OWNER, datetime(2026, 3, 2, tzinfo=UTC))


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with open_setup(tmp_path) as made:
        yield made


def judged(policy: Policy, tool: object, *, run: Run = RUN, **arguments: str) -> Ruling:
    return Gate(policy).judge(tool, arguments, run=run, root=Path("/")).ruling  # type: ignore[arg-type]


# The gate.


def test_deny_beats_ask_beats_allow() -> None:
    rules = [Rule(Ruling.ALLOW, "write"), Rule(Ruling.ASK, "wr*"), Rule(Ruling.DENY, "", "secret/**")]
    assert judged(Policy(tuple(rules)), write.build(), path="a.txt", content="") is Ruling.ASK
    assert judged(Policy(tuple(rules)), write.build(), path="secret/a.txt", content="") is Ruling.DENY
    assert judged(Policy((rules[0],)), write.build(), path="a.txt", content="") is Ruling.ALLOW


@pytest.mark.parametrize("path", [".env", ".ENV", "deep/.Env.local", "keys/id_RSA", "a/b.PEM", "x/../.env"])
def test_secret_paths_ask_whatever_their_case(path: str) -> None:
    assert judged(Policy(), read.build(), path=path) is Ruling.ASK
    assert judged(Policy(), write.build(), path=path, content="") is Ruling.ASK


@pytest.mark.parametrize(
    "path", [".git/config", ".GIT/Hooks/post-commit", ".github/Workflows/ci.yml", "kairos.MD", "a/.gitattributes"]
)
def test_protected_paths_ask_to_be_changed_and_not_to_be_read(path: str) -> None:
    assert judged(Policy(), edit.build(), path=path, old="a", new="b") is Ruling.ASK
    assert judged(Policy(), read.build(), path=path) is Ruling.ALLOW


def test_no_rule_widens_a_level_or_opens_a_protected_path() -> None:
    policy = Policy((Rule(Ruling.ALLOW),))
    observer = replace(RUN, level=int(Level.OBSERVE))
    assert judged(policy, write.build(), run=observer, path="a.txt", content="") is Ruling.DENY
    assert judged(policy, write.build(), path=".git/config", content="") is Ruling.ASK


def test_after_a_strangers_words_nothing_is_done_and_after_a_collaborators_the_level_is_capped() -> None:
    tainted = replace(RUN, taint=Tier.PUBLIC)
    assert judged(Policy(), write.build(), run=tainted, path="a.txt", content="") is Ruling.DENY
    assert judged(Policy(), git_commit.build(), run=tainted, message="m") is Ruling.DENY
    assert judged(Policy(), read.build(), run=tainted, path="a.txt") is Ruling.DENY
    capped = replace(RUN, taint=Tier.COLLABORATOR, level=int(Level.PROJECT))
    assert judged(Policy(), write.build(), run=capped, path="a.txt", content="") is Ruling.ALLOW
    assert judged(Policy(), read.build(), run=capped, path=".env") is Ruling.ASK


def test_a_gate_that_breaks_is_shut() -> None:
    opinion = Gate(Policy()).judge(Bell(errors={"paths": RuntimeError("a bug")}), {}, run=RUN, root=Path("/"))
    assert opinion.ruling is Ruling.DENY
    assert "RuntimeError" in opinion.rule


def test_a_path_that_cannot_be_is_the_models_mistake() -> None:
    with pytest.raises(ToolError):
        judged(Policy(), read.build(), path="../../etc/passwd")


def test_a_link_is_judged_by_where_it_leads_too() -> None:
    gate = Gate(Policy((Rule(Ruling.DENY, "", "private/**"),)))
    follow = {"plain.txt": ".env", "other.txt": "private/x"}.get
    assert gate.judge(read.build(), {"path": "plain.txt"}, run=RUN, root=Path("/"), follow=follow).ruling is Ruling.ASK  # type: ignore[arg-type]
    assert gate.judge(read.build(), {"path": "other.txt"}, run=RUN, root=Path("/"), follow=follow).ruling is Ruling.DENY  # type: ignore[arg-type]


# What the ledger makes of a ruling.


async def test_a_denied_call_is_neither_planned_nor_made(setup: Setup) -> None:
    setup.config = DENY_BELL
    setup.actor.add(says("", use("bell")), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        (call,) = await bench.calls(run)
        (told,) = await bench.results(run)
        assert (await bench.engine.desk.status())["counters"]["denied"] == 1  # type: ignore[index, call-overload]
    assert (call.state, setup.bell.planned, setup.bell.rung) == (CallState.DENIED, 0, [])
    assert "deny" in told
    assert "deny" in call.rule


async def test_a_question_parks_the_run_and_a_yes_resumes_it_exactly_once(setup: Setup) -> None:
    setup.config = ASK_BELL
    setup.actor.add(says("", use("bell", note="loud")), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        parked = await bench.run(run)
        assert (parked.state, parked.parked_on) == (RunState.PARKED, ParkedOn.APPROVAL)
        question = await bench.question()
        assert "loud" in str(question["question"])
        assert len(str(question["code"])) == 5
        (notice,) = await bench.notices()
        assert f"kairos approve {question['code']}" in notice.body
        assert setup.bell.rung == []
        await bench.answer()
        assert len(setup.bell.rung) == 1
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
        (approval,) = await bench.stores.approvals.find(Query())
        assert (approval.state, approval.channel) == (ApprovalState.USED, "socket")


async def test_a_no_goes_back_to_the_model_and_the_run_goes_on(setup: Setup) -> None:
    setup.config = ASK_BELL
    setup.actor.add(says("", use("bell")), says("then not"))
    async with setup.running() as bench:
        run = await bench.tell()
        await bench.answer(approve=False)
        (told,) = await bench.results(run)
        assert "did not allow" in told
        assert [call.state for call in await bench.calls(run)] == [CallState.DENIED]
        assert (await bench.run(run)).result == "then not"
    assert setup.bell.rung == []


async def test_a_question_nobody_answers_expires_to_a_no(setup: Setup) -> None:
    setup.config = f"[policy]\napproval_expires_seconds = 3600\n{ASK_BELL}"
    setup.actor.add(says("", use("bell")), says("then not"))
    async with setup.running(housekeeping=True) as bench:
        run = await bench.tell()
        await bench.advance(3500)
        assert (await bench.run(run)).state is RunState.PARKED
        await bench.advance(200)
        assert (await bench.run(run)).result == "then not"
        (approval,) = await bench.stores.approvals.find(Query())
    assert approval.state is ApprovalState.EXPIRED
    assert setup.bell.rung == []


async def test_a_question_ends_with_its_run(setup: Setup) -> None:
    setup.config = ASK_BELL
    setup.actor.add(says("", use("bell")))
    async with setup.running() as bench:
        run = await bench.tell()
        await bench.engine.desk.stop(run)
        (approval,) = await bench.stores.approvals.find(Query())
        assert (await bench.run(run)).state is RunState.CANCELLED
    assert approval.state is ApprovalState.WITHDRAWN


async def test_a_yes_does_not_hold_for_a_world_that_has_changed_since(setup: Setup) -> None:
    setup.config = ASK_BELL
    setup.actor.add(says("", use("bell")), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        setup.bell.state = "moved"
        await bench.answer()
        assert setup.bell.rung == []
        assert (await bench.run(run)).state is RunState.PARKED
        assert "changed" in str((await bench.question())["rule"])
        await bench.answer()
        assert len(setup.bell.rung) == 1
        found = await bench.stores.approvals.find(Query())
    assert {one.state for one in found} == {ApprovalState.STALE, ApprovalState.USED}


async def test_a_no_to_a_call_that_can_no_longer_be_planned_is_still_a_no(setup: Setup) -> None:
    setup.config = ASK_BELL
    setup.actor.add(says("", use("bell")), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        setup.bell.errors["plan"] = ToolError("the bell is gone")
        await bench.answer(approve=False)
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
        assert [call.state for call in await bench.calls(run)] == [CallState.DENIED]


async def test_a_yes_to_a_call_that_can_no_longer_work_tells_the_model_why(setup: Setup) -> None:
    setup.config = ASK_BELL
    setup.actor.add(says("", use("bell")), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        setup.bell.errors["plan"] = ToolError("the bell is gone")
        await bench.answer()
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
        assert await bench.results(run) == ["the bell is gone"]
    assert setup.bell.rung == []


async def test_a_secret_is_read_after_a_yes_only(setup: Setup) -> None:
    setup.write(".env", "TOKEN=hush")
    setup.actor.add(says("", use("read", path=".env")), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        assert (await bench.run(run)).parked_on is ParkedOn.APPROVAL
        assert await bench.results(run) == []
        assert "hush" not in str(await bench.question())
        await bench.answer()
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
        (told,) = await bench.results(run)
        assert "hush" in told


async def test_a_secret_that_is_not_there_is_told_after_a_yes(setup: Setup) -> None:
    setup.actor.add(says("", use("read", path=".env")), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        assert (await bench.run(run)).parked_on is ParkedOn.APPROVAL
        await bench.answer()
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED


async def test_a_protected_file_lands_after_one_yes(setup: Setup) -> None:
    setup.write(".github/workflows/ci.yml", "on: push\n")
    change = use("edit", path=".github/workflows/ci.yml", old="push", new="pull_request")
    setup.actor.add(says("", change), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        await bench.answer()
        found = await bench.run(run)
    assert found.state is RunState.DONE_UNCHECKED
    assert setup.checkouts.landed[run] == {".github/workflows/ci.yml": "on: pull_request\n"}


async def test_a_rule_made_meanwhile_withdraws_the_question(setup: Setup) -> None:
    """Design §9: a reload judges every parked call again, and deny wins."""
    setup.config = ASK_BELL
    setup.actor.add(says("", use("bell")), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
    setup.config = DENY_BELL
    async with setup.running() as bench:
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
        (call,) = await bench.calls(run)
        (told,) = await bench.results(run)
        (approval,) = await bench.stores.approvals.find(Query())
    assert (call.state, approval.state) == (CallState.DENIED, ApprovalState.WITHDRAWN)
    assert "denied: rule deny tool=bell" in told
    assert setup.bell.rung == []


async def test_a_rule_made_meanwhile_beats_a_yes(setup: Setup) -> None:
    """Design §9: approvals are judged again right before execution, and deny wins."""
    setup.config = ASK_BELL
    setup.actor.add(says("", use("bell")), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        gate = bench.engine.dispatcher._t.ledger.gate
        gate.terms._policy = Policy((Rule(Ruling.DENY, "bell"),))
        await bench.answer()
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
        assert [call.state for call in await bench.calls(run)] == [CallState.DENIED]
    assert setup.bell.rung == []


async def test_the_second_answer_loses(setup: Setup) -> None:
    setup.config = ASK_BELL
    setup.actor.add(says("", use("bell")), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        code = str((await bench.question())["code"])
        await bench.answer(approve=False)
        with pytest.raises(TransitionError, match="is denied and cannot become approved"):
            await bench.engine.desk.answer(code, approve=True, channel="socket")
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
    assert setup.bell.rung == []
