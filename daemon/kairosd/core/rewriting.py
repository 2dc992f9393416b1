"""Rewriting: a small file is asked for whole and as plain text, of a model that fails at placing or quoting an edit.

Weak models write in a fenced block what they get wrong as a string in JSON, and less well the more of what has failed
they are shown (https://aider.chat/docs/more/edit-formats.html). So each is asked afresh, of the present files alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from kairosd.core.aims import Aim, is_prose, is_test, ranked
from kairosd.core.secrets import Scrubber

FENCE = "```"
REWRITE_CHARS = 1800  # of a file that is asked for whole
BESIDE_CHARS = 3000  # of the files that are shown beside it
OUTPUT_CHARS = 1000  # of what a failing test says
LIKELIEST = 2  # files that a search by words puts first
TRIES, TRIES_MOST = 2, 6  # of one file before it is another's turn, and of all
IMPORTING = re.compile(r"\b(?:import|from|require|include|use)\b")
_BLOCK = re.compile(r"^```[^\n`]*\n(.*?)(?:^```[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
_LANGUAGES = {"py": "python", "js": "javascript", "ts": "typescript", "md": "markdown", "rs": "rust", "sh": "bash"}
_SCRUB = Scrubber()
_FAILURE = re.compile(r"^(?:FAIL|ERROR|FAILED|not ok|--- FAIL|E  |Traceback|.*Error)", re.MULTILINE)


def target(aim: Aim, texts: Mapping[str, str], *, read: Collection[str], missing: Sequence[str], tries: int) -> str:
    """The file to ask for now, of those `read` whole; "" where none is fit, or after `tries` enough in vain.

    `missing` are the files that are known to need a change still. Where the goal names files it is those.
    """
    named = aim.named(tuple(texts))
    about = [path for path in named if aim.wants_tests or not is_test(path)]
    guesses = [*imported(named, texts), *ranked(aim, texts)[:LIKELIEST]]
    code = [path for path in guesses if not is_prose(path) and (aim.wants_tests or not is_test(path))]
    order = dict.fromkeys([*missing, *about] if about else [*missing, *code])
    fit = [path for path in order if path in read and _is_fit(texts.get(path, ""))]
    return fit[tries // TRIES % len(fit)] if fit and tries < TRIES_MOST else ""


def request(aim: Aim, texts: Mapping[str, str], *, path: str, output: str, still: str) -> str:
    """What is asked: the files that belong together, the failing `output`, what is `still` missing, and the goal."""
    beside = dict.fromkeys([*aim.named(tuple(texts)), *imported([path], texts)])
    shown, room = list[str](), BESIDE_CHARS
    for each in beside:
        if each != path and len(texts[each]) <= room and _is_plain(texts[each]):
            shown.append(_fenced(each, texts[each]))
            room -= len(texts[each])
    said = [f"The tests say:\n{FENCE}\n{_decisive(output, (*beside, path))}\n{FENCE}"] if output else []
    left = [f"Still missing: {still}"] if still else []
    goal = "\n".join([f"The owner asks: {aim.goal}", *left])
    return "\n\n".join([*shown, _fenced(path, texts[path]), *said, goal, f"Write the new {path}, whole."])


def block_of(answer: str, like: str) -> str | None:
    """The fenced block of an answer that has most words in common with a text, without its fences; None without one.

    Beside the file a model may show how it is used, its tests, or what it was shown.
    """
    words = _words(like)
    blocks = [found[1] for found in _BLOCK.finditer(answer)]
    return max(blocks, key=lambda block: (_common(words, _words(block)), len(block)), default=None)


def imported(paths: Sequence[str], texts: Mapping[str, str]) -> list[str]:
    """The files that a line of import in one of `paths` names by their stem."""
    lines = [line for path in paths for line in texts[path].split("\n") if IMPORTING.search(line)]
    stems = {path: path.rpartition("/")[2].partition(".")[0] for path in texts if path not in paths}
    return [path for path, stem in stems.items() if any(re.search(rf"\b{re.escape(stem)}\b", line) for line in lines)]


def _is_fit(text: str) -> bool:
    return 0 < len(text) <= REWRITE_CHARS and _is_plain(text)


def _is_plain(text: str) -> bool:
    """Whether it may be shown: a fence inside would end the block too early, and a secret is shown to nobody."""
    return FENCE not in text and not _SCRUB(text).found


def _fenced(path: str, text: str) -> str:
    return f"{path}:\n{FENCE}{_LANGUAGES.get(path.rpartition('.')[2], '')}\n{text.rstrip()}\n{FENCE}"


def _decisive(output: str, paths: Collection[str]) -> str:
    """What tells why a test failed, without rules and blank lines; files by the names that they have in the project."""
    found = _FAILURE.search(output)
    text = output[found.start() :] if found else output[-OUTPUT_CHARS:]
    for path in paths:
        text = re.sub(rf"(?:/[\w.-]+)+/{re.escape(path)}", path, text)
    lines = [line for line in text.replace(FENCE, "'''").split("\n") if line.strip(" -=_")]
    return "\n".join(lines)[:OUTPUT_CHARS].strip()


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w{2,}", text))


def _common(one: frozenset[str], other: frozenset[str]) -> float:
    """The share of all words that both have."""
    return len(one & other) / max(1, len(one | other))
