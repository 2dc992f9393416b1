"""ntfy: notices on a phone, over ntfy.sh or a server of the owner's (JSON publishing, https://docs.ntfy.sh/publish)."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import httpx

from kairosd.config import NtfySection
from kairosd.core.notices import Notice, Severity
from kairosd.errors import NotifierError, NotifierRefusedError
from kairosd.notifiers.deps import NotifierDeps
from kairosd.ports import Heard, Notifier
from kairosd.system.http import LOOPBACK, make_client

MESSAGE_BYTES = 4095  # ntfy takes a message of 4096 bytes and more for an attachment, and refuses it (2.11: tried)
REQUEST_BYTES = 8190  # what the server (2.11) takes as a JSON request: tried, a longer one is a 413
TITLE_LENGTH = 200
SILENCE_SECONDS = 20.0
LISTEN_SECONDS = 150.0  # of silence on the topic for answers; the server (2.11) says that it is there every 45
SKEW_SECONDS = 600  # how far the server's clock may be from ours when a lost message is looked for
PRIORITIES = {Severity.LOW: 2, Severity.NORMAL: 3, Severity.HIGH: 4, Severity.URGENT: 5}
EMOJI = {Severity.HIGH: ["warning"], Severity.URGENT: ["rotating_light"]}
RETRY_STATUS = frozenset({408, 425, 429})
ANSWER_BYTES = 5_000_000
LINE_BYTES = 100_000  # of one event of a stream; a message has at most 4096
LABELS = {"yes": "Yes", "no": "No"}
REFUSED = (401, 403)  # unauthorized, forbidden: both are seen, by version and by whether credentials were sent
LOOKS, LOOK_SECONDS = 3, 1.0
LET_IN = 3  # times in a row: a stranger who is let in once may have passed for us, see `_lets_in`
DOUBTS_MOST = 3  # a busy server (2.11) now and then refuses a valid token: seen with some requests at once
TRIED = "Kairos tries whether strangers may write to this topic. You read this, so they may."


class Ntfy:
    """Publishes to one topic. The notice's id goes as a tag, so that the server's cache can be asked for it."""

    name = "ntfy"

    def __init__(self, section: NtfySection, deps: NotifierDeps) -> None:
        self._clock = deps.clock
        self._url = section.url.rstrip("/")
        self._topic = section.topic
        self._answers = section.answers
        self._answers_token = deps.answers_token
        self._doubts = 0  # how often a refusal is still taken for a mood
        self._headers = {"Authorization": f"Bearer {deps.token}"} if deps.token else {}
        secure = urlsplit(self._url).scheme == "https"
        self._client: httpx.AsyncClient = make_client(deps.network, silence_seconds=SILENCE_SECONDS, secure=secure)

    async def deliver(self, notice: Notice, replies: Sequence[str] = (), *, private: bool = False) -> str:
        fields: dict[str, object] = {"topic": self._topic}
        if self._answers and replies:
            fields["actions"] = [self._button(reply, private=private) for reply in replies]
        answer = await self._ask("POST", f"{self._url}/", content=_body(notice, fields))
        receipt = _receipt(answer)
        if receipt is None:
            raise NotifierError(f"{self._url} answered, but not like an ntfy server", fix="check [notifiers.ntfy] url")
        return receipt

    async def arrived(self, notice: Notice) -> bool:
        since = int(notice.created.timestamp()) - SKEW_SECONDS
        answer = await self._ask("GET", f"{self._url}/{self._topic}/json?poll=1&since={since}")
        # In JSON only a whole string stands between bare quotes: a body that quotes the id does not match.
        return b'"' + notice.id.encode("ascii") + b'"' in answer

    async def answers(self, since: str) -> AsyncGenerator[Heard, None]:
        """What is said on the topic for answers, from a message's id or a second since 1970 on, until it breaks off.

        Raises as `deliver` does. The stream begins with the server's own time, by which its clock is known.
        """
        url, ahead = f"{self._url}/{self._answers}/json?since={since}", timedelta()
        timeout = httpx.Timeout(SILENCE_SECONDS, read=LISTEN_SECONDS)
        with self._reached(url):
            async with self._client.stream("GET", url, headers=self._headers, timeout=timeout) as response:
                if response.status_code != 200:
                    _check(response, await self._whole(response))
                async for line in self._lines(response):
                    event = _object(line)
                    moment, said = _moment(event.get("time")), _said(event)
                    if moment is not None and event.get("event") == "open":
                        ahead = moment - self._clock.now()
                    if moment is not None and said is not None:
                        yield Heard(*said, moment - ahead)

    async def strangers(self) -> str:
        """Why its topics are not the owner's alone; "" when the token reads them, and nobody else reads or writes.

        Raises as `deliver` does. Where strangers may write but not read, they are seen to by a message of low priority.
        """
        if not _sealed(self._url):
            return "its address is not https"
        for topic in filter(None, (self._topic, self._answers)):
            if why := await self._strangers(topic):
                return f"{why}: {topic}" if topic == self._answers else why
        return ""

    async def _strangers(self, topic: str) -> str:
        poll = f"{self._url}/{topic}/json?poll=1&since={int(self._clock.now().timestamp())}"
        await self._ask("GET", poll)
        if may := await self._lets_in("GET", poll):
            return f"whoever knows its topic may read it ({may})"
        body = json.dumps({"topic": topic, "message": TRIED, "priority": 1}).encode()
        if may := await self._lets_in("POST", f"{self._url}/", content=body):
            return f"whoever knows its topic may write to it ({may})"
        return ""

    async def _lets_in(self, method: str, url: str, *, content: bytes | None = None) -> str:
        """What the server says to a stranger whom it lets in; "" where it refuses.

        To ntfy all of one address are one visitor, who is whoever asked last (`Server.visitor`): while a request of
        ours is under way, a stranger's beside it passes for us. So who is let in asks again, and where that is refused
        it begins anew a moment later. Raises `NotifierError` where the server goes on like that.
        """
        for _ in range(LOOKS):
            for tried in range(LET_IN):
                answer, _ = await self._exchange(method, url, content=content, headers={"Cache": "no"})
                said = _allowed(answer)
                if not said and not tried:
                    return ""
                if not said:
                    break
            else:
                return said
            await self._clock.sleep(LOOK_SECONDS)
        raise NotifierError("ntfy now lets strangers in, now refuses them", fix="it is tried again later")

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, method: str, url: str, *, content: bytes | None = None) -> bytes:
        response, answer = await self._exchange(method, url, content=content, headers=self._headers)
        if response.status_code == 200:
            self._doubts = DOUBTS_MOST
        elif response.status_code in REFUSED and self._doubts:
            self._doubts -= 1
            raise NotifierError(
                f"ntfy answered {response.status_code}, and took the same token before", fix="it is tried again later"
            )
        _check(response, answer)
        return answer

    async def _exchange(
        self, method: str, url: str, *, headers: dict[str, str], content: bytes | None = None
    ) -> tuple[httpx.Response, bytes]:
        with self._reached(url):
            async with self._client.stream(method, url, content=content, headers=headers) as response:
                return response, await self._whole(response)

    @contextmanager
    def _reached(self, url: str) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            raise NotifierError(f"{self._url} cannot be reached: {why}", fix="check the network and the url") from error
        except httpx.InvalidURL as error:
            raise NotifierRefusedError(f"{url} is no address", fix="set url and topic of [notifiers.ntfy]") from error

    async def _whole(self, response: httpx.Response) -> bytes:
        answer = b""
        async for chunk in response.aiter_bytes():
            answer += chunk
            if len(answer) > ANSWER_BYTES:
                raise NotifierError(f"{self._url} answers without end")
        return answer

    async def _lines(self, response: httpx.Response) -> AsyncIterator[bytes]:
        rest = b""
        async for chunk in response.aiter_bytes():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line
            if len(rest) > LINE_BYTES:
                raise NotifierError(f"{self._url} answers without end")

    def _button(self, reply: str, *, private: bool) -> dict[str, object]:
        """Publishes the reply; with a token of its own, since everybody who sees the notice sees what is in it."""
        headers = {"Authorization": f"Bearer {self._answers_token}"} if self._answers_token and private else {}
        label, url = LABELS[reply.partition(" ")[0]], f"{self._url}/{self._answers}"
        action = {"action": "http", "label": label, "url": url, "method": "POST", "body": reply, "clear": True}
        return {**action, "headers": headers}


def _sealed(url: str) -> bool:
    """Whether nobody on the way reads what is sent there."""
    parts = urlsplit(url)
    return parts.scheme == "https" or parts.hostname in {host.strip("[]") for host in LOOPBACK}


def _allowed(response: httpx.Response) -> str:
    """What an answer to a stranger says; "" for a plain refusal. Raises `NotifierError` where it may change."""
    status = response.status_code
    if status in RETRY_STATUS or status >= 500:
        raise NotifierError(f"ntfy answered {status}", fix="it is tried again later")
    return "" if status in REFUSED else f"the server answered {status}"


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


def _body(notice: Notice, more: dict[str, object]) -> bytes:
    """The request, its message cut until message and request both fit."""
    fields: dict[str, object] = {
        **more,
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


def _moment(seconds: object) -> datetime | None:
    """A server's time; None for what is none."""
    return datetime.fromtimestamp(seconds, UTC) if isinstance(seconds, int) and 0 <= seconds < 2**32 else None


def _said(event: dict[str, object]) -> tuple[str, str] | None:
    """Id and words of a message, both empty for the word that begins a stream; None for anything else."""
    name, text = event.get("id"), event.get("message")
    if event.get("event") == "open":
        return "", ""
    if event.get("event") != "message" or not isinstance(name, str) or not isinstance(text, str):
        return None
    return (name, text) if name.isascii() and name.isalnum() else None  # the id comes back in an address


def _words(answer: bytes) -> str:
    said = _object(answer).get("error")
    return said[:200] if isinstance(said, str) else ""


def _object(answer: bytes) -> dict[str, object]:
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def build(section: NtfySection, deps: NotifierDeps) -> Notifier:
    return Ntfy(section, deps)
