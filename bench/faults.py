"""What Kairos does about each way in which a provider fails.

    python -m bench.faults [--provider anthropic|openai] [NAME ...]

An event and a run meet each fault of `tests/fault_server.py` over a real socket; after ten minutes the server is whole
again. A row says: requests that met the fault, seconds until event and run were through once it was over, events lost,
notices to the owner, whether every reservation was settled, micro-dollars charged for calls without an answer, how the
run ended, and what the server's own log shows as sent. Seconds are those of the Clock, which stands still for nobody.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.engine_bench import open_setup
from tests.fault_bench import Outcome, measure
from tests.fault_server import FAULTS

HEADER = (
    f"{'fault':27} {'calls':>5} {'back in':>8} {'lost':>4} {'told':>4} {'settled':>7} {'charged':>8} {'run':14} sent"
)


def main() -> int:
    """Prints the table; 1 when something was lost, left open, told too often, or not shown to have been sent."""
    parser = argparse.ArgumentParser(description="the table of faults")
    parser.add_argument("--provider", choices=("anthropic", "openai"), default="anthropic")
    parser.add_argument("names", nargs="*", metavar="NAME", help="some of: " + ", ".join(FAULTS))
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in FAULTS]:
        parser.error(f"there is no fault {unknown[0]!r}")
    sys.stdout.write(f"{HEADER}\n")
    with tempfile.TemporaryDirectory(prefix="kairos-faults-") as folder:
        good = [_row(name, options.provider, Path(folder)) for name in options.names or FAULTS]
    sys.stdout.write(f"{sum(good)} of {len(good)} faults: nothing lost, all settled, at most two notices\n")
    return 0 if all(good) else 1


def _row(name: str, provider: str, folder: Path) -> bool:
    home = folder / name.replace(" ", "-").replace(",", "")
    home.mkdir()
    with open_setup(home) as setup:
        found = asyncio.run(measure(name, provider, setup.folder))
    settled = "yes" if found.settled else "NO"
    sys.stdout.write(
        f"{name:27} {found.calls:5} {found.recovery:6.0f} s {found.lost:4} {len(found.notices):4} {settled:>7} "
        f"{found.charged:8} {found.run:14} {found.reached[:60]}\n"
    )
    sys.stdout.flush()
    return _good(found)


def _good(found: Outcome) -> bool:
    return bool(found.reached) and found.settled and not found.lost and len(found.notices) <= 2


if __name__ == "__main__":
    sys.exit(main())
