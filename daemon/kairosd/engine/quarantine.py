"""Quarantine: a stranger's text is read by a model that can do nothing, and only its filing comes out (design §9)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from kairosd.core.budget import Payer
from kairosd.core.events import Event
from kairosd.core.messages import Form, Message, Prompt, ToolUse
from kairosd.core.texts import cleaned
from kairosd.core.triage import Triage, parse_triage, read_words, triage_schema
from kairosd.engine import choosing
from kairosd.engine.asking import Asking, Cost, Reply
from kairosd.engine.purses import NoRoom
from kairosd.errors import ModelError, ModelProtocolError
from kairosd.frozen import frozen
from kairosd.ports import Model
from kairosd.prompts import text_of

FILED_MOST = 5  # texts of one batch that are filed for its notice
TEXT_SHOWN = 6000  # characters of all texts of an event together
ANSWER_TOKENS = 256
SHORT_SHOWN, SHORT_TOKENS = 2000, 16  # the same of a small model
FORM = "triage"
TRIES = 2


@frozen
class Filed:
    """How strangers' texts were filed, a line each, and what that cost (micro-dollars, None = unknown)."""

    lines: tuple[str, ...] = ()
    price: int | None = 0


class Quarantine:
    """Files what strangers wrote."""

    def __init__(self, asking: Asking, model: Callable[[], Model]) -> None:
        self._asking = asking
        self._model = model

    async def file(self, event: Event, *, payer: Payer) -> tuple[Triage | None, Cost]:
        """How the text of `event` is filed, and what that cost.

        None where the model did not fill in the form twice. Raises `ModelError`, `NoRoom`.
        """
        model, cost = self._model(), Cost()
        prompt = _short_question(event) if model.by_schema else _question(event)
        for _ in range(TRIES):
            try:
                reply = await self._asking.ask(model, prompt, payer=payer, role="triage")
            except ModelProtocolError:
                cost.add(None)
            else:
                cost.add(reply.price, reply.tokens)
                if triage := read_words(reply.text) if model.by_schema else _read(reply):
                    return triage, cost
        return None, cost

    async def file_all(self, events: Sequence[Event], *, payer: Payer) -> Filed:
        """How the texts of `events` are filed, at most five of them, a line each; one that cannot be filed says so."""
        cost = Cost()
        lines: list[str] = []
        for event in [event for event in events if event.text][:FILED_MOST]:
            try:
                triage, filed = await self.file(event, payer=payer)
            except NoRoom:
                # The decision is made and paid for: it must not be made again for want of a line.
                lines.append(f"{event.kind} ({event.id}): not filed, the purse {payer.purse} is empty")
                continue
            except ModelError as error:
                lines.append(f"{event.kind} ({event.id}): not filed, {error}")
                continue
            cost.add(filed.total, filed.tokens)
            lines.append(f"{event.kind} ({event.id}): {triage.text() if triage else 'could not be filed'}")
        return Filed(tuple(lines), cost.total)


def _question(event: Event) -> Prompt:
    form = Form(FORM, "File the message.", triage_schema())
    message = Message("user", _quoted(event))
    return Prompt(system=text_of("triage"), messages=(message,), form=form, max_tokens=ANSWER_TOKENS)


def _short_question(event: Event) -> Prompt:
    """For a small model, which fills in a form alike whatever it reads: a word for each field."""
    text = "\n".join(cleaned(value).text for value in event.text.values())[:SHORT_SHOWN]
    return choosing.question("triage_small", text, tokens=SHORT_TOKENS)


def _read(reply: Reply) -> Triage | None:
    for use in reply.uses:
        if isinstance(use, ToolUse) and use.name == FORM:
            return parse_triage(use.arguments)
    return None


def _quoted(event: Event) -> str:
    """The event's kind, and its text between marks that cannot be forged from inside."""
    text = "\n\n".join(f"{name}:\n{cleaned(value).text}" for name, value in event.text.items())[:TEXT_SHOWN]
    mark = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]
    return f"A message from {event.source} ({event.kind}):\nbegin {mark}\n{text}\nend {mark}"
