"""The spine: inbox, decisions, runs, calls, approvals, notices, model calls, the journal's outbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _events()
    _decisions()
    _runs()
    _calls()
    _approvals()
    _notices()
    _model_calls()
    _worlds()
    _state()
    _counters()
    _outbox()
    _journal_mark()


def downgrade() -> None:
    raise NotImplementedError("Kairos goes back by restoring a copy of its state folder, not by undoing migrations")


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("id", sa.String(), nullable=False, unique=True),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("tier", sa.String(), nullable=False),
        sa.Column("workspace", sa.String()),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("delivery", sa.Text()),
        sa.Column("body", sa.String()),
        sa.Column("received_at", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("decision", sa.String()),
        sa.Column("error", sa.Text()),
        sa.Column("retry_at", sa.String()),
    )
    op.create_index("events_body", "events", ["body"], unique=True, sqlite_where=sa.text("body IS NOT NULL"))
    op.create_index("events_decision", "events", ["decision"], sqlite_where=sa.text("decision IS NOT NULL"))
    op.create_index("events_source_key", "events", ["source", "key"], unique=True)
    op.create_index("events_state", "events", ["state", "workspace"])


def _decisions() -> None:
    op.create_table(
        "decisions",
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("id", sa.String(), nullable=False, unique=True),
        sa.Column("workspace", sa.String()),
        sa.Column("tier", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("goal", sa.Text(), nullable=False),
        sa.Column("confidence", sa.Integer(), nullable=False),
        sa.Column("price", sa.Integer()),
        sa.Column("next_wake", sa.String()),
        sa.Column("events", sa.Text(), nullable=False),
        sa.Column("run", sa.String()),
        sa.Column("notice", sa.String()),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("shadow", sa.Boolean(), nullable=False),
        sa.Column("asked_at", sa.String(), nullable=False),
        sa.Column("concluded_at", sa.String()),
    )
    op.create_index("decisions_asked", "decisions", ["id"], sqlite_where=sa.text("verdict = 'asked'"))
    op.create_index("decisions_workspace", "decisions", ["workspace", "number"])


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("id", sa.String(), nullable=False, unique=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("goal", sa.Text(), nullable=False),
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("trigger", sa.String(), nullable=False),
        sa.Column("decision", sa.String()),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("taint", sa.String(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.Column("started", sa.String()),
        sa.Column("ended", sa.String()),
        sa.Column("turns", sa.Integer(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("price", sa.Integer()),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("checks", sa.Text(), nullable=False),
        sa.Column("parked_on", sa.String()),
        sa.Column("branch", sa.String()),
        sa.Column("patch", sa.String()),
        sa.Column("commit", sa.String()),
        sa.Column("base", sa.String()),
    )
    op.create_index("runs_one_running", "runs", ["workspace"], unique=True, sqlite_where=sa.text("state = 'running'"))
    op.create_index("runs_state", "runs", ["state"])
    op.create_index("runs_workspace", "runs", ["workspace", "number"])


def _calls() -> None:
    op.create_table(
        "calls",
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("id", sa.String(), nullable=False, unique=True),
        sa.Column("run", sa.String(), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("tool", sa.Text(), nullable=False),
        sa.Column("arguments", sa.Text(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("requested_at", sa.String(), nullable=False),
        sa.Column("effect", sa.Boolean(), nullable=False),
        sa.Column("provider_id", sa.Text(), nullable=False),
        sa.Column("plan", sa.Text()),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("ended_at", sa.String()),
    )
    op.create_index("calls_run", "calls", ["run", "turn", "position"])
    op.create_index("calls_state", "calls", ["state"])


def _approvals() -> None:
    op.create_table(
        "approvals",
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("id", sa.String(), nullable=False, unique=True),
        sa.Column("code", sa.String(collation="NOCASE"), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("run", sa.String(), nullable=False),
        sa.Column("call", sa.String(), nullable=False),
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.Column("expires", sa.String(), nullable=False),
        sa.Column("answered_at", sa.String()),
        sa.Column("channel", sa.String()),
    )
    op.create_index("approvals_call", "approvals", ["call"])
    op.create_index("approvals_open_code", "approvals", ["code"], unique=True, sqlite_where=sa.text("state = 'open'"))
    op.create_index("approvals_run", "approvals", ["run"])
    op.create_index("approvals_state", "approvals", ["state"])


def _notices() -> None:
    op.create_table(
        "notices",
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("id", sa.String(), nullable=False, unique=True),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("severity", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.Column("due", sa.String(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("cause", sa.String()),
        sa.Column("workspace", sa.String()),
        sa.Column("receipt", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.Column("delivered_at", sa.String()),
    )
    op.create_index("notices_key", "notices", ["key", "channel"], unique=True)
    op.create_index("notices_state", "notices", ["state", "due"])


def _model_calls() -> None:
    op.create_table(
        "model_calls",
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("reserved_at", sa.String(), nullable=False),
        sa.Column("settled_at", sa.String()),
        sa.Column("input", sa.Integer()),
        sa.Column("output", sa.Integer()),
        sa.Column("cache_read", sa.Integer()),
        sa.Column("cache_write", sa.Integer()),
        sa.Column("price", sa.Integer()),
        sa.Column("outcome", sa.String()),
    )
    op.create_index("model_calls_cause", "model_calls", ["cause"])
    op.create_index("model_calls_open", "model_calls", ["number"], sqlite_where=sa.text("outcome IS NULL"))


def _worlds() -> None:
    op.create_table(
        "worlds",
        sa.Column("workspace", sa.String(), primary_key=True),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("next_wake", sa.String()),
        sa.Column("trusted_hashes", sa.String(), nullable=False),
    )


def _state() -> None:
    op.create_table(
        "state",
        sa.Column("key", sa.String(), primary_key=True),
        sa.Column("value", sa.Text()),
        sa.Column("changed_at", sa.String(), nullable=False),
    )


def _counters() -> None:
    op.create_table(
        "counters",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("value", sa.Integer(), nullable=False),
    )


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("seq", sa.Integer(), primary_key=True),
        sa.Column("line", sa.Text(), nullable=False),
    )


def _journal_mark() -> None:
    op.create_table(
        "journal_mark",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("file", sa.String(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
    )
