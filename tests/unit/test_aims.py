"""What is read from a goal's words, and what makes sense at a step of a run that a small model works on."""

from __future__ import annotations

import pytest

from kairosd.core.aims import Aim, founded, is_test, parted, postconditions, ranked, unfounded
from kairosd.core.messages import ToolSpec, ToolUse
from kairosd.core.narrowing import View, choices, narrowed
from kairosd.core.proofs import commands_of, proves_nothing
from kairosd.tools import edit, finish, grep, read, shell, write
from kairosd.tools.soundness import breaks, unknown_names

TOOLS = tuple(each.build().spec for each in (edit, finish, grep, read, shell, write))


@pytest.mark.parametrize(
    ("goal", "question", "change"),
    [
        ("Which port does the server use?", True, False),
        ("What changed in the last commit?", True, False),
        ("Explain the retry logic in client.py.", True, False),
        ("How are passwords hashed, and in which file?", True, False),
        ("Is the cache thread-safe?", True, False),
        ("Summarize the last commit.", True, False),
        ("Tell me about our latest commit", True, False),
        ("Explain how the delete command works.", True, False),
        ("List the open merge requests", True, False),
        ("Explain the shim, then remove it.", False, True),
        ("Find out why the update fails and please fix it.", False, True),
        ("Amend the last commit.", False, True),
        ("Describe the change and commit it.", False, True),
        ("How do I add a --quiet option?", True, False),
        ("Can you add a --quiet option?", False, True),
        ("Could you please fix the test?", False, True),
        ("What about making retries configurable? Add a setting.", False, True),
        ("Rename put to store.", False, True),
        ("The test in test_a.py fails. Fix it.", False, True),
        ("Have a look at the log", False, False),
    ],
)
def test_a_question_is_told_from_an_order(goal: str, question: bool, change: bool) -> None:
    assert (Aim(goal).is_question, Aim(goal).is_change) == (question, change)


@pytest.mark.parametrize(
    ("goal", "alone"),
    [
        ("what changed in the last commit?", True),
        ("What does the latest commit do, and which files were changed in it?", True),
        ("Summarize my last commit.", True),
        ("Why does the test fail since the last commit?", False),
        ("Does the last commit break the parser?", False),
        ("What changed?", False),
        ("Change the last commit.", False),
    ],
)
def test_what_the_last_commit_alone_answers(goal: str, *, alone: bool) -> None:
    assert Aim(goal).last_commit_answers is alone


@pytest.mark.parametrize(
    ("goal", "note"),
    [
        ("Remember: I moved the build to Thursday.", "I moved the build to Thursday."),
        ("please remember that the port moved, use 9090", "the port moved, use 9090"),
        ("Keep in mind: use tabs in Go code; nothing else passes", "use tabs in Go code; nothing else passes"),
        ("Remember that the tests are slow. Fix that.", ""),
        ("Remember that the port is 9090, then add it to README.md", ""),
        ("Can you remember that the port is 9090?", ""),
        ("Remember to add a test", ""),
        ("Add a note: remember that the port is 9090", ""),
        ("Remember:", ""),
    ],
)
def test_what_is_only_to_be_remembered(goal: str, note: str) -> None:
    assert Aim(goal).note == note
    assert not (note and Aim(goal).is_change)


@pytest.mark.parametrize(
    "goal",
    [
        "do it", "do the migration", "Do a refactoring", "How about adding a test?", "why not bump the version?",
        "Why don't you fix the tests?", "name the function foo", "Does the build pass? If not, get it green",
        "Where it says foo put bar", "When done, commit", "Can you merge main?", "make it faster?",
        "Describe each function with a docstring", "describe the API in README.md", "fix why tests fail?",
    ],
)  # fmt: skip
def test_an_order_is_no_question_however_it_begins_or_ends(goal: str) -> None:
    assert not Aim(goal).is_question


@pytest.mark.parametrize(
    ("goal", "pair"),
    [
        ("Rename the function calcTot to calculateTotal everywhere.", ("calcTot", "calculateTotal")),
        ("rename `old_name` into `new_name`", ("old_name", "new_name")),
        ("Rename the method put of Account to deposit, also where it is used.", ("put", "deposit")),
        ("Move the file a.py to b.py", None),
    ],
)
def test_a_rename_is_read(goal: str, pair: tuple[str, str] | None) -> None:
    assert Aim(goal).renaming == pair


