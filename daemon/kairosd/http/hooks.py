"""The two routes strangers can reach. Who cannot sign is told nothing; nothing is acknowledged before it is durable.

One read of the body, one parse, one commit, one answer (design §6).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from pydantic_core import from_json

from kairosd.config.sections import GithubSection
from kairosd.core.events import Draft, is_fact_name
from kairosd.errors import StoreError
from kairosd.http.hook_requests import Request
from kairosd.http.hook_server import Answer, App
from kairosd.ports.world import Intake

log = logging.getLogger("kairosd.hooks")

DELIVERY_MAX = 100  # characters of a delivery id; GitHub's have 36

Drafter: TypeAlias = Callable[[str, str, Mapping[str, object], str], Draft]


def build_hooks(
    intake: Intake,
    drafter: Drafter,
    *,
    secrets: Sequence[bytes],
    settings: GithubSection,
    count: Callable[[str], None],
) -> App:
    """What `hooks_server` serves: `POST /hooks/github` and `GET /healthz`. Any one of `secrets` signs.

    `drafter(event, delivery, payload, body_sha256)` makes the event; `count` is told `webhook_accepted`,
    `webhook_duplicate` or `webhook_rejected` once for each delivery.
    """
    hook = GithubHook(intake, drafter, secrets=secrets)
    return Routes(hook, settings, count=count)


class Routes:
    """Implements `App`."""

    def __init__(self, hook: GithubHook, settings: GithubSection, *, count: Callable[[str], None]) -> None:
        self._hook = hook
        self._max_body = settings.max_body
        self._hosts = frozenset(host.casefold() for host in settings.hosts)
        self._count = count

    def room(self, request: Request) -> int:
        return self._max_body if self._is_delivery(request) else 0

    async def answer(self, request: Request) -> Answer:
        if self._is_delivery(request):
            answer = await self._take(request)
            self._count(_COUNTERS.get(answer.status, "webhook_rejected"))
            return answer
        if request.path == b"/healthz":
            return _json(200, {"status": "ok"}) if request.method == b"GET" else Answer(405, allow="GET")
        return Answer(405, allow="POST") if request.path == b"/hooks/github" else Answer(404)

    def _is_delivery(self, request: Request) -> bool:
        return request.path == b"/hooks/github" and request.method == b"POST"

    async def _take(self, request: Request) -> Answer:
        if self._hosts and _text(request, b"host").rsplit(":", 1)[0].casefold() not in self._hosts:
            return Answer(421)
        return Answer(413) if request.body is None else await self._hook.take(request, request.body)


class GithubHook:
    """One delivery: prove it, make it durable, and only then say so."""

    def __init__(self, intake: Intake, drafter: Drafter, *, secrets: Sequence[bytes]) -> None:
        self._intake = intake
        self._drafter = drafter
        self._macs = [hmac.new(secret, digestmod="sha256") for secret in secrets]  # to begin with: the key is in them

    async def take(self, request: Request, body: bytes) -> Answer:
        """The answer to a POST with `body`."""
        if not self._signed(request, body):
            return Answer(401)
        delivery, event = _text(request, b"x-github-delivery"), _text(request, b"x-github-event")
        if not 0 < len(delivery) <= DELIVERY_MAX or not delivery.isascii() or not delivery.isprintable():
            return _json(400, {"error": f"X-GitHub-Delivery must have 1 to {DELIVERY_MAX} characters"})
        if not is_fact_name(event):
            return _json(400, {"error": "X-GitHub-Event must be a plain name of at most 100 characters"})
        payload = _parsed(body)
        if not isinstance(payload, dict):
            return _json(400, {"error": "the body must be a JSON object (content type application/json)"})
        draft = self._drafter(event, delivery, payload, hashlib.sha256(body).hexdigest())
        try:
            receipt = await self._intake.submit(draft)
        except StoreError as error:
            log.error("delivery %s could not be stored: %s", delivery, error)
            return _json(503, {"error": "not stored, send it again"})
        # An id of ours needs no escaping, and the general way takes longer than the rest of the answer.
        return _named(200, "duplicate_of", id=receipt.id) if receipt.duplicate else _named(202, "id", id=receipt.id)

    def _signed(self, request: Request, body: bytes) -> bool:
        """Compares bytes: `compare_digest` raises on a `str` that is not ASCII. SHA-1 signatures do not count."""
        given = request.headers.get(b"x-hub-signature-256", b"")
        for keyed in self._macs:
            mac = keyed.copy()
            mac.update(body)
            if hmac.compare_digest(b"sha256=" + mac.hexdigest().encode(), given):
                return True
        return False


def _parsed(body: bytes) -> object:
    """The JSON in `body`; None when there is none."""
    try:
        return from_json(body, cache_strings="none")  # half the time of the standard library's
    except ValueError:
        return _parsed_leniently(body)


def _parsed_leniently(body: bytes) -> object:
    """`_parsed`, also of lone surrogates, deeper nesting and other encodings than UTF-8."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _text(request: Request, header: bytes) -> str:
    return request.headers.get(header, b"").decode("latin-1").strip()


def _json(status: int, body: Mapping[str, str]) -> Answer:
    return Answer(status, json.dumps(body).encode())


def _named(status: int, name: str, *, id: str) -> Answer:
    return Answer(status, f'{{"{name}": "{id}"}}'.encode())


_COUNTERS = {202: "webhook_accepted", 200: "webhook_duplicate"}
