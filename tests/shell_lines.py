"""Shell lines for the tests that compare our reading with bash's and with shfmt's, and what bash does with them."""

from __future__ import annotations

import os
import posixpath
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from kairosd.core.shell.plans import Command, Operator, Pipeline, Plan, Stream

# KAIROS_EXAMPLES=2000 searches longer than an ordinary run of the tests can.
EXAMPLES = int(os.environ.get("KAIROS_EXAMPLES", "0"))

Executed = tuple[str, str, tuple[str, ...]]  # folder, streams as letters, argv

# Stands in for every program: says where it runs, where its three streams lead, and its exact arguments. Names that
# begin with "f" fail, so that && and || can be watched. printf is the only builtin it needs.
_DUMPER = r"""
enable -n echo test [ pwd true false kill
command_not_found_handle() {
    local fds="" fd
    for fd in 0 1 2; do
        if [[ /dev/fd/$fd -ef /dev/null ]]; then fds+=n
        elif [[ /dev/fd/$fd -ef $OUT ]]; then fds+=o
        elif [[ /dev/fd/$fd -ef $ERR ]]; then fds+=e
        elif [[ /dev/fd/$fd -ef $IN ]]; then fds+=i
        elif [[ -p /dev/fd/$fd ]]; then fds+=p
        else fds+=x; fi
    done
    printf '%s\0' "$#" "$PWD" "$fds" "$@" >>"$RECORD"
    [[ $1 != f* ]]
}
"""


@dataclass(frozen=True)
class Bash:
    """A folder `root/` in which real bash runs lines, with a dumper in place of every program."""

    home: Path

    @property
    def root(self) -> Path:
        return self.home / "root"

    @classmethod
    def make(cls, home: Path) -> Bash:
        (home / "root" / "a" / "b").mkdir(parents=True)
        (home / "dumper").write_text(_DUMPER)
        for name in ("in", "a/in", "a/b/in"):
            (home / "root" / name).write_text("text")
        return cls(home)

    def run(self, line: str) -> list[Executed]:
        """Every program bash started for the line, in the order of their pipelines."""
        out, err, record = (self.home / name for name in ("out", "err", "record"))
        record.write_bytes(b"")
        environment = {
            "BASH_ENV": str(self.home / "dumper"),
            "PATH": str(self.home / "nothing"),
            "HOME": str(self.home / "elsewhere"),
            "RECORD": str(record),
            "OUT": str(out),
            "ERR": str(err),
            "IN": str(self.home / "stdin"),
            "LC_ALL": "C.UTF-8",
        }
        (self.home / "stdin").write_text("")
        with out.open("wb") as stdout, err.open("wb") as stderr, (self.home / "stdin").open("rb") as stdin:
            subprocess.run(
                ["/bin/bash", "--norc", "-c", line],
                cwd=self.root,
                env=environment,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                check=False,
                timeout=20,
            )
        return self._records(record.read_bytes())

    def _records(self, raw: bytes) -> list[Executed]:
        fields = raw.decode("utf-8", "surrogateescape").split("\0")[:-1]
        found: list[Executed] = []
        while fields:
            count = int(fields[0])
            folder, streams, *argv = fields[1 : 3 + count]
            found.append((folder, streams, tuple(argv)))
            fields = fields[3 + count :]
        return found

    def expected(self, plan: Plan) -> tuple[list[list[Executed]], bool]:
        """What a plan says bash will start, one list per pipeline that is reached; and whether a cd failed there.

        A cd that fails ends a plan. Bash would go on behind the next `;`, in the folder that was to be left.
        """
        groups: list[list[Executed]] = []
        status = 0
        for pipeline in plan.pipelines:
            if (pipeline.operator is Operator.AND and status) or (pipeline.operator is Operator.OR and not status):
                continue
            last = pipeline.commands[-1]
            if last.argv[0] == "cd":
                if not (self.root / pipeline.cwd / last.argv[1]).is_dir():
                    return groups, True
                status = 0
                continue
            started = [self._executed(pipeline, place) for place in range(len(pipeline.commands))]
            groups.append([one for one in started if one[1]])
            status = int(last.argv[0].startswith("f") or not self._has_input(last, pipeline.cwd))
        return groups, False

    def _has_input(self, command: Command, cwd: str) -> bool:
        return not command.stdin or (self.root / cwd / command.stdin).exists()

    def _executed(self, pipeline: Pipeline, place: int) -> Executed:
        command = pipeline.commands[place]
        own = "o" if place == len(pipeline.commands) - 1 else "p"
        stdin = "i" if place == 0 else "p"
        if command.stdin:
            stdin = "n" if command.stdin == "/dev/null" else "x"
        stdout = {Stream.OWN: own, Stream.NULL: "n", Stream.STDERR: "e"}[command.stdout]
        stderr = {Stream.OWN: "e", Stream.NULL: "n", Stream.STDOUT: own}[command.stderr]
        streams = stdin + stdout + stderr if self._has_input(command, pipeline.cwd) else ""
        return posixpath.normpath(posixpath.join(str(self.root), pipeline.cwd)), streams, command.argv


