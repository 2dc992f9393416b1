"""How long `kairos replay` takes for a recorded day, and whether it finds the one reply that was changed.

The evening has acts, a crash in a run, and a question that is answered after midnight; the day after has the rest of
the events. Models follow a script, the journal, the database and the record are real, and so is the replay.

    python -m bench.replay [--events 500]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.engine_bench import open_setup
from tests.fakes import ManualClock
from tests.integration.test_replay import EVENING, Recorded, live_a_day

DAYS = ("2026-03-02", "2026-03-03")
AIM_SECONDS = 10.0


async def main() -> int:
    parser = argparse.ArgumentParser(description="times kairos replay of a recorded day")
    parser.add_argument("--events", type=int, default=500)
    events = parser.parse_args().events
    with tempfile.TemporaryDirectory() as folder, open_setup(Path(folder) / "setup") as made:
        setup = Recorded(made.folder, clock=ManualClock(EVENING), workspace="level = 'project'\ntrusted = true")
        await live_a_day(setup, events)
        size = sum(path.stat().st_size for path in setup.place.exchanges.rglob("*.jsonl"))
        print(f"recorded {events} events; the record has {size / 1000:.0f} kB; load {os.getloadavg()[0]:.1f}")
        total = 0.0
        for day in DAYS:
            began, busy = time.perf_counter(), time.process_time()
            report = await setup.replay(day)
            total += (seconds := time.perf_counter() - began)
            told = f"{len(report.found)} differences, {len(report.missing)} missing"
            print(f"{day}: {seconds:.1f} s ({time.process_time() - busy:.1f} s CPU), {report.counts}, {told}")
        print(f"both days: {total:.1f} s (aim: {AIM_SECONDS:.0f} s)")
        path, number, entry = [each for each in setup.entries() if each[2]["role"] == "decide"][events // 4]
        entry["reply"]["uses"][0]["arguments"]["reason"] = "changed"  # type: ignore[index]
        setup.change(path, number, entry, sealed=True)
        found = (await setup.replay(DAYS[1])).found
        exactly = [each.cause.id for each in found] == [entry["cause"]]
        told = "at exactly that decision" if exactly else "ELSEWHERE"
        print(f"one reply changed: found {told}, {[each.cause.events for each in found]}")
        return 0 if exactly else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
