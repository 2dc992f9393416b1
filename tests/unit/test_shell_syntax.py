"""Shell lines: what is plain is decoded as bash decodes it, what is not is refused with a way to say it plainly."""

from __future__ import annotations

import contextlib
import time

import pytest

from kairosd.core.shell.characters import MAX_BYTES
from kairosd.core.shell.plans import Command, Operator, Pipeline, Plan, Stream
from kairosd.core.shell.syntax import MAX_COMMANDS, plan_of, read_line
from kairosd.errors import ShellFormError

NULL = Stream.NULL


# What bash makes of them, tests/integration/test_shell_bash.py asks bash itself.

PLAIN = [
    "ls",
    "ab 'c d' \"e\\\"f\" g'h'\"i\" \\j k\\ l '' \"\" x''y",
    r'ab "\a \\ \$HOME \`c\` \n" \n \\ \$',
    "ab 'x\ny' \"x\ny\"",
    "ab a=b --c=d @{u} {} a{b}c",
    "ab a# #b",
    "ab '#' # c ' \" $(x)\nfa # d",
    "# c\n\nab\n\n# d\n",
    'ab "x$" y$ "a$|b$" "$)"',
    "ab ! -x hi! \"a!b\" 'a!b'",
    "ab = == a== HEAD^ HEAD~1 ^x %d a~",
    "ab || fa && ba",
    "fa || ab && ba; fa && ab || ba",
    "fa && ab\nba",
    "ab | fa && ba",
    "ab |\nba &&\nab ||\n\nba",
    "fa | ab && ba;",
    "ab|ba&&ab||ba;ab",
    "ab >/dev/null 2>&1",
    "ab 2>&1 >/dev/null",
    "ab >&2 2>&1",
    "ab 2>&1 >&2",
    "ab >&2 2>/dev/null | ba",
    "2>/dev/null ab x </dev/null y",
    "ab 2>&1 x | ba >/dev/null |& ab",
    "ab >/dev/null |& ba",
    "ab &>/dev/null; ba <in; ab 0<in",
    "ab 2 >/dev/null 2",
    "ab x2>/dev/null",
    "cd a && ab; ba",
    "cd missing && ab; ba",
    "cd a && cd b && ab | ba && cd .. && ab",
    "ab; cd a/../a 2>/dev/null && ab <in",
    "fa && cd a && ab",
    "[ -f ab ] && [ ! -e x ] || [ a = 'b c' ]",
    "ab é 'ö' \"ü\" \\ß",
]


def test_a_plan_holds_argvs_streams_and_folders() -> None:
    assert read_line("cd 'a b' && grep -n \"x y\" *\\.c".replace("*", "")) == Plan(
        (
            Pipeline((Command(("cd", "a b")),)),
            Pipeline((Command(("grep", "-n", "x y", ".c")),), Operator.AND, "a b"),
        )
    )
    assert read_line("a 2>&1 >/dev/null < f").pipelines[0].commands == (Command(("a",), "f", NULL, Stream.STDOUT),)
    assert read_line("a >/dev/null 2>&1").pipelines[0].commands == (Command(("a",), "", NULL, NULL),)


@pytest.mark.parametrize(
    ("line", "cwd"),
    [
        ("cd a && cd ../b && x", "b"),
        ("cd ./a// && x", "a"),
        ("cd .. && x", ".."),
        ("cd a && cd ../.. && x", ".."),
        ("cd /etc && x", "/etc"),
        ("cd /etc && cd a && x", "/etc/a"),
        ("cd '~' && x", "~"),
    ],
)
def test_a_folder_is_given_relative_to_the_root_or_as_it_was_said(line: str, cwd: str) -> None:
    assert read_line(line).pipelines[-1].cwd == cwd


@pytest.mark.parametrize("line", PLAIN)
def test_a_plans_text_means_the_plan(line: str) -> None:
    plan = read_line(line)
    if "$'" not in plan.text():  # how what cannot be printed is shown
        assert read_line(plan.text()) == plan


