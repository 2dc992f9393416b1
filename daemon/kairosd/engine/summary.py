"""A summary of the old part of a run's conversation, by the run's own model, without tools.

The run has read all of it already, so the summary has the run's own taint, which stays as it is: nothing that a
stranger wrote becomes more trusted by being told again. Instructions are no part of it, they stand in the system text,
which every turn reads anew from disk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from kairosd.core.messages import Message, Prompt
from kairosd.core.tokens import estimate_text
from kairosd.prompts import text_of

LEAST_ANSWER, MOST_ANSWER = 256, 4096  # tokens of a summary
ANSWER_SHARE = 16  # of the window
SOURCE_SHARE = 2  # of the window: what the model is shown
FIRST_SHARE, LEAST_SHARE = 4000, 100  # characters of one text, result or call: the first try, and the last


def summary_tokens(window: int) -> int:
    """How long a summary may be in a window of that many tokens."""
    return max(LEAST_ANSWER, min(MOST_ANSWER, window // ANSWER_SHARE))


def summary_prompt(old: Sequence[Message], *, earlier: str, window: int) -> Prompt:
    """Asks for a summary of `old`, whose first message is the goal; `earlier` is the one that it continues.

    Long texts are cut, all to the same length, until the whole takes half of the window.
    """
    share = FIRST_SHARE
    while True:
        text = _rendered(old, earlier, share=share)
        if estimate_text(text) <= window // SOURCE_SHARE or share <= LEAST_SHARE:
            break
        share = max(LEAST_SHARE, share * 3 // 4)
    text = _bounded(text, window // SOURCE_SHARE)
    mark = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]
    message = Message("user", f"begin {mark}\n{text}\nend {mark}\n\nWrite the notes.")
    return Prompt(system=text_of("summary"), messages=(message,), max_tokens=summary_tokens(window))


def _rendered(old: Sequence[Message], earlier: str, *, share: int) -> str:
    parts = [old[0].text]
    if earlier:
        parts.append(f"Notes so far:\n{earlier}")
    for index, message in enumerate(old[1:], start=1):
        names = {use.id: use.name for use in old[index - 1].uses}
        if message.text:
            who = "The owner said" if message.role == "user" else "The agent said"
            parts.append(f"{who}: {_cut(message.text, share)}")
        for use in message.uses:
            arguments = json.dumps(dict(use.arguments), ensure_ascii=False, default=str)
            parts.append(f"Call {use.name}: {_cut(arguments, share)}")
        for result in message.results:
            outcome = "failed" if result.error else "returned"
            parts.append(f"{names.get(result.id, 'call')} {outcome}: {_cut(result.text, share)}")
    return "\n\n".join(parts)


def _cut(text: str, share: int) -> str:
    return text if len(text) <= share else f"{text[:share]} […]"


def _bounded(text: str, tokens: int) -> str:
    """The goal at the beginning and the newest at the end are worth most: the middle goes."""
    while estimate_text(text) > tokens and len(text) > 200:
        cut = len(text) // 8
        third = len(text) // 3
        text = f"{text[:third]}\n[…]\n{text[third + cut :]}"
    return text
