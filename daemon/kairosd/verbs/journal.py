"""`kairosd journal verify`: walks the hash chain of the whole journal, old compressed days too. Needs no daemon."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from kairosd.store.journal_files import Verified, verify
from kairosd.wire import EXIT_FAILED, EXIT_OK, Home


def main(arguments: Sequence[str], place: Home) -> int:
    """Exit 0: every line verifies. Exit 1: the first bad line is named, or a file cannot be read."""
    options = _parser().parse_args(arguments)
    folder = options.folder or place.journal
    try:
        verified = verify(folder, _progress if sys.stderr.isatty() else None)
    except OSError as error:
        sys.stderr.write(f"kairosd: the journal cannot be read: {error}\n")
        return EXIT_FAILED
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    sys.stdout.write(_as_json(verified) if options.json else _as_text(verified, folder))
    return EXIT_OK if verified.problem is None else EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kairosd journal", description="The journal on disk.")
    verbs = parser.add_subparsers(required=True, metavar="verify")
    check = verbs.add_parser(
        "verify", help="check form, numbers and hash chain of every line; exit 1 names the first bad one"
    )
    check.add_argument("folder", nargs="?", type=Path, help="the journal's folder (default: this home's)")
    check.add_argument("--json", action="store_true", help="one JSON object instead of text")
    return parser


def _progress(file: Path, lines: int) -> None:
    sys.stderr.write(f"\r{file.name}: {lines} lines verified\x1b[K")
    sys.stderr.flush()


def _as_text(verified: Verified, folder: Path) -> str:
    if verified.problem is not None:
        return f"{verified.problem}\n{verified.lines} lines before it verify\n"
    if not verified.lines:
        return f"no journal yet in {folder}\n"
    repairs = ""
    if verified.repairs:
        repairs = f"; {verified.repairs} repairs (kind `repair`)"
        repairs += f", {verified.lost} lines declared lost" if verified.lost else ""
    counted = f"{verified.lines} lines in {verified.files} files verify, up to number {verified.last}"
    return f"{counted}{repairs}\n{verified.head}\n"


def _as_json(verified: Verified) -> str:
    problem = verified.problem
    answer = {
        "ok": problem is None,
        "file": None if problem is None else str(problem.file),
        "line": None if problem is None else problem.line,
        "problem": None if problem is None else problem.problem,
        "files": verified.files,
        "lines": verified.lines,
        "last": verified.last,
        "head": verified.head,
        "repairs": verified.repairs,
        "lost": verified.lost,
    }
    return f"{json.dumps(answer)}\n"
