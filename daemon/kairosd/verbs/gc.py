"""`kairosd gc`: applies `[retention]` now."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from kairosd.config import load
from kairosd.store.retention import carry_out, plan_sweep
from kairosd.system.clock import SystemClock
from kairosd.wire import Home


def main(arguments: Sequence[str], place: Home) -> int:
    """Deletes and compresses what is old, or with `--dry-run` says what it would."""
    parser = argparse.ArgumentParser(
        prog="kairos gc", description="Deletes old transcripts and checkouts, packs old journals."
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument("--json", action="store_true", help="one JSON array")
    chosen = parser.parse_args(arguments)
    config = load(None, folder=Path.cwd(), place=place)
    sweeps = plan_sweep(place, config.retention, now=SystemClock().now())
    if not chosen.dry_run:
        for sweep in sweeps:
            carry_out(sweep)
    if chosen.json:
        rows = [{"action": s.action, "path": str(s.path), "bytes": s.size, "why": s.why} for s in sweeps]
        sys.stdout.write(f"{json.dumps(rows)}\n")
        return 0
    verb = "would" if chosen.dry_run else "did"
    for sweep in sweeps:
        sys.stdout.write(f"{verb} {sweep.action:8} {sweep.size / 1e6:8.1f} MB  {sweep.path}  ({sweep.why})\n")
    if not sweeps:
        sys.stdout.write("nothing is old enough to go\n")
    return 0
