"""What providers say of a prompt that is too long, and ids of calls when only a part of a conversation is sent."""

from __future__ import annotations

import json

import pytest

from kairosd.core.messages import Done, Message, Prompt, TextDelta, ToolResult, ToolSpec, ToolUse, UseReady
from kairosd.errors import ContextTooLongError, ModelRefusedError, ModelUnavailableError
from kairosd.models.answers import AnswerCollector
from kairosd.models.refusals import Origin, from_event, from_status, read_error

ORIGIN = Origin("main", "some-model", "key", "fix the key")
TOO_LONG = [
    (400, {"type": "invalid_request_error", "message": "prompt is too long: 208310 tokens > 200000 maximum"}),
    (
        400,
        {
            "type": "invalid_request_error",
            "message": "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
        },
    ),
    (413, {"type": "request_too_large", "message": "Request exceeds the maximum size"}),
    (
        400,
        {
            "type": "invalid_request_error",
            "code": "context_length_exceeded",
            "message": "This model's maximum context length is 4097 tokens. However, you requested 4128 tokens.",
        },
    ),
    (
        400,
        {
            "code": 400,
            "type": "exceed_context_size_error",
            "message": "the request exceeds the available context size, try increasing it",
            "n_prompt_tokens": 14429,
            "n_ctx": 8192,
        },
    ),
    (500, {"code": 500, "type": "server_error", "message": "Context size has been exceeded."}),
    (400, {"message": "Requested tokens (2285) exceed context window of 2048"}),
]


@pytest.mark.parametrize(("status", "error"), TOO_LONG)
def test_a_prompt_that_is_too_long_is_told_from_other_refusals(status: int, error: dict[str, object]) -> None:
    body = read_error(json.dumps({"error": error}))
    found = from_status(status, body, origin=ORIGIN, retry_after=None)
    assert isinstance(found, ContextTooLongError)
    assert "context" in (found.fix or "")
    assert isinstance(from_event(body, ORIGIN), ContextTooLongError)


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (429, "too many tokens a minute: your limit is 40000", ModelUnavailableError),
        (500, "internal error", ModelUnavailableError),
        (503, "the context was lost", ModelUnavailableError),
        (400, "temperature must be at most 1", ModelRefusedError),
        (404, "no such model", ModelRefusedError),
    ],
)
def test_other_refusals_stay_what_they_are(status: int, message: str, kind: type[Exception]) -> None:
    found = from_status(status, read_error(json.dumps({"error": message})), origin=ORIGIN, retry_after=None)
    assert isinstance(found, kind)
    assert not isinstance(found, ContextTooLongError)


def test_a_call_read_from_text_has_an_id_that_no_shown_call_has() -> None:
    use = ToolUse("call_17", "read", {"path": "a.py"})
    messages = (
        Message("user", "Goal"),
        Message("assistant", uses=(use,)),
        Message("user", results=(ToolResult("call_17", "x"),)),
    )
    collector = AnswerCollector(Prompt("", messages, (ToolSpec("read", "Reads.", {"type": "object"}),)))
    collector.take(TextDelta('{"tool": "read", "arguments": {"path": "b.py"}}'))
    ready = next(iter(collector.take(Done("end"))))
    assert isinstance(ready, UseReady)
    assert ready.use.id == "call_18"
