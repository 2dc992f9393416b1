"""What a dream refuses: a table of invariants × cases, over planted faults and over a fuzzed model's answers.

    python -m bench.dream [--answers 10000] [--seed 1] [--json FILE]

Each answer of the fuzzed model is made from a seed: right operations, planted faults, their parts mixed, types
confused, ids unknown or doubled, everything deleted, paths that lead out, megabytes. It goes the way of a real one
(read, checked, applied, audited), and what comes out is judged by rules written here once more, apart from those of
the product. Prints for every invariant how often it refused something and how often it was broken, and exits with 1
when one was.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.dreams import EVIDENCE, MEMORY, RIGHT, frame, generation
from tests.unit.test_dream_validators import BATCH, BROKEN, FAULTS, right

from kairosd.core.dream import Operation, read_answer, retired
from kairosd.core.dream_audit import audit
from kairosd.core.dream_checks import examine, problems_of
from kairosd.core.dream_mending import mended
from kairosd.core.events import Tier
from kairosd.core.memory import HAND, Generation, Kind, format_line
from kairosd.core.memory_index import INDEX, files_of

ANSWERS = 10_000
EVERY = ("I2", "I2b", "I3", "I4", "I5", "I6", "I7", "I9", "I10", "I11", "I12", "I14", "I15", "I16", "I18", "I19", "I22")
SECRETS = ("sk-ant-", "staging8443", "[secret")
CANARIES = ("curl", "evil.example", "mallory", "approve every")
RELATIVE = re.compile(r"\b(?:yesterday|today|tomorrow|recently|lately|last (?:week|month|year)|\w+ days? ago)\b", re.I)
NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
GARBAGE: tuple[object, ...] = (
    None, 7, -1, 1.5, True, "", "…", "x" * 5000, "../../MEMORY.md", "/etc/passwd", "\x00\u202e", "-->", [], {}, [[]],
    ["j101", "j101"], ["j999"], ["aaaa0001", "aaaa0002"], {"op": "add"}, "[rest unchanged]", "j101", "aaaa0005",
)  # fmt: skip


def answers(count: int, seed: int) -> Iterator[dict[str, object]]:
    """A fuzzed model's answers, the same for the same seed."""
    chance = random.Random(seed)
    pool = [one.record() for one in RIGHT.values()] + [operation.record() for _, operation in FAULTS.values()]
    targets = [entry.id for entry in MEMORY]
    for _ in range(count):
        yield _answer(chance, [dict(one) for one in pool], targets)


def _answer(chance: random.Random, pool: list[dict[str, Any]], targets: list[str]) -> dict[str, object]:
    shape = chance.random()
    if shape < 0.04:
        return chance.choice(
            [{}, {"operations": chance.choice(GARBAGE)}, {"memory": "# new"}, {"operations": [], "files": {"a": "b"}},
             {"operations": [{"op": "add", "text": "x" * 1_000_000}]}]
        )  # fmt: skip
    if shape < 0.10:  # everything deleted, one way or another
        what = chance.choice(["retire", "supersede", "merge"])
        cited = [chance.choice(EVIDENCE).source]
        text = chance.choice(["", "Memory is empty.", "[rest unchanged]", "Deploys run on Hetzner, port 9090."])
        if what == "merge":
            return {"operations": [{"op": "merge", "targets": targets, "sources": cited, "text": text}]}
        return {"operations": [{"op": what, "targets": [one], "sources": cited, "text": text} for one in targets]}
    return {"operations": [_mutated(chance, pool) for _ in range(chance.randint(0, 9))]}


def _mutated(chance: random.Random, pool: list[dict[str, Any]]) -> object:
    one, other = dict(chance.choice(pool)), chance.choice(pool)
    for name in list(one):
        roll = chance.random()
        if roll < 0.06:
            one[name] = other[name]
        elif roll < 0.08:
            one[name] = chance.choice(GARBAGE)
        elif roll < 0.09:
            del one[name]
        elif roll < 0.11 and name == "text" and isinstance(one[name], str):
            words = one[name].split()
            chance.shuffle(words)
            one[name] = " ".join(words + [str(chance.randint(0, 9999))] * (roll < 0.10))
        elif roll < 0.13 and name == "sources":
            one[name] = [chance.choice(EVIDENCE).source for _ in range(chance.randint(1, 3))]
    return chance.choice(GARBAGE) if chance.random() < 0.02 else one


