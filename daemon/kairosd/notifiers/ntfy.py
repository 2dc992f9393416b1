"""ntfy: notices on a phone, over ntfy.sh or a server of the owner's (JSON publishing, https://docs.ntfy.sh/publish)."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import httpx

from kairosd.config import NtfySection
from kairosd.core.notices import Notice, Severity
from kairosd.errors import NotifierError, NotifierRefusedError
from kairosd.notifiers.deps import NotifierDeps
from kairosd.ports import Notifier
from kairosd.system.http import make_client

MESSAGE_BYTES = 4095  # ntfy takes a message of 4096 bytes and more for an attachment, and refuses it (2.11: tried)
REQUEST_BYTES = 8190  # what the server (2.11) takes as a JSON request: tried, a longer one is a 413
TITLE_LENGTH = 200
SILENCE_SECONDS = 20.0
SKEW_SECONDS = 600  # how far the server's clock may be from ours when a lost message is looked for
PRIORITIES = {Severity.LOW: 2, Severity.NORMAL: 3, Severity.HIGH: 4, Severity.URGENT: 5}
EMOJI = {Severity.HIGH: ["warning"], Severity.URGENT: ["rotating_light"]}
RETRY_STATUS = frozenset({408, 425, 429})
ANSWER_BYTES = 5_000_000
REFUSED = (401, 403)  # unauthorized, forbidden: both are seen, by version and by whether credentials were sent
TRIED = "Kairos tries whether strangers may write to this topic. You read this, so they may."


class Ntfy:
    """Publishes to one topic. The notice's id goes as a tag, so that the server's cache can be asked for it."""

    name = "ntfy"

    def __init__(self, section: NtfySection, deps: NotifierDeps) -> None:
        self._clock = deps.clock
        self._url = section.url.rstrip("/")
        self._topic = section.topic
        self._headers = {"Authorization": f"Bearer {deps.token}"} if deps.token else {}
        secure = urlsplit(self._url).scheme == "https"
        self._client: httpx.AsyncClient = make_client(deps.network, silence_seconds=SILENCE_SECONDS, secure=secure)

    async def deliver(self, notice: Notice) -> str:
        answer = await self._ask("POST", f"{self._url}/", content=_body(self._topic, notice))
        receipt = _receipt(answer)
        if receipt is None:
            raise NotifierError(f"{self._url} answered, but not like an ntfy server", fix="check [notifiers.ntfy] url")
        return receipt

    async def arrived(self, notice: Notice) -> bool:
        since = int(notice.created.timestamp()) - SKEW_SECONDS
        answer = await self._ask("GET", f"{self._url}/{self._topic}/json?poll=1&since={since}")
        # In JSON only a whole string stands between bare quotes: a body that quotes the id does not match.
        return b'"' + notice.id.encode("ascii") + b'"' in answer

    async def strangers(self) -> str:
        """Why this topic is not the owner's alone; "" when the token reads it and nobody without one reads or writes.

        Raises as `deliver` does. Where strangers may write but not read, they are seen to by a message of low priority.
        """
        poll = f"{self._url}/{self._topic}/json?poll=1&since={int(self._clock.now().timestamp())}"
        await self._ask("GET", poll)
        read, _ = await self._exchange("GET", poll, headers={})
        if (may := _allowed(read)) is not None:
            return f"whoever knows its topic may read it ({may})"
        body = json.dumps({"topic": self._topic, "message": TRIED, "priority": 1}).encode()
        written, _ = await self._exchange("POST", f"{self._url}/", content=body, headers={"Cache": "no"})
        if (may := _allowed(written)) is not None:
            return f"whoever knows its topic may write to it ({may})"
        return ""

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, method: str, url: str, *, content: bytes | None = None) -> bytes:
        response, answer = await self._exchange(method, url, content=content, headers=self._headers)
        _check(response, answer)
        return answer

    async def _exchange(
        self, method: str, url: str, *, headers: dict[str, str], content: bytes | None = None
    ) -> tuple[httpx.Response, bytes]:
        try:
            async with self._client.stream(method, url, content=content, headers=headers) as response:
                answer = b""
                async for chunk in response.aiter_bytes():
                    answer += chunk
                    if len(answer) > ANSWER_BYTES:
                        raise NotifierError(f"{self._url} answers without end")
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            raise NotifierError(f"{self._url} cannot be reached: {why}", fix="check the network and the url") from error
        except httpx.InvalidURL as error:
            raise NotifierRefusedError(f"{url} is no address", fix="set url and topic of [notifiers.ntfy]") from error
        return response, answer


def _allowed(response: httpx.Response) -> str | None:
    """What an answer to a stranger says; None for a plain refusal. Raises `NotifierError` where it may change."""
    status = response.status_code
    if status in RETRY_STATUS or status >= 500:
        raise NotifierError(f"ntfy answered {status}", fix="it is tried again later")
    return None if status in REFUSED else f"the server answered {status}"


def _check(response: httpx.Response, answer: bytes) -> None:
    status = response.status_code
    if status == 200:
        return
    said = _words(answer) or response.reason_phrase
    if status in RETRY_STATUS or status >= 500:
        raise NotifierError(f"ntfy answered {status}: {said}", fix="the notice is sent again later")
    fixes = {
        401: "set token_env or token_file of [notifiers.ntfy] to a valid token",
        403: "give the token the right to publish and read this topic, or choose another topic",
        404: "check [notifiers.ntfy] url",
    }
    moved = response.headers.get("location", "")
    fix = f"set [notifiers.ntfy] url to {moved}" if 300 <= status < 400 and moved else fixes.get(status)
    raise NotifierRefusedError(f"ntfy answered {status}: {said}", fix=fix or "check the section [notifiers.ntfy]")


def _body(topic: str, notice: Notice) -> bytes:
    """The request, its message cut until message and request both fit."""
    fields: dict[str, object] = {
        "topic": topic,
        "title": notice.title[:TITLE_LENGTH],
        "priority": PRIORITIES[notice.severity],
        "tags": [*EMOJI.get(notice.severity, []), notice.id],
    }
    limit = MESSAGE_BYTES
    while True:
        fields["message"] = _fitting(notice, limit)
        body = json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")
        if len(body) <= REQUEST_BYTES:
            return body
        limit -= len(body) - REQUEST_BYTES  # quotes and newlines are longer in JSON, never shorter


def _fitting(notice: Notice, limit: int) -> str:
    """The notice's words in at most `limit` bytes, with the way to the rest."""
    data = (notice.body or notice.title).encode("utf-8", "replace")
    if len(data) <= limit:
        return data.decode("utf-8")
    pointer = f"…\n(cut: kairos notices {notice.id})"
    return data[: max(0, limit - len(pointer.encode()))].decode("utf-8", "ignore") + pointer


def _receipt(answer: bytes) -> str | None:
    found = _object(answer).get("id")
    return found if isinstance(found, str) and found else None


def _words(answer: bytes) -> str:
    said = _object(answer).get("error")
    return said[:200] if isinstance(said, str) else ""


def _object(answer: bytes) -> dict[str, object]:
    try:
        found = json.loads(answer)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def build(section: NtfySection, deps: NotifierDeps) -> Notifier:
    return Ntfy(section, deps)
