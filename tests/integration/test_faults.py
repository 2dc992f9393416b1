"""Forty ways in which a provider fails, each over a real socket: what is asked, lost, told and paid (design §13)."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.engine_bench import open_setup
from tests.fault_bench import OUTAGE, measure
from tests.fault_server import FAULTS

from kairosd.engine.breakers import ASKED_WAIT, FIRST_WAIT, LAST_WAIT, OPENS_AFTER
from kairosd.models.exchange import TRIES

pytestmark = pytest.mark.anyio

REFUSED = {"301", "400", "401", "402 no credit", "403", "404"}  # the run ends with the reason; events wait
UNUSABLE = {"empty answer"}  # a run asks three times for words that can be used
CHARGED = {
    "cut in a call", "cut in the text", "empty answer", "endless answer", "no final event", "overloaded in mid-stream",
}  # fmt: skip
# Two who ask at once, each with all the tries of a provider's client; then a probe after 30, 60, 120, 240 and 300 s,
# the shortest of which are half of that.
CALLS_MOST = 2 * TRIES + 8


def test_there_are_enough_of_them() -> None:
    assert len(FAULTS) >= 40


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        *((name, "anthropic") for name in FAULTS),
        *((name, "openai") for name, fault in FAULTS.items() if not fault.slow),
    ],
)
async def test_an_event_and_a_run_meet_a_fault(tmp_path: Path, name: str, provider: str) -> None:
    with open_setup(tmp_path) as made:
        found = await measure(name, provider, made.folder)
    fault = FAULTS[name]
    assert found.reached, "the server's own log does not show that the fault reached the client"
    assert found.lost == 0
    assert found.settled
    assert (found.charged > 0) == (name in CHARGED)
    assert found.run == ("failed" if name in REFUSED | UNUSABLE else "done_unchecked")
    if fault.turn:
        assert (found.notices, found.calls) == ([], 2)
        return
    assert [title.rpartition("main ")[2] for title in found.notices] == ["does not answer", "answers again"]
    assert OPENS_AFTER - 2 <= found.calls <= CALLS_MOST
    slowest = 400 * 1.1 if name.endswith("400") else LAST_WAIT
    assert found.recovery <= slowest + FIRST_WAIT
    assert OUTAGE < ASKED_WAIT
