"""What a small model answers a question with, held against what its run was shown."""

from __future__ import annotations

import re
from dataclasses import replace

from kairosd.core.aims import Aim, founded, unfounded
from kairosd.engine.conversation import Conversation
from kairosd.engine.past import past_of
from kairosd.ports import Finish

NO_ANSWER = re.compile(
    r"\s*I (?:did not|didn't|do not|don't|could not|couldn't|cannot|can't|was unable|have not)\b", re.I
)


def objection(finish: Finish, talk: Conversation, *, aim: Aim) -> str:
    """What is wrong with an answer: that it names what nothing has shown, or that nothing was remembered; else ""."""
    if aim.note:
        return "; ".join(each.text for each in past_of(talk) if each.use.name == "remember" and each.error)
    if not aim.is_question:
        return ""
    if NO_ANSWER.match(finish.answer):
        return "that is no answer to the question"
    missing = unfounded(finish.answer, _shown(aim, talk))
    return f"the answer names what no result has shown: {', '.join(missing)}" if missing else ""


def without_unfounded(finish: Finish, talk: Conversation, *, aim: Aim) -> Finish | None:
    """`finish` with what holds of an answer that is objected to; None where that may not answer the question.

    Of the last commit it does: the daemon has looked at it, and tells its subject and files itself.
    """
    if not aim.last_commit_answers or not talk.evidence:
        return None
    shown = _shown(aim, talk)
    left_out = ", ".join(unfounded(finish.answer, shown))
    said = "" if NO_ANSWER.match(finish.answer) else founded(finish.answer, shown)
    note = f"[Left out, since no result has shown it: {left_out}.]" if left_out else "[The model gave no answer.]"
    return replace(finish, answer=f"{said}\n{note}".lstrip())


def _shown(aim: Aim, talk: Conversation) -> str:
    return "\n".join([aim.goal, *(each.text for each in past_of(talk))])
