"""Past: the calls that a run has made, and what became of them, as its transcript tells."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from kairosd.core.messages import TAKES_BACK, ToolUse
from kairosd.core.proofs import proves_nothing
from kairosd.engine.conversation import Conversation
from kairosd.frozen import frozen

OWN = "own"
CHANGING = ("edit", "write")
REDEFINED = ": the whole of "  # in the result of an edit that has put a whole definition in place of the old one
FAILURES = re.compile(r"^(?:FAIL|ERROR|FAILED|not ok|--- FAIL)\b", re.MULTILINE)


@frozen
class Past:
    """One call of the run with its result."""

    use: ToolUse
    text: str
    error: bool

    @property
    def own(self) -> bool:
        return self.use.id.startswith((OWN, TAKES_BACK))

    @property
    def is_change(self) -> bool:
        return not self.error and self.use.name in CHANGING

    @property
    def is_test(self) -> bool:
        return self.own and self.use.name == "shell"

    @property
    def proves(self) -> bool:
        """Whether it is a run of tests that passed."""
        return not self.error and self.text.startswith("[exit 0]") and not proves_nothing(self.text)

    @property
    def failures(self) -> int:
        return max(1, len(FAILURES.findall(self.text)))


def past_of(talk: Conversation) -> tuple[Past, ...]:
    """The calls of a conversation that have a result, in order."""
    return tuple(
        Past(use, result.text, result.error)
        for asked, answered in zip(talk.messages, talk.messages[1:], strict=False)
        for use, result in zip(asked.uses, answered.results, strict=False)
    )


def failures_before(past: Sequence[Past]) -> int:
    """How many tests failed before the last change; one that was taken back left them as they were."""
    runs: list[int] = []
    for each in past:
        if each.is_test and not proves_nothing(each.text):
            runs.append(0 if each.proves else each.failures)
        elif takes_back(each) and runs:
            runs.pop()
    return runs[-2] if len(runs) > 1 else runs[-1] + 1


def shows_whole(each: Past, path: str) -> bool:
    """Whether it showed all of that file."""
    if each.error or each.use.name != "read":
        return False
    found = re.match(rf"\[{re.escape(path)}(?:, lines 1-(\d+) of (\d+)\]| is empty)", each.text)
    return found is not None and found[1] == found[2]


def in_vain(past: Sequence[Past]) -> list[ToolUse]:
    """The model's calls since something last changed for good that failed, or that only repeated one before them."""
    found: list[ToolUse] = []
    seen: list[tuple[str, object]] = []
    for at, each in enumerate(past):
        taken_back = each.is_change and was_taken_back(past[at + 1 :])
        if each.is_change and not each.own and not taken_back:
            found, seen = [], []
        elif not each.own and (each.error or taken_back or (each.use.name, each.use.arguments) in seen):
            found.append(each.use)
        seen.append((each.use.name, each.use.arguments))
    return found


def lasting_change(past: Sequence[Past]) -> int:
    """Where the last change is that was not taken back; -1 where there is none."""
    made = _lasting(past)
    return made[-1] if made else -1


def _lasting(past: Sequence[Past]) -> list[int]:
    """Where the changes are that were not taken back."""
    made: list[int] = []
    for at, each in enumerate(past):
        if takes_back(each):
            del made[-1:]
        elif each.is_change:
            made.append(at)
    return made


def takes_back(each: Past) -> bool:
    """Whether it took a change back."""
    return each.use.id.startswith(TAKES_BACK) and each.is_change


def undoing(past: Sequence[Past], began: Mapping[str, str]) -> ToolUse | None:
    """The call that undoes the last change; None where there is none, or what was there before cannot be told.

    `began` are the files as the run found them, as far as they may stand in a call.
    """
    at = max((at for at, each in enumerate(past) if each.is_change), default=-1)
    if at < 0:
        return None
    given, path = past[at].use.arguments, str(past[at].use.arguments.get("path"))
    if past[at].use.name == "edit" and REDEFINED not in past[at].text.split("\n")[0]:
        if not given.get("new"):
            return None
        return ToolUse(TAKES_BACK, "edit", {"path": path, "old": given["new"], "new": given.get("old") or ""})
    earlier = [past[one] for one in _lasting(past[:at]) if past[one].use.arguments.get("path") == path]
    if path not in began or (earlier and earlier[-1].use.name != "write"):
        return None
    content = str(earlier[-1].use.arguments.get("content")) if earlier else began[path]
    if began[path].endswith("\n") and not content.endswith("\n"):
        content += "\n"
    return ToolUse(TAKES_BACK, "write", {"path": path, "content": content, "replace": True})


def was_taken_back(later: Sequence[Past]) -> bool:
    """Whether the change before `later` is the one that these took back."""
    following = next((each for each in later if each.is_change), None)
    return following is not None and takes_back(following)
