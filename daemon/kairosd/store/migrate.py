"""Brings the database to the schema this code knows, before anything else opens it.

Alembic costs 5.7 MB and 84 ms to import (design §12), so the schema's version is read with plain SQL and Alembic is
loaded only when there is something to do.
"""

from __future__ import annotations

import importlib
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Protocol, cast

from kairosd.errors import SchemaTooNewError, StoreError
from kairosd.store.database import translated

# Every migration, oldest first; a test compares them with the files.
REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006")
HEAD = REVISIONS[-1]

_PACKAGE = Path(__file__).resolve().parent.parent


class _Upgrade(Protocol):
    def upgrade(self, database: Path, scripts: Path, *, revision: str) -> None: ...


def migrate(path: Path) -> bool:
    """Whether the schema was behind and has been brought to the newest.

    Raises `SchemaTooNewError` when a newer Kairos has been here, `StoreError` when the file is not a database.
    """
    _create_private(path)
    found = revision_of(path)
    if found == HEAD:
        return False
    if found is not None and found not in REVISIONS:
        raise SchemaTooNewError(
            f"the database {path} has schema {found}, and this Kairos knows up to {HEAD}",
            fix="install the newer Kairos again, or move the database away",
        )
    runner = cast("_Upgrade", importlib.import_module("kairosd.store.upgrade"))
    runner.upgrade(path, scripts_folder(), revision=HEAD)
    return True


def revision_of(path: Path) -> str | None:
    """The revision `path` is at, None for a new file. Raises `StoreError` when it is not a database."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone() is None:
                return None
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            return None if row is None else str(row[0])
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read: {translated(error)}", fix="move it away to start anew") from error


def scripts_folder() -> Path:
    """Where the migrations are: in the installed package, else in the repository."""
    shipped = _PACKAGE / "_share" / "migrations"
    return shipped if shipped.is_dir() else _PACKAGE.parent.parent / "migrations"


def _create_private(path: Path) -> None:
    # SQLite gives its WAL files the mode of the database, so this one call keeps all three private.
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(
            f"{path} cannot be opened: {error.strerror}", fix="check its folder's owner and mode"
        ) from error
