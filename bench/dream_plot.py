"""Draws what `bench.dream_days --save` has written.

uv run --no-project --with matplotlib python bench/dream_plot.py FILE.json FILE.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot


def main(source: Path, target: Path) -> None:
    report = json.loads(source.read_text())
    rows = report["rows"]
    days = [row["day"] for row in rows]
    figure, axes = pyplot.subplots(2, 2, figsize=(10, 6), sharex=True)
    panels = (
        ("entries", [("planted facts", "planted", 1), ("active entries", "entries", 1)]),
        ("kilobytes", [("memory", "memory_bytes", 1024), ("MEMORY.md", "index_md_bytes", 1024)]),
        ("tokens a day", [("tokens", "tokens", 1)]),
        ("megabytes", [("resident memory", "rss_kb", 1024), ("search index", "search_bytes", 1024 * 1024)]),
    )
    for axis, (unit, lines) in zip(axes.flat, panels, strict=True):
        for label, name, scale in lines:
            axis.plot(days, [row[name] / scale for row in rows], label=label)
        axis.set_ylabel(unit)
        axis.set_ylim(bottom=0)
        axis.legend()
    for axis in axes[1]:
        axis.set_xlabel("day")
    figure.suptitle(f"{report['days']} days of {report['events']} events, a dream each night")
    figure.tight_layout()
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
