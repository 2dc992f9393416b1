"""Puts the stores together: migrated, reconciled with the journal on disk, and with their threads running."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import Engine

from kairosd.errors import StoreError
from kairosd.frozen import frozen
from kairosd.ports.stores import Stores
from kairosd.ports.world import Clock
from kairosd.store.approvals import ApprovalStore
from kairosd.store.blobs import BlobStore
from kairosd.store.database import Database, open_engine
from kairosd.store.decisions import DecisionStore
from kairosd.store.events import EventStore
from kairosd.store.grants import GrantStore
from kairosd.store.journal import JournalWriter
from kairosd.store.migrate import migrate
from kairosd.store.model_calls import ModelCallStore
from kairosd.store.notices import NoticeStore
from kairosd.store.ratings import RatingStore
from kairosd.store.recovery import reconcile
from kairosd.store.runs import RunStore
from kairosd.store.state import StateStore
from kairosd.store.tasks import TaskStore
from kairosd.store.transcripts import TranscriptStore
from kairosd.store.worlds import WorldStore

CLOSE_SECONDS = 2.0  # for the journal and for the database each, out of the 10 s an ordered stop may take


@frozen
class OpenStores:
    """The stores of one home, and what keeps them. `repairs` counts what the start had to mend in the journal."""

    stores: Stores
    database: Database
    journal: JournalWriter
    repairs: int
    engine: Engine

    def start(self) -> None:
        """Starts the threads: from here on the stores work."""
        self.database.start()
        self.journal.start(self.database)

    async def close(self) -> None:
        """Writes what is left, in order, and ends the threads. Lines that could not be written wait in the outbox."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self.journal.close(CLOSE_SECONDS)
        self.database.close(CLOSE_SECONDS)
        self.engine.dispose()


def open_stores(path: Path, journal_folder: Path, *, transcripts_folder: Path, clock: Clock) -> OpenStores:
    """Opens the database at `path`, migrating it when it is behind; the folders are made when they are missing.

    Blocks for a moment; call `start` next. Raises `SchemaTooNewError`, `StoreError`.
    """
    for folder in (path.parent, journal_folder, transcripts_folder):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{folder} cannot be made: {error.strerror}", fix="check its parent's mode") from error
    migrate(path)
    engine = open_engine(path)
    with engine.connect() as connection:
        begin = reconcile(journal_folder, connection, now=clock.now())
    journal = JournalWriter(journal_folder, begin.mark)
    database = Database(engine, begin.last, on_lines=journal.wake)
    blobs = path.parent / "blobs"
    stores = stores_over(database, blobs, transcripts_folder=transcripts_folder, clock=clock, journal=journal)
    return OpenStores(stores, database, journal, begin.repairs, engine)


def stores_over(
    database: Database, blobs_folder: Path, *, transcripts_folder: Path, clock: Clock,
    journal: JournalWriter | None = None,
) -> Stores:  # fmt: skip
    """Every store of one database; `journal` None = nobody writes its lines down."""
    return Stores(
        events=EventStore(database, clock),
        decisions=DecisionStore(database),
        worlds=WorldStore(database),
        runs=RunStore(database),
        tasks=TaskStore(database),
        approvals=ApprovalStore(database),
        grants=GrantStore(database),
        notices=NoticeStore(database),
        model_calls=ModelCallStore(database),
        ratings=RatingStore(database),
        state=StateStore(database, journal),
        transcripts=TranscriptStore(transcripts_folder),
        blobs=BlobStore(blobs_folder),
    )
