"""Verdicts on commands: rules only narrow, paths stay inside, and a denied program is found in any disguise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.phrases import phrases

from kairosd.core.levels import Opinion, Permission, Ruling
from kairosd.core.policy import Policy, Rule, worst
from kairosd.core.shell.plans import Command, Plan
from kairosd.core.shell.programs import read_use
from kairosd.core.shell.syntax import plan_of, read_line
from kairosd.core.shell.verdicts import Place, allowed_by_owner, judge_command, permission_of
from kairosd.errors import ShellFormError
from kairosd.programs import load_programs
from kairosd.system.files import LocalFiles

quick = settings(max_examples=80, deadline=None)
DEFAULT = Policy()
ALLOW, ASK, DENY = Ruling.ALLOW, Ruling.ASK, Ruling.DENY
LINKS = {"out": "/home/u", "up": "../..", "in": "src/a.py", "env": ".env", "far": "a/b/c", "abs": "/ws/src"}


def _follow(path: str) -> str:
    """A few links, followed as the first part of a path."""
    first, slash, rest = path.partition("/")
    return f"{LINKS[first]}{slash}{rest}" if first in LINKS else path


def _judge(
    plan: Plan, policy: Policy = DEFAULT, *, follow: Callable[[str], str] = _follow, bins: tuple[str, ...] = ()
) -> Opinion:
    opinions: list[Opinion] = []
    for command, cwd in plan.commands:
        use = read_use(command, load_programs(), bins=bins)
        opinions += judge_command(policy, command, use=use, place=Place("/ws", cwd, follow))
    return worst(opinions)


def _line(line: str, policy: Policy = DEFAULT, *, bins: tuple[str, ...] = ()) -> Ruling:
    return _judge(read_line(line), policy, bins=bins).ruling


@pytest.mark.parametrize(
    ("line", "ruling"),
    [
        ("cat a.txt", ALLOW),
        ("cat /ws/a.txt", ALLOW),
        ("cat ./src/../a.txt", ALLOW),
        ("cat -", ALLOW),
        ("cat /dev/null", ALLOW),
        ("cat < a.txt", ALLOW),
        ("ls /ws", ALLOW),
        ("ls /ws/", ALLOW),
        ("cat in", ALLOW),
        ("cat abs/a.py", ALLOW),
        ("cat far/../x", ALLOW),
        ("cat /etc/passwd", DENY),
        ("cat ../x", DENY),
        ("cat src/../../x", DENY),
        ("cat /ws/../etc/passwd", DENY),
        ("cat /wsx/a", DENY),
        ("cat //etc/passwd", DENY),
        ("cat /proc/self/environ", DENY),
        ("cat /dev/stdin", DENY),
        ("cat /", DENY),
        ("ls ..", DENY),
        ("cat < /etc/passwd", DENY),
        ("cat < ../x", DENY),
        ("cat out", DENY),
        ("cat out/.ssh/id_rsa", DENY),
        ("cat out/../x", DENY),
        ("cat up/x", DENY),
        ("cd src && cat ../../x", DENY),
        ("cd src && cat ../a.txt", ALLOW),
        ("cd /ws/src && cat a.py ../a.txt", ALLOW),
        ("cd /ws/src && cat ../../x", DENY),
        ("cd /ws && git status", ALLOW),
        ("cd /ws/src && git status", DENY),
        ("cd /home/u && ls", DENY),
        ("cd out && ls", DENY),
        ("cd .. && ls", DENY),
        ("cd / && ls", DENY),
        ("grep -r x /home/u", DENY),
        ("grep -f /etc/passwd a", DENY),
        ("rg -f /etc/passwd x", DENY),
        ("find / -name x", DENY),
        ("find . -newer /etc/passwd", DENY),
        ("test -f /etc/passwd", DENY),
        ("git diff --stat /etc/passwd /etc/group", DENY),
        ("git log -- /etc", DENY),
        ("git -C /etc log", DENY),
        ("cat .env", ASK),
        ("cat env", ASK),
        ("cat config/.env.local", ASK),
        ("cat server.pem", ASK),
        ("cat < .env", ASK),
        ("grep x .ENV", ASK),
        ("cd .ssh && ls", ASK),
        ("cat .git/config", ASK),
        ("ls .git", ASK),
        ("grep -r url .git", ASK),
        ("git show -s HEAD:.env", ASK),
        ("grep -r x .", ALLOW),
        ("rg --hidden x", ALLOW),
        ("cat .gitignore", ALLOW),
        ("cat .github/workflows/ci.yml", ALLOW),
        ("touch a.txt", ALLOW),
        ("touch .github/workflows/ci.yml", ASK),
        ("cp a.txt .git/hooks/post-commit", ASK),
        ("cp .git/config x", ASK),
        ("cp a.txt /etc/x", DENY),
        ("cp /etc/passwd x", DENY),
        ("mv a.txt out/x", DENY),
        ("tee AGENTS.md", ASK),
        ("rm -rf build", ALLOW),
        ("rm -rf .git", ASK),
        ("rm -rf .", DENY),
        ("rm -rf ./", DENY),
        ("rm -rf /ws", DENY),
        ("rm -rf /ws/", DENY),
        ("rm -rf src/..", DENY),
        ("cd src && rm -rf ..", DENY),
        ("rm -rf /", DENY),
        ("rm -rf /home", DENY),
        ("rm -rf /home/u", DENY),
        ("rm -rf ..", DENY),
        ("rm -r -- /ws", DENY),
        ("sudo rm -rf /", DENY),
        ("env rm -rf /ws/..", ASK),
        ("bash -c 'rm -rf ~'", DENY),
        ("bash -c 'rm -rf $HOME/'", DENY),
        ("bash -c 'ls'", ASK),
        ("bash -c 'rm -rf ./build'", ASK),
        ("bash -c 'rm -rf build; ls'", ASK),
        ("bash -c 'cd x;rm -rf /ws;ls'", DENY),
        ("sudo rm -rf /ws/", DENY),
        ("bash -c 'rm -rf /*'", DENY),
        ("bash -c \"rm -rf '/'\"", DENY),
        ("find . -exec rm -rf .. ';'", DENY),
        ("find . -exec rm {} ';'", ASK),
        ("bash -c 'rm -rf ./'", DENY),
        ("awk /x/ a.txt", ASK),
        ("make", ALLOW),
        ("make -C ..", DENY),
        ("python -m pytest ../x", DENY),
        ("python /tmp/x.py", DENY),
        ("curl http://x", ASK),
        ("./run.sh", ASK),
        ("git diff", DENY),
        ("git push", DENY),
        ("git fetch", ASK),
        ("cd src && git status", DENY),
    ],
)
def test_paths_and_lists(line: str, ruling: Ruling) -> None:
    try:
        plan = read_line(line)
    except ShellFormError:
        assert ruling is DENY
        return
    assert _judge(plan).ruling is ruling


def test_real_links_are_followed_as_the_kernel_would(tmp_path: Path) -> None:
    root = tmp_path / "ws"
    (root / "a" / "b").mkdir(parents=True)
    (root / "x").write_text("x")
    for name, target in [
        ("out", "/etc"),
        ("deep", "a/b"),
        ("up", "../.."),
        ("absolute", str(root / "a")),
        ("loop", "loop"),
    ]:
        (root / name).symlink_to(target)
    (root / "a" / "b" / "secret").symlink_to("../../../home")

    def ruling(*argv: str) -> Ruling:
        place = Place(str(root), ".", lambda path: LocalFiles().resolve(root, path))
        command = Command(argv)
        return worst(judge_command(Policy(), command, use=read_use(command, load_programs()), place=place)).ruling

    assert ruling("cat", "x") is ALLOW
    assert ruling("ls", "deep") is ALLOW
    assert ruling("ls", "absolute/b") is ALLOW
    assert ruling("cat", "deep/../../x") is ALLOW
    assert ruling("cat", "deep/../../../x") is DENY
    assert ruling("cat", "out/passwd") is DENY
    assert ruling("cat", "out/../x") is DENY
    assert ruling("cat", "up/x") is DENY
    assert ruling("cat", "deep/secret") is DENY
    assert ruling("rm", "-rf", "deep/../..") is DENY


def test_allow_replaces_the_list_and_compares_whole_words() -> None:
    policy = Policy(allow=(("git", "log"), ("ls",), ("mytool",), ("./run.sh",)))
    assert _line("git log -3", policy) is ALLOW
    assert _line("/usr/bin/git log", policy) is ALLOW
    assert _line("ls src", policy) is ALLOW
    assert _line("cd src && ls", policy) is ALLOW
    assert _line("mytool --anything", policy) is ALLOW
    assert _line("./run.sh", policy) is ALLOW
    assert _line("cd src && ./run.sh", policy) is ASK
    for line in (
        "git status",
        "git log-evil",
        "git --no-pager log",
        "cat a",
        "lsof",
        "./ls",
        "/ws/evil/ls",
        "/ws/mytool",
    ):
        assert _line(line, policy) is ASK, line
    assert _line("git log --output=x", policy) is ASK
    assert _line("git log -p", policy) is DENY
    for opaque in ("env ls", "bash -c ls", "python -c 1", "find . -exec ls"):
        prefix = tuple(opaque.split()[:1])
        assert _line(opaque, Policy(allow=(prefix, ("bash",), ("python", "-c")))) is ASK, opaque


def test_a_program_of_a_folder_the_owner_vouches_for_is_listed() -> None:
    policy = Policy(allow=(("pytest",),))
    assert _line(".venv/bin/pytest -q", policy, bins=(".venv/bin",)) is ALLOW
    assert _line(".venv/bin/pytest -q", policy) is ASK
    assert _line("cd sub && .venv/bin/pytest -q", policy, bins=(".venv/bin",)) is ASK
    assert _line("/usr/bin/pytest -q", policy) is ALLOW


@pytest.mark.parametrize(
    "line",
    [
        "rm x",
        "/usr/bin/rm x",
        "/bin/rm x",
        "./rm x",
        "evil/rm x",
        "env rm x",
        "env A=b /bin/rm x",
        "sudo -n rm x",
        "timeout 5 rm x",
        "xargs rm",
        "bash -c 'ls; rm x'",
        "bash -c 'ls;rm x'",
        "bash -c '(rm x)'",
        "sh -c '/bin/rm x'",
        "find . -exec rm {} +",
        "mywrapper rm x",
        "python -c 'import os; os.system(\"rm x\")'",
        "env -S 'rm x'",
        "ls | xargs -n1 rm",
        "git push",
        "git push origin main",
        "git --no-pager push",
        "git -C x push",
        "bash -c 'git push'",
        "pytest -q",
        "python -m pytest -q",
        "uv run pytest",
        "uv run python -m pytest",
        "sort --output=x a",
        "uv run python x.py",
        "python3.11 -m pytest",
        "curl -sS -f x",
        "curl -fsS x",
    ],
)
def test_a_denied_program_is_denied_in_every_disguise(line: str) -> None:
    policy = Policy(deny=(("rm",), ("git", "push"), ("pytest",), ("curl", "-f"), ("sort", "--output"), ("python",)))
    assert _line(line, policy) is DENY
    as_rules = Policy(rules=tuple(Rule(DENY, argv=prefix) for prefix in policy.deny))
    assert _line(line, as_rules) is DENY
    asked = Policy(ask=policy.deny)
    assert _line(line, asked) is not ALLOW


@pytest.mark.parametrize(
    "line", ["ls rm", "grep rm a", "echo rm", "git log", "git status", "cat pytest", "grep push git"]
)
def test_a_denied_name_as_a_mere_word_is_none_of_it(line: str) -> None:
    assert _line(line, Policy(deny=(("rm",), ("git", "push"), ("pytest",)))) is ALLOW


def test_rules_name_tools_paths_and_commands() -> None:
    assert _line("cat src/a.py", Policy(rules=(Rule(DENY, path="src/**"),))) is DENY
    assert _line("cat a.py", Policy(rules=(Rule(DENY, path="src/**"),))) is ALLOW
    assert _line("cat in", Policy(rules=(Rule(DENY, path="src/**"),))) is DENY
    assert _line("cat a.py", Policy(rules=(Rule(DENY, tool="shell"),))) is DENY
    assert _line("cat a.py", Policy(rules=(Rule(DENY, tool="write"),))) is ALLOW
    assert _line("cat a.py", Policy(rules=(Rule(ASK, argv=("cat",), path="*.py"),))) is ASK
    assert _line("cat a.md", Policy(rules=(Rule(ASK, argv=("cat",), path="*.py"),))) is ALLOW
    assert _line("mytool", Policy(rules=(Rule(ALLOW, argv=("mytool",)),))) is ALLOW
    assert _line("mytool", Policy(rules=(Rule(ALLOW, tool="read", argv=("mytool",)),))) is ASK


@pytest.mark.parametrize(
    ("line", "permission"),
    [
        ("ls", Permission.READER),
        ("make", Permission.CONFINED),
        ("rm x", Permission.EFFECT),
        ("ruff check --fix", Permission.EFFECT),
        ("bash -c x", Permission.UNLISTED),
        ("ls --colo", Permission.UNLISTED),
        ("mytool", Permission.CONFINED),
        ("othertool", Permission.UNLISTED),
        ("./run.sh", Permission.CONFINED),
        ("./other.sh", Permission.UNLISTED),
    ],
)
def test_the_permission_a_command_needs(line: str, permission: Permission) -> None:
    policy = Policy(allow=(("mytool",), ("./run.sh",), ("bash",)))
    ((command, _),) = read_line(line).commands
    use = read_use(command, load_programs())
    assert permission_of(use, allowed_by_owner(policy, command, use=use)) is permission


words = (
    "ls", "cat", "rm", "git", "log", "push", "env", "bash", "-c", "-r", "-rf", "--", "a.txt", "../x", "/etc", "find",
    ".", "-exec", "python", "-m", "pytest", "xargs", "sudo", "rm x", "ls; rm x", "/bin/rm", "./rm", "timeout", "5",
)  # fmt: skip
argvs = phrases(words, most=6).map(list)
prefixes = phrases(words, most=2)
policies = st.builds(
    Policy,
    allow=st.none() | st.lists(prefixes, max_size=2).map(tuple),
    ask=st.lists(prefixes, max_size=2).map(tuple),
    deny=st.lists(prefixes, max_size=2).map(tuple),
)


def _verdict(argv: list[str], policy: Policy) -> Ruling:
    return _judge(plan_of(argv), policy).ruling


@quick
@given(argvs, policies, prefixes, st.sampled_from([ASK, DENY]))
def test_one_prefix_or_rule_more_never_widens(
    argv: list[str], policy: Policy, more: tuple[str, ...], ruling: Ruling
) -> None:
    try:
        before = _verdict(argv, policy)
    except ShellFormError:
        return
    field = "deny" if ruling is DENY else "ask"
    listed = replace(policy, **{field: (*getattr(policy, field), more)})
    assert _verdict(argv, listed) >= before
    assert _verdict(argv, replace(policy, rules=(Rule(ruling, argv=more),))) >= before


@quick
@given(argvs, policies)
def test_an_allow_list_never_widens_what_a_program_may_be_told(argv: list[str], policy: Policy) -> None:
    try:
        plan = plan_of(argv)
    except ShellFormError:
        return
    ((command, _),) = plan.commands
    use = read_use(command, load_programs())
    if use is not None and (use.opaque or (use.problem and use.listed)):
        assert _judge(plan, policy).ruling is not ALLOW


DISGUISES = (
    "rm x", "/bin/rm x", "/usr/bin/rm x", "r''m x", 'r"m" x', "\\rm x", "$'rm' x", "$'\\x72m' x", "env rm x",
    "ls && rm x", "ls; rm x", "ls | rm x", "ls\nrm x", "ls || rm x", "bash -c 'rm x'", "find . -exec rm x ';'",
    "$(rm x)", "`rm x`",
    "ls & rm x", "(rm x)", "{ rm x; }", "! rm x", "if rm x; then ls; fi", "A=b rm x", "time rm x", "command rm x",
    "exec rm x", "eval rm x", "sudo rm x", "xargs rm", "cat <(rm x)", "echo \"$(rm x)\"", "rm\tx", "rm x # y",
    "r\\\nm x",
)  # fmt: skip


@quick
@given(
    st.sampled_from(["", "ls; ", "cat a.txt && ", "echo 'a' | ", "git log\n", "false || "]),
    st.sampled_from(DISGUISES),
    st.sampled_from(["", "; ls", " && ls", " | cat", " 2>/dev/null", "\nls", " # x"]),
)
def test_no_line_with_a_denied_program_as_a_command_is_allowed(before: str, disguise: str, after: str) -> None:
    try:
        plan = read_line(before + disguise + after)
    except ShellFormError:
        return
    assert _judge(plan, Policy(deny=(("rm",),))).ruling is DENY
