"""Standing grants, and what a question must know so that one can be given for it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "grants",
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("id", sa.String(), nullable=False, unique=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("tool", sa.Text(), nullable=False),
        sa.Column("exact", sa.String(), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("taint", sa.String(), nullable=False),
        sa.Column("approval", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("used_at", sa.String()),
        sa.Column("revoked_at", sa.String()),
    )
    active = sa.text("state = 'active'")
    op.create_index("grants_active", "grants", ["workspace", "exact"], unique=True, sqlite_where=active)
    # A question from before knows nothing of what it is about: it counts as guarded and can be granted once only.
    op.add_column("approvals", sa.Column("effect", sa.String(), nullable=False, server_default=sa.text("''")))
    op.add_column("approvals", sa.Column("guarded", sa.Boolean(), nullable=False, server_default=sa.text("1")))
    op.add_column("approvals", sa.Column("exact", sa.String(), nullable=False, server_default=sa.text("''")))


def downgrade() -> None:
    raise NotImplementedError("Kairos goes back by restoring a copy of its state folder, not by undoing migrations")
