"""How an edit finds its place: exactly, or by the one reading that was obviously meant."""

from __future__ import annotations

import pytest

from kairosd.tools.matching import appended, nearest, repaired

CODE = "def f():\n    if x:\n        return 1\n    return 2\n"


@pytest.mark.parametrize(
    ("text", "new", "after"),
    [
        ("# T\n", "hello", "# T\nhello\n"),
        ("# T", "hello", "# T\nhello\n"),
        ("# T", "\nhello\n", "# T\nhello\n"),
        ("# T\n", "\nhello\n", "# T\n\nhello\n"),
        ("# T\r\n", "a\nb", "# T\r\na\r\nb\r\n"),
        ("", "hello", "hello\n"),
    ],
)
def test_appending_adds_whole_lines_in_the_files_own_newlines(text: str, new: str, after: str) -> None:
    assert appended(text, new).text == after


@pytest.mark.parametrize(
    ("text", "old", "new", "after"),
    [
        # line numbers as `read` shows them
        (CODE, "3|         return 1", "3|         return 7", CODE.replace("return 1", "return 7")),
        (CODE, "2|     if x:\n3|         return 1", "    return 0", "def f():\n    return 0\n    return 2\n"),
        # newlines
        ("a\r\nb\r\nc\r\n", "a\nb", "x\ny", "x\r\ny\r\nc\r\n"),
        ("a\nb\nc\n", "a\\nb", "x\\ny", "x\ny\nc\n"),
        # white space at the ends of lines, and indentation that is off by the same amount everywhere
        ("a  \nb\nc\n", "a\nb", "x", "x\nc\n"),
        ("last", "last\n", "end\n", "end"),
        (
            CODE,
            "if x:\n    return 1\n",
            "if y:\n    return 3\n",
            "def f():\n    if y:\n        return 3\n    return 2\n",
        ),
        (CODE, "        if x:\n            return 1", "        pass", "def f():\n    pass\n    return 2\n"),
        ("\tif a:\n\t\tb\n", "if a:\n\tb", "if a:\n\n\tc", "\tif a:\n\n\t\tc\n"),
        # taken out
        ("a\n  b\nc\n", "b \n", "", "a\nc\n"),
    ],
)
def test_the_only_possible_reading_is_taken(text: str, old: str, new: str, after: str) -> None:
    assert old not in text
    match = repaired(text, old, new=new)
    assert match is not None
    assert match.text == after
    assert "(" in match.told, "and it is said"


@pytest.mark.parametrize(
    ("text", "old"),
    [
        (CODE, "return 3"),
        ("a \nb\na \nb\n", "a\nb"),  # two places
        ("a\n  b\n    c\n", "a\nb\nc"),  # indentation that was lost, not shifted
        ("a\n", "  \n"),
        ("a\n", "a b"),
    ],
)
def test_more_than_one_reading_or_none_is_refused(text: str, old: str) -> None:
    assert repaired(text, old, new="x") is None


def test_the_nearest_lines_are_shown_with_their_numbers() -> None:
    assert (3, "        return 1") in nearest(CODE, "retrun 1")
    assert len(nearest(CODE, "zzzzqqqq")) == 3, "nothing is near: the head of the file helps more than nothing"
    assert nearest("", "a") == []
