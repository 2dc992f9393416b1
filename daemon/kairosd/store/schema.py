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

# One of each for all columns: with each type of its own SQLAlchemy keeps what it makes of it, 180 kB in all.
STRING, INTEGER, BOOLEAN = String(), Integer(), Boolean()
WORDS, MOMENT, DOCUMENT, DOCUMENTS = Words(), Moment(), Document(), Documents()
TIER = Label(Tier)

metadata = MetaData()


def _number() -> Column[int]:
    return Column("number", INTEGER, primary_key=True)


def _id() -> Column[str]:
    return Column("id", STRING, nullable=False, unique=True)


events = Table(
    "events",
    metadata,
    _number(),
    _id(),
    Column("source", STRING, nullable=False),
    Column("kind", WORDS, nullable=False),
    Column("key", WORDS, nullable=False),
    Column("tier", TIER, nullable=False),
    Column("workspace", STRING),
    Column("facts", DOCUMENT, nullable=False),
    Column("text", DOCUMENT, nullable=False),
    Column("delivery", WORDS),
    Column("body", STRING),
    Column("received_at", MOMENT, nullable=False),
    Column("state", Label(EventState), nullable=False),
    Column("tries", INTEGER, nullable=False),
    Column("decision", STRING),
    Column("error", WORDS),
    Column("retry_at", MOMENT),
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
    Column("workspace", STRING),
    Column("tier", TIER, nullable=False),
    Column("verdict", Label(Verdict), nullable=False),
    Column("reason", WORDS, nullable=False),
    Column("goal", WORDS, nullable=False),
    Column("confidence", INTEGER, nullable=False),
    Column("price", INTEGER),
    Column("next_wake", MOMENT),
    Column("events", DOCUMENTS, nullable=False),
    Column("run", STRING),
    Column("notice", STRING),
    Column("fingerprint", STRING, nullable=False),
    Column("source", STRING, nullable=False),
    Column("shadow", BOOLEAN, nullable=False),
    Column("asked_at", MOMENT, nullable=False),
    Column("concluded_at", MOMENT),
    Column("model", WORDS, nullable=False, server_default=text("''")),
    Column("escalated", WORDS, nullable=False, server_default=text("''")),
    Index("decisions_workspace", "workspace", "number"),
    Index("decisions_asked", "id", sqlite_where=text("verdict = 'asked'")),
)

runs = Table(
    "runs",
    metadata,
    _number(),
    _id(),
    Column("state", Label(RunState), nullable=False),
    Column("goal", WORDS, nullable=False),
    Column("workspace", STRING, nullable=False),
    Column("trigger", STRING, nullable=False),
    Column("decision", STRING),
    Column("level", INTEGER, nullable=False),
    Column("taint", TIER, nullable=False),
    Column("created", MOMENT, nullable=False),
    Column("started", MOMENT),
    Column("ended", MOMENT),
    Column("turns", INTEGER, nullable=False),
    Column("tokens", INTEGER, nullable=False),
    Column("price", INTEGER),
    Column("result", WORDS, nullable=False),
    Column("checks", DOCUMENTS, nullable=False),
    Column("parked_on", Label(ParkedOn)),
    Column("branch", STRING),
    Column("patch", STRING),
    Column("commit", STRING),
    Column("base", STRING),
    Column("seconds", INTEGER, nullable=False, server_default=text("0")),
    Column("rested", MOMENT),
    Column("rested_on", STRING, nullable=False, server_default=text("''")),
    Column("escalated", WORDS, nullable=False, server_default=text("''")),
    Index("runs_state", "state"),
    Index("runs_workspace", "workspace", "number"),
    Index("runs_one_running", "workspace", unique=True, sqlite_where=text("state = 'running'")),
)

calls = Table(
    "calls",
    metadata,
    _number(),
    _id(),
    Column("run", STRING, nullable=False),
    Column("turn", INTEGER, nullable=False),
    Column("position", INTEGER, nullable=False),
    Column("tool", WORDS, nullable=False),
    Column("arguments", DOCUMENT, nullable=False),
    Column("hash", STRING, nullable=False),
    Column("state", Label(CallState), nullable=False),
    Column("requested_at", MOMENT, nullable=False),
    Column("effect", BOOLEAN, nullable=False),
    Column("provider_id", WORDS, nullable=False),
    Column("plan", DOCUMENT),
    Column("result", WORDS, nullable=False),
    Column("rule", WORDS, nullable=False),
    Column("ended_at", MOMENT),
    Index("calls_run", "run", "turn", "position"),
    Index("calls_state", "state"),
)

