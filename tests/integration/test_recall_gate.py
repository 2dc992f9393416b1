"""The recall gate on the real index (invariant I19): what it lets pass, and what it does not."""

from __future__ import annotations

from datetime import date

from tests.dreams import entry

from kairosd.core.memory import Generation, Past
from kairosd.engine.recall import SearchRecall
from kairosd.store.search import SearchIndex

GATE = SearchRecall(lambda: SearchIndex(None))
MOVED = "The fjord-99 service was moved to Exoscale 2026-03-01."
ALIKE = tuple(
    entry(f"bbbb{number:04x}", f"alike.n{number}", f"The fjord-{number} service was moved to Exoscale 2026-03-01.")
    for number in range(30)
)
MINE = entry("aaaa0001", "mine.host", MOVED)


def test_the_value_that_was_replaced_need_not_be_found() -> None:
    heir = entry("aaaa0002", "mine.host", "The fjord-99 service runs on OVH.")
    past = Past(MINE.id, MINE, date(2026, 3, 2), "supersede", heir.id)
    old, new = Generation(1, entries=(*ALIKE, MINE)), Generation(2, entries=(*ALIKE, heir), history=(past,))
    assert GATE.losses(old, new, added=[heir]) == []


def test_what_others_push_out_of_the_first_answers_is_a_loss() -> None:
    crowd = tuple(
        entry(f"cccc{number:04x}", f"crowd.n{number}", "fjord-99 moved, Exoscale 2026-03-01, fjord-99 service moved")
        for number in range(9)
    )
    old, new = Generation(1, entries=(*ALIKE, MINE)), Generation(2, entries=(*ALIKE, MINE, *crowd))
    assert any(one.startswith(MINE.id) for one in GATE.losses(old, new, added=crowd))
