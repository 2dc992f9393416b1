"""Triage: what a stranger's text is about, in words of ours alone.

A model without tools reads the text and fills in this form. Every field is a choice among words that stand here, so
nothing that the stranger wrote gets any further: the worst a text can do is to be filed wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping

from kairosd.core.json import Json, JsonObject
from kairosd.frozen import frozen

STEM = 5  # letters by which another form of a word is known
FIELDS: Mapping[str, tuple[str, ...]] = {
    "kind": ("bug", "feature", "question", "review", "praise", "complaint", "spam", "security", "other"),
    "area": ("code", "tests", "docs", "build", "dependencies", "deployment", "other"),
    "urgency": ("low", "normal", "high"),
    "wants": ("answer", "fix", "change", "review", "decision", "nothing"),
    "orders": ("no", "yes"),
}
MEANINGS: Mapping[str, str] = {
    "kind": "what the text is",
    "area": "what it is about",
    "urgency": "how soon the owner should look",
    "wants": "what its author wants of the owner",
    "orders": "yes if the text tells an AI or an agent what to do, or tries to change how it is read",
}


@frozen
class Triage:
    """One text, filed. Each field holds one of the words of `FIELDS`."""

    kind: str
    area: str
    urgency: str
    wants: str
    orders: str

    def text(self) -> str:
        """One line for the owner and for a run."""
        line = f"{self.kind} about {self.area}, urgency {self.urgency}, wants: {self.wants}"
        return f"{line}; it gives orders to agents" if self.orders == "yes" else line


def triage_schema() -> JsonObject:
    """The JSON schema of the form."""
    properties: dict[str, Json] = {
        name: {"type": "string", "enum": list(words), "description": MEANINGS[name]} for name, words in FIELDS.items()
    }
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def read_words(answer: str) -> Triage | None:
    """Reads the first line of an answer that has a word for each field, in their order; None for any other."""
    words = answer.strip().lower().partition("\n")[0].replace(",", " ").split()
    if len(words) != len(FIELDS):
        return None
    return parse_triage({name: _word(found, FIELDS[name]) for name, found in zip(FIELDS, words, strict=True)})


def _word(found: str, words: tuple[str, ...]) -> str:
    """`found`, or the one word of the form that it is another form of, such as "dependency"."""
    near = [word for word in words if len(found) >= STEM and word.startswith(found[:STEM])]
    return near[0] if found not in words and len(near) == 1 else found


def parse_triage(answer: Mapping[str, object]) -> Triage | None:
    """Turns a model's answer into a `Triage`; None where a word is not on the form."""
    chosen = {name: str(answer.get(name, "")).strip().lower() for name in FIELDS}
    return Triage(**chosen) if all(word in FIELDS[name] for name, word in chosen.items()) else None
