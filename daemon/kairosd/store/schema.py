"""The tables. A column has the name of the record's field; `number` is the order of arrival.

`migrations/` builds the same tables step by step; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, Integer, MetaData, String, Table, Text, text

from kairosd.core.decisions import Verdict
from kairosd.core.events import EventState, Tier
from kairosd.core.notices import NoticeState, Severity
from kairosd.core.ratings import Rating
from kairosd.core.runs import ApprovalState, CallState, GrantState, ParkedOn, RunState
from kairosd.core.tasks import TaskState
from kairosd.store.columns import Document, Documents, Label, Moment, Words

metadata = MetaData()


def _number() -> Column[int]:
    return Column("number", Integer, primary_key=True)


def _id() -> Column[str]:
    return Column("id", String, nullable=False, unique=True)


events = Table(
    "events",
    metadata,
    _number(),
    _id(),
    Column("source", String, nullable=False),
    Column("kind", Words, nullable=False),
    Column("key", Words, nullable=False),
    Column("tier", Label(Tier), nullable=False),
    Column("workspace", String),
    Column("facts", Document, nullable=False),
    Column("text", Document, nullable=False),
    Column("delivery", Words),
    Column("body", String),
    Column("received_at", Moment, nullable=False),
    Column("state", Label(EventState), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("decision", String),
    Column("error", Words),
    Column("retry_at", Moment),
    Index("events_source_key", "source", "key", unique=True),
    Index("events_body", "body", unique=True, sqlite_where=text("body IS NOT NULL")),
    Index("events_state", "state", "workspace"),
    Index("events_decision", "decision", sqlite_where=text("decision IS NOT NULL")),
)

decisions = Table(
    "decisions",
    metadata,
    _number(),
    _id(),
    Column("workspace", String),
    Column("tier", Label(Tier), nullable=False),
    Column("verdict", Label(Verdict), nullable=False),
    Column("reason", Words, nullable=False),
    Column("goal", Words, nullable=False),
    Column("confidence", Integer, nullable=False),
    Column("price", Integer),
    Column("next_wake", Moment),
    Column("events", Documents, nullable=False),
    Column("run", String),
    Column("notice", String),
    Column("fingerprint", String, nullable=False),
    Column("source", String, nullable=False),
    Column("shadow", Boolean, nullable=False),
    Column("asked_at", Moment, nullable=False),
    Column("concluded_at", Moment),
    Column("model", Words, nullable=False, server_default=text("''")),
    Column("escalated", Words, nullable=False, server_default=text("''")),
    Index("decisions_workspace", "workspace", "number"),
    Index("decisions_asked", "id", sqlite_where=text("verdict = 'asked'")),
)

runs = Table(
    "runs",
    metadata,
    _number(),
    _id(),
    Column("state", Label(RunState), nullable=False),
    Column("goal", Words, nullable=False),
    Column("workspace", String, nullable=False),
    Column("trigger", String, nullable=False),
    Column("decision", String),
    Column("level", Integer, nullable=False),
    Column("taint", Label(Tier), nullable=False),
    Column("created", Moment, nullable=False),
    Column("started", Moment),
    Column("ended", Moment),
    Column("turns", Integer, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("price", Integer),
    Column("result", Words, nullable=False),
    Column("checks", Documents, nullable=False),
    Column("parked_on", Label(ParkedOn)),
    Column("branch", String),
    Column("patch", String),
    Column("commit", String),
    Column("base", String),
    Column("seconds", Integer, nullable=False, server_default=text("0")),
    Column("rested", Moment),
    Column("rested_on", String, nullable=False, server_default=text("''")),
    Column("escalated", Words, nullable=False, server_default=text("''")),
    Index("runs_state", "state"),
    Index("runs_workspace", "workspace", "number"),
    Index("runs_one_running", "workspace", unique=True, sqlite_where=text("state = 'running'")),
)

calls = Table(
    "calls",
    metadata,
    _number(),
    _id(),
    Column("run", String, nullable=False),
    Column("turn", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("tool", Words, nullable=False),
    Column("arguments", Document, nullable=False),
    Column("hash", String, nullable=False),
    Column("state", Label(CallState), nullable=False),
    Column("requested_at", Moment, nullable=False),
    Column("effect", Boolean, nullable=False),
    Column("provider_id", Words, nullable=False),
    Column("plan", Document),
    Column("result", Words, nullable=False),
    Column("rule", Words, nullable=False),
    Column("ended_at", Moment),
    Index("calls_run", "run", "turn", "position"),
    Index("calls_state", "state"),
)

tasks = Table(
    "tasks",
    metadata,
    _number(),
    _id(),
    Column("state", Label(TaskState), nullable=False),
    Column("run", String, nullable=False),
    Column("call", String, nullable=False),
    Column("workspace", String, nullable=False),
    Column("tier", Label(Tier), nullable=False),
    Column("command", Words, nullable=False),
    Column("output", Words, nullable=False),
    Column("created", Moment, nullable=False),
    Column("ended", Moment),
    Column("code", Integer),
    Column("timed_out", Boolean, nullable=False),
    Column("result", Words, nullable=False),
    Index("tasks_run", "run"),
    Index("tasks_running", "id", sqlite_where=text("state = 'running'")),
)

approvals = Table(
    "approvals",
    metadata,
    _number(),
    _id(),
    Column("code", String(collation="NOCASE"), nullable=False),
    Column("state", Label(ApprovalState), nullable=False),
    Column("run", String, nullable=False),
    Column("call", String, nullable=False),
    Column("workspace", String, nullable=False),
    Column("hash", String, nullable=False),
    Column("question", Words, nullable=False),
    Column("rule", Words, nullable=False),
    Column("created", Moment, nullable=False),
    Column("expires", Moment, nullable=False),
    Column("answered_at", Moment),
    Column("channel", String),
    Column("effect", String, nullable=False, server_default=text("''")),
    Column("guarded", Boolean, nullable=False, server_default=text("1")),
    Column("exact", String, nullable=False, server_default=text("''")),
    Index("approvals_open_code", "code", unique=True, sqlite_where=text("state = 'open'")),
    Index("approvals_state", "state"),
    Index("approvals_run", "run"),
    Index("approvals_call", "call"),
)

grants = Table(
    "grants",
    metadata,
    _number(),
    _id(),
    Column("state", Label(GrantState), nullable=False),
    Column("workspace", String, nullable=False),
    Column("tool", Words, nullable=False),
    Column("exact", String, nullable=False),
    Column("question", Words, nullable=False),
    Column("taint", Label(Tier), nullable=False),
    Column("approval", String, nullable=False),
    Column("channel", String, nullable=False),
    Column("created", Moment, nullable=False),
    Column("uses", Integer, nullable=False),
    Column("used_at", Moment),
    Column("revoked_at", Moment),
    Index("grants_active", "workspace", "exact", unique=True, sqlite_where=text("state = 'active'")),
)

notices = Table(
    "notices",
    metadata,
    _number(),
    _id(),
    Column("key", Words, nullable=False),
    Column("channel", String, nullable=False),
    Column("title", Words, nullable=False),
    Column("body", Words, nullable=False),
    Column("severity", Label(Severity), nullable=False),
    Column("state", Label(NoticeState), nullable=False),
    Column("created", Moment, nullable=False),
    Column("due", Moment, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("cause", String),
    Column("workspace", String),
    Column("receipt", Words),
    Column("error", Words),
    Column("delivered_at", Moment),
    Index("notices_key", "key", "channel", unique=True),
    Index("notices_state", "state", "due"),
)

model_calls = Table(
    "model_calls",
    metadata,
    _number(),
    Column("cause", String, nullable=False),
    Column("role", String, nullable=False),
    Column("model", String, nullable=False),
    Column("reserved_at", Moment, nullable=False),
    Column("settled_at", Moment),
    Column("input", Integer),
    Column("output", Integer),
    Column("cache_read", Integer),
    Column("cache_write", Integer),
    Column("price", Integer),
    Column("outcome", String),
    Column("purse", String, nullable=False, server_default=text("''")),
    Column("charged_price", Integer),
    Column("charged_tokens", Integer, nullable=False, server_default=text("0")),
    Index("model_calls_cause", "cause"),
    Index("model_calls_purse", "purse", "settled_at"),
    Index("model_calls_open", "number", sqlite_where=text("outcome IS NULL")),
)

worlds = Table(
    "worlds",
    metadata,
    Column("workspace", String, primary_key=True),
    Column("fingerprint", String, nullable=False),
    Column("next_wake", String),
    Column("trusted_hashes", String, nullable=False),
    Column("shadow_fingerprint", String, nullable=False, server_default=text("''")),
)

# `subject` is a decision, or an event that no verdict was about.
ratings = Table(
    "ratings",
    metadata,
    _number(),
    Column("subject", String, nullable=False, unique=True),
    Column("rating", Label(Rating), nullable=False),
    Column("rated_at", Moment, nullable=False),
)

state = Table(
    "state",
    metadata,
    Column("key", String, primary_key=True),
    Column("value", Document),
    Column("changed_at", Moment, nullable=False),
)

# What is counted but leaves no row of its own, such as a webhook that was there already.
counters = Table(
    "counters",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", Integer, nullable=False),
)

# Journal lines that are committed and not yet known to be in the file, without their chain.
outbox = Table(
    "outbox",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("line", Text, nullable=False),
)

# One row: the last line known to be on disk. `size` is its file's length in bytes up to and with that line.
journal_mark = Table(
    "journal_mark",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("seq", Integer, nullable=False),
    Column("hash", String, nullable=False),
    Column("file", String, nullable=False),
    Column("size", Integer, nullable=False),
)
