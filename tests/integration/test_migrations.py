"""The migrations build what the code expects, from nothing, and never touch what is newer than they are."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine

from kairosd.errors import SchemaTooNewError, StoreError
from kairosd.store.database import open_engine
from kairosd.store.migrate import HEAD, REVISIONS, migrate, revision_of, scripts_folder
from kairosd.store.schema import metadata
from kairosd.store.upgrade import upgrade


def structure(engine: Engine) -> dict[str, object]:
    """Columns and indexes of every table as SQLite itself sees them."""
    found: dict[str, object] = {}
    with engine.connect() as connection:
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name != 'alembic_version'"
        for (table,) in connection.exec_driver_sql(query).all():
            columns = [tuple(row)[1:] for row in connection.exec_driver_sql(f"PRAGMA table_info({table})")]
            indexes = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL"
            found[table] = (columns, {tuple(row) for row in connection.exec_driver_sql(indexes, (table,))})
    engine.dispose()
    return found


def test_head_from_nothing(tmp_path: Path) -> None:
    path = tmp_path / "kairos.db"
    assert migrate(path)
    assert revision_of(path) == HEAD
    assert path.stat().st_mode & 0o777 == 0o600
    assert not migrate(path)


def test_the_tables_equal_head(tmp_path: Path) -> None:
    migrate(tmp_path / "migrated.db")
    created = create_engine(f"sqlite:///{tmp_path / 'created.db'}")
    metadata.create_all(created)
    assert structure(open_engine(tmp_path / "migrated.db")) == structure(created)
    engine = open_engine(tmp_path / "migrated.db")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_a_world_of_the_first_schema_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "kairos.db"
    upgrade(path, scripts_folder(), revision="0001")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO worlds VALUES ('app', 'f1', 'words', '2026-01-01T00:00:00+00:00', '{}')")
    assert migrate(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM worlds").fetchall() == [
            ("app", "f1", "2026-01-01T00:00:00+00:00", "{}", "")
        ]


def test_a_question_from_before_grants_is_guarded_and_takes_none(tmp_path: Path) -> None:
    path = tmp_path / "kairos.db"
    upgrade(path, scripts_folder(), revision="0002")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO approvals (id, code, state, run, call, workspace, hash, question, rule, created, expires) "
            "VALUES ('a_1', 'bcdfg', 'open', 'r_1', 'c_1', 'app', 'h', 'write?', 'rule', '2026-01-01', '2026-01-02')"
        )
    assert migrate(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute("SELECT guarded, exact, effect FROM approvals").fetchall() == [(1, "", "")]


def test_the_code_knows_every_migration() -> None:
    scripts = ScriptDirectory(str(scripts_folder()))
    assert tuple(reversed([script.revision for script in scripts.walk_revisions()])) == REVISIONS
    assert scripts.get_current_head() == HEAD


def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "kairos.db"
    migrate(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaTooNewError, match="9999"):
        migrate(path)
    assert revision_of(path) == "9999"


def test_what_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "kairos.db"
    path.write_bytes(b"these are not the bytes you are looking for" * 100)
    with pytest.raises(StoreError):
        migrate(path)
    assert path.read_bytes().startswith(b"these are not")


def test_alembic_is_loaded_only_when_there_is_something_to_do(tmp_path: Path) -> None:
    path = tmp_path / "kairos.db"
    migrate(path)
    code = (
        "import sys; from pathlib import Path; from kairosd.store import assembly, migrate;"
        f"migrate.migrate(Path({str(path)!r})); sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
