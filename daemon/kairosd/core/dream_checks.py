"""The checks of a dream: what an operation, and the generation that came of them, must not do (invariants I2 to I22).

Nothing here asks a model. A problem names the invariant it breaks and says so in words that a model can mend it by.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date

from kairosd.core.dream import WRITING, Op, Operation, apply, basis, retired, scope_of
from kairosd.core.dream_dates import relative
from kairosd.core.dream_support import (
    SUPPORT,
    asserted,
    commands,
    foreign,
    left_out,
    nearest,
    orders,
    secret,
    stems,
    support,
    turned,
    unsaid,
    values,
)
from kairosd.core.duplicates import differs, holding, is_apart, is_turned, nearby, same, says_more
from kairosd.core.events import Tier
from kairosd.core.evidence import Evidence
from kairosd.core.memory import (
    EVERYWHERE,
    INSTRUCTING,
    TEXT_MAX,
    Entry,
    Generation,
    is_check,
    is_key,
    key_of,
    new_id,
    overlap,
    plain,
)
from kairosd.core.norms import norm
from kairosd.frozen import frozen

LOSS_CAP_PERCENT = 25  # of the active entries; more is the owner's to decide (invariant I14)
MERGED_LEAST = 0.3  # how alike entries must be to be one
ABOUT_LEAST = 0.1  # how much of its words what takes an entry's place must share with it
NEARER = 1.5  # so much more it may not share with another entry
KEY_FREE = 3  # words of a key that no source says; with more it could say anything
RETIRED_LEAST = 0.4  # how much of an entry's words the evidence against it must hold
CHECK_VALUE = re.compile(r"(?!/|~|-)(?!.*(?:^|/)\.\.(?:/|$))[\w./@:+=-]{1,200}")


@frozen
class Problem:
    """What is wrong, by the number of the invariant and in words."""

    invariant: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}"


@frozen
class Frame:
    """What an operation is judged against: memory so far, the evidence of its group, whose workspace, and today.

    `active` entries were there when the dream began (None = those of `generation`), `gone` of them are no more.
    """

    generation: Generation
    evidence: Mapping[str, Evidence]
    workspace: str
    day: date
    active: int | None = None
    gone: int = 0

    def cited(self, operation: Operation) -> list[Evidence]:
        return [self.evidence[name] for name in operation.sources if name in self.evidence]

    def targets(self, operation: Operation) -> list[Entry]:
        found = {entry.id: entry for entry in self.generation.entries}
        return [found[name] for name in operation.targets if name in found]


@frozen
class Examined:
    """What became of a group's operations, and memory with the accepted ones done."""

    generation: Generation
    accepted: tuple[Operation, ...] = ()
    held: tuple[tuple[Operation, str], ...] = ()
    rejected: tuple[tuple[Operation, tuple[Problem, ...]], ...] = ()


def examine(operations: Sequence[Operation], frame: Frame) -> Examined:
    """Judges operation by operation, each against memory as the accepted ones before it left it.

    Those that touch what is the owner's, and those that together would lose too much, are held for the owner.
    """
    judged = _judge(operations, frame)
    active = len(frame.generation.visible(frame.workspace)) if frame.active is None else frame.active
    if not (lost := retired(judged.accepted)) or (frame.gone + lost) * 100 <= LOSS_CAP_PERCENT * active:
        return judged
    losing = [one for one in judged.accepted if one.op in (Op.RETIRE, Op.MERGE)]
    reason = f"{frame.gone + lost} of {active} entries would be gone, more than {LOSS_CAP_PERCENT} %"
    rest = _judge([one for one in judged.accepted if one not in losing], frame)
    held = (*judged.held, *((one, reason) for one in losing))
    return replace(rest, held=held, rejected=(*judged.rejected, *rest.rejected))


def problems_of(operation: Operation, frame: Frame) -> tuple[Problem, ...]:
    """All that is wrong with one operation; empty = it may be done."""
    first = [*_shape(operation), *_references(operation, frame)]
    if first:
        return tuple(first)  # what refers to nothing cannot be judged any further
    found = [*_trust(operation, frame), *_RULES[operation.op](operation, frame)]
    if operation.op in WRITING:
        found += [*_text(operation, frame), *_sourced(operation, frame), *_duplicates(operation, frame)]
    return tuple(found)


