"""`kairosd memory reindex`: makes the search index anew from memory, journal and transcripts. Needs no daemon."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence

from kairosd.engine.indexing import Indexer
from kairosd.errors import StoreError
from kairosd.frozen import frozen
from kairosd.ports import Runs, Transcript
from kairosd.store.database import Database, open_engine
from kairosd.store.memory import MemoryFolder
from kairosd.store.memory_journal import JournalReader
from kairosd.store.runs import RunStore
from kairosd.store.search import SearchIndex
from kairosd.store.transcripts import TranscriptStore
from kairosd.system.clock import SystemClock
from kairosd.wire import EXIT_OK, Home

CLOSE_SECONDS = 2.0


@frozen
class _Record:
    runs: Runs
    transcripts: Transcript


def main(arguments: Sequence[str], place: Home) -> int:
    """Exit 0 when the index is whole. Stopped in between it goes on at the next search. Raises `StoreError`."""
    options = _parser().parse_args(arguments)
    counts = asyncio.run(_reindex(place, quiet=options.json or not sys.stderr.isatty()))
    if options.json:
        sys.stdout.write(f"{json.dumps(dict(counts))}\n")
    else:
        told = ", ".join(f"{count} of {layer}" for layer, count in sorted(counts.items())) or "nothing yet"
        sys.stdout.write(f"indexed: {told}\n")
    return EXIT_OK


async def _reindex(place: Home, *, quiet: bool) -> Mapping[str, int]:
    if not place.database.exists():
        raise StoreError(f"there is no database in {place.state}", fix="start the daemon once: kairos status says how")
    clock = SystemClock()
    engine = open_engine(place.database)
    database = Database(engine, 0, on_lines=lambda: None)  # only read here: a daemon may be at work beside it
    database.start()
    record = _Record(RunStore(database), TranscriptStore(place.transcripts))
    index = SearchIndex(place.search_index)
    journal, memory = JournalReader(place.journal), MemoryFolder(place.memory, clock)
    try:
        indexer = Indexer(index, record, journal=journal, memory=memory, clock=clock)
        return await indexer.rebuild(None if quiet else _progress)
    finally:
        index.close()
        database.close(CLOSE_SECONDS)
        engine.dispose()
        if not quiet:
            sys.stderr.write("\r\x1b[K")


def _progress(number: int) -> None:
    sys.stderr.write(f"\rjournal line {number} read\x1b[K")
    sys.stderr.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kairosd memory", description="The search index of memory.")
    verbs = parser.add_subparsers(required=True, metavar="reindex")
    reindex = verbs.add_parser("reindex", help="make the search index anew")
    reindex.add_argument("--json", action="store_true", help="one JSON object instead of text")
    return parser
