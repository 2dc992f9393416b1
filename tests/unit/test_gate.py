"""The gate on commands: levels, taint, the owner's lists, a workspace's own file; a gate that breaks is shut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.phrases import phrases

from kairosd.core.events import Tier
from kairosd.core.json import JsonObject
from kairosd.core.levels import Level, Permission, Ruling
from kairosd.core.messages import ToolSpec
from kairosd.core.policy import Policy, Rule
from kairosd.core.runs import Run, RunState
from kairosd.core.shell.plans import Command, Operator, Pipeline, Plan
from kairosd.core.shell.programs import Program, ProgramClass, parse_program
from kairosd.core.workspaces import Workspace
from kairosd.engine.gate import Explained, Gate
from kairosd.engine.terms import Terms, broken_notice
from kairosd.errors import ShellFormError, UsageError
from kairosd.system.files import LocalFiles

pytestmark = pytest.mark.anyio

PROGRAMS = {
    "look": parse_program("look", {"class": "reader", "flags": "-l", "rest": "read"}),
    "build": parse_program("build", {"class": "confined", "rest": "text"}),
    "change": parse_program("change", {"class": "effect", "rest": "write"}),
    "anything": Program("anything", ProgramClass.EFFECT, opaque=True),
}
RUN = Run("r_1", RunState.RUNNING, "g", "app", "owner", None, 2, Tier.OWNER, datetime(2026, 3, 2, tzinfo=UTC))


def plan_of(*lines: str) -> Plan:
    return Plan(tuple(Pipeline((Command(tuple(line.split())),)) for line in lines))


def ruling(
    *lines: str, policy: Policy | None = None, level: Level = Level.SANDBOXED, taint: Tier = Tier.OWNER
) -> Ruling:
    run = replace(RUN, level=int(level), taint=taint)
    gate = Gate(policy or Policy(), PROGRAMS)
    return gate.explain(lambda: plan_of(*lines), run=run, root=Path("/app")).verdict.ruling


@pytest.mark.parametrize(
    ("line", "level", "taint", "reached"),
    [
        ("build all", Level.SANDBOXED, Tier.OWNER, False),
        ("build all", Level.PROJECT, Tier.OWNER, True),
        ("build all", Level.OPEN, Tier.LOCAL, True),
        ("change a.txt", Level.PROJECT, Tier.OWNER, True),
        ("unheard of", Level.PROJECT, Tier.OWNER, True),  # asked about; with the owner's yes it has what its level has
        ("look a.txt", Level.OPEN, Tier.OWNER, False),
        ("cd src", Level.OPEN, Tier.OWNER, False),
        ("build all", Level.OPEN, Tier.COLLABORATOR, False),
        ("build all", Level.OPEN, Tier.PUBLIC, False),
    ],
)
def test_hosts_are_reached_from_level_project_on_by_what_does_more_than_read(
    line: str, level: Level, taint: Tier, reached: bool
) -> None:
    run = replace(RUN, level=int(level), taint=taint)
    listed, command = Policy(hosts=("a.test",)), Command(tuple(line.split()))
    assert (Gate(listed, PROGRAMS).reach(command, run=run) is not None) is reached
    assert Gate(Policy(), PROGRAMS).reach(command, run=run) is None
    denied = Policy(hosts=("a.test",), rules=(Rule(Ruling.DENY, host="*"),))
    found = Gate(denied, PROGRAMS).reach(command, run=run)
    assert found is None or not found.allows("a.test", 443)
    (judged,) = Gate(listed, PROGRAMS).judge_plan(plan_of(line), run=run, root=Path("/app"))
    assert (judged.reach is not None) is reached


@pytest.mark.parametrize(
    ("line", "unasked_from"),
    [
        ("look a.txt", Level.SUGGEST),
        ("build all", Level.SANDBOXED),
        ("change a.txt", Level.PROJECT),
        ("unheard of", Level.OPEN),
        ("look --new-option", Level.OPEN),
        ("anything look", None),
        ("look .env", None),
        ("change .kairos.toml", None),
    ],
)
def test_a_command_runs_unasked_from_its_level_on(line: str, unasked_from: Level | None) -> None:
    for level in Level:
        wanted = Ruling.DENY if level is Level.OBSERVE else Ruling.ASK
        allowed = unasked_from is not None and level >= unasked_from
        assert ruling(line, level=level) is (Ruling.ALLOW if allowed else wanted), level


def test_what_is_denied_is_denied_at_every_level() -> None:
    policy = Policy((Rule(Ruling.DENY, "", "keys/**"),), deny=(("build",), ("anything", "-x")))
    for level in Level:
        for line in ("build all", "anything -x", "anything build", "look keys/a", "look ../a", "change /etc/passwd"):
            assert ruling(line, policy=policy, level=level) is Ruling.DENY, (line, level)


def test_the_verdict_on_a_line_is_that_on_its_worst_command() -> None:
    assert ruling("look a", "look b") is Ruling.ALLOW
    assert ruling("look a", "change b") is Ruling.ASK
    assert ruling("look a", "change b", "look ../x") is Ruling.DENY


def test_the_owners_allow_list_replaces_what_kairos_knows() -> None:
    policy = Policy(allow=(("build", "all"), ("unheard",)))
    assert ruling("build all", policy=policy) is Ruling.ALLOW
    assert ruling("build other", policy=policy) is Ruling.ASK
    assert ruling("look a.txt", policy=policy) is Ruling.ASK
    assert ruling("unheard of", policy=policy) is Ruling.ALLOW
    assert ruling("unheard of", policy=policy, level=Level.SUGGEST) is Ruling.ASK
    assert ruling("look a.txt", policy=Policy(allow=())) is Ruling.ASK


WORDS = (
    "look", "build", "change", "anything", "strange", "-l", "-x", "a.txt", ".env", ".git/config", "../x", "/app/b",
    "all",
)  # fmt: skip
LINES = st.lists(phrases(WORDS, most=4).map(" ".join), min_size=1, max_size=3)
PREFIXES = st.lists(phrases(WORDS, most=3), max_size=2).map(tuple)
RULES = st.lists(
    st.builds(
        Rule,
        st.sampled_from(Ruling),
        st.sampled_from(["", "shell", "read"]),
        st.sampled_from(["", "*.txt"]),
        phrases(WORDS, least=0, most=2),
    ),
    max_size=2,
).map(tuple)
POLICIES = st.builds(Policy, RULES, st.none() | PREFIXES, PREFIXES, PREFIXES)


@settings(max_examples=60, deadline=None)
@given(LINES, POLICIES, POLICIES, st.sampled_from(Level), st.sampled_from(Tier))
def test_nothing_that_narrows_ever_widens(
    lines: list[str], policy: Policy, more: Policy, level: Level, taint: Tier
) -> None:
    before = ruling(*lines, policy=policy, level=level, taint=taint)
    assert ruling(*lines, policy=policy.narrowed_by(more), level=level, taint=taint) >= before
    assert ruling(*lines, policy=replace(policy, doubt="a doubt"), level=level, taint=taint) >= before
    assert ruling(*lines, "build all", policy=policy, level=level, taint=taint) >= before


@settings(max_examples=60, deadline=None)
@given(LINES, POLICIES, st.sampled_from(Tier))
def test_a_higher_level_and_a_better_tier_are_never_stricter(lines: list[str], policy: Policy, taint: Tier) -> None:
    found = [ruling(*lines, policy=policy, level=level, taint=taint) for level in Level]
    assert found == sorted(found, reverse=True)
    tiers = [ruling(*lines, policy=policy, taint=tier) for tier in sorted(Tier)]
    assert tiers == sorted(tiers, reverse=True)


@settings(max_examples=60, deadline=None)
@given(LINES, st.sampled_from(WORDS), POLICIES, st.sampled_from(Level))
def test_a_denied_program_never_runs(lines: list[str], program: str, policy: Policy, level: Level) -> None:
    if any(line.split()[0] == program for line in lines):
        denied = replace(policy, deny=(*policy.deny, (program,)))
        assert ruling(*lines, policy=denied, level=level) is Ruling.DENY


def test_changing_the_folder_is_judged_by_where_it_leads() -> None:
    def found(folder: str, policy: Policy | None = None) -> Ruling:
        plan = Plan((Pipeline((Command(("cd", folder)),)), Pipeline((Command(("look", "a")),), Operator.AND, folder)))
        run = replace(RUN, level=int(Level.SUGGEST))
        return Gate(policy or Policy(), PROGRAMS).explain(lambda: plan, run=run, root=Path("/app")).verdict.ruling

    assert found("src") is Ruling.ALLOW
    assert found("src", Policy(allow=(("look",),))) is Ruling.ALLOW
    assert found("..") is Ruling.DENY
    assert found("/etc") is Ruling.DENY
    assert found(".git") is Ruling.ASK
    assert found("src", Policy(deny=(("cd",),))) is Ruling.DENY


def test_taint_caps_whatever_the_level() -> None:
    for level in (Level.SUGGEST, Level.SANDBOXED, Level.OPEN):
        assert ruling("look a.txt", level=level, taint=Tier.COLLABORATOR) is Ruling.ALLOW
        assert ruling("build all", level=level, taint=Tier.COLLABORATOR) is Ruling.ASK
        assert ruling("unheard of", level=level, taint=Tier.COLLABORATOR) is Ruling.ASK
        assert ruling("look a.txt", level=level, taint=Tier.PUBLIC) is Ruling.DENY


def test_a_link_is_judged_by_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("KEY=1")
    (tmp_path / "plain.txt").symlink_to(".env")
    (tmp_path / "out.txt").symlink_to("/etc/hostname")

    def follow(path: str) -> str:
        return LocalFiles().resolve(tmp_path, path)

    def found(line: str) -> Ruling:
        return (
            Gate(Policy(), PROGRAMS)
            .explain(lambda: plan_of(line), run=RUN, root=tmp_path, follow=follow)
            .verdict.ruling
        )

    assert found("look plain.txt") is Ruling.ASK
    assert found("look out.txt") is Ruling.DENY
    assert found(f"look {tmp_path}/plain.txt") is Ruling.ASK


def test_in_a_checkout_the_workspace_is_seen_at_its_own_path(tmp_path: Path) -> None:
    gate = Gate(Policy(), PROGRAMS, terms=Terms(Policy(), [Workspace("app", Path("/app"), level=Level.SANDBOXED)]))
    for path, wanted in (("/app/a.txt", Ruling.ALLOW), (f"{tmp_path}/a.txt", Ruling.DENY), ("/app/.env", Ruling.ASK)):
        found = gate.explain(lambda path=path: plan_of(f"look {path}"), run=RUN, root=tmp_path)  # type: ignore[misc]
        assert found.verdict.ruling is wanted, path


class Shell:
    """A tool that runs commands, or breaks."""

    spec = ToolSpec("shell", "Runs.", {})
    permission = Permission.READER
    effect = True

    def __init__(self, read: Callable[[], Plan]) -> None:
        self._read = read

    def paths(self, arguments: JsonObject) -> tuple[str, ...]:
        return ()

    def commands(self, arguments: JsonObject) -> Plan:
        return self._read()


def test_a_tool_that_runs_commands_is_what_they_are() -> None:
    gate = Gate(Policy(), PROGRAMS)

    def classes(*lines: str) -> frozenset[Permission]:
        return gate.classify(Shell(lambda: plan_of(*lines)), {}, run=RUN)  # type: ignore[arg-type]

    assert classes("look a") == {Permission.READER}
    assert classes("look a", "build", "x y") == {Permission.READER, Permission.CONFINED, Permission.UNLISTED}
    assert gate.judge(Shell(lambda: plan_of("build")), {}, run=RUN, root=Path("/app")).ruling is Ruling.ALLOW  # type: ignore[arg-type]
    rule = Policy((Rule(Ruling.DENY, "shell", "", ("build",)), Rule(Ruling.ASK, "write")))
    opinion = Gate(rule, PROGRAMS).judge(Shell(lambda: plan_of("build")), {}, run=RUN, root=Path("/app"))  # type: ignore[arg-type]
    assert (opinion.ruling, opinion.rule) == (Ruling.DENY, "rule deny tool=shell argv=build")


def test_a_line_that_is_not_plain_goes_back_with_its_fix_and_a_fault_of_ours_is_a_refusal() -> None:
    def teach() -> Plan:
        raise ShellFormError("it has a glob", fix="name the files")

    def breaks() -> Plan:
        raise ZeroDivisionError

    gate = Gate(Policy(), PROGRAMS)
    with pytest.raises(ShellFormError):
        gate.judge(Shell(teach), {}, run=RUN, root=Path("/app"))  # type: ignore[arg-type]
    opinion = gate.judge(Shell(breaks), {}, run=RUN, root=Path("/app"))  # type: ignore[arg-type]
    assert opinion.ruling is Ruling.DENY
    told: Explained = gate.explain(teach, run=RUN, root=Path("/app"))
    assert (told.verdict.ruling, told.verdict.rule, told.fix) == (Ruling.DENY, "it has a glob", "name the files")
    assert gate.explain(breaks, run=RUN, root=Path("/app")).verdict.ruling is Ruling.DENY


# What a workspace is granted.


def test_a_runs_level_never_rises_and_falls_at_once() -> None:
    spaces = [Workspace("app", Path("/app"), level=Level.SANDBOXED)]
    terms = Terms(Policy(), spaces)
    for own, counts in ((1, Level.SUGGEST), (2, Level.SANDBOXED), (3, Level.SANDBOXED), (4, Level.SANDBOXED)):
        assert terms.ceiling(replace(RUN, level=own)) is counts
    terms.open("app")
    assert terms.level("app") is Level.OPEN
    assert terms.ceiling(replace(RUN, level=2)) is Level.SANDBOXED
    assert terms.ceiling(replace(RUN, level=4)) is Level.OPEN
    assert terms.close() == ("app",)
    assert terms.ceiling(replace(RUN, level=4)) is Level.SANDBOXED
    with pytest.raises(UsageError, match="root"):
        Terms(Policy(), spaces, superuser=True).open("app")


async def test_a_workspaces_own_file_narrows_once_it_is_trusted_as_it_is_now(tmp_path: Path) -> None:
    space = Workspace("app", tmp_path, level=Level.SANDBOXED)
    terms = Terms(Policy(), [space])
    gate = Gate(Policy(), PROGRAMS, terms=terms)

    async def found(line: str, trusted: bool = True) -> Ruling:
        await terms.look(LocalFiles(), space, trusted=trusted)
        return gate.explain(lambda: plan_of(line), run=RUN, root=tmp_path).verdict.ruling

    file = tmp_path / ".kairos.toml"
    assert await found("build all") is Ruling.ALLOW
    file.write_text('[policy]\ndeny = ["build"]\nsecret_paths = ["notes/**"]\n')
    assert await found("build all", trusted=False) is Ruling.ALLOW
    assert await found("build all") is Ruling.DENY
    assert await found("look notes/a") is Ruling.ASK
    assert await found("look a") is Ruling.ALLOW
    file.unlink()
    assert await found("build all") is Ruling.ALLOW


@pytest.mark.parametrize(
    "content",
    [
        b"[policy",
        b'[policy]\nallow = ["rm"]\n',
        b"\xff",
        b"#" * 70_000,
        b"\n" * 600,
        b"a = " + b"[" * 9000,
        b"a = " + b"1" * 9000,
    ],
)
async def test_where_its_file_is_broken_every_command_asks_and_the_owner_is_told_once_why(
    tmp_path: Path, content: bytes
) -> None:
    space = Workspace("app", tmp_path, level=Level.SANDBOXED)
    (tmp_path / ".kairos.toml").write_bytes(content)
    terms = Terms(Policy(deny=(("change",),)), [space])
    found = await terms.look(LocalFiles(), space, trusted=True)
    gate = Gate(Policy(), PROGRAMS, terms=terms)
    told = gate.explain(lambda: plan_of("look a"), run=RUN, root=tmp_path).verdict
    assert told.ruling is Ruling.ASK
    assert ".kairos.toml" in told.rule
    assert gate.explain(lambda: plan_of("change a"), run=RUN, root=tmp_path).verdict.ruling is Ruling.DENY
    again = await terms.look(LocalFiles(), space, trusted=True)
    assert broken_notice("app", found).key == broken_notice("app", again).key
