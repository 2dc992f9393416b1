"""What lines and names show: sizes of files, names of modules, comments, waivers, leaked strings."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import PurePosixPath

from checks import rules
from checks.tree import Finding

WAIVER = re.compile(r"#\s*(?P<kind>noqa|type:\s*ignore)(?P<codes>(?::\s*|\[)[A-Za-z0-9, -]*[A-Za-z0-9])?")
MACHINE_COMMENT = re.compile(r"^#\s*(noqa|type:|!/|fmt:|pragma)")


def check(path: str, source: str) -> Iterator[Finding]:
    """Yields the findings of one text file; `path` is relative to the root of the tree."""
    if PurePosixPath(path).suffix != ".lock" and path not in rules.UNREAD_FILES:
        yield from _words(path, source)
    if path.endswith(".py") and path.startswith(rules.PYTHON):
        yield from _names(path)
    if path.endswith(".py") and path.startswith(rules.SHAPED):
        yield from _sizes(path, source)


def _words(path: str, source: str) -> Iterator[Finding]:
    for number, line in enumerate(source.splitlines(), start=1):
        if found := rules.UNFINISHED.search(line):
            yield Finding(path, number, "unfinished", f"{found[0]}: finish it or open an issue")
        for pattern, meaning in rules.LEAKS:
            if found := pattern.search(line):
                yield Finding(path, number, "leak", f"{found[0]!r} is {meaning}")


def _names(path: str) -> Iterator[Finding]:
    for part in PurePosixPath(path).with_suffix("").parts:
        if rules.VAGUE_MODULE.search(part):
            yield Finding(path, 1, "module-name", f"{part!r} says nothing: name the module after what it holds")


def _sizes(path: str, source: str) -> Iterator[Finding]:
    lines = len(source.splitlines())
    if lines > rules.FILE_LINES:
        yield Finding(path, 1, "file-lines", f"{lines} lines, at most {rules.FILE_LINES}: split it by topic")
    comments = 0
    for number, text in _comments(source):
        if not MACHINE_COMMENT.match(text):
            comments += 1
        elif (waiver := WAIVER.search(text)) and not waiver["codes"]:
            yield Finding(path, number, "waiver", "name the code it waives")
    allowed = max(rules.COMMENTS_ALWAYS_ALLOWED, lines * rules.COMMENTS_PER_100_LINES // 100)
    if comments > allowed:
        yield Finding(
            path, 1, "comments", f"{comments} comments in {lines} lines, at most {allowed}: keep those that say why"
        )


def _comments(source: str) -> Iterator[tuple[int, str]]:
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string
    except (tokenize.TokenError, SyntaxError):
        return  # shape.py reports the syntax error at its line
