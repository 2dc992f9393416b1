"""Rewriting: which file is asked for whole, what stands in the question, and what is taken from the answer."""

from __future__ import annotations

import re

import pytest

from kairosd.core.aims import Aim
from kairosd.core.blocks import block_of
from kairosd.core.rewriting import REWRITE_CHARS, TRIES, TRIES_MOST, imported, request, target, words_lost

PROJECT = {
    "README.md": "# Sums\n",
    "app.py": "def add(a, b):\n    return a - b\n",
    "more.py": "def double(a):\n    return a * 3\n",
    "test_app.py": "from app import add\nassert add(1, 2) == 3\n",
}


@pytest.mark.parametrize(
    ("goal", "files"),
    [
        ("The test in test_app.py fails. Fix the bug.", ["app.py"]),
        ("Fix double in more.py.", ["more.py"]),
        ("Correct the spelling in README.md.", ["README.md"]),
        ("Add a test of double to test_app.py.", ["test_app.py"]),
        ("Make add in app.py and double in more.py return text.", ["app.py", "more.py"]),
        ("Repair double.", ["more.py"]),
        ("Improve things.", [""]),
    ],
)
def test_it_is_a_file_that_the_goal_is_about(goal: str, files: list[str]) -> None:
    tries = [target(Aim(goal), PROJECT, missing=(), tries=number) for number in range(0, TRIES * len(files), TRIES)]
    assert tries == files
    assert target(Aim(goal), PROJECT, missing=(), tries=TRIES_MOST) == ""


def test_what_is_known_to_be_missing_comes_first() -> None:
    goal = Aim("Make add in app.py and double in more.py return text.")
    assert target(goal, PROJECT, missing=["more.py"], tries=0) == "more.py"


@pytest.mark.parametrize("text", ["", "x" * (REWRITE_CHARS + 1), "A block:\n```\nls\n```\n"])
def test_what_is_empty_long_or_fenced_is_not_asked_for(text: str) -> None:
    goal, texts = Aim("Change app.py."), {**PROJECT, "app.py": text}
    assert target(goal, texts, missing=(), tries=0) == ""


def test_the_question_ends_with_the_goal_and_shows_what_decides() -> None:
    where = 'File "/home/ada/checkouts/r_1/test_app.py", line 2'
    noise = "noise\n" * 300
    output = f"[exit 1]\n{noise}FAIL: test_add\n======\n\n{where}\nAssertionError: -1 != 3\n```\n"
    goal = "The test in test_app.py fails. Fix the bug."
    asked = request(Aim(goal), PROJECT, path="app.py", output=output, still="`x` has to be added")
    assert [
        asked.index(each) for each in ("test_app.py:\n", "app.py:\n", "FAIL: test_add", "The owner asks:")
    ] == sorted(asked.index(each) for each in ("test_app.py:\n", "app.py:\n", "FAIL: test_add", "The owner asks:"))
    assert not re.search("noise|====|/checkouts/", asked)
    assert 'File "test_app.py", line 2' in asked
    assert asked.count("```") == 6, "what a test prints closes no block"
    assert asked.endswith(f"{goal}\nStill missing: `x` has to be added\n\nWrite the new app.py, whole.")


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("Here:\n\n```python\na = 1\n```\n\nUse it:\n```sh\nls\n```\n", "a = 1\n"),
        ("```sh\nls /tmp/some/where/else\n```\nand\n```python\na = 1\nold_name = 2\n```", "a = 1\nold_name = 2\n"),
        ("```\nFAIL: test_of_something\nE  assert 1 == 2\n```\n```python\nold_name = 3\n```\n", "old_name = 3\n"),
        ("```\na = 1\n", "a = 1\n"),
        ("````md\n# A\n```sh\nls\n```\n## B\n````\n", "# A\n```sh\nls\n```\n## B\n"),
        ("```markdown\n# A\n```sh\nls\n```\n## B\n```\nDone.", "# A\n```sh\nls\n```\n## B\n"),
        ("~~~python\r\na = 1\r\n~~~\r\nbye", "a = 1\n"),
        ("- so:\n  ```python\na = 1\n  ```\n", "a = 1\n"),
        ("```\na = 1\n``` That is all.\n", "a = 1\n"),
        ("```python\n```", ""),
        ("I would change `a` to 2.", None),
    ],
)
def test_the_block_that_is_most_like_it_is_the_file(answer: str, found: str | None) -> None:
    assert block_of(answer, like="old_name = 1\n") == found


def test_of_an_answer_that_was_cut_only_a_closed_block_counts() -> None:
    assert block_of("```\na = 1\n```\nThis works bec", "", cut=True) == "a = 1\n"
    assert block_of("```\na = 1\nb =", "", cut=True) is None


def test_a_file_that_is_not_there_yet_can_be_asked_for() -> None:
    goal = Aim("Create hello.py that prints hello, as app.py does.")
    assert goal.new_file(tuple(PROJECT)) == "hello.py"
    assert target(goal, PROJECT, missing=["hello.py"], tries=0) == "hello.py"
    asked = request(goal, PROJECT, path="hello.py", output="", still="")
    assert asked.startswith("app.py:\n")
    assert asked.endswith("Write the new file hello.py, whole.")


def test_a_dotfile_is_imported_by_nobody() -> None:
    assert imported(["test_app.py"], {**PROJECT, ".gitignore": "*.pyc\n"}) == ["app.py"]


@pytest.mark.parametrize(
    ("new", "lost"), [("", 1.0), ("a b b c", 0.0), ("a b c", 0.25), ("b a b", 0.25), ("x = 1", 1.0)]
)
def test_words_are_lost_as_often_as_they_stood_there(new: str, lost: float) -> None:
    assert words_lost("a b b c", new) == lost
