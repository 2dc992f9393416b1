"""What an error answer means: temporary or permanent, and what the owner can do about it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from kairosd.errors import (
    ContextTooLongError,
    EndpointRefusedError,
    ModelError,
    ModelRefusedError,
    ModelUnavailableError,
)
from kairosd.frozen import frozen

MESSAGE_LIMIT = 300
TEMPORARY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
TEMPORARY_TYPES = re.compile(
    r"overloaded|rate_limit|timeout|api_error|server_error|unavailable|internal", re.IGNORECASE
)
NO_CREDIT = re.compile(r"insufficient_quota|credit balance|billing|payment", re.IGNORECASE)
# Anthropic: "prompt is too long: 208310 tokens > 200000 maximum", "input length and `max_tokens` exceed context limit";
# OpenAI: code context_length_exceeded; llama.cpp: type exceed_context_size_error with n_ctx, "Context size has been
# exceeded"; llama-cpp-python: "Requested tokens (2285) exceed context window of 2048".
OVERFLOW = re.compile(
    r"context.{0,20}(length|size|window|limit)|(prompt|input) is too long|maximum context|too many tokens"
    r"|request_too_large|\bn_ctx\b",
    re.IGNORECASE,
)
# llama.cpp says it with status 500 too: https://github.com/ggml-org/llama.cpp/pull/15780 and its issue 19774.
OVERFLOW_AS_FAILURE = re.compile(
    r"exceed_context_size|context size (has been|was) exceeded|exceeds? .{0,24}context size"
)


@frozen
class ErrorBody:
    """The parts of an error answer that every provider has in some place."""

    kind: str = ""
    message: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.kind, self.message) if part)


@frozen
class Origin:
    """Who answered: `[models.NAME]`, the provider, the model; `key` is blotted out of everything that is shown."""

    name: str
    model: str
    key: str
    key_fix: str

    @property
    def place(self) -> str:
        return f"[models.{self.name}]"


class StreamError(Exception):
    """A reader met an error object inside the stream."""

    def __init__(self, body: ErrorBody) -> None:
        super().__init__(str(body))
        self.body = body


def read_error(data: bytes | str) -> ErrorBody:
    """The error in a body or event; its start as text where it is no JSON."""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    try:
        value = json.loads(text)
    except ValueError:
        return ErrorBody(message=" ".join(text.split())[:MESSAGE_LIMIT] if "<" not in text[:64] else "")
    return error_in(value) or ErrorBody(message=text[:MESSAGE_LIMIT])


def error_in(value: Any) -> ErrorBody | None:
    """The error object inside parsed JSON, or None: `{"error": {...}}`, `{"error": "..."}`, `{"message": "..."}`."""
    if not isinstance(value, dict):
        return None
    error = value.get("error", value if "message" in value and "choices" not in value else None)
    if isinstance(error, str):
        return ErrorBody(message=error[:MESSAGE_LIMIT])
    if not isinstance(error, dict):
        return None
    kinds = [str(error[key]) for key in ("type", "code") if error.get(key)]
    return ErrorBody("/".join(dict.fromkeys(kinds)), str(error.get("message") or "")[:MESSAGE_LIMIT])


def from_status(status: int, body: ErrorBody, *, origin: Origin, retry_after: float | None) -> ModelError:
    """The error for an HTTP status of 300 or more."""
    said = _said(body, origin)
    if status in (401, 403):  # the provider's words are left out: some repeat part of the key
        return EndpointRefusedError(f"{origin.place}: the key is refused (HTTP {status})", fix=origin.key_fix)
    if status == 402 or NO_CREDIT.search(str(body)):
        return EndpointRefusedError(f"{origin.place}: the account has no credit (HTTP {status})", fix="top it up")
    if status >= 500 and OVERFLOW_AS_FAILURE.search(str(body).lower()):
        return _too_long(origin, said)
    if status in TEMPORARY or status >= 500:
        return ModelUnavailableError(f"{origin.place}: HTTP {status}{said}", retry_after=retry_after)
    if status == 413 or OVERFLOW.search(str(body)):
        return _too_long(origin, said)
    if status == 404:
        fix = f"check `model` and `base_url` in {origin.place}"
        return EndpointRefusedError(f"{origin.place}: no model {origin.model!r} there (HTTP 404){said}", fix=fix)
    if 300 <= status < 400:
        return EndpointRefusedError(f"{origin.place}: the server redirects (HTTP {status})", fix="check `base_url`")
    return ModelRefusedError(f"{origin.place}: HTTP {status}{said}", fix=f"check {origin.place}")


def from_event(body: ErrorBody, origin: Origin) -> ModelError:
    """The error for an error object inside a 200 answer or in the middle of a stream."""
    said = _said(body, origin)
    if NO_CREDIT.search(str(body)):
        return EndpointRefusedError(f"{origin.place}: the account has no credit", fix="top it up")
    if OVERFLOW.search(str(body)):
        return _too_long(origin, said)
    if re.search(r"authentication|permission|invalid_api_key", body.kind):
        return EndpointRefusedError(f"{origin.place}: the key is refused", fix=origin.key_fix)
    if re.search(r"invalid_request|not_found", body.kind) and not TEMPORARY_TYPES.search(body.kind):
        return ModelRefusedError(f"{origin.place}: the request is refused{said}", fix=f"check {origin.place}")
    return ModelUnavailableError(f"{origin.place}: the provider reports an error{said}")


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that `Retry-After` asks for, by number or date (RFC 9110, 10.2.3); None without a usable one."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
        if moment.tzinfo is None:
            return None
        seconds = (moment - now).total_seconds()
    return max(0.0, seconds) if seconds < float("inf") else None


def _too_long(origin: Origin, said: str) -> ContextTooLongError:
    fix = f"lower `context` in {origin.place} to what the model has, or choose one with more"
    return ContextTooLongError(f"{origin.place}: the prompt is larger than the model's context window{said}", fix=fix)


def _said(body: ErrorBody, origin: Origin) -> str:
    text = str(body)
    if not text:
        return ""
    return f" ({text.replace(origin.key, '***') if origin.key else text})"
