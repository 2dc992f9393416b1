"""The day as prose: a model writes it from the story's sentences, and code leaves out what they do not bear out."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping

from kairosd.core.budget import Payer, Purse
from kairosd.core.json import JsonObject
from kairosd.core.messages import Form, Message, Prompt, ToolUse
from kairosd.core.prose import borne_out
from kairosd.core.story import Sentence, Story
from kairosd.engine.asking import Asking, Reply
from kairosd.engine.purses import NoRoom
from kairosd.errors import ModelError
from kairosd.ports import Model
from kairosd.prompts import text_of

log = logging.getLogger("kairosd.dream")

FORM = "tell"
ANSWER_MOST = 1024  # tokens
SENTENCES_MOST = 8
SENTENCES_LEAST = 2  # of what holds; less is no prose, and the story stands alone
_SCHEMA: JsonObject = {
    "type": "object", "required": ["sentences"], "additionalProperties": False,
    "properties": {"sentences": {"type": "array", "maxItems": SENTENCES_MOST, "items": {
        "type": "object", "required": ["text", "sources"], "additionalProperties": False,
        "properties": {"text": {"type": "string"}, "sources": {"type": "array", "items": {"type": "string"}}},
    }}},
}  # fmt: skip


class Narration:
    """Asks the model of role `dream`, at most once a story, from the purse of dreams."""

    def __init__(self, asking: Asking, model: Callable[[], Model], *, allowed: Callable[[], bool]) -> None:
        self._asking = asking
        self._model = model
        self._allowed = allowed

    async def prose(self, story: Story) -> tuple[Sentence, ...]:
        """What of the model's sentences holds. Empty where too little does, nothing happened or no model is at hand."""
        if not story.sentences or not self._allowed():
            return ()
        try:
            reply = await self._asking.ask(
                self._model(), _question(story), payer=Payer("story", Purse.DREAM), role="dream"
            )
        except (ModelError, NoRoom) as problem:
            log.info("the day is told without prose: %s", problem)
            return ()
        held = borne_out(_read(reply), story)
        return held if len(held) >= SENTENCES_LEAST else ()


def _question(story: Story) -> Prompt:
    text = "\n".join(sentence.told() for sentence in story.sentences)
    mark = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]
    message = Message("user", f"begin {mark}\n{text}\nend {mark}")
    form = Form(FORM, "Tell the day.", _SCHEMA)
    return Prompt(system=text_of("story"), messages=(message,), form=form, max_tokens=ANSWER_MOST)


def _read(reply: Reply) -> list[tuple[str, tuple[str, ...]]]:
    """The sentences of an answer with their sources; what has another form is none."""
    found: list[tuple[str, tuple[str, ...]]] = []
    for use in reply.uses:
        told = use.arguments.get("sentences") if isinstance(use, ToolUse) and use.name == FORM else None
        for one in (told if isinstance(told, list) else [])[:SENTENCES_MOST]:
            sources = one.get("sources") if isinstance(one, Mapping) else None
            if isinstance(sources, list) and isinstance(text := one.get("text"), str):
                found.append((text, tuple(map(str, sources))))
    return found