tasks = Table(
    "tasks",
    metadata,
    _number(),
    _id(),
    Column("state", Label(TaskState), nullable=False),
    Column("run", STRING, nullable=False),
    Column("call", STRING, nullable=False),
    Column("workspace", STRING, nullable=False),
    Column("tier", TIER, nullable=False),
    Column("command", WORDS, nullable=False),
    Column("output", WORDS, nullable=False),
    Column("created", MOMENT, nullable=False),
    Column("ended", MOMENT),
    Column("code", INTEGER),
    Column("timed_out", BOOLEAN, nullable=False),
    Column("result", WORDS, nullable=False),
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
    Column("run", STRING, nullable=False),
    Column("call", STRING, nullable=False),
    Column("workspace", STRING, nullable=False),
    Column("hash", STRING, nullable=False),
    Column("question", WORDS, nullable=False),
    Column("rule", WORDS, nullable=False),
    Column("created", MOMENT, nullable=False),
    Column("expires", MOMENT, nullable=False),
    Column("answered_at", MOMENT),
    Column("channel", STRING),
    Column("effect", STRING, nullable=False, server_default=text("''")),
    Column("guarded", BOOLEAN, nullable=False, server_default=text("1")),
    Column("exact", STRING, nullable=False, server_default=text("''")),
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
    Column("workspace", STRING, nullable=False),
    Column("tool", WORDS, nullable=False),
    Column("exact", STRING, nullable=False),
    Column("question", WORDS, nullable=False),
    Column("taint", TIER, nullable=False),
    Column("approval", STRING, nullable=False),
    Column("channel", STRING, nullable=False),
    Column("created", MOMENT, nullable=False),
    Column("uses", INTEGER, nullable=False),
    Column("used_at", MOMENT),
    Column("revoked_at", MOMENT),
    Index("grants_active", "workspace", "exact", unique=True, sqlite_where=text("state = 'active'")),
)

notices = Table(
    "notices",
    metadata,
    _number(),
    _id(),
    Column("key", WORDS, nullable=False),
    Column("channel", STRING, nullable=False),
    Column("title", WORDS, nullable=False),
    Column("body", WORDS, nullable=False),
    Column("severity", Label(Severity), nullable=False),
    Column("state", Label(NoticeState), nullable=False),
    Column("created", MOMENT, nullable=False),
    Column("due", MOMENT, nullable=False),
    Column("tries", INTEGER, nullable=False),
    Column("cause", STRING),
    Column("workspace", STRING),
    Column("receipt", WORDS),
    Column("error", WORDS),
    Column("delivered_at", MOMENT),
    Index("notices_key", "key", "channel", unique=True),
    Index("notices_state", "state", "due"),
)

model_calls = Table(
    "model_calls",
    metadata,
    _number(),
    Column("cause", STRING, nullable=False),
    Column("role", STRING, nullable=False),
    Column("model", STRING, nullable=False),
    Column("reserved_at", MOMENT, nullable=False),
    Column("settled_at", MOMENT),
    Column("input", INTEGER),
    Column("output", INTEGER),
    Column("cache_read", INTEGER),
    Column("cache_write", INTEGER),
    Column("price", INTEGER),
    Column("outcome", STRING),
    Column("purse", STRING, nullable=False, server_default=text("''")),
    Column("charged_price", INTEGER),
    Column("charged_tokens", INTEGER, nullable=False, server_default=text("0")),
    Index("model_calls_cause", "cause"),
    Index("model_calls_purse", "purse", "settled_at"),
    Index("model_calls_open", "number", sqlite_where=text("outcome IS NULL")),
)

worlds = Table(
    "worlds",
    metadata,
    Column("workspace", STRING, primary_key=True),
    Column("fingerprint", STRING, nullable=False),
    Column("next_wake", STRING),
    Column("trusted_hashes", STRING, nullable=False),
    Column("shadow_fingerprint", STRING, nullable=False, server_default=text("''")),
)

# `subject` is a decision, or an event that no verdict was about.
ratings = Table(
    "ratings",
    metadata,
    _number(),
    Column("subject", STRING, nullable=False, unique=True),
    Column("rating", Label(Rating), nullable=False),
    Column("rated_at", MOMENT, nullable=False),
)

state = Table(
    "state",
    metadata,
    Column("key", STRING, primary_key=True),
    Column("value", DOCUMENT),
    Column("changed_at", MOMENT, nullable=False),
)

# What is counted but leaves no row of its own, such as a webhook that was there already.
counters = Table(
    "counters",
    metadata,
    Column("name", STRING, primary_key=True),
    Column("value", INTEGER, nullable=False),
)

# Journal lines that are committed and not yet known to be in the file, without their chain.
outbox = Table(
    "outbox",
    metadata,
    Column("seq", INTEGER, primary_key=True),
    Column("line", Text, nullable=False),
)

# One row: the last line known to be on disk. `size` is its file's length in bytes up to and with that line.
journal_mark = Table(
    "journal_mark",
    metadata,
    Column("id", INTEGER, primary_key=True),
    Column("seq", INTEGER, nullable=False),
    Column("hash", STRING, nullable=False),
    Column("file", STRING, nullable=False),
    Column("size", INTEGER, nullable=False),
)
