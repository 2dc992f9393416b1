"""Rewriting: a small file is asked for whole and as plain text, of a model that fails at placing or quoting an edit.

Weak models write in a fenced block what they get wrong as a string in JSON, and less well the more of what has failed
they are shown (https://aider.chat/docs/more/edit-formats.html). So each is asked afresh, of the present files alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from kairosd.core.aims import Aim, is_prose, is_test, ranked
from kairosd.core.blocks import FENCE, counted
from kairosd.core.tokens import estimate_text

ANSWER_TOKENS = 700
REWRITE_CHARS = 1800  # of a file that is asked for whole
BESIDE_CHARS = 3000  # of the files that are shown beside it
OUTPUT_CHARS = 1000  # of what a failing test says
LIKELIEST = 2  # files that a search by words puts first
TRIES, TRIES_MOST = 2, 4  # of one file before it is another's turn, and of all
IMPORTING = re.compile(r"\b(?:import|from|require|include|use)\b")
_LANGUAGES = {"py": "python", "js": "javascript", "ts": "typescript", "md": "markdown", "rs": "rust", "sh": "bash"}
_FAILURE = re.compile(r"^(?:FAIL|ERROR|FAILED|not ok|--- FAIL|E  |Traceback|.*Error)", re.MULTILINE)


def target(aim: Aim, texts: Mapping[str, str], *, missing: Sequence[str], tries: int) -> str:
    """The file to ask for now, of those in `texts`; "" where none is fit, or after `tries` enough in vain.

    `missing` are the files that are known to need a change still. Where the goal names files it is those. One that
    is not there yet can be asked for too: it is in `missing`, and not in `texts`.
    """
    named = aim.named(tuple(texts))
    about = [path for path in named if aim.wants_tests or not is_test(path)]
    guesses = [*imported(named, texts), *ranked(aim, texts)[:LIKELIEST]]
    code = [path for path in guesses if not is_prose(path) and (aim.wants_tests or not is_test(path))]
    order = dict.fromkeys([*missing, *about] if about else [*missing, *code])
    fit = [path for path in order if path not in texts or _is_fit(texts[path])]
    return fit[tries // TRIES % len(fit)] if fit and tries < TRIES_MOST else ""


def request(aim: Aim, texts: Mapping[str, str], *, path: str, output: str, still: str) -> str:
    """What is asked: the files that belong together, the failing `output`, what is `still` missing, and the goal."""
    beside = dict.fromkeys([*aim.named(tuple(texts)), *(imported([path], texts) if path in texts else ())])
    shown, room = list[str](), BESIDE_CHARS
    for each in beside:
        if each != path and len(texts[each]) <= room and FENCE not in texts[each]:
            shown.append(_fenced(each, texts[each]))
            room -= len(texts[each])
    said = [f"The tests say:\n{FENCE}\n{_decisive(output, (*beside, path))}\n{FENCE}"] if output else []
    left = [f"Still missing: {still}"] if still else []
    goal = "\n".join([f"The owner asks: {aim.goal}", *left])
    there = [_fenced(path, texts[path])] if path in texts else []
    return "\n\n".join([*shown, *there, *said, goal, f"Write the new {'' if there else 'file '}{path}, whole."])


def imported(paths: Sequence[str], texts: Mapping[str, str]) -> list[str]:
    """The files that a line of import in one of `paths` names by their stem."""
    lines = [line for path in paths for line in texts[path].split("\n") if IMPORTING.search(line)]
    stems = {path: path.rpartition("/")[2].partition(".")[0] for path in texts if path not in paths}
    return [
        path
        for path, stem in stems.items()
        if stem and any(re.search(rf"\b{re.escape(stem)}\b", line) for line in lines)
    ]


def words_lost(old: str, new: str) -> float:
    """The share of the words of a text, each as often as it stands there, that another one has not."""
    before, after = counted(old), counted(new)
    return (before - after).total() / max(1, before.total())


def _is_fit(text: str) -> bool:
    # A fence inside could end the block too early.
    fits = 0 < len(text) <= REWRITE_CHARS and estimate_text(text) * 5 // 4 <= ANSWER_TOKENS
    return fits and FENCE not in text


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