def grouped(executed: Sequence[Executed], groups: Sequence[Sequence[Executed]]) -> list[list[Executed]]:
    """The programs bash started, cut where the plan's pipelines end: within one pipeline they start in any order."""
    rest = list(executed)
    found: list[list[Executed]] = []
    for group in groups:
        found.append(sorted(rest[: len(group)]))
        rest = rest[len(group) :]
    return [group for group in (*found, sorted(rest)) if group]


_CHARS = "abf2 \t\n'\"\\$`*?[]{}~!#=<>|&;(),.:-%@^+/é"
_plain = st.text("abfé2.-_/:,@%+^={}]#~!", min_size=1, max_size=5)
_inner = st.text(_CHARS, max_size=6)


def _double(text: str) -> str:
    return '"' + "".join(f"\\{char}" if char in '$`"\\' else char for char in text) + '"'


_pieces = st.one_of(
    _plain,
    _inner.filter(lambda text: "'" not in text).map(lambda text: f"'{text}'"),
    _inner.map(_double),
    _inner.filter(lambda text: not set('"$`') & set(text)).map(lambda text: f'"{text}"'),
    st.sampled_from([f"\\{char}" for char in _CHARS if char != "\n"]),
    st.sampled_from(["''", '""', "{}", "$", "a=b", "2", "!", "[", "]", "=", "--x=y", '"x$"', "foo$", "@{u}"]),
)
_words = st.lists(_pieces, min_size=1, max_size=3).map("".join)
_names = st.sampled_from(["ab", "fail", "'b'a", "f\\a", '"a"f', "[", "echo", "test"]) | _words.filter(
    lambda text: "a" in text
)
_redirects = st.sampled_from(
    [">/dev/null", "2>/dev/null", "&>/dev/null", "2>&1", ">&2", "1>&2", "</dev/null", "< in", "<'in'", "> /dev/null"]
    + ["2> /dev/null", "1>/dev/null", "0<in", "2>& 1"]
)
_blanks = st.sampled_from([" ", "  ", "\t", " "])


@st.composite
def _commands(draw: st.DrawFn) -> str:
    if draw(st.integers(0, 9)) == 0:
        return "cd " + draw(st.sampled_from(["a", "b", "a/b", "./a", "..", "a/..", "'a'"]))
    parts = [draw(_names), *draw(st.lists(_words, max_size=3))]
    for redirect in draw(st.sampled_from([(), (), ("",), ("", ""), ("", "", "")])):
        parts.insert(draw(st.integers(0, len(parts))), redirect or draw(_redirects))
    return draw(_blanks).join(parts)


_operators = st.sampled_from(
    [" && ", " || ", "; ", " | ", "\n", "&&", "||", ";", "|", " |& ", "\n\n", " # c'\n", " &&\n"]
)
_ends = st.sampled_from(["", "", "", ";", "\n", " # end", " "])


@st.composite
def lines(draw: st.DrawFn) -> str:
    """Lines made of quoting styles, operators, redirects, comments and `cd`: many of them plain."""
    line = draw(st.sampled_from(["", " ", "\n", "# c\n"])) + draw(_commands())
    for _ in range(draw(st.integers(0, 3))):
        line += draw(_operators) + draw(_commands())
    return line + draw(_ends)


noise = st.text(_CHARS, max_size=14).map(lambda text: f"ab {text}")  # mostly not plain


_INSERTS = ["$(", "2>", ">&", "<(", "&>", "\\\n", " #", "''", "&&", "{}", "$'", "=(", "\n", *_CHARS]


@st.composite
def mutations(draw: st.DrawFn, originals: Sequence[str]) -> str:
    """A given line with one to three places where text was put in, taken out or exchanged."""
    line = draw(st.sampled_from(originals))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(line)))
        change = draw(st.integers(0, 2))
        if change == 0:
            line = line[:at] + draw(st.sampled_from(_INSERTS)) + line[at:]
        elif change == 1:
            line = line[:at] + line[at + 1 :]
        else:
            line = line[:at] + line[at : at + 2][::-1] + line[at + 2 :]
    return line