def test_names_are_what_is_spelt_as_in_code() -> None:
    aim = Aim("Add a function count_lines(text) and an option --shout to greet.py, see tests/test_greet.py.")
    assert aim.names == ("count_lines", "--shout")
    assert aim.named(("greet.py", "tests/test_greet.py", "eet.py", "README.md")) == ("greet.py", "tests/test_greet.py")
    assert Aim("in code and README").named(("README.md", "docs/readme.txt")) == ("README.md",)
    assert Aim("Raise the timeout from 10 to 30 seconds.").revaluing == ("10", "30")
    assert Aim("Which way from 10 to 30?").revaluing is None


def test_files_are_ranked_by_what_they_share_with_the_goal() -> None:
    texts = {"auth.py": "def hash_password(): pbkdf2", "mail.py": "def send(): pass", "session.py": "password = 1"}
    assert ranked(Aim("How are passwords hashed?"), texts) == ("auth.py", "session.py")
    assert ranked(Aim("Look at mail.py and the password"), texts)[0] == "mail.py"


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("tests/test_a.py", True),
        ("a_test.go", True),
        ("src/a.test.js", True),
        ("src/latest.py", False),
        ("contest.py", False),
    ],
)
def test_files_of_tests_are_known_by_name(path: str, told: bool) -> None:
    assert is_test(path) is told


def test_a_goal_sets_what_must_hold() -> None:
    texts = {"greet.py": "print(1)", "test_greet.py": ""}
    checks = postconditions(Aim("Add an option --shout to greet.py."), texts, base="c0ffee")
    assert [(one["kind"], one.get("path", one.get("text"))) for one in checks] == [
        ("changed", "greet.py"),
        ("added", "--shout"),
    ]
    checks = postconditions(Aim("Raise it from 1 to 3, in code and README."), {"README.md": "1"}, base="c0ffee")
    assert checks[1:] == (
        {"kind": "added", "base": "c0ffee", "text": "3", "path": "README.md"},
        {"kind": "changed", "base": "c0ffee", "where": "code"},
    )
    checks = postconditions(Aim("Add a line 'hello' to README.md"), {"README.md": "x"}, base="c0ffee")
    assert [(one["kind"], one.get("text")) for one in checks] == [("changed", None), ("added", "hello")]  # each once
    assert [one["kind"] for one in postconditions(Aim("Fix the speed."), texts, base="c0ffee")] == ["changed"]
    assert postconditions(Aim("What does greet.py print?"), texts, base=None) == ()
    assert postconditions(Aim("Fix greet.py."), texts, base=None) == ({"kind": "changed", "base": ""},)


def test_an_answer_is_held_against_what_was_seen() -> None:
    seen = "[auth.py, lines 1-2 of 2]\nROUNDS = 120_000\nhash_password(x)"
    assert unfounded("It uses hash_password in auth.py with 120000 rounds.", seen) == ()
    assert unfounded("It uses `bcrypt` in src/hash.py, 12 rounds.", seen) == ("bcrypt", "src/hash.py", "12")
    said = founded("It is in `auth.py`. It uses `bcrypt`! There are 120000 rounds.", seen)
    assert said == "It is in `auth.py`. There are 120000 rounds."


@pytest.mark.parametrize(
    ("texts", "commands"),
    [
        ({"test_a.py": "import unittest"}, ("python3 -m unittest",)),
        ({"tests/test_a.py": "import unittest"}, ("python3 -m unittest discover -s tests",)),
        ({"tests/test_a.py": "import unittest", "tests/__init__.py": ""}, ("python3 -m unittest",)),
        ({"test_a.py": "def test_it(): pass"}, ("python3 -m pytest -q",)),
        ({"package.json": '{"scripts": {"test": "node --test"}}'}, ("npm test",)),
        ({"package.json": '{"scripts": {"test": "echo \\"Error: no test specified\\" && exit 1"}}'}, ()),
        ({"package.json": "[]"}, ()),
        ({"Makefile": "all:\n\techo\ntest:\n\tpytest\n"}, ("make test",)),
        ({"README.md": "test"}, ()),
    ],
)
def test_a_projects_tests_are_found(texts: dict[str, str], commands: tuple[str, ...]) -> None:
    assert commands_of(texts) == commands


