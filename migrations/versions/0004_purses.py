"""What a model call counts for against its purse, and for how long a run has worked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Calls from before there were purses belong to none and count for nothing.
    op.add_column("model_calls", sa.Column("purse", sa.String(), nullable=False, server_default=sa.text("''")))
    op.add_column("model_calls", sa.Column("charged_price", sa.Integer()))
    op.add_column("model_calls", sa.Column("charged_tokens", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.create_index("model_calls_purse", "model_calls", ["purse", "settled_at"])
    op.add_column("runs", sa.Column("seconds", sa.Integer(), nullable=False, server_default=sa.text("0")))


def downgrade() -> None:
    raise NotImplementedError("Kairos goes back by restoring a copy of its state folder, not by undoing migrations")
