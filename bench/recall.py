"""How well and how fast memory's search finds what answers a question.

    python -m bench.recall --data LOCOMO.json [--save FILE]     turns and sessions found, beside naive FTS5
    python -m bench.recall --speed [--entries N]                build and query times over N made-up passages

Each conversation of the data is an index of its own, each turn a passage, each session a thread. R@k is the mean share
of a question's evidence among the first k answers; sessions are counted in the order of their first turn. Naive is one
FTS5 table over the turns' words as they are, asked for every word of the question, ranked by BM25.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from kairosd.core.events import Tier
from kairosd.core.search import Layer, Passage, Question
from kairosd.store.search import SearchIndex

AT = (1, 5, 10, 20)
DEEP = 100  # answers asked for, so that 20 sessions are among them
CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}
TODAY = date(2024, 1, 1)  # after every conversation; no question of the data is relative to it

Rank = Callable[[str], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Asked:
    """One question, the ids of the turns that answer it, and its category."""

    text: str
    evidence: frozenset[str]
    category: int


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="LoCoMo as JSON; never part of this project (CC BY-NC 4.0)")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    if not options.data and not options.speed:
        parser.error("--data FILE or --speed")
    report: dict[str, Any] = {"commit": _commit()}
    if options.data:
        report["recall"] = _recall(json.loads(options.data.read_text()))
    if options.speed:
        report["speed"] = _speed(options.entries)
    if options.save:
        options.save.write_text(json.dumps(report, indent=1) + "\n")


def _recall(conversations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    ours, naive = _Score(), _Score()
    for conversation in conversations:
        name = str(conversation.get("sample_id", len(ours.groups)))
        passages, questions = list(_passages(conversation)), list(_questions(conversation))
        index = SearchIndex(None)
        index.put(passages, {})
        ours.add(name, questions, rank=lambda text, index=index: _ours(index, text))
        plain = _naive(passages)
        naive.add(name, questions, rank=lambda text, plain=plain: _ask_naive(plain, text))
    print(f"{len(ours.times)} questions over {len(conversations)} conversations; percent found\n")
    print(
        f"{'':20}" + "".join(f"{f'turn@{k}':>9}" for k in AT) + "".join(f"{f'sess@{k}':>9}" for k in AT) + "   ms p50"
    )
    for name, score in (("kairos", ours), ("naive", naive)):
        print(f"{name:20}" + "".join(f"{value:9.1f}" for value in score.figures("all")) + f"{score.median():9.2f}")
    for name in ours.groups:
        if name != "all":
            print(f"  kairos {name:11}" + "".join(f"{value:9.1f}" for value in ours.figures(name)))
    return {"kairos": ours.report(), "naive": naive.report()}


class _Score:
    """Shares found, in groups: of all questions, of each category and of each conversation."""

    def __init__(self) -> None:
        self.groups: dict[str, list[list[float]]] = {"all": [], **{name: [] for name in CATEGORIES.values()}}
        self.times: list[float] = []

    def add(self, conversation: str, questions: Sequence[Asked], *, rank: Rank) -> None:
        for question in questions:
            began = time.perf_counter()
            found = rank(question.text)
            self.times.append(time.perf_counter() - began)
            sessions = list(dict.fromkeys(map(_session, found)))
            wanted = frozenset(map(_session, question.evidence))
            shares = [len(question.evidence & set(found[:k])) / len(question.evidence) for k in AT]
            shares += [len(wanted & set(sessions[:k])) / len(wanted) for k in AT]
            for group in ("all", CATEGORIES[question.category], conversation):
                self.groups.setdefault(group, []).append(shares)

    def figures(self, group: str) -> list[float]:
        return [_percent(column) for column in zip(*self.groups[group], strict=True)]

    def median(self) -> float:
        return statistics.median(self.times) * 1000

    def report(self) -> dict[str, Any]:
        names = [f"{what}@{k}" for what in ("turn", "session") for k in AT]
        rounded = {
            group: dict(zip(names, (round(value, 1) for value in self.figures(group)), strict=True))
            for group in self.groups
            if self.groups[group]
        }
        return {**rounded.pop("all"), "groups": rounded, "ms": self.median()}


def _passages(conversation: Mapping[str, Any]) -> Iterator[Passage]:
    said = conversation["conversation"]
    for number in itertools.count(1):
        if f"session_{number}_date_time" not in said:
            return
        at = datetime.strptime(said[f"session_{number}_date_time"], "%I:%M %p on %d %B, %Y").astimezone()
        for position, turn in enumerate(said.get(f"session_{number}", [])):
            words = f"{turn['text']} {turn.get('blip_caption', '')}".strip()
            yield Passage(
                Layer.TRANSCRIPT,
                turn["dia_id"],
                words,
                at,
                "turn",
                "*",
                Tier.OWNER,
                turn["speaker"],
                f"D{number}",
                position,
            )


def _questions(conversation: Mapping[str, Any]) -> Iterator[Asked]:
    for asked in conversation["qa"]:
        evidence = frozenset(turn for text in asked["evidence"] for turn in re.findall(r"D\d+:\d+", text))
        if evidence:
            yield Asked(str(asked["question"]), evidence, asked["category"])


def _ours(index: SearchIndex, text: str) -> list[str]:
    return [found.passage.source for found in index.search(Question(text, limit=DEEP), today=TODAY)]


def _naive(passages: Sequence[Passage]) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE words USING fts5 (source UNINDEXED, text)")
    connection.executemany("INSERT INTO words VALUES (?, ?)", [(each.source, each.text) for each in passages])
    return connection


def _ask_naive(connection: sqlite3.Connection, text: str) -> list[str]:
    match = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", text))
    sql = f"SELECT source FROM words WHERE words MATCH ? ORDER BY rank LIMIT {DEEP}"
    return [source for (source,) in connection.execute(sql, (match,))]


def _speed(entries: int) -> dict[str, float]:
    """Words drawn by Zipf's law from a vocabulary of 30,000; questions of six words, not of the commonest 30."""
    chance = random.Random(1)
    vocabulary = ["".join(chance.choices("abcdefghijklmnop", k=chance.randint(3, 9))) for _ in range(30_000)]
    spread = list(itertools.accumulate(1 / (rank + 3) for rank in range(len(vocabulary))))
    asked = list(itertools.accumulate(1 / (rank + 33) for rank in range(len(vocabulary) - 30)))
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    passages = [
        Passage(
            Layer.TRANSCRIPT, f"r{number // 20}#{number % 20}",
            " ".join(chance.choices(vocabulary, cum_weights=spread, k=chance.randint(8, 30))), moment, "turn",
            "*", Tier.LOCAL, "", f"r{number // 20}", number % 20,
        )
        for number in range(entries)
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        index = SearchIndex(Path(folder) / "search.db")
        began = time.perf_counter()
        for start in range(0, entries, 5000):
            index.put(passages[start : start + 5000], {})
        built = entries / (time.perf_counter() - began)
        times = []
        for _ in range(500):
            words = " ".join(chance.choices(vocabulary[30:], cum_weights=asked, k=6))
            began = time.perf_counter()
            index.search(Question(words), today=TODAY)
            times.append((time.perf_counter() - began) * 1000)
        index.close()
    cuts = statistics.quantiles(times, n=100)
    print(
        f"\n{entries:,} passages: built at {built:,.0f} a second; a query p50 {cuts[49]:.1f} ms, p95 {cuts[94]:.1f} ms"
    )
    return {
        "entries": entries,
        "built_per_second": round(built),
        "p50_ms": round(cuts[49], 2),
        "p95_ms": round(cuts[94], 2),
    }


def _session(turn: str) -> str:
    return turn.partition(":")[0]


def _percent(values: Sequence[float]) -> float:
    return 100 * statistics.fmean(values) if values else 0.0


def _commit() -> str:
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return asked.stdout.strip()


if __name__ == "__main__":
    main()