def test_a_run_of_no_tests_proves_nothing() -> None:
    assert proves_nothing("[exit 0]\nRan 0 tests in 0.000s")
    assert not proves_nothing("[exit 0]\nRan 10 tests in 0.000s\nOK")


def rules(specs: tuple[ToolSpec, ...]) -> dict[str, object]:
    """What may be said, by tool and file."""
    found: dict[str, object] = {}
    for spec in specs:
        properties = spec.schema["properties"]
        assert isinstance(properties, dict)
        path = properties.get("path", {})
        found[f"{spec.name} {path.get('const', '')}".strip()] = properties.get("old", path).get("enum")
    return found


def test_only_what_makes_sense_can_be_said() -> None:
    view = View({"a.py": "x = 1\ny = 2\n", "test_a.py": "assert 1\n"}, unseen=("b.py",), may_finish=False)
    told = rules(narrowed(TOOLS, Aim("Fix the failing test of a.py."), view=view))
    assert told == {"edit a.py": ["x = 1", "y = 2", ""], "grep": None, "read": ["b.py"], "shell": None}


def test_an_edit_that_changed_nothing_cannot_be_said_again() -> None:
    tried = (ToolUse("1", "edit", {"path": "a.py", "old": "x = 1", "new": "x = 1"}),)
    told = rules(
        narrowed(TOOLS, Aim("Fix a.py."), view=View({"a.py": "x = 1\ny = 2\n"}, tried=tried, tests_itself=True))
    )
    assert told["edit a.py"] == ["y = 2", ""]
    assert "shell" not in told


def test_an_edit_that_failed_twice_cannot_be_said_again() -> None:
    tried = tuple(ToolUse(str(at), "edit", {"path": "a.py", "old": old, "new": "!"}) for at, old in enumerate("xxy"))
    told = rules(narrowed(TOOLS, Aim("Fix a.py."), view=View({"a.py": "x\ny\n"}, tried=tried)))
    assert told["edit a.py"] == ["y", ""]


def test_known_places_are_all_that_is_offered() -> None:
    view = View({"a.py": "put(1)\nx\n", "b.md": "put\n"}, places=(("a.py", "put(1)"),), may_finish=False)
    assert rules(narrowed(TOOLS, Aim("Rename put to store."), view=view))["edit a.py"] == ["put(1)"]
    assert "edit b.md" not in rules(narrowed(TOOLS, Aim("Rename put to store."), view=view))


def test_a_line_that_is_there_twice_comes_with_the_one_before() -> None:
    assert choices("a\nend\nb\nend\n") == ["a", "a\nend", "b", "b\nend"]


def test_where_nothing_is_left_everything_is() -> None:
    assert narrowed(TOOLS[:1], Aim("Fix it."), view=View({})) == TOOLS[:1]


@pytest.mark.parametrize(
    ("path", "before", "after", "told"),
    [
        ("a.py", "x = 1\n", "x = (\n", "line 1"),
        ("a.py", "x = (\n", "x = ((\n", ""),
        ("a.py", "x = 1\n", "x = '\\d'\n", ""),
        ("a.py", "def f(x):\n    return x\n", "def f(x):\n    return 1\n    return x\n", "`return x` could never run"),
        ("a.py", "def f(): pass\n", "def f(): pass\ndef f(): return 1\n", "f would be defined twice"),
        ("a.json", "{}", "{,}", "Expecting property name"),
        ("a.toml", "a = 1", "a = ", "Invalid value"),
        ("a.js", "x", "x(", ""),
    ],
)
def test_a_change_that_would_break_a_file_is_seen(path: str, before: str, after: str, told: str) -> None:
    found = breaks(path, before, after=after)
    assert (told in found) if told else not found


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        ("def f(x):\n    return x\n", "def f(x):\n    return twice(x)\n", ("twice",)),
        ("def g(): pass\ng()\n", "def h(): pass\ng()\n", ("g",)),
        ("from b import *\n", "from b import *\nprint(c)\n", ()),
        ("X = 1\n", "import os\nX = [y for y in os.sep]\nclass A:\n    B = X\n    def f(self): return len(X)\n", ()),
        ("x = (\n", "x = y\n", ()),
    ],
)
def test_a_name_that_nothing_has_is_told(before: str, after: str, names: tuple[str, ...]) -> None:
    assert unknown_names("a.py", before, after=after) == names


