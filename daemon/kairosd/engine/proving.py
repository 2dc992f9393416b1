"""Proving: by what a run of a small model is seen to have reached its goal, or not to have broken anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kairosd.core.aims import Aim
from kairosd.core.proofs import commands_of, help_of, proves_nothing
from kairosd.engine.past import Past, lasting_change


class Proving:
    """What tells whether `aim` is reached. With `commands` they may be run."""

    def __init__(self, aim: Aim, *, commands: bool) -> None:
        self._aim = aim
        self._commands = commands

    def command(self, past: Sequence[Past], began: Mapping[str, str]) -> str:
        """The first test command that has not turned out to run no test, else what shows that a program starts."""
        useless = {
            str(each.use.arguments.get("command")) for each in past if each.is_test and proves_nothing(each.text)
        }
        refused = any(each.is_test and each.error for each in past)
        commands = (*commands_of(began), *help_of(self._aim, began)) if self._commands and not refused else ()
        return next((one for one in commands if one not in useless), "")

    def tells(self, past: Sequence[Past]) -> bool:
        """Whether passing tests say that the goal is reached: some failed that it is about, or it is a replacement.

        What passed before as well says that nothing is broken, and nothing of what is new.
        """
        if (tests := tests_of(past)) and not tests[0].proves:
            return self._aim.mends
        return self._aim.renaming is not None or self._aim.revaluing is not None or self._aim.wants_tests

    def shall_pass(self, past: Sequence[Past]) -> str:
        """The kind of check that the tests are in the end; "" where some failed that the goal is not about."""
        tests = tests_of(past)
        return "" if not tests else "command" if self.tells(past) else "unbroken" if tests[0].proves else ""

    def breaks(self, past: Sequence[Past]) -> bool:
        """Whether what passed before the first change fails now."""
        return fails(past) and tests_of(past)[0].proves


def tests_of(past: Sequence[Past]) -> list[Past]:
    """The runs of tests that could tell something; one that was refused could not."""
    return [each for each in past if each.is_test and not each.error and not proves_nothing(each.text)]


def fails(past: Sequence[Past]) -> bool:
    """Whether the last of them failed."""
    tests = tests_of(past)
    return bool(tests) and not tests[-1].proves


def failing(past: Sequence[Past]) -> str:
    """What the tests say that fail as things are now; "" where none do. A change that was taken back says nothing."""
    found = next((each for each in past[lasting_change(past) + 1 :] if each in tests_of(past)), None)
    return found.text if found and not found.proves else ""


def usable(past: Sequence[Past]) -> bool:
    """Whether there is one at all."""
    return bool(tests_of(past))
