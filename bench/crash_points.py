"""Where `bench/crash.py` kills the daemon: every phase with its moments, in the order a busy day passes them.

"in" is inside the transaction, after its statements and before its commit.
"""

from __future__ import annotations

from collections.abc import Mapping

POINTS: Mapping[str, Mapping[str, str]] = {
    "ingest": {
        "before": "a webhook is about to be stored",
        "in": "stored, not committed",
        "after": "committed, not acknowledged",
    },
    "claim": {
        "before": "events are about to be claimed",
        "in": "claimed, not committed",
        "after": "claimed, the model not asked",
    },
    "decide": {
        "before": "the model is about to be asked",
        "asked": "it has answered, nothing is stored",
        "in": "the verdict is stored, not committed",
        "after": "the verdict is committed",
    },
    "mid-stream": {
        "first": "the first part of a turn has come",
        "later": "some parts of a turn have come",
        "last": "all has come but the end",
    },
    "intent": {
        "before": "the intent is about to be stored",
        "in": "stored, not committed",
        "after": "committed, the effect not begun",
    },
    "effect": {
        "before": "a tool is about to act",
        "in": "half of its effect is done",
        "after": "it has acted, nothing is stored",
    },
    "outcome": {
        "before": "the outcome is about to be stored",
        "in": "stored, not committed",
        "after": "committed, the model not told",
        "torn": "half of the result's line is in the transcript",
    },
    "journal": {
        "before": "lines are committed, not written",
        "torn": "half of the bytes are written",
        "in": "written, the mark not recorded",
        "after": "the mark is recorded",
    },
    "landing": {
        "before": "the work is about to be committed",
        "in": "committed in the checkout, not fetched",
        "fetched": "the branch is there, its outcome is not stored",
        "after": "the outcome is stored, the run not ended",
        "ended": "the run is ended, not committed",
    },
    "notice": {
        "before": "a notice is being attempted",
        "in": "delivered, nothing is stored",
        "after": "stored as delivered, not committed",
    },
}

# The highest n of "the n-th passage": how often one burst of events passes each phase at least.
PASSAGES: Mapping[str, int] = {
    "ingest": 3, "claim": 1, "decide": 1, "mid-stream": 3, "intent": 4, "effect": 4, "outcome": 4, "journal": 8,
    "landing": 1, "notice": 2,
}  # fmt: skip

SABOTAGES = ("outbox", "intent", "claim")
