"""Other people's checkers, run side by side, their output brought into one form."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from checks.tree import Finding

BIN = Path(sys.executable).parent
RUFF_LINE = re.compile(r"^(?P<path>[^:\n]+):(?P<line>\d+):\d+: (?P<rule>[A-Z]+\d+|invalid-syntax):? (?P<message>.*)$")
MYPY_LINE = re.compile(r"^(?P<path>[^:\n]+):(?P<line>\d+): error: (?P<message>.*)$")
FORMAT_LINE = re.compile(r"^(?P<path>[^:\n]+):(?P<line>\d+):\d+: unformatted: ")
IMPORT_LINE = re.compile(r"(?P<importer>kairos[\w.]*) -> (?P<imported>[\w.]+) \(l\.(?P<line>\d+)")
SOURCE_ROOTS = {"kairosd": "daemon", "kairos_cli": "cli"}


def ruff(root: Path) -> list[Finding]:
    """Lint, by pyproject.toml's selection."""
    code, output = _run(root, [str(BIN / "ruff"), "check", "--quiet", "--output-format", "concise", *_targets(root)])
    found = [
        Finding(match["path"], int(match["line"]), match["rule"], match["message"])
        for match in map(RUFF_LINE.match, output.splitlines())
        if match
    ]
    return found or _unexplained("ruff", code, output=output)


def layout(root: Path) -> list[Finding]:
    """Formatting: nothing may differ from what `ruff format` writes."""
    code, output = _run(root, [str(BIN / "ruff"), "format", "--check", "--output-format", "concise", *_targets(root)])
    matches = [match for match in map(FORMAT_LINE.match, output.splitlines()) if match]
    found = [
        Finding(match["path"], int(match["line"]), "format", "run .venv/bin/ruff format on it") for match in matches
    ]
    return found or _unexplained("format", code, output=output)


def mypy(root: Path) -> list[Finding]:
    """Types, strict, by pyproject.toml."""
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--no-color-output", "--no-pretty"]
    code, output = _run(root, command)
    matches = [match for match in map(MYPY_LINE.match, output.splitlines()) if match]
    found = [Finding(match["path"], int(match["line"]), "mypy", match["message"]) for match in matches]
    return found or _unexplained("mypy", code, output=output)


def imports(root: Path) -> list[Finding]:
    """The layer contracts of pyproject.toml."""
    code, output = _run(root, [str(BIN / "lint-imports"), "--no-logo", "--cache-dir", ".import_linter_cache"])
    found = set()
    for match in IMPORT_LINE.finditer(output):
        message = f"{match['importer']} -> {match['imported']} is forbidden, or part of a chain that is"
        found.add(Finding(_source(root, match["importer"]), int(match["line"]), "imports", message))
    return sorted(found) or _unexplained("imports", code, output=output)


TOOLS: dict[str, Callable[[Path], list[Finding]]] = {"ruff": ruff, "format": layout, "mypy": mypy, "imports": imports}


def _run(root: Path, command: list[str]) -> tuple[int, str]:
    # A copy of the tree is checked with this tree's tools: its own sources must win over the installed ones.
    search = os.pathsep.join(str(root / folder) for folder in SOURCE_ROOTS.values())
    environment = os.environ | {"PYTHONPATH": search, "NO_COLOR": "1", "COLUMNS": "400", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=root, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def _targets(root: Path) -> list[str]:
    return [
        ".",
        *(name for name in ("scripts/check",) if (root / name).exists()),
    ]  # ruff finds no files without a suffix


def _unexplained(rule: str, code: int, *, output: str) -> list[Finding]:
    """A tool that failed without a finding has not checked anything: that must not look clean."""
    if code == 0:
        return []
    return [Finding("pyproject.toml", 1, rule, f"exit {code}: {line}") for line in _last_lines(output)]


def _last_lines(output: str) -> Iterator[str]:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    yield from lines[-5:] or ["no output"]


def _source(root: Path, module: str) -> str:
    top, *_ = module.split(".")
    path = Path(SOURCE_ROOTS.get(top, "."), *module.split("."))
    return (path / "__init__.py" if (root / path).is_dir() else path.with_suffix(".py")).as_posix()