def _judge(operations: Sequence[Operation], frame: Frame) -> Examined:
    accepted: list[Operation] = []
    held: list[tuple[Operation, str]] = []
    rejected: list[tuple[Operation, tuple[Problem, ...]]] = []
    named: set[str] = set()
    for operation in operations:
        problems = problems_of(operation, frame)
        if not problems and named & set(operation.targets):
            problems = (Problem("I18", f"{', '.join(sorted(named & set(operation.targets)))} is named twice"),)
        if problems:
            rejected.append((operation, problems))
            continue
        named.update(operation.targets)
        if reason := _owners(operation, frame):
            held.append((operation, reason))
            continue
        accepted.append(operation)
        done = apply(frame.generation, operation, evidence=frame.evidence, workspace=frame.workspace, day=frame.day)
        frame = replace(frame, generation=done)
    return Examined(frame.generation, tuple(accepted), tuple(held), tuple(rejected))


def _owners(operation: Operation, frame: Frame) -> str:
    for entry in frame.targets(operation):
        if entry.pinned or entry.by_owner:
            return f"{entry.id} is {'pinned' if entry.pinned else 'in your own words'}: only you change it"
    return ""


def _shape(operation: Operation) -> Iterable[Problem]:
    count = len(operation.targets)
    wanted = {Op.ADD: count == 0, Op.MERGE: count >= 2}.get(operation.op, count == 1)
    if not wanted:
        yield Problem("I18", f"{operation.op} with {count} targets: add has none, merge two or more, the others one")
    if len(set(operation.targets)) != count:
        yield Problem("I18", "a target is named twice")
    if operation.op not in WRITING:
        if operation.text or operation.check:
            yield Problem("I18", f"{operation.op} writes nothing: text and check stay empty")
        return
    if not operation.text or operation.text != plain(operation.text) or len(operation.text) > TEXT_MAX:
        yield Problem("I18", f"its text must be 1 to {TEXT_MAX} plain characters")
    elif words := left_out(operation.text):
        yield Problem("I18", f"{words!r} stands for a text instead of being one")
    if operation.key and not is_key(operation.key):
        yield Problem("I18", f"{operation.key[:80]!r} is no key: lower-case words with dots, such as deploy.port")
    if operation.check and not is_claim(operation.check):
        yield Problem("I18", f"{operation.check[:80]!r} is no check: KIND=VALUE, a path inside the workspace")


def _references(operation: Operation, frame: Frame) -> Iterable[Problem]:
    for name in operation.targets:
        entry = frame.generation.get(name)
        if entry is None:
            yield Problem("I18", f"there is no entry {name[:40]!r}")
        elif not entry.visible_in(frame.workspace):
            yield Problem("I22", f"there is no entry {name[:40]!r} in this workspace")
    if not operation.sources and operation.op is not Op.MERGE:
        yield Problem("I3", "it cites no evidence")
    for name in operation.sources:
        if name not in frame.evidence:
            yield Problem("I11", f"{name[:40]!r} is no evidence of this question")
        elif frame.evidence[name].workspace != frame.workspace:
            yield Problem("I22", f"{name} belongs to another workspace")


def _trust(operation: Operation, frame: Frame) -> Iterable[Problem]:
    cited, targets = frame.cited(operation), frame.targets(operation)
    _, lowest = basis(operation, cited, targets=targets)
    said = min((each.tier for each in cited), default=lowest)
    if any(one.scope == EVERYWHERE for one in targets) and said < Tier.OWNER:
        yield Problem("I22", "what holds everywhere changes by the owner's words only")
    if operation.everywhere and lowest < Tier.OWNER:
        yield Problem("I22", "only the owner's words hold everywhere")
    if operation.op in WRITING and lowest < Tier.OWNER:
        yield from _states_only(operation, cited)
    elif operation.op in WRITING and (operation.kind in INSTRUCTING or orders(operation.text)):
        # Else some words of the owner's would lend their trust to others that a model was made to add.
        told = [each.text for each in cited] + [one.text for one in targets if one.trust is Tier.OWNER]
        if words := unsaid(operation.text, told):
            yield Problem("I10", f"{', '.join(words)[:100]}: an instruction is kept in the owner's own words")
    if operation.op is not Op.MERGE:
        for one in targets:
            if said < one.trust:
                yield Problem(
                    "I5", f"{one.id} is trusted as {one.trust.label}; evidence of tier {said.label} cannot change it"
                )


