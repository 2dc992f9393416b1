"""Prose about a day: of a model's sentences those stay that retell one line of the day's own story."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from kairosd.core.dream_support import orders, secret
from kairosd.core.memory import plain
from kairosd.core.runs import ENDED
from kairosd.core.story import ACTS, ASKED, NOT_ENDED, NOTIFIES, WAITS, Sentence, Story, state_words

PROSE_MOST = 300  # characters of a sentence of prose
# How prose says what a label says, before or after the line's words: without it a wish or question would be a fact.
_SAYS = {
    ASKED: re.compile(r"you asked(?: to| for| about)?:? ", re.I),
    WAITS: re.compile(r"(?:still )?(?:waits|waiting) for you:? | (?:still )?waits for you$", re.I),
    NOT_ENDED: re.compile(r"not (?:yet )?ended:? | (?:is|has|was) not (?:yet )?ended$", re.I),
    ACTS: re.compile(r"(?:act|decided to act):? ", re.I),
    NOTIFIES: re.compile(r"(?:notify|decided to notify):? ", re.I),
}
_LABEL = rf"(?P<label>{'|'.join(_SAYS)}): "
_LINE = re.compile(rf"(?:(?:(?P<at>[^\s:]+): )?{_LABEL}|(?P<place>[^\s:]+): )?(?P<body>.+)", re.S)
_STATES = "|".join(map(state_words, sorted(ENDED)))
_END = re.compile(rf"(?P<goal>.+): (?P<state>{_STATES})(?P<more>(?:, on \S+)?(?:, \$[\d.,]+)?)\.", re.S)
_WORD = re.compile(r"[$€£%…]|-?\w+(?:[._/@:+-]+\w+)*")
_BREAK = re.compile(r"[.!?;]\s+\S")
_ARTICLES = frozenset(("a", "an", "the", "of"))
_LINKING = "is was are were has have been and it its for at cost costs"
_LINKS = frozenset(_LINKING.split())


def borne_out(told: Iterable[tuple[str, Sequence[str]]], story: Story) -> tuple[Sentence, ...]:
    """Of sentences and the lines (`j123`) that each cites, those that retell one of the cited lines, with its numbers.

    A retelling is one sentence with the words of that line alone, in their order. It leaves out nothing but articles,
    the place, the branch and the price, and says what somebody asked, decided or waits for as such. What orders anybody
    about or holds a secret is left out, and what was told already.
    """
    numbers = {f"j{number}" for sentence in story.sentences for number in sentence.sources}
    left, kept = list(story.sentences), list[Sentence]()
    for text, sources in told:
        shown = plain(text)
        if not 0 < len(shown) <= PROSE_MOST or not numbers.issuperset(sources) or secret(shown):
            continue
        cited = [one for one in left if not {f"j{number}" for number in one.sources}.isdisjoint(sources)]
        if line := next((one for one in cited if _retells(shown, one.text)), None):
            left.remove(line)
            kept.append(Sentence(shown, line.sources))
    return tuple(kept)


def _retells(text: str, line: str) -> bool:
    found = _LINE.fullmatch(line)
    if found is None or _BREAK.search(text):
        return False
    label, place, body = found["label"], found["place"], found["body"]
    said, there = _without(text.rstrip(". "), _at(place or found["at"]))
    ended = _END.fullmatch(body)
    if label:
        said, says = _without(said, _SAYS[label])
        # A goal that begins as somebody's words do is none of theirs.
        return says and ended is None and _words(said) == _words(body) and not _orders(said, label)
    if place and not there:
        return False  # what ended in one workspace says nothing of another
    if ended is None or "?" in body:
        return _words(said) == _words(body) and not orders(said)
    return _tells_end(_words(said), ended) and not orders(said)


def _tells_end(said: list[str], ended: re.Match[str]) -> bool:
    """Whether these words are the goal as it stands, then how it ended, then what of the rest they like."""
    goal, state, more = _words(ended["goal"]), _words(ended["state"]), iter(_words(ended["more"]))
    rest = [word for word in said[len(goal) :] if word not in _LINKS]
    return said[: len(goal)] == goal and rest[: len(state)] == state and all(one in more for one in rest[len(state) :])


def _at(place: str | None) -> re.Pattern[str]:
    """How prose says where."""
    name = re.escape(place or "\n")  # no plain text holds a line break
    return re.compile(rf"(?:in )?{name}[:,] | in {name}$", re.I)


def _without(text: str, words: re.Pattern[str]) -> tuple[str, bool]:
    """`text` without these words at its start or its end, and whether they were there."""
    for found in words.finditer(text):
        if found.start() == 0:
            return text[found.end() :], True
        if found.end() == len(text):
            return text[: found.start()], True
    return text, False


def _orders(said: str, label: str) -> bool:
    """Whether it orders anybody about; what the owner asked begins with what is to be done."""
    return bool(orders(said.partition(" ")[2] if label == ASKED else said))


def _words(text: str) -> list[str]:
    return [word for word in _WORD.findall(text.casefold()) if word not in _ARTICLES]
