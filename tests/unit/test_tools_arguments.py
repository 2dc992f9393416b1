"""Arguments as small models write them: one possible reading is taken and said, anything else is refused."""

from __future__ import annotations

import pytest

from kairosd.core.messages import ToolSpec
from kairosd.errors import ToolError
from kairosd.tools.arguments import boolean, integer, read_arguments, schema, string
from kairosd.tools.base import normal_path

SPEC = ToolSpec(
    "look",
    "Looks.",
    schema(
        path=string("file"),
        count=integer("how many", default=5, least=1, most=10),
        all=boolean("everything"),
        mood=string("how", default="calm", choices=("calm", "wild")),
    ),
)
PAIR = ToolSpec("swap", "Swaps.", schema(path=string("file"), old=string("old"), new=string("new")))


def test_defaults_fill_what_was_not_given() -> None:
    given = read_arguments(SPEC, {"path": "a", "mood": None})
    assert (given.text("path"), given.number("count"), given.flag("all"), given.text("mood")) == ("a", 5, False, "calm")
    assert given.notes == ()


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        ({"path": "a", "count": "7"}, "count", 7),
        ({"path": "a", "count": " 7 "}, "count", 7),
        ({"path": "a", "all": "True"}, "all", True),
        ({"path": "a", "all": 0}, "all", False),
        ({"path": 5}, "path", "5"),
        ({"path": "a", "mood": "WILD"}, "mood", "wild"),
        ({"arguments": {"path": "a"}}, "path", "a"),
        ({"file_path": "a"}, "path", "a"),
        ({"filePath": "a"}, "path", "a"),
        ({"Path": "a"}, "path", "a"),
        ({"filename": "a"}, "path", "a"),
        ({"path": "a", "cuont": 3}, "count", 3),
        ({"path": "a", "count": 99}, "count", 10),
        ({"path": "a", "count": -1}, "count", 1),
    ],
)
def test_the_only_possible_reading_is_taken(arguments: dict[str, object], name: str, value: object) -> None:
    assert read_arguments(SPEC, arguments).values[name] == value


@pytest.mark.parametrize(
    ("arguments", "note"),
    [({"filename": "a"}, "took `filename` as `path`"), ({"path": "a", "count": 99}, "from 1 to 10")],
)
def test_what_was_put_right_is_said(arguments: dict[str, object], note: str) -> None:
    assert note in read_arguments(SPEC, arguments).notes[0]


def test_two_misnamed_parameters_are_told_apart_by_their_words_or_refused() -> None:
    given = read_arguments(PAIR, {"path": "a", "old_string": "x", "new_string": "y"})
    assert (given.text("old"), given.text("new")) == ("x", "y")
    with pytest.raises(ToolError, match=r"swap\(path, old, new\)"):
        read_arguments(PAIR, {"path": "a", "before": "x", "after": "y"})


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"path": ""},
        {"path": ["a"]},
        {"path": True},
        {"path": "a", "count": "seven"},
        {"path": "a", "count": True},
        {"path": "a", "count": "2.5"},
        {"path": "a", "all": "perhaps"},
        {"path": "a", "mood": "sad"},
        {"path": "a", "colour": "red"},
    ],
)
def test_anything_else_is_refused_with_a_fix(arguments: dict[str, object]) -> None:
    with pytest.raises(ToolError) as caught:
        read_arguments(SPEC, arguments)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("", "."),
        (".", "."),
        ("a/..", "."),
        ("./a", "a"),
        ("a//b/", "a/b"),
        ("a/./b/../c", "a/c"),
        ("`README.md`", "README.md"),
        ("'a b.txt'", "a b.txt"),
        ("ä/ö.txt", "ä/ö.txt"),
        ("..a/b..", "..a/b.."),
    ],
)
def test_paths_are_made_normal(given: str, normal: str) -> None:
    assert normal_path(given) == normal


@pytest.mark.parametrize("given", ["/a", "~", "../a", "a/../..", "a\nb", "a\u202eb", "x" * 2000])
def test_paths_that_lead_out_or_hide_something_are_refused(given: str) -> None:
    with pytest.raises(ToolError):
        normal_path(given)


def test_an_absolute_path_is_answered_with_the_relative_one() -> None:
    with pytest.raises(ToolError, match=r"such as README\.md"):
        normal_path("/home/ada/engine/README.md")