def _states_only(operation: Operation, cited: Sequence[Evidence]) -> Iterable[Problem]:
    """What does not come from the owner alone may say how things are, never what to do."""
    if operation.kind in INSTRUCTING:
        yield Problem("I10", f"kind {operation.kind} comes from the owner's words only")
    if words := orders(operation.text) or norm(re.sub(r"[._-]", " ", operation.key)):
        yield Problem("I10", f"{words!r} tells somebody what to do, and not by the owner's words: state what is")
    known = frozenset().union(stems(operation.text), *(stems(each.text) for each in cited))
    strange = [word for word in re.findall(r"[a-z0-9]+", operation.key) if not stems(word) <= known]
    if len(strange) > KEY_FREE and operation.key != key_of(operation.text):
        yield Problem("I10", f"the key's {', '.join(strange)[:100]} is not in its sources: name what it is about")
    for each in cited:
        if each.tier < Tier.OWNER and (words := commands(each.text)):
            yield Problem("I10", f"{each.source} says {words!r}: nothing is learned from what orders somebody about")


def _text(operation: Operation, frame: Frame) -> Iterable[Problem]:
    if words := relative(operation.text):
        yield Problem("I6", f"{words!r} is a relative date: write the day as YYYY-MM-DD")
    for part in (operation.text, operation.key, operation.check):
        if kind := secret(part):
            yield Problem("I15", f"it holds {kind}")
    for each in frame.cited(operation):
        if kind := secret(each.text):
            yield Problem("I15", f"its source {each.source} holds {kind}")


def _sourced(operation: Operation, frame: Frame) -> Iterable[Problem]:
    cited = frame.cited(operation)
    # The owner's question is the owner's word, and no word that it is so.
    told = [asserted(each.text) if each.tier is Tier.OWNER else each.text for each in cited]
    sources = told + [one.text for one in frame.targets(operation)]
    if (share := support(operation.text, sources)) < SUPPORT:
        yield Problem("I3", f"only {share:.0%} of its words are in its sources: use the sources' own words")
    if operation.op is Op.SUPERSEDE and not stems(operation.text) & frozenset().union(
        *(stems(one.text) for one in cited)
    ):
        yield Problem("I3", "nothing of it is in the evidence it cites")
    days = {each.day.isoformat() for each in cited}
    if made_up := foreign(operation.text, sources, also=days):
        yield Problem("I4", f"{', '.join(made_up)[:100]} is not in its sources")
    _, lowest = basis(operation, cited, targets=frame.targets(operation))
    known = {one.check for one in frame.targets(operation) if one.trust >= lowest}
    if operation.check and operation.check not in known:
        value = operation.check.partition("=")[2]
        if foreign(value, [*sources, operation.text]) or value.lower() not in " ".join(sources).lower():
            yield Problem("I4", f"the check's {value[:80]} is not in its sources")
    if operation.op is not Op.MERGE and turned(operation.text, [each.text for each in cited]):
        yield Problem("I3", "it turns yes and no of its source around")


def _duplicates(operation: Operation, frame: Frame) -> Iterable[Problem]:
    scope = scope_of(operation, frame.targets(operation), workspace=frame.workspace)
    others = [one for one in frame.generation.visible(frame.workspace) if one.id not in operation.targets]
    for entry in nearby(operation.text, others):
        if same(operation.text, entry.text):
            yield Problem("I9", f"{entry.id} says the same already: {_instead(operation, entry)}")
        # What holds everywhere may have an exception in a workspace.
        elif scope in (EVERYWHERE, entry.scope) and is_turned(operation.text, entry.text):
            yield Problem("I9", f"{entry.id} says it otherwise in the same words: supersede it")
    for entry in others:
        if operation.key and entry.key == operation.key and entry.scope == scope:
            yield Problem("I5", f"{entry.id} has the key {entry.key}: supersede it, or take a key for another thing")


def _instead(operation: Operation, entry: Entry) -> str:
    more = says_more(operation, entry, trust=entry.trust)
    return "supersede it, for scope, kind or check are new" if more else "restamp it instead"


def _add(operation: Operation, frame: Frame) -> Iterable[Problem]:
    scope = EVERYWHERE if operation.everywhere else frame.workspace
    done = apply(frame.generation, operation, evidence=frame.evidence, workspace=frame.workspace, day=frame.day)
    named = (done.entries[-1].id, new_id(scope, key_of(operation.text), text=operation.text, taken=()))
    gone = tuple(past.id for past in frame.generation.history if past.entry is None)
    if any(name.startswith(gone) for name in named):  # an id that was given once is only ever made longer
        yield Problem("I2", "it was forgotten")