# Refusals: line, a part of the rule, a part of the fix

REFUSED = [
    ("", "no command", ""),
    ("# only", "no command", ""),
    ("a\rb", "U+000D", "newline"),
    ("a\x1b[2K", "U+001B", ""),
    ("a\x00", "U+0000", ""),
    ("a \u202eb", "U+202E", ""),
    ("a \u200bb", "U+200B", ""),
    ("a\u00a0b", "U+00A0", ""),
    ("a\u2028b", "U+2028", ""),
    ("a \u3164", "U+3164", ""),
    ("a \ufe0f", "U+FE0F", ""),
    ("a \U000e0041", "U+E0041", ""),
    ("a \udc80", "U+DC80", ""),
    ("a \x7f\x85", "U+007F", ""),
    ("a " + "b" * MAX_BYTES, "8192 bytes", "tool write"),
    ("a " + "é" * (MAX_BYTES // 2), "8192 bytes", "tool write"),
    ("a;" * MAX_COMMANDS + "a", "20 commands", "several"),
    ("a |" * MAX_COMMANDS + "a", "20 commands", "several"),
    ("a \\\n && b", "backslash", "run: a  && b"),
    ("a 'x\\\ny'", "backslash", "one line"),
    ("a $x", "`$x` is a variable", "relative"),
    ('a "${x:-$(b)}"', "variable", ""),
    ("a $1 $@", "variable", ""),
    ("a; echo $?", "`$?`", "run: a"),
    ('a && echo "exit: $?"', "`$?`", "run: a"),
    ("a $(b c)", "inside a command", "run `b c` first"),
    ('a "`b`"', "inside a command", "run `b` first"),
    ("a $((1+1))", "computed", "result"),
    ("((a))", "computed", ""),
    ("a $'x'", "`$'` quoting", "'...'"),
    ('a $"x"', '`$"` quoting', "'...'"),
    ("a 'x", "without its partner", "close"),
    ('a "x', "without its partner", "close"),
    ("a\\", "backslash at the end", ""),
    ("ls *.py", "expanded", "run: find . -maxdepth 1 -name '*.py'"),
    ("ls src/*.py | wc -l", "expanded", "run: find src -maxdepth 1 -name '*.py' | wc -l"),
    ("cat a?.txt", "expanded", "find . -maxdepth 1 -name 'a?.txt'"),
    ("a b[0]", "expanded", ""),
    ("l* x", "expanded", ""),
    ("/*/*/to[u]ch x", "expanded", ""),
    ("find . -name *.py", "expanded", "run: find . -name '*.py'"),
    ("rg -g *.py x", "expanded", "run: rg -g '*.py' x"),
    ("grep -r --include=*.py x", "expanded", "run: grep -r --include='*.py' x"),
    ("pytest t.py::t[a]", "expanded", "run: pytest 't.py::t[a]'"),
    ("a @(b|c)", "`(` outside quotes", ""),
    ("cat {a,b}.txt", "braces", "run: cat a.txt b.txt"),
    ("a {1..3}", "braces", ""),
    ("git log @{u}..HEAD", "braces", "run: git log '@{u}..HEAD'"),
    ("a ~", "`~`", "relative"),
    ("a ~/x b=~ c:~", "`~`", "relative"),
    ("a b=~/c", "`~`", "relative"),
    ("a !x", "`!`", "run: a '!x'"),
    ("a x!y", "`!`", "run: a 'x!y'"),
    ("a =b", "begins with `=`", "run: a '=b'"),
    ("=a b", "cannot be a command's name", ""),
    ("%1", "cannot be a command's name", ""),
    ("'' a", "name of the command is empty", ""),
    ("CI=1 a b", "`CI=`", "run: a b"),
    ("A=1 B='x y' a", "`A=`", "run: a"),
    ("A+=1 a", "`A=`", "run: a"),
    ("A=1; b", "`A=`", "run: b"),
    ("A=(b c)", "`A=`", "fixed environment"),
    ("A[0]=1 b", "`A[0]=`", ""),
    ("</dev/null A=1 b", "`A=`", ""),
    ("a\\=b c", "cannot be a command's name", ""),
    ("a & b", "`&`", "run: a; b"),
    ("a &", "`&`", "run: a"),
    ("a && & b", "missing in front of `&`", ""),
    ("a &&& b", "missing in front of `&`", ""),
    ("a &&", "missing at the end", ""),
    ("a |", "missing at the end", ""),
    ("; a", "missing in front of `;`", ""),
    ("a;\n;b", "missing in front of `;`", ""),
    ("a | | b", "missing in front of `|`", ""),
    ("a\n&& b", "missing in front of `&&`", ""),
    ("a;;b", "`;;`", ""),
    ("(a; b)", "subshell", "run: a; b"),
    ("a; (b)", "subshell", ""),
    ("f() { a; }", "function", ""),
    (":(){ :|:& };:", "function", ""),
    ("{ a; b; }", "`{`", "run: a; b"),
    ("if a; then b; fi", "`if`", "TEST && COMMAND"),
    ("for f in *; do a $f; done", "`for`", "one call per file"),
    ("a; while b; do c; done", "`while`", ""),
    ("a | until b; do c; done", "`until`", ""),
    ("case a in b) c;; esac", "`case`", ""),
    ("select a in b; do c; done", "`select`", ""),
    ("coproc a", "`coproc`", ""),
    ("function f { a; }", "`function`", ""),
    ("time a b", "`time`", "run: a b"),
    ("time -p a", "`time`", "run: a"),
    ("! a", "`!`", "exit code"),
    ("[[ -f a ]] && b", "`[[`", "run: [ -f a ] && b"),
    ("[[ a == b* ]]", "`[[`", ""),
    ("eval 'a'", "`eval`", ""),
    ("'ev'al a", "`eval`", ""),
    ("exec a b", "`exec`", "run: a b"),
    ("command a b", "`command`", "run: a b"),
    ("command -v a", "`command`", ""),
    ("builtin a", "`builtin`", "run: a"),
    ("source .venv/bin/activate && pytest -q", "`source`", "run: .venv/bin/pytest -q"),
    (". ./x", "`.`", ""),
    ("export A=1 B='c d' && e", "`export`", "run: e"),
    ("set -euo pipefail\na", "`set`", "run: a"),
    ("trap 'a' EXIT; b", "`trap`", ""),
    ("a || :", "`:`", "run: a || true"),
    ("enable -f x a", "`enable`", ""),
    ("kill 1", "`kill`", ""),
    ("a > b", "redirect into a file", "tool write"),
    ("a >> b", "redirect into a file", "tool write"),
    ("a >| b", "redirect into a file", "tool write"),
    ("a 2> b", "redirect into a file", "captured anyway"),
    ("a &> b", "redirect into a file", "captured anyway"),
    ("a &>> b", "redirect into a file", "captured anyway"),
    ("> b", "redirect into a file", "tool write"),
    (">/dev/null", "redirect without a command", ""),
    ("a >", "redirect without its file", ""),
    ("a > > b", "redirect without its file", ""),
    ("a > # b", "redirect without its file", ""),
    ("a <> b", "`<>`", ""),
    ("a 1<> b", "`<>`", ""),
    ("a << E\nx\nE", "here-document", "tool write"),
    ("a <<-E\nE", "here-document", "tool write"),
    ("a <<< b", "here-string", "printf"),
    ("a <(b)", "process substitution", ""),
    ("a < <(b)", "process substitution", ""),
    ("a > >(b)", "process substitution", ""),
    ("a <&0", "`<&", ""),
    ("a >&-", "`>&-`", ""),
    ("a >&2-", "`>&2-`", ""),
    ("a >& b", "`>&b`", ""),
    ("a 3>/dev/null", "`3>/dev/null`", ""),
    ("a 02>/dev/null", "`02>/dev/null`", ""),
    ("a 12>&1", "`12>&1`", ""),
    ("a {b}>/dev/null", "variable as its number", ""),
    ("a 2>&1 2>/dev/null", "twice", ""),
    ("a &>/dev/null 2>&1", "twice", ""),
    ("a <b <c", "twice", ""),
    ("a < /dev/tcp/h/1", "no file", ""),
    ("a < $x", "variable", ""),
    ("a < b*", "expanded", ""),
    ("cd", "cd takes one folder", ""),
    ("cd -", "cd takes one folder", ""),
    ("cd -P a", "cd takes one folder", ""),
    ("cd a b", "cd takes one folder", ""),
    ("cd '' && a", "cd takes one folder", ""),
    ("cd a | b", "pipe", ""),
    ("a | cd b", "pipe", ""),
    ("cd a; b", "a cd that fails", "run: cd a && b"),
    ("cd a\nb; c", "a cd that fails", "run: cd a && b; c"),
    ("cd a # x\nb", "a cd that fails", "run: cd a && b"),
    ("cd a || b", "not certain", ""),
    ("a || cd b && c", "not certain", ""),
    ("cd a && b || c", "not certain", ""),
    ("a && cd b && c; d", "not certain", ""),
    ("cd a && git status", "git runs at", "run: git status"),
    ("cd a && /usr/bin/git log -- x", "git runs at", "from the workspace's root"),
    ("a \\\tb", "two ways", "run: a '\tb'"),
    ('a "x$ y"', "two ways", "run: a 'x$ y'"),
]


@pytest.mark.parametrize(("line", "rule", "fix"), REFUSED)
def test_what_is_not_plain_is_refused_and_a_given_line_is_plain(line: str, rule: str, fix: str) -> None:
    with pytest.raises(ShellFormError) as refusal:
        read_line(line)
    assert rule in refusal.value.message
    assert fix in (refusal.value.fix or "")
    rewritten = (refusal.value.fix or "").partition("run: ")[2]
    if rewritten:
        read_line(rewritten)


def test_a_rewrite_takes_several_steps_where_it_has_to() -> None:
    with pytest.raises(ShellFormError) as refusal:
        read_line("set -e; CI=1 time pytest -q tests/t.py::t[a] &")
    assert (refusal.value.fix or "").endswith("; run: pytest -q 'tests/t.py::t[a]'")


@pytest.mark.parametrize(
    "line",
    ["{ " + " " * 8000, "a $?" + "\n" * 8000, "a" + " " * 8000 + "$?", "a {" + "," * 8000, "a " + "x~" * 4000]
    + ["export" + " A=" * 2600, "a" + ";echo " * 1300 + "$?", "(" * 8000, "a " + "{" * 8000, "a " + "1 " * 4000],
)
def test_no_line_takes_long_to_read(line: str) -> None:
    started = time.process_time()
    with contextlib.suppress(ShellFormError):
        read_line(line)
    assert time.process_time() - started < 0.4


def test_an_argv_is_one_program_with_these_words() -> None:
    argv = ["bash", "-c", "a 'b'\n$(c) > d"]
    assert plan_of(argv) == Plan((Pipeline((Command(tuple(argv)),)),))


@pytest.mark.parametrize(
    "argv",
    [[], [""], ["eval", "x"], ["cd", "x"], ["if"], ["A=1", "b"], ["a", "\x1b"], ["a", "\r"], ["a", "\u202e"]]
    + [["a", "b" * MAX_BYTES], ["a\x00b"], ["a", "\ud800"]],
)
def test_an_argv_that_no_program_could_be_given_is_refused(argv: list[str]) -> None:
    with pytest.raises(ShellFormError):
        plan_of(argv)


@pytest.mark.parametrize("line", ["%1", "%{", "ab \n%{", "ab && %{x", "%*"])
def test_a_job_of_the_shell_is_no_commands_name(line: str) -> None:
    with pytest.raises(ShellFormError, match="cannot be a command's name"):
        read_line(line)
