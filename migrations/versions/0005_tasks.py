"""Commands that outlast their call, and since when a run has been away without having been told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tasks",
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("id", sa.String(), nullable=False, unique=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("run", sa.String(), nullable=False),
        sa.Column("call", sa.String(), nullable=False),
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("tier", sa.String(), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("output", sa.Text(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.Column("ended", sa.String()),
        sa.Column("code", sa.Integer()),
        sa.Column("timed_out", sa.Boolean(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
    )
    op.create_index("tasks_run", "tasks", ["run"])
    op.create_index("tasks_running", "tasks", ["id"], sqlite_where=sa.text("state = 'running'"))
    op.add_column("runs", sa.Column("rested", sa.String()))
    op.add_column("runs", sa.Column("rested_on", sa.String(), nullable=False, server_default=sa.text("''")))


def downgrade() -> None:
    raise NotImplementedError("Kairos goes back by restoring a copy of its state folder, not by undoing migrations")