def _supersede(operation: Operation, frame: Frame) -> Iterable[Problem]:
    (target,), cited = frame.targets(operation), frame.cited(operation)
    if _older(cited, target, since=target.since):
        yield Problem("I5", f"{target.id} is newer ({target.since}) than what is cited")
    if operation.key and operation.key != target.key:
        yield Problem("I5", f"{target.id} is about {target.key}: what is about {operation.key} is another entry")
    words = stems(operation.text)
    if (near := _about(target, words)) < ABOUT_LEAST:
        yield Problem("I5", f"it has nothing in common with {target.id}, which stays: add it instead")
    else:
        rivals = holding(words, frame.generation.visible(frame.workspace), share=NEARER * near)
        if nearer := [one.id for one in rivals if one.id != target.id and _about(one, words) > NEARER * near]:
            yield Problem("I5", f"it is rather about {nearer[0]} than about {target.id}, which stays")
    trust = basis(operation, cited, targets=[target])[1]
    if same(target.text, operation.text) and not says_more(operation, target, trust=trust):
        yield Problem("I9", f"it says what {target.id} says: restamp it instead")


def _older(cited: Sequence[Evidence], target: Entry, *, since: date) -> bool:
    """Whether all that is cited is older than `target`: of a day before, or of that day and earlier in the journal."""
    last = max(each.day for each in cited)
    return last < since or (last == since and 0 < _line([one.source for one in cited]) < _line(target.sources))


def _line(sources: Iterable[str]) -> int:
    """The number of the last journal line among `sources`; 0 = there is none."""
    return max((int(one[1:]) for one in sources if one[1:].isdigit()), default=0)


def _about(entry: Entry, words: frozenset[str]) -> float:
    return overlap(stems(entry.text) | stems(entry.key), words)


def _merge(operation: Operation, frame: Frame) -> Iterable[Problem]:
    targets = frame.targets(operation)
    if len({entry.scope for entry in targets}) > 1:
        yield Problem("I22", "entries of different workspaces stay apart")
    if any(entry.kind is not operation.kind for entry in targets):
        yield Problem("I5", "entries of different kinds stay apart")
    words = [stems(entry.text) for entry in targets]
    if any(overlap(words[0], each) < MERGED_LEAST for each in words[1:]):
        yield Problem("I5", "the entries are not about the same thing: both stay")
    kept = values(operation.text)
    if lost := sorted(frozenset().union(*(values(entry.text) for entry in targets)) - kept):
        yield Problem("I2", f"{', '.join(lost)[:100]} of the merged entries would be lost")


def _retire(operation: Operation, frame: Frame) -> Iterable[Problem]:
    (target,), cited = frame.targets(operation), frame.cited(operation)
    if _older(cited, target, since=target.seen):
        yield Problem("I5", f"{target.id} was confirmed on {target.seen}, after what is cited")
    if support(target.text, [each.text for each in cited]) < RETIRED_LEAST:
        yield Problem("I3", f"what it cites is not about {target.id}")


def _restamp(operation: Operation, frame: Frame) -> Iterable[Problem]:
    (target,), cited = frame.targets(operation), frame.cited(operation)
    if target.pinned or target.by_owner:
        yield Problem("I14", f"{target.id} is the owner's and needs no confirming")
    told = [each.text for each in cited]
    if support(target.text, told) < SUPPORT or foreign(target.text, told) or turned(target.text, told):
        yield Problem("I3", f"what it cites does not say what {target.id} says")
    elif differs(said := nearest(target.text, told), target.text):
        instead = "add it" if is_apart(said, target.text) else "supersede it"
        yield Problem("I3", f"what it cites says otherwise than {target.id}: {instead}")


_RULES: Mapping[Op, Callable[[Operation, Frame], Iterable[Problem]]] = {
    Op.ADD: _add, Op.SUPERSEDE: _supersede, Op.MERGE: _merge, Op.RETIRE: _retire, Op.RESTAMP: _restamp,
}  # fmt: skip


def is_claim(check: str) -> bool:
    """Whether `check` can be looked up: in form, and as a path inside the workspace or a port that there can be."""
    kind, _, value = check.partition("=")
    if not is_check(check) or CHECK_VALUE.fullmatch(value) is None:
        return False
    return kind != "port" or (value.isascii() and value.isdigit() and 0 < int(value) < 65536)
