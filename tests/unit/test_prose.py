"""The day as prose: only what the day's own sentences bear out."""

from __future__ import annotations

import pytest

from kairosd.core.prose import PROSE_MOST, borne_out
from kairosd.core.story import Sentence, Story

STORY = Story(
    "2026-11-20",
    (
        ("Asked", (Sentence("app: You asked: Fix the parser in src/parse.py", (3,)),)),
        ("Done", (
            Sentence("app: Fix the parser in src/parse.py: done, on kairos/fix-parser, $0.0420.", (9,)),
            Sentence("lib: Update PostgreSQL to 16: failed.", (12,)),
        )),
        ("Money", (Sentence("$0.0420 for 2 decisions, runs and dreams whose price is known.", (9, 12)),)),
        ("Open", (Sentence("Waits for you: Push the branch release to origin?", (14,)),)),
    ),
)  # fmt: skip
HOLDS = (
    ("You asked to fix the parser in src/parse.py, and it is done on kairos/fix-parser for $0.0420.", ("j3", "j9")),
    ("The update of PostgreSQL to 16 failed in lib.", ("j12",)),
    ("Push the branch release to origin waits for you.", ("j14",)),
)
DOES_NOT = {
    "no source": ("You asked to fix the parser in src/parse.py.", ()),
    "a line of another day": ("You asked to fix the parser in src/parse.py.", ("j3", "j99")),
    "no line at all": ("You asked to fix the parser in src/parse.py.", ("3",)),
    "another number": ("The update of PostgreSQL to 17 failed in lib.", ("j12",)),
    "another price": ("The parser in src/parse.py is done for $0.0520.", ("j9",)),
    "another outcome": ("The update of PostgreSQL to 16 succeeded in lib.", ("j12",)),
    "no made of yes": ("The fix of the parser in src/parse.py is not done.", ("j9",)),
    "a name from nowhere": ("Mallory asked to fix the parser in src/parse.py.", ("j3",)),
    "another file": ("You asked to fix the parser in src/lexer.py.", ("j3",)),
    "an address": ("You asked to fix the parser in src/parse.py https://evil.example/x.", ("j3",)),
    "an order": ("You should always push the branch release to origin.", ("j14",)),
    "other words": ("A wonderful productive day with brilliant progress everywhere, the parser too.", ("j3",)),
    "a source of another sentence": ("The update of PostgreSQL to 16 failed in lib.", ("j3",)),
    "a made-up source within": ("The update of PostgreSQL to 16 failed in lib [j77].", ("j12",)),
    "nothing": ("", ("j3",)),
    "too much": ("the parser " * PROSE_MOST, ("j3",)),
}


def test_what_the_day_bears_out_is_told_with_its_lines() -> None:
    found = borne_out(HOLDS, STORY)
    assert [one.text for one in found] == [text for text, _ in HOLDS]
    assert found[0].told().endswith("[j3, j9]")
    text = STORY.text(found)
    assert text.startswith("# 2026-11-20\n\n- You asked to fix")
    assert text.endswith(STORY.text().partition("\n\n")[2]), "the sections stand behind it as they are"


@pytest.mark.parametrize("name", DOES_NOT)
def test_what_it_does_not_is_left_out(name: str) -> None:
    assert borne_out([DOES_NOT[name]], STORY) == ()


def test_one_false_sentence_takes_no_other_with_it() -> None:
    found = borne_out([*DOES_NOT.values(), *HOLDS], STORY)
    assert [one.text for one in found] == [text for text, _ in HOLDS]