@pytest.mark.parametrize(
    ("output", "nothing"),
    [
        ("?   \tapp/cmd\t[no test files]\nok  \tapp/core\t0.01s\n", False),
        ("?   \tapp/cmd\t[no test files]\n", True),
        ("running 0 tests\ntest result: ok. 0 passed; 0 failed;", True),
        ("running 3 tests\ntest result: ok. 3 passed; 0 failed;", False),
        ("3 skipped in 0.01s", True),
        ("2 passed, 3 skipped in 0.01s", False),
        ("No tests found, exiting with code 1", True),
        ("sh: x: command not found\n1 passed in 0.1s", False),
        ("/bin/sh: pytest: command not found", True),
        ("no tests ran in 0.00s", True),
    ],
)
def test_output_of_a_runner_that_ran_nothing(output: str, nothing: bool) -> None:
    assert proves_nothing(output) is nothing


@pytest.mark.parametrize(
    ("goal", "section", "line"),
    [
        ("There is a spelling mistake in the Usage section of README.md.", "Usage", ""),
        (
            "Add the line 'Python 3.11 is needed.' to the Getting Started section.",
            "Getting Started",
            "Python 3.11 is needed.",
        ),
        ("Mention rsync in section Limits of docs/a.md.", "Limits", ""),
        ("Move it to the end of the section.", "", ""),
        ("Add a note about the user's file to README.md, it's short.", "", ""),
        ("Move the flags from the Usage section to the Options section of README.md.", "", ""),
        ("Change the heading of the Usage section to Running in README.md.", "", ""),
        ("Fix the links to the Install section of README.md.", "", ""),
        ("Add a note to the Install section and an example to the Usage section.", "", ""),
        ("Remove all of the Usage section of README.md, and its entry in the table of contents.", "", ""),
        ("greet.py prints the line 'Hello Bob' twice. Fix that.", "", ""),
        ("Remove the line 'import oss' from app.py.", "", ""),
    ],
)
def test_a_goal_may_name_a_section_and_give_a_line(goal: str, section: str, line: str) -> None:
    assert (Aim(goal).section, Aim(goal).line) == (section, line)


def test_a_section_goes_on_below_its_own_headings_and_no_comment_in_code_ends_it() -> None:
    text = "# A\none\n## Use\n```\n# two\n```\n### Deep\nthree\n## Other\nfour\n"
    assert parted(text, "use") == ("## Use\n```\n# two\n```\n### Deep\nthree", "# A\none\n## Other\nfour\n")
    assert parted(text, "none") == ("", text)


@pytest.mark.parametrize(
    ("goal", "changed", "new"),
    [
        ("Fix add in app.py, which more.py imports.", ("app.py",), ""),
        ("Change app.py and more.py.", ("app.py", "more.py"), ""),
        ("Create hello.py that prints hello.", (), "hello.py"),
        ("Write tests/test_more.py for more.py.", ("more.py",), "tests/test_more.py"),
        ("Rename app.py to base.py.", ("app.py",), ""),
        ("Create a.py and create b.py.", (), ""),
        ("Add a new file called lib/hello.ts with one function.", (), "lib/hello.ts"),
        ("Add a link to https://example.org/docs/page.html to docs/use.md.", ("docs/use.md",), ""),
        ("Add a note on TCP/IP to docs/use.md.", ("docs/use.md",), ""),
        ("Write Node.js examples in docs/use.md.", ("docs/use.md",), ""),
        ("Add Node.js support to app.py.", ("app.py",), ""),
    ],
)
def test_which_files_a_goal_wants_changed_or_made(goal: str, changed: tuple[str, ...], new: str) -> None:
    paths = ("app.py", "more.py", "docs/use.md")
    assert (Aim(goal).to_change(paths), Aim(goal).new_file(paths)) == (changed, new)
    assert Aim("Create use.md.").new_file(paths) == ""
