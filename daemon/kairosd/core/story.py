"""A day as a story: what was decided, done and paid, and what is still open, each sentence with its journal line.

Made from the journal alone, without a model, so it says nothing that did not happen. A model may tell it again as prose
(`core/prose.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from kairosd.core.budget import money
from kairosd.core.json import Json
from kairosd.core.memory import plain
from kairosd.frozen import frozen

Line = Mapping[str, Json]
SECTION_MOST = 12  # sentences; what is more is counted
WORDS_MOST = 160  # characters of what a line itself says
# What stands before words that are no fact, but somebody's.
ASKED, ACTS, NOTIFIES, NOT_ENDED, WAITS = "You asked", "Act", "Notify", "Not ended", "Waits for you"


@frozen
class Sentence:
    """One thing that happened, and the numbers of the journal lines that say so."""

    text: str
    sources: tuple[int, ...]

    def told(self) -> str:
        """With its sources, as a reader finds them in the journal."""
        return f"- {self.text} [{', '.join(f'j{one}' for one in self.sources)}]"


@frozen
class Story:
    """The sections of one day, in order; one without sentences is left out."""

    day: str
    sections: tuple[tuple[str, tuple[Sentence, ...]], ...]

    @property
    def sentences(self) -> tuple[Sentence, ...]:
        """All of them, in order."""
        return tuple(one for _, found in self.sections for one in found)

    def text(self, prose: Sequence[Sentence] = ()) -> str:
        """As Markdown, the prose before the sections; empty for a day on which nothing happened."""
        parts = ["\n".join(map(Sentence.told, prose))] if prose else []
        parts += [f"## {title}\n\n" + "\n".join(map(Sentence.told, found)) for title, found in self.sections if found]
        return f"# {self.day}\n\n" + "\n\n".join(parts) + "\n" if parts else ""


def state_words(state: str) -> str:
    """A run's state as the story says it."""
    return state.replace("_", " ")


def story_of(day: str, lines: Iterable[Line]) -> Story:
    """The story of the lines of one day."""
    found = list(lines)
    sections = (
        ("Asked", _section(found, _asked)),
        ("Decided", _section(found, _decided)),
        ("Done", _section(found, _done)),
        ("Money", _money(found)),
        ("Remembered", _section(found, _remembered)),
        ("Open", _open(found)),
    )
    return Story(day, sections)


def _section(lines: Sequence[Line], tell: Callable[[Line, Mapping[str, Json]], str]) -> tuple[Sentence, ...]:
    told = [Sentence(text, (_number(line),)) for line in lines if (text := tell(line, _data(line)))]
    if len(told) > SECTION_MOST:
        rest = told[SECTION_MOST - 1 :]
        told = [
            *told[: SECTION_MOST - 1],
            Sentence(f"And {len(rest)} more.", (rest[0].sources[0], rest[-1].sources[0])),
        ]
    return tuple(told)


def _asked(line: Line, data: Mapping[str, Json]) -> str:
    if line["kind"] != "event.received" or data.get("source") != "owner":
        return ""
    text = data.get("text")
    return f"{_place(line)}{ASKED}: {_words(text.get('message') if isinstance(text, Mapping) else '')}"


def _decided(line: Line, data: Mapping[str, Json]) -> str:
    if line["kind"] != "decision.made" or data.get("verdict") not in ("act", "notify") or line.get("tier") == "owner":
        return ""
    shadow = " (in the shadow: not done)" if data.get("shadow") else ""
    label = ACTS if data["verdict"] == "act" else NOTIFIES
    return f"{_place(line)}{label}: {_words(data.get('goal'))}{shadow}"


def _done(line: Line, data: Mapping[str, Json]) -> str:
    if line["kind"] != "run.ended":
        return ""
    where = f", on {_words(data['branch'])}" if data.get("branch") else ""
    price = data.get("price")
    cost = f", {money(price)}" if isinstance(price, int) and price else ""
    return f"{_place(line)}{_words(data.get('goal'))}: {state_words(str(data.get('state', '')))}{where}{cost}."


def _remembered(line: Line, data: Mapping[str, Json]) -> str:
    if line["kind"] != "dream.committed":
        return ""
    counts = data.get("operations")
    items = counts.items() if isinstance(counts, Mapping) else ()
    told = ", ".join(f"{count} {name}" for name, count in items if count)
    return f"A dream made generation {data.get('generation')}: {told or 'nothing to remember'}."


def _money(lines: Sequence[Line]) -> tuple[Sentence, ...]:
    paid = [(line, price) for line in lines if isinstance(price := _price(line), int) and price > 0]
    if not paid:
        return ()
    total = sum(price for _, price in paid)
    ends = tuple(dict.fromkeys((_number(paid[0][0]), _number(paid[-1][0]))))
    return (Sentence(f"{money(total)} for {len(paid)} decisions, runs and dreams whose price is known.", ends),)


def _price(line: Line) -> Json:
    return _data(line).get("price") if line["kind"] in ("decision.made", "run.ended", "dream.committed") else None


def _open(lines: Sequence[Line]) -> tuple[Sentence, ...]:
    """Runs that were queued or parked and have not ended, and questions that nobody answered."""
    runs: dict[str, Line] = {}
    questions: dict[str, Line] = {}
    for line in lines:
        kind, name = str(line["kind"]), str(line["id"])
        if kind in ("run.queued", "run.parked", "run.interrupted"):
            runs[name] = line if kind != "run.parked" or name not in runs else runs[name]
        elif kind == "run.ended":
            runs.pop(name, None)
        elif kind.startswith("approval."):
            if _data(line).get("state") == "open":
                questions[name] = line
            else:
                questions.pop(name, None)
    told = [
        Sentence(f"{NOT_ENDED}: {_words(_data(one).get('goal')) or one['id']}.", (_number(one),))
        for one in runs.values()
    ]
    told += [Sentence(f"{WAITS}: {_words(_data(one).get('question'))}", (_number(one),)) for one in questions.values()]
    return tuple(told[:SECTION_MOST])


def _place(line: Line) -> str:
    return f"{line['ws']}: " if line.get("ws") else ""


def _words(value: Json) -> str:
    text = plain(str(value or ""))
    return text if len(text) <= WORDS_MOST else f"{text[: WORDS_MOST - 1].rstrip()}…"


def _data(line: Line) -> Mapping[str, Json]:
    data = line.get("data")
    return data if isinstance(data, Mapping) else {}


def _number(line: Line) -> int:
    number = line.get("seq")
    return number if isinstance(number, int) else 0
