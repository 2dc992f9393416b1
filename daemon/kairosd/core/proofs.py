"""Proofs: the commands by which a project tests itself, or a program shows that it starts, told from the files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from kairosd.core.aims import Aim, is_test, ranked

# What runners say when there was nothing to run, or nothing to run it with.
_NOTHING_RUN = re.compile(
    r"No module named|command not found|cannot run|no tests ran|no tests found|Ran 0 tests|running 0 tests|"
    r"Missing script|^# tests 0$|no test files|\b\d+ skipped\b",
    re.IGNORECASE | re.MULTILINE,
)
# What they say of tests that ran: one package without any, or a test that prints such words, does not undo that.
_RAN = re.compile(
    r"^ok\s+\S|^--- FAIL|\b[1-9]\d* (?:passed|failed|passing|failing|errors?)\b|^# (?:pass|fail) [1-9]|"
    r"Ran [1-9]\d* tests?",
    re.IGNORECASE | re.MULTILINE,
)
_PASSED = re.compile(
    r"\b(?:tests?|test suite|checks?)\b[^.!?\n]{0,40}"
    r"\b(?:pass(?:es|ed|ing)?|succeed(?:s|ed)?|successful(?:ly)?|green)\b"
    r"|\b(?:pass(?:es|ed|ing)?|successful|green)\b[^.!?\n]{0,20}\btests?\b",
    re.IGNORECASE,
)
_EXPLAINS = re.compile(r"\b(?:argparse|optparse|click|typer|commander|yargs)\b")
_RUNNERS = {"py": "python3", "js": "node", "mjs": "node", "cjs": "node"}
_PLAIN = re.compile(r"[\w./-]+")


def commands_of(texts: Mapping[str, str]) -> tuple[str, ...]:
    """The commands that may run the tests, the likeliest first; `texts` are the project's files by path."""
    found: list[str] = []
    if "test" in _scripts(texts.get("package.json", "")):
        found.append("npm test")
    if re.search(r"^test:", texts.get("Makefile", ""), re.MULTILINE):
        found.append("make test")
    if "Cargo.toml" in texts:
        found.append("cargo test -q")
    if "go.mod" in texts:
        found.append("go test ./...")
    return (*found, *_python(texts))


def help_of(aim: Aim, texts: Mapping[str, str]) -> tuple[str, ...]:
    """The command by which the program that the goal is about explains itself: one that cannot start does not.

    Only of a program that reads its options by a library which knows `--help`.
    """
    named = aim.named(tuple(texts))
    about = next((path for path in named or ranked(aim, texts)[:1] if _EXPLAINS.search(texts[path])), "")
    runner = _RUNNERS.get(about.rpartition(".")[2]) if _PLAIN.fullmatch(about) and not is_test(about) else None
    return (f"{runner} {about} --help",) if runner and aim.is_change else ()


def proves_nothing(output: str) -> bool:
    """Whether a test command ended without having run a test."""
    return _NOTHING_RUN.search(output) is not None and _RAN.search(output) is None


def tells_of_tests(answer: str) -> bool:
    """Whether an answer says that tests have passed."""
    return _PASSED.search(answer) is not None


def _python(texts: Mapping[str, str]) -> list[str]:
    tests = {path: text for path, text in texts.items() if is_test(path) and path.endswith(".py")}
    unittests = [path for path, text in tests.items() if "unittest" in text]
    others = [
        path for path, text in tests.items() if "unittest" not in text and re.search(r"^def test|^assert", text, re.M)
    ]
    found = ["python3 -m pytest -q"] if others else []
    if unittests:
        # Discovery enters a folder only when it is a package.
        folders = {path.rpartition("/")[0] for path in unittests}
        bare = sorted(folder for folder in folders if folder and f"{folder}/__init__.py" not in texts)
        found.append(f"python3 -m unittest discover -s {bare[0]}" if bare else "python3 -m unittest")
    scripts = [path for path in others if "__main__" in texts[path]]
    return [*found, *([f"python3 {scripts[0]}"] if scripts else [])]


def _scripts(package: str) -> tuple[str, ...]:
    try:
        scripts = json.loads(package or "{}").get("scripts", {})
    except (ValueError, AttributeError):
        return ()
    named = scripts if isinstance(scripts, dict) else {}
    return tuple(name for name, line in named.items() if "no test specified" not in str(line))
