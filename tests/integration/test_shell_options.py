"""The programs themselves: the options on their lists exist, and no sed script that is taken does more than print."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kairosd.core.shell.operands import Findings
from kairosd.programs import load_programs

quick = settings(max_examples=60, deadline=None)

UNKNOWN_OPTION = (
    "unrecognized option",
    "invalid option",
    "unknown option",
    "unknown predicate",
    "unexpected argument",
    "wasn't expected",
)
JOINING = {*"(!),", "-not", "-a", "-and", "-o", "-or", "-help", "--help", "-P"}  # no test of find's stands alone there
SAMPLES = {"number": "1", "numbers": "1", "word": "", "text": "x", "read": "a", "date": "+%Y"}
WORDS = {"--sort": "size", "--time": "ctime", "-k": "1", "--key": "1", "-type": "f", "-xtype": "f", "-size": "1"}


def _smoke(program: str, verb: str) -> Iterator[tuple[str, ...]]:
    table = load_programs()[program]
    table = table.verbs[verb] if verb else table
    for option in sorted(table.flags):
        if program != "find" or option not in JOINING:
            yield (option,)
    for option, kind in sorted({**table.values, **table.attached}.items()):
        value = WORDS.get(option) or SAMPLES.get(kind, "x")
        joined = option.startswith("--") or option in table.attached
        yield (f"{option}={value}",) if joined and option.startswith("--") else (option, value)


@pytest.mark.parametrize(
    ("program", "verb", "operands"),
    [
        ("ls", "", ["a"]), ("cat", "", ["a"]), ("head", "", ["a"]), ("tail", "", ["a"]), ("wc", "", ["a"]),
        ("sort", "", ["a"]), ("cut", "", ["a"]), ("grep", "", ["x", "a"]), ("find", "", []), ("git", "log", []),
        ("git", "status", []), ("git", "diff", []), ("rg", "", ["x", "a"]), ("sed", "", ["p", "a"]),
    ],
)  # fmt: skip
def test_the_listed_options_exist(program: str, verb: str, operands: list[str], tmp_path: Path) -> None:
    """Only where the program is installed; what it says of a value, or of a missing file, does not matter."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    (tmp_path / "a").write_text("x\n")
    if program == "git":
        subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    unknown = []
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(tmp_path)}
    for words in _smoke(program, verb):
        argv = [program, *verb.split(), *([] if program == "find" else words), *operands]
        argv += ["-maxdepth", "0", *words] if program == "find" else []
        done = subprocess.run(
            argv, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=20
        )
        said = done.stderr.decode(errors="replace").lower()
        if any(text in said for text in UNKNOWN_OPTION):
            unknown.append((words, said.splitlines()[0]))
    assert unknown == []


@quick
@given(st.lists(st.sampled_from([*"pdq=;/\\ewrWRn1,$!{}s \nab|"]), max_size=12).map("".join))
def test_no_sed_script_that_is_taken_reads_writes_or_starts_anything(
    script: str,
) -> None:
    found = Findings()
    found.take("sed", script)
    if found.problem or shutil.which("sed") is None:
        return
    done = subprocess.run(["sed", "--sandbox", "-n", script], input=b"a\nb\n", capture_output=True, timeout=10)
    assert b"sandbox" not in done.stderr