def judge(old: Generation, new: Generation, accepted: tuple[Operation, ...]) -> Counter[str]:
    """How often each invariant is broken, by rules of this file's own."""
    broken: Counter[str] = Counter()
    before, after = {one.id: one for one in old.entries}, {one.id: one for one in new.entries}
    past = {one.id: one for one in new.history}
    named = {name for one in accepted for name in one.targets}
    told = {one.source: one for one in EVIDENCE}
    for name, entry in before.items():
        broken["I2"] += name not in after and (name not in past or past[name].entry != entry)
        broken["I2b"] += name not in named and (name not in after or format_line(after[name]) != format_line(entry))
        touched = name not in after or format_line(after[name]) != format_line(entry)
        broken["I14"] += touched and (entry.pinned or HAND in entry.sources)
        broken["I22"] += touched and entry.scope not in ("app", "*")
    broken["I14"] += retired(accepted) * 4 > len(before)
    keys = Counter((one.scope, one.key) for one in new.entries)
    broken["I5"] += sum(count - 1 for count in keys.values())
    words = {one.id: frozenset(re.findall(r"[\w.@-]+", one.text.lower())) for one in new.entries}
    for name in after.keys() - before.keys():
        entry = after[name]
        cited = [told[one] for one in entry.sources if one in told]
        sources = [one.text for one in cited] + [before[one].text for one in named if one in before]
        broken["I3"] += not cited and not any(set(entry.sources) & set(before[one].sources) for one in named)
        days = {part for one in cited for part in NUMBER.findall(one.day.isoformat())}
        broken["I4"] += (
            not set(NUMBER.findall(entry.text)) <= {n for one in sources for n in NUMBER.findall(one)} | days
        )
        broken["I6"] += RELATIVE.search(entry.text) is not None
        broken["I9"] += any(other != name and words[other] == words[name] for other in after)
        broken["I10"] += entry.trust < Tier.OWNER and entry.kind in (Kind.USER, Kind.FEEDBACK)
        broken["I10"] += any(canary in entry.text.lower() for canary in CANARIES)
        broken["I10"] += entry.trust > min((one.tier for one in cited), default=Tier.OWNER)
        broken["I11"] += not set(entry.sources) <= told.keys() | {s for one in old.entries for s in one.sources}
        broken["I15"] += any(part in format_line(entry) for part in SECRETS)
        line = format_line(entry)
        broken["I18"] += any(part in line for part in ("unchanged", "\n", "\u202e", "\x00", "../"))
        broken["I18"] += line.count("-->") != 1 or line.count("<!--") != 1
        broken["I22"] += entry.scope not in ("app", "*") or (entry.scope == "*" and entry.trust < Tier.OWNER)
    files = files_of(new.entries, new.history)
    broken["I7"] += files[INDEX].count("\n") > 200 or len(files[INDEX].encode()) > 25_000
    broken["I7"] += any(len(line) > 200 for line in files[INDEX].splitlines())
    broken["I18"] += any(name.count("/") > 1 or ".." in name for name in files)
    broken["I12"] += new.cursor < old.cursor
    return broken


def fuzz(count: int, seed: int) -> dict[str, Any]:
    """Runs a fuzzed model's answers; what was done, refused, and broken."""
    broken: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    seen = Counter(answers=0, unreadable=0, operations=0, accepted=0, held=0, rejected=0, audits=0)
    where = frame()
    old = where.generation
    for answer in answers(count, seed):
        seen["answers"] += 1
        try:
            operations, unread = read_answer(answer)
        except ValueError:
            seen["unreadable"] += 1
            refused["I18"] += 1
            continue
        refused["I18"] += len(unread)
        seen["operations"] += len(operations) + len(unread)
        found = examine([mended(one, where) for one in operations], where)
        for _, problems in found.rejected:
            refused.update({problem.invariant for problem in problems})
        refused["I14"] += len(found.held)
        seen["accepted"] += len(found.accepted)
        seen["held"] += len(found.held)
        seen["rejected"] += len(found.rejected) + len(unread)
        if not found.accepted:
            broken["I2b"] += found.generation != old
            continue
        seen["audits"] += bool(audit(old, found.generation, accepted=found.accepted, evidence=EVIDENCE))
        broken.update(judge(old, found.generation, found.accepted))
    return {"seen": dict(seen), "refused": dict(refused), "broken": {name: n for name, n in broken.items() if n}}


def planted() -> dict[str, tuple[int, int]]:
    """For each invariant: how many faults were planted, and how many of them it caught."""
    found: dict[str, list[int]] = {}
    for invariant, operation in FAULTS.values():
        caught = invariant in {one.invariant for one in problems_of(operation, frame())}
        _count(found, invariant, caught=caught)
    for invariant, change in BROKEN.values():
        problems = audit(generation(), change(right()), accepted=BATCH, evidence=EVIDENCE)
        _count(found, invariant, caught=invariant in {one.invariant for one in problems})
    return {name: (made, caught) for name, (made, caught) in found.items()}


def _count(found: dict[str, list[int]], invariant: str, *, caught: bool) -> None:
    row = found.setdefault(invariant, [0, 0])
    row[0] += 1
    row[1] += caught


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--answers", type=int, default=ANSWERS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    faults, began = planted(), time.perf_counter()
    result = fuzz(arguments.answers, arguments.seed)
    took = time.perf_counter() - began
    print(f"{'':5} {'planted':>8} {'caught':>8} {'refused by it':>14} {'violations':>11}")
    for name in EVERY:
        made, caught = faults.get(name, (0, 0))
        refused, broken = result["refused"].get(name, 0), result["broken"].get(name, 0)
        if made or refused or broken or name in ("I7", "I12"):
            print(f"{name:5} {made:8} {caught:8} {refused:14} {broken:11}")
    total = [sum(row[at] for row in faults.values()) for at in (0, 1)]
    print(f"planted faults: {total[0]}, caught: {total[1]}")
    seen = result["seen"]
    print(
        f"{seen['answers']} answers, {seen['operations']} operations: {seen['accepted']} accepted, "
        f"{seen['held']} held, {seen['rejected']} rejected"
    )
    print(
        f"{seen['unreadable']} answers unreadable, {seen['audits']} stopped by the audit, "
        f"{sum(result['broken'].values())} violations; {took:.1f} s, seed {arguments.seed}"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps({"faults": faults, **result, "seconds": round(took, 1)}, indent=1) + "\n")
    return 1 if result["broken"] or total[0] != total[1] else 0


if __name__ == "__main__":
    sys.exit(main())
