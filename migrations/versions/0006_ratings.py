"""Ratings, who decided, what a run's repair was for, and the world that the shadow has looked at."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ratings",
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("subject", sa.String(), nullable=False, unique=True),
        sa.Column("rating", sa.String(), nullable=False),
        sa.Column("rated_at", sa.String(), nullable=False),
    )
    op.add_column("decisions", sa.Column("model", sa.Text(), nullable=False, server_default=sa.text("''")))
    op.add_column("decisions", sa.Column("escalated", sa.Text(), nullable=False, server_default=sa.text("''")))
    op.add_column("runs", sa.Column("escalated", sa.Text(), nullable=False, server_default=sa.text("''")))
    op.add_column("worlds", sa.Column("shadow_fingerprint", sa.String(), nullable=False, server_default=sa.text("''")))


def downgrade() -> None:
    raise NotImplementedError("Kairos goes back by restoring a copy of its state folder, not by undoing migrations")
