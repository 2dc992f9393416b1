"""Every notifier keeps the promises of the port; ntfy and the desktop are tried on the real thing where it is found."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import logging
import pkgutil
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from tests.ntfy_server import START_SECONDS, Closed, real_ntfy, serving_closed_ntfy, serving_ntfy

import kairosd.notifiers
from kairosd.config import DesktopSection, LogSection, NtfySection
from kairosd.core.notices import Notice, NoticeState, Severity
from kairosd.errors import NotifierError, NotifierRefusedError
from kairosd.notifiers import desktop, log, ntfy
from kairosd.notifiers.deps import NotifierDeps
from kairosd.ports import Heard, Notifier
from kairosd.system.clock import SystemClock

pytestmark = pytest.mark.anyio

DESKTOP_PROGRAMS = ("Xvfb", "dunst", "dbus-daemon", "dbus-send")
NO_DESKTOP = [name for name in DESKTOP_PROGRAMS if shutil.which(name) is None]
real_desktop = pytest.mark.skipif(bool(NO_DESKTOP), reason=f"NOT TESTED: no {', '.join(NO_DESKTOP)} here")


def notice(body: str = "The build of main is red.", *, severity: Severity = Severity.HIGH, number: int = 1) -> Notice:
    now = datetime.now(UTC)
    return Notice(
        id=f"n_{number:026d}", key="k", channel="c", title="Build broken: ünï <b>", body=body, severity=severity,
        state=NoticeState.ATTEMPTING, created=now, due=now, tries=1,
    )  # fmt: skip


def deps(token: str = "") -> NotifierDeps:
    return NotifierDeps(clock=SystemClock(), token=token)


def _modules() -> dict[str, object]:
    found = {}
    for each in pkgutil.iter_modules(kairosd.notifiers.__path__):
        module = importlib.import_module(f"kairosd.notifiers.{each.name}")
        if hasattr(module, "build"):
            found[each.name] = module
    return found


def test_the_notifiers_of_the_issue_are_all_there() -> None:
    assert set(_modules()) >= {"log", "ntfy", "desktop"}


@pytest.mark.parametrize("name", sorted(_modules()))
async def test_has_the_shape_of_the_port(name: str) -> None:
    build = _modules()[name].build  # type: ignore[attr-defined]
    assert list(inspect.signature(build).parameters) == ["section", "deps"]
    section = {"log": LogSection(), "ntfy": NtfySection(topic="t"), "desktop": DesktopSection()}.get(name)
    assert section is not None, "a new notifier needs a section here"
    made = build(section, deps())
    assert made.name == name
    assert all(inspect.iscoroutinefunction(getattr(made, method)) for method in ("deliver", "arrived", "close"))
    await made.close()
    await made.close()


# --- log


async def test_log_writes_one_structured_line(caplog: pytest.LogCaptureFixture) -> None:
    made = log.build(LogSection(), deps())
    with caplog.at_level(logging.INFO):
        assert await made.deliver(notice()) == "logged"
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == "Build broken: ünï <b>: The build of main is red."
    assert vars(record)["notice"] == notice().id
    assert await made.arrived(notice()) is False


# --- ntfy, on a server that does what the test wants


@dataclass
class Server:
    """An HTTP server on a real socket that gives each request the next answer and keeps what it was sent."""

    answers: list[bytes] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.requests.append((head[0], headers, body))
        writer.write(self.answers.pop(0))
        await writer.drain()
        writer.close()
        await writer.wait_closed()


def answer(status: str, body: str = '{"id":"abc123"}', headers: str = "") -> bytes:
    data = body.encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\nConnection: close\r\n{headers}\r\n".encode() + data


@asynccontextmanager
async def serving(*answers: bytes) -> AsyncIterator[Server]:
    server = Server(list(answers))
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    async with listener:
        yield server


@asynccontextmanager
async def phone(url: str, token: str = "", topic: str = "kairos-test") -> AsyncIterator[Notifier]:
    made = ntfy.build(NtfySection(url=url, topic=topic), deps(token))
    try:
        yield made
    finally:
        await made.close()


async def test_ntfy_publishes_json_with_the_token_and_the_notices_id() -> None:
    async with serving(answer("200 OK")) as server, phone(f"{server.url}/", token="tk_secret") as made:
        assert await made.deliver(notice()) == "abc123"
    ((line, headers, body),) = server.requests
    assert line == "POST / HTTP/1.1"
    assert headers["authorization"] == "Bearer tk_secret"
    assert json.loads(body) == {
        "topic": "kairos-test", "title": "Build broken: ünï <b>", "message": "The build of main is red.", "priority": 4,
        "tags": ["warning", notice().id],
    }  # fmt: skip


async def test_ntfy_cuts_a_long_message_at_the_servers_limit_and_points_to_the_rest() -> None:
    async with serving(answer("200 OK"), answer("200 OK")) as server, phone(server.url) as made:
        await made.deliver(notice("ü" * 5000))
        await made.deliver(notice("x" * 4095))
    cut, whole = (json.loads(body)["message"] for _, _, body in server.requests)
    assert 4000 < len(cut.encode()) <= 4095
    assert cut.endswith(f"ü…\n(cut: kairos notices {notice().id})")
    assert whole == "x" * 4095


@pytest.mark.parametrize(
    ("reply", "error", "said"),
    [
        (answer("401 Unauthorized", '{"error":"unauthorized"}'), NotifierRefusedError, "401: unauthorized"),
        (answer("403 Forbidden", "no"), NotifierRefusedError, "right to publish"),
        (answer("404 Not Found", ""), NotifierRefusedError, "check"),
        (answer("400 Bad Request", '{"error":"topic invalid"}'), NotifierRefusedError, "topic invalid"),
        (answer("301 Moved", "", "Location: https://n.example\r\n"), NotifierRefusedError, r"https://n\.example"),
        (answer("429 Too Many Requests", "{}"), NotifierError, "429"),
        (answer("503 Service Unavailable", ""), NotifierError, "503"),
        (answer("507 Insufficient Storage", ""), NotifierError, "507"),
        (answer("200 OK", "<html>log in to the hotel's network</html>"), NotifierError, "not like an ntfy server"),
        (answer("200 OK", "[]"), NotifierError, "not like an ntfy server"),
        (b"", NotifierError, "cannot be reached"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", NotifierError, "cannot be reached"),
        (b"nonsense\r\n\r\n", NotifierError, "cannot be reached"),
    ],
)
async def test_ntfy_tells_temporary_from_permanent(reply: bytes, error: type[NotifierError], said: str) -> None:
    async with serving(reply) as server, phone(server.url) as made:
        with pytest.raises(NotifierError, match=said) as caught:
            await made.deliver(notice())
    assert type(caught.value) is error
    assert caught.value.fix


async def test_a_server_that_took_the_token_before_is_asked_again_before_a_refusal_counts() -> None:
    no = answer("403 Forbidden", "no")
    async with serving(answer("200 OK"), no, no, no, no) as server, phone(server.url) as made:
        await made.deliver(notice())
        kinds = []
        for _ in range(4):
            with pytest.raises(NotifierError) as caught:
                await made.deliver(notice())
            kinds.append(type(caught.value))
    assert kinds == [NotifierError] * 3 + [NotifierRefusedError]


async def test_ntfy_without_a_server_is_temporary() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with phone(url) as made:
            for attempt in (made.deliver, made.arrived):
                with pytest.raises(NotifierError) as caught:
                    await attempt(notice())
                assert not isinstance(caught.value, NotifierRefusedError)


async def test_ntfy_finds_an_arrived_notice_by_its_id_and_is_not_fooled_by_a_body_that_quotes_it() -> None:
    mine = json.dumps({"event": "message", "tags": ["warning", notice().id], "message": "x"})
    quoted = json.dumps({"event": "message", "tags": [], "message": f'you said "{notice().id}"'})
    async with serving(answer("200 OK", quoted + "\n"), answer("200 OK", f"{quoted}\n{mine}\n")) as server:
        async with phone(server.url, token="tk") as made:
            assert await made.arrived(notice()) is False
            assert await made.arrived(notice()) is True
        line, headers, _ = server.requests[0]
        assert line.startswith("GET /kairos-test/json?poll=1&since=")
        assert int(line.split("since=")[1].split()[0]) < notice().created.timestamp()
        assert headers["authorization"] == "Bearer tk"


# --- ntfy, the real server


@pytest.fixture(scope="module")
def ntfy_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("ntfy")
    with serving_ntfy(folder, "--auth-file", str(folder / "auth.db")) as url:
        yield url


@real_ntfy
async def test_the_real_ntfy_takes_shows_and_finds_a_notice(ntfy_server: str) -> None:
    async with phone(ntfy_server) as made:
        receipt = await made.deliver(notice())
        assert await made.arrived(notice()) is True
        assert await made.arrived(notice(number=2)) is False
        await made.deliver(notice("ü" * 5000, number=3))
        await made.deliver(notice('"\n' * 4000, number=4))
        await made.deliver(notice("\x01" * 9000, number=5))
        await made.deliver(notice("x" * 4095, number=6))
    async with httpx.AsyncClient(trust_env=False) as client:
        lines = (await client.get(f"{ntfy_server}/kairos-test/json?poll=1&since=all")).text.splitlines()
    first, *long = (json.loads(line) for line in lines)
    assert (first["id"], first["title"], first["priority"]) == (receipt, "Build broken: ünï <b>", 4)
    assert first["message"] == "The build of main is red."
    assert long.pop()["message"] == "x" * 4095
    for number, message in enumerate(long, start=3):
        assert "attachment" not in message
        assert f"kairos notices {notice(number=number).id}" in message["message"]


@real_ntfy
@pytest.mark.parametrize(("topic", "token"), [("no/such topic", ""), ("kairos-test", "tk_wrong")])
async def test_the_real_ntfy_refuses_what_cannot_work(ntfy_server: str, topic: str, token: str) -> None:
    async with phone(ntfy_server, token, topic) as made:
        with pytest.raises(NotifierRefusedError) as caught:
            await made.deliver(notice())
        assert caught.value.fix


@pytest.fixture(scope="module")
def closed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    with serving_closed_ntfy(tmp_path_factory.mktemp("closed")) as made:
        yield made


@real_ntfy
@pytest.mark.parametrize(
    ("topic", "token", "found"),
    [
        ("kairos-test", True, ""),
        ("kairos-readable", True, "read it"),
        ("kairos-writable", True, "write to it"),
        ("kairos-test", False, None),
        ("elsewhere", True, None),
    ],
)
async def test_the_real_ntfy_is_private_only_where_strangers_neither_read_nor_write(
    closed_server: Closed, topic: str, token: bool, found: str | None
) -> None:
    url, known = closed_server.url, closed_server.token
    async with phone(url, known if token else "tk_wrong", topic) as made:
        assert isinstance(made, ntfy.Ntfy)
        if found is None:
            with pytest.raises(NotifierRefusedError):
                await made.strangers()
            return
        assert bool(why := await made.strangers()) is bool(found)
        assert found in why
    async with httpx.AsyncClient(trust_env=False, headers={"Authorization": f"Bearer {known}"}) as client:
        kept = (await client.get(f"{url}/{topic}/json?poll=1&since=all")).text
    assert kept == "", "nothing is left on the topic"


@real_ntfy
async def test_the_real_ntfy_without_access_control_is_not_private(ntfy_server: str) -> None:
    async with phone(ntfy_server, topic="open") as made:
        assert isinstance(made, ntfy.Ntfy)
        assert "read it" in await made.strangers()


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ((answer("200 OK", ""), answer("403 No", ""), answer("401 No", "")), ""),
        ((answer("200 OK", ""), *3 * [answer("302 Found", "", "Location: /login\r\n")]), "read it"),
        ((answer("200 OK", ""), answer("403 No", ""), *3 * [answer("404 No", "")]), "write to it"),
        ((*3 * [answer("200 OK", "")], *3 * [answer("403 No", "")]), ""),
        ((answer("200 OK", ""), answer("403 No", ""), answer("200 OK", ""), *2 * [answer("401 No", "")]), ""),
        ((answer("200 OK", ""), *3 * [answer("200 OK", ""), answer("403 No", "")]), None),
        ((answer("200 OK", ""), answer("403 No", ""), answer("429 Slow", "")), None),
        ((answer("200 OK", ""), answer("500 Broken", "")), None),
        ((answer("503 Broken", ""),), None),
    ],
)
async def test_ntfy_is_private_by_refusals_alone(answers: tuple[bytes, ...], found: str | None) -> None:
    async with serving(*answers) as server, phone(server.url, token="tk_secret") as made:
        assert isinstance(made, ntfy.Ntfy)
        if found is None:
            with pytest.raises(NotifierError):
                await made.strangers()
        else:
            why = await made.strangers()
            assert (bool(why), found in why) == (bool(found), True)
    sent = ["authorization" in headers for _, headers, _ in server.requests]
    assert sent == [True, *[False] * (len(sent) - 1)], "a stranger has no token"
    assert len(sent) == len(answers), "who is let in once may have passed for us: it is asked again"


@pytest.mark.parametrize("url", ["http://ntfy.example.org", "http://localhost.example.org:80", "http://10.0.0.1"])
async def test_ntfy_is_not_private_where_the_network_reads_along(url: str) -> None:
    async with phone(url, token="tk_secret") as made:
        assert isinstance(made, ntfy.Ntfy)
        assert await made.strangers() == "its address is not https"


# --- ntfy, what is answered


def streamed(*lines: str) -> bytes:
    return answer("200 OK", "".join(f"{line}\n" for line in lines))


def said(name: str, text: str, seconds: int) -> str:
    return json.dumps({"id": name, "time": seconds, "event": "message", "topic": "kairos-answers", "message": text})


@asynccontextmanager
async def ear(url: str, token: str = "") -> AsyncIterator[ntfy.Ntfy]:
    made = ntfy.build(NtfySection(url=url, topic="kairos-test", answers="kairos-answers"), deps(token))
    assert isinstance(made, ntfy.Ntfy)
    try:
        yield made
    finally:
        await made.close()


async def heard(made: ntfy.Ntfy, since: str = "0") -> list[Heard]:
    return [one async for one in made.answers(since) if one.id]


async def test_ntfy_tells_what_is_answered_by_our_own_clock() -> None:
    ours = int(datetime.now(UTC).timestamp())
    theirs = ours + 86400
    lines = (
        json.dumps({"id": "o1", "time": theirs, "event": "open"}), said("m1", "yes bcdfg", theirs - 10), "nonsense",
        json.dumps({"id": "k1", "time": theirs, "event": "keepalive"}), json.dumps([1]),
        said("../../x", "no bcdfg", theirs), said("m2", "no bcdfg", 10**30), said("m3", "no bcdfg", theirs),
    )  # fmt: skip
    async with serving(streamed(*lines)) as server, ear(server.url, "tk_secret") as made:
        first, second = await heard(made, since="m0")
    assert [(one.id, one.text) for one in (first, second)] == [("m1", "yes bcdfg"), ("m3", "no bcdfg")]
    assert abs((first.at - datetime.fromtimestamp(ours - 10, UTC)).total_seconds()) < 5
    ((line, headers, _),) = server.requests
    assert line == "GET /kairos-answers/json?since=m0 HTTP/1.1"
    assert headers["authorization"] == "Bearer tk_secret"


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (answer("403 Forbidden", "no"), NotifierRefusedError),
        (answer("503 Broken", ""), NotifierError),
        (answer("200 OK", "x" * (ntfy.LINE_BYTES + 10)), NotifierError),
        (answer("200 OK", "[" * 90_000 + "\n" + "x" * (ntfy.LINE_BYTES + 10)), NotifierError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", NotifierError),
    ],
)
async def test_ntfy_that_cannot_be_heard_says_why(reply: bytes, error: type[NotifierError]) -> None:
    async with serving(reply) as server, ear(server.url) as made:
        with pytest.raises(NotifierError) as caught:
            await heard(made)
    assert type(caught.value) is error


async def test_ntfy_puts_the_buttons_own_token_into_a_question_and_nothing_without_a_topic_for_answers() -> None:
    replies = ("yes bcdfg", "no bcdfg")
    async with serving(*[answer("200 OK")] * 3) as server, phone(server.url) as deaf:
        section = NtfySection(url=server.url, topic="t", answers="a")
        made = ntfy.Ntfy(section, NotifierDeps(SystemClock(), token="tk_own", answers_token="tk_button"))
        await made.deliver(notice(), replies, private=True)
        await made.deliver(notice(), replies)
        await made.close()
        await deaf.deliver(notice(), replies)
    asked, unproven, plain = (json.loads(body) for _, _, body in server.requests)
    assert [(one["label"], one["body"], one["url"]) for one in asked["actions"]] == [
        ("Yes", "yes bcdfg", f"{server.url}/a"), ("No", "no bcdfg", f"{server.url}/a"),
    ]  # fmt: skip
    assert {one["headers"]["Authorization"] for one in asked["actions"]} == {"Bearer tk_button"}
    assert "tk_own" not in str(asked)
    assert [one["headers"] for one in unproven["actions"]] == [{}, {}], "strangers may read it"
    assert "actions" not in plain


@real_ntfy
async def test_the_real_ntfy_tells_what_was_said_before_and_what_is_said_now(closed_server: Closed) -> None:
    async with (
        httpx.AsyncClient(trust_env=False, headers={"Authorization": f"Bearer {closed_server.phone}"}) as client,
        ear(closed_server.url, closed_server.token) as made,
    ):
        before = await client.post(f"{closed_server.url}/kairos-answers", content="no bcdfg")
        assert before.status_code == 200
        found: list[Heard] = []
        async for one in made.answers("0"):
            if not one.id:
                await client.post(f"{closed_server.url}/kairos-answers", content="yes bcdfg")
                continue
            found.append(one)
            if len(found) == 2:
                break
        assert [one.text for one in found] == ["no bcdfg", "yes bcdfg"]
        async for one in made.answers(found[0].id):
            if one.id:
                assert one.id == found[1].id, "from a message on, that one not"
                break
        assert await made.strangers() == ""


@real_ntfy
async def test_the_real_ntfy_is_not_private_where_strangers_may_answer(closed_server: Closed) -> None:
    section = NtfySection(url=closed_server.url, topic="kairos-test", answers="kairos-writable")
    made = ntfy.build(section, deps(closed_server.token))
    assert isinstance(made, ntfy.Ntfy)
    why = await made.strangers()
    assert "write to it" in why
    assert why.endswith("kairos-writable")
    await made.close()


# --- desktop


@asynccontextmanager
async def screen() -> AsyncIterator[Notifier]:
    made = desktop.build(DesktopSection(), deps())
    try:
        yield made
    finally:
        await made.close()


async def test_desktop_without_a_session_bus_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    for address in (None, f"unix:path={tmp_path}/nowhere"):
        if address:
            monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
        else:
            monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
        async with screen() as made:
            with pytest.raises(NotifierRefusedError) as caught:
                await made.deliver(notice())
            assert "kairos service install" in (caught.value.fix or "")
            with pytest.raises(NotifierError):
                await made.arrived(notice())
    assert caplog.records == [], "the outbox says it, once"


@dataclass
class Session:
    """A session bus, an X server and dunst, whose output shows what a person would see."""

    output: Path
    dunst: subprocess.Popen[bytes]

    async def shows(self, text: str) -> str:
        async with asyncio.timeout(START_SECONDS):
            while text not in (shown := self.output.read_text("utf-8", "replace")):
                await asyncio.sleep(0.05)
        return shown


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    bus = subprocess.Popen(
        ["dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    x11 = subprocess.Popen(
        ["Xvfb", "-displayfd", "1", "-screen", "0", "800x600x24", "-nolisten", "tcp"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    processes = [x11, bus]
    try:
        assert bus.stdout is not None
        assert x11.stdout is not None
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus.stdout.readline().decode().strip())
        monkeypatch.setenv("DISPLAY", f":{x11.stdout.readline().decode().strip()}")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        output = tmp_path / "dunst"
        with output.open("wb") as sink:
            dunst = subprocess.Popen(["dunst", "-print"], stdout=sink, stderr=subprocess.DEVNULL)
        processes.insert(0, dunst)
        _until_dunst_listens(dunst)
        yield Session(output, dunst)
    finally:
        for process in processes:
            process.terminate()
            process.wait(START_SECONDS)
        for process in (bus, x11):
            if process.stdout:
                process.stdout.close()


def _until_dunst_listens(dunst: subprocess.Popen[bytes]) -> None:
    ask = ["dbus-send", "--session", "--print-reply", "--dest=org.freedesktop.DBus", "/org/freedesktop/DBus"]
    ask += ["org.freedesktop.DBus.NameHasOwner", "string:org.freedesktop.Notifications"]
    for _ in range(600):
        assert dunst.poll() is None, "dunst ended"
        if b"boolean true" in subprocess.run(ask, capture_output=True, check=True).stdout:
            return
        subprocess.run(["sleep", "0.05"], check=True)
    pytest.fail("dunst never took the name")


@real_desktop
async def test_the_real_desktop_shows_a_notice_as_text_not_markup(
    session: Session,
) -> None:
    async with screen() as made:
        assert await made.deliver(notice('see <a href="https://evil.example">here</a> & now'))
        shown = await session.shows("Build broken")
        assert "Kairos" in shown
        assert "&lt;a href" in shown or '<a href="https://evil.example">here</a> & now' in shown
        await made.deliver(replace(notice("once more"), severity=Severity.URGENT))
        await session.shows("once more")


@real_desktop
async def test_desktop_finds_a_new_session_after_the_old_one_ended(
    session: Session,
) -> None:
    async with screen() as made:
        await made.deliver(notice("first"))
        session.dunst.terminate()
        session.dunst.wait(START_SECONDS)
        with pytest.raises(NotifierError):
            await made.deliver(notice("into the void"))
        with session.output.open("ab") as sink:
            again = subprocess.Popen(["dunst", "-print"], stdout=sink, stderr=subprocess.DEVNULL)
        try:
            await asyncio.to_thread(_until_dunst_listens, again)
            await made.deliver(notice("after the new login"))
            await session.shows("after the new login")
        finally:
            again.terminate()
            again.wait(START_SECONDS)
