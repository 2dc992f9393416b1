"""`kairosd replay RUN|DAY`: what was recorded, done again by today's code; the first thing that comes out otherwise."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kairosd.app.replay.replaying import Cause, Found, Report, replay
from kairosd.config import load, read_environment
from kairosd.core.json import Json, JsonObject
from kairosd.system.clock import SystemClock
from kairosd.wire import EXIT_FAILED, EXIT_OK, EXIT_USAGE, Home

MISSING_SHOWN = 3
BRIEF = 80  # characters of those that follow
REST_SHOWN = 4  # differences of the same cause after the first
NO_RECORD = "nothing of it is on record: it is from before this version, or older than [retention] transcripts_days"


def main(arguments: Sequence[str], place: Home) -> int:
    """Replays. Exit 0: all came out as recorded; 1: something did not; 2: nothing there to be replayed."""
    chosen = _parser().parse_args(arguments)
    config = load(chosen.config, folder=Path.cwd(), place=place)
    began = SystemClock().monotonic()
    progress = _Progress(sys.stderr.isatty() and not chosen.json)
    with _silence():
        report = asyncio.run(
            replay(place, config, environment=read_environment(), wanted=chosen.what, progress=progress.show)
        )
    progress.clear()
    seconds = SystemClock().monotonic() - began
    if chosen.json:
        sys.stdout.write(f"{json.dumps({**_answer(report), 'milliseconds': int(seconds * 1000)})}\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in _lines(report, seconds))
    if report.found:
        return EXIT_FAILED
    return EXIT_USAGE if report.missing and not report.replayed else EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kairos replay",
        description="Does again what was recorded, offline, with today's code and configuration: nothing is executed "
        "and no model is asked. Says the first thing that comes out otherwise.",
    )
    parser.add_argument("what", metavar="RUN|DAY", help="the id of a run or decision, or a day such as 2026-03-02")
    parser.add_argument("--config", type=Path, metavar="FILE", help="another configuration than the home's")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    return parser


@contextmanager
def _silence() -> Iterator[None]:
    """What went wrong then is told as it was, not as news."""
    logger = logging.getLogger("kairosd")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Progress:
    """One line on a terminal, written over again and again."""

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._told = -1

    def show(self, done: int, total: int) -> None:
        percent = 100 * done // max(1, total)
        if self._shown and percent != self._told:
            self._told = percent
            sys.stderr.write(f"\rreplaying {done} of {total}")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")


def _answer(report: Report) -> JsonObject:
    missing: list[Json] = [{"id": cause.id, "kind": cause.kind, "why": why} for cause, why in report.missing]
    return {
        "replayed": report.wanted,
        "identical": not report.found,
        "counts": report.counts,
        "missing": missing,
        "damaged": report.damaged,
        "first": _difference(report.found[0]) if report.found else None,
        "diverged": [found.cause.id for found in report.found],
    }


def _difference(found: Found) -> JsonObject:
    first, *rest = found.differences
    told: list[Json] = [{"id": each.id, "what": each.what} for each in rest]
    return {
        "cause": found.cause.id, "kind": found.cause.kind, "events": list(found.cause.events), "id": first.id,
        "turn": max(0, first.step[0]) if found.cause.kind == "run" else None, "what": first.what,
        "recorded": first.recorded, "came_out": first.came_out, "then": told,
    }  # fmt: skip


def _lines(report: Report, seconds: float) -> Iterator[str]:
    counts = ", ".join(f"{number} {_plural(name, number)}" for name, number in report.counts.items() if number)
    yield f"replayed {report.wanted}: {counts or 'nothing'} in {seconds:.1f} s"
    for cause, why in report.missing[:MISSING_SHOWN]:
        yield f"not replayed: {cause.id}: {why}"
    if len(report.missing) > MISSING_SHOWN:
        yield f"not replayed: {len(report.missing) - MISSING_SHOWN} more"
    if report.missing and not report.replayed:
        yield NO_RECORD
    yield from (f"damaged: {where}" for where in report.damaged)
    if not report.found:
        yield "all of it came out as recorded" if report.replayed else "nothing was compared"
        return
    yield from _told(report.found[0])
    if more := len(report.found) - 1:
        yield f"{more} more {'came' if more > 1 else 'comes'} out otherwise: " + _few(
            [found.cause for found in report.found[1:]]
        )


def _told(found: Found) -> Iterator[str]:
    cause, (first, *rest) = found.cause, found.differences
    events = f" (for {_few_names(cause.events)})" if cause.events and cause.kind != "hints" else ""
    yield f"first difference: {cause.kind} {cause.id}{events}"
    yield f"  {first.what} of {first.id}"
    yield f"  recorded:  {_printable(first.recorded)}"
    yield f"  came out:  {_printable(first.came_out)}"
    for each in rest[:REST_SHOWN]:
        was, now = _printable(each.recorded)[:BRIEF], _printable(each.came_out)[:BRIEF]
        yield f"  then:      {each.what} of {each.id}: {was} | {now}"


def _few(causes: Sequence[Cause]) -> str:
    return _few_names([cause.id for cause in causes])


def _few_names(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _plural(name: str, number: int) -> str:
    if name in ("events", "hints"):
        return "looks that set hints aside" if name == "hints" else name
    return name if number == 1 else f"{name}s"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
