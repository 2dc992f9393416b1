"""The webhook server's two routes. Who cannot sign is told nothing; nothing is acknowledged before it is durable.

Bare ASGI below Starlette's router: no middleware, one read of the body, one commit, one answer (design §6).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

from starlette.routing import Route, Router

from kairosd.config.sections import GithubSection
from kairosd.core.events import Draft, is_fact_name
from kairosd.errors import StoreError
from kairosd.ports.world import Intake

log = logging.getLogger("kairosd.hooks")

DELIVERY_MAX = 100  # characters of a delivery id; GitHub's have 36
DRAIN_MAX = 26_000_000  # bytes read and dropped of a body over the cap, so that its sender lives to read the answer

Drafter: TypeAlias = Callable[[str, str, Mapping[str, object], str], Draft]
Scope: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]


def build_hooks(
    intake: Intake,
    drafter: Drafter,
    *,
    secrets: Sequence[bytes],
    settings: GithubSection,
    count: Callable[[str], None],
) -> Router:
    """An ASGI app with `POST /hooks/github` and `GET /healthz`. Any one of `secrets` signs.

    `drafter(event, delivery, payload, body_sha256)` makes the event; `count` is told `webhook_accepted`,
    `webhook_duplicate` or `webhook_rejected` once for each request.
    """
    hook = GithubHook(intake, drafter, secrets=secrets, settings=settings, count=count)
    routes = [
        Route("/hooks/github", hook, methods=["POST"]),
        Route("/healthz", _Health(), methods=["GET"]),
    ]
    return Router(routes, redirect_slashes=False)


class GithubHook:
    """One delivery: read it, prove it, make it durable, and only then say so."""

    def __init__(
        self,
        intake: Intake,
        drafter: Drafter,
        *,
        secrets: Sequence[bytes],
        settings: GithubSection,
        count: Callable[[str], None],
    ) -> None:
        self._intake = intake
        self._drafter = drafter
        self._secrets = tuple(secrets)
        self._max_body = settings.max_body
        self._hosts = frozenset(host.casefold() for host in settings.hosts)
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _Headers(scope["headers"])
        status: int
        answer: Mapping[str, str]
        if self._hosts and headers.host() not in self._hosts:
            status, answer = 421, {}
        else:
            body = await _read(receive, headers, cap=self._max_body)
            if body is None:
                return  # the sender hung up
            status, answer = await self._take(headers, body) if isinstance(body, bytes) else (413, {})
        self._count(_COUNTERS.get(status, "webhook_rejected"))
        await _send(send, status, answer=answer)

    async def _take(self, headers: _Headers, body: bytes) -> tuple[int, Mapping[str, str]]:
        if not self._signed(headers, body):
            return 401, {}
        delivery, event = headers.one(b"x-github-delivery"), headers.one(b"x-github-event")
        if not 0 < len(delivery) <= DELIVERY_MAX or not delivery.isascii() or not delivery.isprintable():
            return 400, {"error": f"X-GitHub-Delivery must have 1 to {DELIVERY_MAX} characters"}
        if not is_fact_name(event):
            return 400, {"error": "X-GitHub-Event must be a plain name of at most 100 characters"}
        try:
            payload = json.loads(body)
        except (ValueError, RecursionError):
            payload = None
        if not isinstance(payload, dict):
            return 400, {"error": "the body must be a JSON object (content type application/json)"}
        draft = self._drafter(event, delivery, payload, hashlib.sha256(body).hexdigest())
        try:
            receipt = await self._intake.submit(draft)
        except StoreError as error:
            log.error("delivery %s could not be stored: %s", delivery, error)
            return 503, {"error": "not stored, send it again"}
        return (200, {"duplicate_of": receipt.id}) if receipt.duplicate else (202, {"id": receipt.id})

    def _signed(self, headers: _Headers, body: bytes) -> bool:
        """Compares bytes: `compare_digest` raises on a `str` that is not ASCII. SHA-1 signatures do not count."""
        given = headers.raw(b"x-hub-signature-256")
        return any(
            hmac.compare_digest(b"sha256=" + hmac.digest(secret, body, "sha256").hex().encode(), given)
            for secret in self._secrets
        )


class _Health:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _send(send, 200, answer={"status": "ok"})


class _Headers:
    """The request's headers; a header that is there twice counts as missing."""

    def __init__(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        self._pairs = pairs

    def raw(self, name: bytes) -> bytes:
        found = [value for key, value in self._pairs if key == name]
        return found[0] if len(found) == 1 else b""

    def one(self, name: bytes) -> str:
        return self.raw(name).decode("latin-1").strip()

    def host(self) -> str:
        return self.one(b"host").rsplit(":", 1)[0].casefold()


async def _read(receive: Receive, headers: _Headers, *, cap: int) -> bytes | int | None:
    """The body; its length so far when it is over `cap`; None when the sender hung up."""
    declared = headers.raw(b"content-length")
    length = int(declared) if declared.isdigit() else 0
    if length > DRAIN_MAX or (length > cap and headers.raw(b"expect")):
        return length
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= cap:
            chunks.append(chunk)
        else:
            chunks.clear()
        if size > DRAIN_MAX or not message.get("more_body", False):
            return b"".join(chunks) if size <= cap else size


async def _send(send: Send, status: int, *, answer: Mapping[str, str]) -> None:
    body = json.dumps(answer).encode() if answer else b""
    headers = [(b"content-length", str(len(body)).encode())]
    if body:
        headers.append((b"content-type", b"application/json"))
    if status in (413, 421):
        headers.append((b"connection", b"close"))  # what is left of the body is not waited for
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


_COUNTERS = {202: "webhook_accepted", 200: "webhook_duplicate"}
