"""Running the migrations. Imported only when the schema is behind, because Alembic is heavy."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from kairosd.errors import StoreError
from kairosd.store.database import open_engine, translated


def upgrade(database: Path, scripts: Path, *, revision: str) -> None:
    """Brings `database` to `revision` in one transaction: a crash in it leaves the old schema. Raises `StoreError`."""
    engine = open_engine(database)
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    except CommandError as error:
        raise StoreError(f"the database cannot be migrated: {error}", fix="install Kairos again") from error
    except SQLAlchemyError as error:
        raise translated(error) from error
    finally:
        engine.dispose()
