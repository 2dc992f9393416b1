"""What reading a shell line costs, and what the gate's whole verdict on it does.

    KAIROS_SHARED=... python -m bench.shell [--rounds N]

Every line of the corpus of bypasses is read and judged N times; printed are microseconds per line. A refusal costs more
than a plan, for its rewrite is read as well. A verdict follows every path on disk, so it depends on the machine.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from kairosd.core.events import Tier
from kairosd.core.levels import Level
from kairosd.core.policy import Policy
from kairosd.core.runs import Run, RunState
from kairosd.core.shell.syntax import read_line
from kairosd.engine.gate import Gate
from kairosd.errors import ShellFormError
from kairosd.system.files import LocalFiles


def corpus() -> list[str]:
    """The lines of `$KAIROS_SHARED/security/shell_bypasses.tsv`."""
    shared = os.environ.get("KAIROS_SHARED")
    if not shared:
        raise SystemExit("KAIROS_SHARED is not set: there is no corpus to read")
    with (Path(shared) / "security" / "shell_bypasses.tsv").open(encoding="utf-8", newline="") as source:
        rows = csv.DictReader(source, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [json.loads(row["command_json"]) for row in rows]


def timed(lines: Sequence[str], one: Callable[[str], object], *, rounds: int) -> list[float]:
    """Microseconds of each line, its fastest of `rounds`, in rising order."""
    best: list[float] = []
    for line in lines:
        fastest = float("inf")
        for _ in range(rounds):
            start = time.perf_counter_ns()
            one(line)
            fastest = min(fastest, (time.perf_counter_ns() - start) / 1000)
        best.append(fastest)
    return sorted(best)


def read(line: str) -> bool:
    """Whether the line is plain."""
    try:
        read_line(line)
    except ShellFormError:
        return False
    return True


def judge_in(root: Path) -> Callable[[str], object]:
    """The gate's verdict on a line, for a run of level sandboxed in the folder `root`."""
    gate = Gate(Policy())
    run = Run("r_1", RunState.RUNNING, "", "bench", "owner", None, Level.SANDBOXED, Tier.OWNER, datetime.now(UTC))
    follow = partial(LocalFiles().resolve, root)
    return lambda line: gate.explain(partial(read_line, line), run=run, root=root, follow=follow)


def report(name: str, micros: Sequence[float]) -> None:
    """Prints median and 99th percentile."""
    high = micros[min(len(micros) - 1, int(len(micros) * 0.99))]
    print(f"{name:8} {len(micros):4} lines  median {statistics.median(micros):7.1f} us  p99 {high:7.1f} us")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    lines = corpus()
    plain = [line for line in lines if read(line)]
    refused = [line for line in lines if not read(line)]
    report("plain", timed(plain, read, rounds=rounds))
    report("refused", timed(refused, read, rounds=rounds))
    report("all", timed(lines, read, rounds=rounds))
    with tempfile.TemporaryDirectory() as folder:
        report("verdict", timed(lines, judge_in(Path(folder)), rounds=rounds))


if __name__ == "__main__":
    main()
