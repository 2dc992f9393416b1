"""The words for a world were stored and never read."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # By way of a copy of the table: SQLite itself drops a column only from 3.35 on.
    with op.batch_alter_table("worlds", recreate="always") as worlds:
        worlds.drop_column("digest")


def downgrade() -> None:
    raise NotImplementedError("Kairos goes back by restoring a copy of its state folder, not by undoing migrations")
