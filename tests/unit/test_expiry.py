"""What memory lets go of by itself: little, never the owner's, and not for good (invariants I2, I14, I21)."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

from tests.dreams import MEMORY, entry, generation

from kairosd.core.dream_audit import audit
from kairosd.core.events import Tier
from kairosd.core.expiry import ACTIVE_MOST, LEARNED_MOST, UNCONFIRMED, expire, expiring, set_aside
from kairosd.core.memory import HAND, Entry, Generation, Kind, key_of

TODAY = date(2026, 11, 20)
OLD = TODAY - UNCONFIRMED - timedelta(days=1)


def learned(count: int, **more: object) -> list[Entry]:
    given: dict[str, object] = {"trust": Tier.LOCAL, "seen": TODAY, **more}
    return [
        entry(f"{n:08x}", f"k{n}.x", f"Service number {n} listens on port {9000 + n}.", **given) for n in range(count)
    ]


def test_what_nobody_confirms_goes_a_little_at_a_time_and_the_owners_never() -> None:
    safe = [
        entry("aaaa0001", "a.pin", "A pinned line of a run.", pinned=True, trust=Tier.LOCAL, seen=OLD),
        entry("aaaa0002", "a.hand", "A line by hand.", sources=("j1", HAND), seen=OLD),
        entry("aaaa0003", "a.wish", "The owner likes tabs.", kind=Kind.FEEDBACK, seen=OLD),
        entry("aaaa0004", "a.told", "The owner told a fact.", seen=OLD),
        entry("aaaa0005", "a.held", "It is in src/parse.py.", check="path=src/parse.py", trust=Tier.LOCAL, seen=OLD),
    ]  # fmt: skip
    old = [replace(one, seen=OLD - timedelta(days=n)) for n, one in enumerate(learned(35))]
    now = generation([*safe, *old])
    rounds = 0
    while gone := expiring(now.entries, TODAY):
        assert len(gone) * 10 <= len(now.entries)
        assert {one.id for one in gone} <= {one.id for one in old}
        assert gone[0].seen == min(one.seen for one in now.entries if one.id not in {each.id for each in safe})
        after = expire(now, gone, today=TODAY)
        assert [one for one in audit(now, after, marked=[each.id for each in gone]) if one.invariant != "I7"] == []
        assert {one.id for one in (*now.entries, *now.history)} == {one.id for one in (*after.entries, *after.history)}
        now, rounds = after, rounds + 1
    assert rounds > 5
    assert {one.id for one in safe} <= {one.id for one in now.entries}
    assert len(now.entries) == 9, "of a small memory nothing goes"


def test_a_scope_is_bounded_and_the_least_trusted_go_first() -> None:
    told = [replace(one, id=f"f{n:07x}", trust=Tier.OWNER, key=f"o{n}.x") for n, one in enumerate(learned(ACTIVE_MOST))]
    now = generation([*learned(LEARNED_MOST + 50), *told])
    while gone := expiring(now.entries, TODAY):
        now = expire(now, gone, today=TODAY)
    assert len(now.entries) == ACTIVE_MOST
    assert {one.trust for one in now.entries} == {Tier.OWNER}
    assert expiring(generation(learned(LEARNED_MOST)).entries, TODAY) == ()


def test_what_was_set_aside_is_the_last_word_until_somebody_says_it_again() -> None:
    first, second, third = learned(3)
    now = expire(Generation(entries=(first, second, third)), (first, second, third), today=TODAY)
    assert [one.id for one in set_aside(now)] == [third.id, second.id, first.id]
    again = replace(first, id="ffff0001", text="Service number 0 listens on port 7.")
    same = replace(second, id="ffff0002", key="other.key")
    assert [one.id for one in set_aside(replace(now, entries=(again, same)))] == [third.id]
    forgotten = tuple(replace(one, entry=None) if one.id == third.id else one for one in now.history)
    assert third.id not in [one.id for one in set_aside(replace(now, history=forgotten))]


def test_the_audit_finds_what_must_not_expire() -> None:
    now = generation()
    for entry_ in (one for one in MEMORY if one.pinned or one.by_owner or one.kind is Kind.USER):
        after = expire(now, [entry_], today=TODAY)
        assert "I14" in {one.invariant for one in audit(now, after, marked=[entry_.id])}
    many = MEMORY[:4]
    assert any("at once" in one.text for one in audit(now, expire(now, many, today=TODAY), marked=[e.id for e in many]))
    silent = audit(now, expire(now, [MEMORY[3]], today=TODAY))
    assert "I2b" in {one.invariant for one in silent}, "only what the dream says it let go of"


def test_a_key_that_was_made_up_sets_nothing_else_aside() -> None:
    """Another thing that begins with the same words is not the newer word about this one."""
    texts = [f"The staging api server listens {where}" for where in ("on port 8080", "to the proxy", "in Falkenstein")]
    first, second, third = (entry(f"aaaa000{n}", key_of(text), text) for n, text in enumerate(texts))
    gone = expire(generation([first, second, third]), [first, second], today=TODAY)
    assert {one.id for one in set_aside(gone)} == {first.id, second.id}
