"""The hooks server and the control socket over real sockets: every answer of design §6, and every limit."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.intake import RecordingIntake

from kairosd.config.sections import GithubSection
from kairosd.core.events import Draft, Receipt
from kairosd.core.workspaces import Workspace
from kairosd.errors import AlreadyRunningError, DiskFullError, KairosError
from kairosd.http import server
from kairosd.http.hook_requests import Request
from kairosd.http.hook_server import Answer, HooksProtocol, hooks_server
from kairosd.http.hooks import build_hooks
from kairosd.http.server import bind_tcp, bind_unix, control_server
from kairosd.system.clock import SystemClock
from kairosd.triggers.github import drafter

pytestmark = pytest.mark.anyio

SECRET, OLD_SECRET = b"correct horse battery", b"the one before it"
BODY = json.dumps({"action": "opened", "repository": {"full_name": "acme/tool"}, "number": 1}).encode()


class FullIntake(RecordingIntake):
    async def submit(self, draft: Draft) -> Receipt:
        raise DiskFullError


@dataclass
class Hooks:
    port: int
    intake: RecordingIntake
    counts: Counter[str]

    async def post(self, body: bytes = BODY, *, path: str = "/hooks/github", **headers: str | bytes) -> tuple[int, Any]:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        lines = {"Host": "localhost", "X-GitHub-Delivery": "d-1", "X-GitHub-Event": "ping", **sign(body), **given}
        return await self.send(request("POST", path, lines, body))

    async def send(self, raw: bytes) -> tuple[int, Any]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(raw)
            await writer.drain()
            return await answer(reader)
        finally:
            writer.close()


def sign(body: bytes, secret: bytes = SECRET) -> dict[str, str | bytes]:
    return {"X-Hub-Signature-256": "sha256=" + hmac.new(secret, body, "sha256").hexdigest()}


def request(method: str, path: str, headers: Mapping[str, str | bytes], body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\ncontent-length: {len(body)}\r\n".encode()
    for name, value in headers.items():
        head += name.encode() + b": " + (value.encode() if isinstance(value, str) else value) + b"\r\n"
    return head + b"\r\n" + body


async def answer(reader: asyncio.StreamReader) -> tuple[int, Any]:
    async with asyncio.timeout(30):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line)
        body = await reader.readexactly(length)
    return int(head.split()[1]), json.loads(body) if body.startswith(b"{") else body


@asynccontextmanager
async def serving(intake: RecordingIntake | None = None, **settings: Any) -> AsyncIterator[Hooks]:
    taken = intake or RecordingIntake(SystemClock())
    counts: Counter[str] = Counter()
    app = build_hooks(
        taken,
        drafter([Workspace("tool", Path("/tool"), repo="Acme/Tool")]),
        secrets=[SECRET, OLD_SECRET],
        settings=GithubSection(**settings),
        count=lambda name: counts.update([name]),
    )
    with bind_tcp("127.0.0.1", 0) as bound:
        part = hooks_server(app, bound)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(part.run())
            yield Hooks(bound.getsockname()[1], taken, counts)
            part.stop()
            async with asyncio.timeout(10):
                await task


async def test_a_signed_delivery_is_durable_before_it_is_accepted() -> None:
    async with serving() as hooks:
        assert await hooks.post() == (202, {"id": "e_0"})
        (draft,) = hooks.intake.drafts
        assert (draft.source, draft.kind, draft.key, draft.delivery) == ("webhook", "ping", "d-1", "d-1")
        assert draft.body == hashlib.sha256(BODY).hexdigest()
        assert (draft.workspace, draft.facts["repo"]) == ("tool", "acme/tool")
        other = b'{"other": 1}'
        accepted = await hooks.post(other, X_GitHub_Delivery="d-2", **sign(other, OLD_SECRET))
        assert accepted == (202, {"id": "e_1"})
        assert hooks.counts == {"webhook_accepted": 2}


async def test_a_replay_is_a_duplicate_by_id_and_by_body() -> None:
    async with serving() as hooks:
        await hooks.post()
        assert await hooks.post() == (200, {"duplicate_of": "e_0"})
        assert await hooks.post(X_GitHub_Delivery="d-2") == (200, {"duplicate_of": "e_0"})
        assert await hooks.post(b"{}", **sign(b"{}")) == (200, {"duplicate_of": "e_0"})
        assert len(hooks.intake.drafts) == 1
        assert hooks.counts == {"webhook_accepted": 1, "webhook_duplicate": 3}


@pytest.mark.parametrize(
    "signature",
    [b"", b"sha256=", b"sha256=" + b"0" * 64, b"sha1=" + hmac.new(SECRET, BODY, "sha1").hexdigest().encode(),
     hmac.new(SECRET, BODY, "sha256").hexdigest().encode(), "sha256=\u00fc".encode(), b"sha256=\xff\xfe", b"x" * 5000,
     b"SHA256=" + hmac.new(SECRET, BODY, "sha256").hexdigest().encode()],
)  # fmt: skip
async def test_a_bad_signature_is_told_nothing(signature: bytes) -> None:
    async with serving() as hooks:
        assert await hooks.post(X_Hub_Signature_256=signature) == (401, b"")
        assert hooks.intake.drafts == []
        assert hooks.counts == {"webhook_rejected": 1}


async def test_a_missing_a_sha1_only_and_a_second_signature_are_refused() -> None:
    async with serving() as hooks:
        names = {"X-GitHub-Delivery": "d", "X-GitHub-Event": "ping"}
        sha1 = {"X-Hub-Signature": "sha1=" + hmac.new(SECRET, BODY, "sha1").hexdigest()}
        assert (await hooks.send(request("POST", "/hooks/github", names, BODY)))[0] == 401
        assert (await hooks.send(request("POST", "/hooks/github", {**names, **sha1}, BODY)))[0] == 401
        twice = {**names, **sign(BODY), "x-hub-signature-256": "sha256=" + "0" * 64}
        assert (await hooks.send(request("POST", "/hooks/github", twice, BODY)))[0] == 401


@pytest.mark.parametrize(
    "headers",
    [{"X_GitHub_Delivery": ""}, {"X_GitHub_Delivery": "d" * 101}, {"X_GitHub_Delivery": b"\xe9"},
     {"X_GitHub_Event": ""}, {"X_GitHub_Event": "e" * 101}, {"X_GitHub_Event": "drop table"}],
)  # fmt: skip
async def test_headers_are_looked_at_after_the_signature(headers: dict[str, str | bytes]) -> None:
    async with serving() as hooks:
        assert (await hooks.post(**headers))[0] == 400
        assert (await hooks.post(**headers, X_Hub_Signature_256="sha256=" + "0" * 64))[0] == 401
        assert hooks.intake.drafts == []


@pytest.mark.parametrize(
    "body", [b"", b"no json", b"[1]", b'"x"', b"\xff", b"[" * 100_000, b'{"a":' + b"9" * 5000 + b"}"]
)
async def test_a_body_must_be_a_json_object(body: bytes) -> None:
    async with serving() as hooks:
        assert (await hooks.post(body, **sign(body)))[0] == 400


@pytest.mark.parametrize("value", [b'"\\ud800"', b"[" * 250 + b"]" * 250, b"NaN", '"gr\u00fc\u00df dich"'.encode()])
async def test_a_body_may_hold_whatever_json_can(value: bytes) -> None:
    body = b'{"action": "opened", "odd": ' + value + b"}"
    async with serving() as hooks:
        assert (await hooks.post(body, **sign(body)))[0] == 202
    assert [draft.facts["action"] for draft in hooks.intake.drafts] == ["opened"]


async def test_a_body_over_the_cap_is_refused_whichever_way_it_comes() -> None:
    async with serving(max_body=2000) as hooks:
        body = b'{"pad": "' + b"x" * 300_000 + b'"}'
        assert (await hooks.post(body, **sign(body)))[0] == 413
        chunked = b"POST /hooks/github HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
        chunked += b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        assert (await hooks.send(chunked))[0] == 413
        eager = request("POST", "/hooks/github", {"Expect": "100-continue"}, body)[: -len(body)]
        assert (await hooks.send(eager))[0] == 413
        huge = b"POST /hooks/github HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n"
        assert (await hooks.send(huge))[0] == 413
        assert (await hooks.post())[0] == 202


async def test_there_are_two_routes_and_no_more() -> None:
    async with serving() as hooks:
        assert await hooks.send(request("GET", "/healthz", {})) == (200, {"status": "ok"})
        assert (await hooks.send(request("GET", "/hooks/github", {})))[0] == 405
        assert (await hooks.send(request("POST", "/healthz", {})))[0] == 405
        for path in ("/", "/hooks", "/hooks/github/", "/hooks/gitlab", "/docs", "/openapi.json", "/status"):
            assert (await hooks.send(request("POST", path, {})))[0] == 404


async def test_hosts_when_configured_are_the_only_ones() -> None:
    async with serving(hosts=("hooks.example.org",)) as hooks:
        assert (await hooks.post(Host="evil.example"))[0] == 421
        assert (await hooks.post(Host="Hooks.example.org:8787"))[0] == 202


async def test_what_could_not_be_stored_is_asked_for_again() -> None:
    async with serving(FullIntake(SystemClock())) as hooks:
        assert (await hooks.post())[0] == 503
        assert hooks.counts == {"webhook_rejected": 1}


async def test_a_connection_serves_many_requests() -> None:
    async with serving() as hooks:
        reader, writer = await asyncio.open_connection("127.0.0.1", hooks.port)
        for number in range(20):
            body = json.dumps({"number": number}).encode()
            names = {"X-GitHub-Delivery": f"d-{number}", "X-GitHub-Event": "ping", **sign(body)}
            writer.write(request("POST", "/hooks/github", names, body))
            assert await answer(reader) == (202, {"id": f"e_{number}"})
        writer.close()


async def test_requests_sent_ahead_are_answered_in_order() -> None:
    async with serving() as hooks:
        reader, writer = await asyncio.open_connection("127.0.0.1", hooks.port)
        for number in range(50):
            body = json.dumps({"number": number, "pad": "x" * 5000}).encode()
            names = {"X-GitHub-Delivery": f"d-{number}", "X-GitHub-Event": "ping", **sign(body)}
            writer.write(request("POST", "/hooks/github", names, body))
        writer.write(b"this is no request\r\n\r\n")
        for number in range(50):
            assert await answer(reader) == (202, {"id": f"e_{number}"})
        assert (await answer(reader))[0] == 400
        assert await reader.read() == b""
        writer.close()


async def test_answers_are_not_kept_for_who_never_reads_them() -> None:
    async with serving() as hooks:
        with socket.create_connection(("127.0.0.1", hooks.port)) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setblocking(False)
            loop = asyncio.get_running_loop()

            async def talk() -> None:
                while True:
                    await loop.sock_sendall(deaf, request("GET", "/healthz", {}) * 500)

            with pytest.raises(ConnectionError):
                await asyncio.wait_for(talk(), 30)
        assert (await hooks.post())[0] == 202


async def test_a_request_may_come_in_the_smallest_pieces() -> None:
    async with serving() as hooks:
        reader, writer = await asyncio.open_connection("127.0.0.1", hooks.port)
        names = {"X-GitHub-Delivery": "d-1", "X-GitHub-Event": "ping", **sign(BODY)}
        for byte in request("POST", "http://localhost/hooks/github?a=b", names, BODY):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        assert await answer(reader) == (202, {"id": "e_0"})
        writer.close()


async def test_a_sender_that_waits_to_be_told_is_told() -> None:
    async with serving() as hooks:
        reader, writer = await asyncio.open_connection("127.0.0.1", hooks.port)
        names = {"X-GitHub-Delivery": "d-1", "X-GitHub-Event": "ping", "Expect": "100-continue", **sign(BODY)}
        whole = request("POST", "/hooks/github", names, BODY)
        writer.write(whole[: -len(BODY)])
        async with asyncio.timeout(10):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(BODY)
        assert (await answer(reader))[0] == 202
        writer.close()


@pytest.mark.parametrize(
    ("version", "headers"),
    [("1.0", {}), ("1.1", {"Connection": "close"}), ("1.1", {"Connection": "upgrade", "Upgrade": "websocket"})],
)
async def test_a_last_request_is_answered_and_then_hung_up(version: str, headers: dict[str, str]) -> None:
    async with serving() as hooks:
        reader, writer = await asyncio.open_connection("127.0.0.1", hooks.port)
        writer.write(request("GET", "/healthz", headers).replace(b"HTTP/1.1", f"HTTP/{version}".encode()) + b"and more")
        async with asyncio.timeout(10):
            whole = await reader.read()
        assert whole.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"connection: close\r\n" in whole
        assert whole.endswith(b'{"status": "ok"}')
        writer.close()


async def test_what_nobody_foresaw_costs_one_connection(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(RecordingIntake):
        async def submit(self, draft: Draft) -> Receipt:
            if draft.key == "d-bad":
                raise RuntimeError("nobody foresaw this")
            return await super().submit(draft)

    async with serving(Broken(SystemClock())) as hooks:
        assert (await hooks.post(X_GitHub_Delivery="d-bad"))[0] == 500
        assert "nobody foresaw this" in caplog.text
        assert (await hooks.post())[0] == 202


async def test_what_a_vanished_sender_asked_for_is_done_all_the_same() -> None:
    class Slow(RecordingIntake):
        async def submit(self, draft: Draft) -> Receipt:
            began.set()
            await go_on.wait()
            return await super().submit(draft)

    began, go_on = asyncio.Event(), asyncio.Event()
    async with serving(Slow(SystemClock())) as hooks:
        _, writer = await asyncio.open_connection("127.0.0.1", hooks.port)
        writer.write(
            request("POST", "/hooks/github", {"X-GitHub-Delivery": "d", "X-GitHub-Event": "ping", **sign(BODY)}, BODY)
        )
        await began.wait()
        writer.transport.abort()
        await asyncio.sleep(0.05)
        go_on.set()
        assert (await hooks.post()) == (200, {"duplicate_of": "e_0"})


async def test_slow_senders_and_idle_connections_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HooksProtocol, "deadline_seconds", 0.5)
    head = request("POST", "/hooks/github", {"X-GitHub-Event": "ping"}, b"x" * 100)
    async with serving() as hooks:

        async def cut(first: bytes, drip: bytes) -> None:
            """Returns once the server hung up, however steadily it is fed."""
            reader, writer = await asyncio.open_connection("127.0.0.1", hooks.port)
            writer.write(first)
            async with asyncio.timeout(20):
                while True:
                    try:
                        if await asyncio.wait_for(reader.read(1000), 0.05) == b"":
                            break
                    except TimeoutError:
                        writer.write(drip)
                    except ConnectionError:
                        break
            writer.close()

        async with asyncio.TaskGroup() as group:
            group.create_task(cut(b"", b"\r\n"))  # nothing but empty lines
            group.create_task(cut(b"POST /hooks/github HTTP/1.1\r\n", b"a: b\r\n"))  # a head that drips
            group.create_task(cut(head[:-100], b"x"))  # a body that drips
            group.create_task(cut(b"", b""))  # silence
            group.create_task(cut(request("GET", "/healthz", {}), b""))  # idle after an answer
        assert (await hooks.post())[0] == 202


async def test_a_slow_answer_earns_no_longer_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(RecordingIntake):
        async def submit(self, draft: Draft) -> Receipt:
            await asyncio.sleep(1.0)
            return await super().submit(draft)

    monkeypatch.setattr(HooksProtocol, "deadline_seconds", 0.4)
    async with serving(Slow(SystemClock())) as hooks:
        reader, writer = await asyncio.open_connection("127.0.0.1", hooks.port)
        names = {"X-GitHub-Delivery": "d-1", "X-GitHub-Event": "ping", **sign(BODY)}
        writer.write(request("POST", "/hooks/github", names, BODY))
        assert (await answer(reader))[0] == 202
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\nx: " + b"y" * 40_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"".join(b"x%d: y\r\n" % number for number in range(101)) + b"\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"x: y\r\n" * 101 + b"\r\n",
        b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nx: " + b"y" * 40_000,
        b"POST /hooks/github HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: " + b"y" * 40_000,
    ],
)
async def test_a_head_has_a_size(head: bytes) -> None:
    async with serving() as hooks:
        assert (await hooks.send(head))[0] == 431
        assert (await hooks.post())[0] == 202


async def test_what_is_no_http_is_refused() -> None:
    async with serving() as hooks:
        assert (await hooks.send(b"\x16\x03\x01\x00\xa5 hello\r\n\r\n"))[0] == 400


async def test_there_is_a_last_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HooksProtocol, "connections_max", 3)
    async with serving() as hooks:
        held = [await asyncio.open_connection("127.0.0.1", hooks.port) for _ in range(3)]
        reader, writer = await asyncio.open_connection("127.0.0.1", hooks.port)
        assert (await answer(reader))[0] == 503
        writer.close()
        for _, other in held:
            other.close()


async def test_a_stop_answers_what_is_under_way_and_cuts_the_rest() -> None:
    class Slow(RecordingIntake):
        async def submit(self, draft: Draft) -> Receipt:
            began.set()
            await asyncio.sleep(0.3)
            return await super().submit(draft)

    began = asyncio.Event()
    async with serving(Slow(SystemClock())) as hooks:
        _, idle = await asyncio.open_connection("127.0.0.1", hooks.port)
        asked = asyncio.get_running_loop().create_task(hooks.post())
        await began.wait()
    assert (await asked)[0] == 202
    idle.close()


async def test_a_cancelled_server_lets_go_of_everything_and_can_run_again() -> None:
    with bind_tcp("127.0.0.1", 0) as bound:
        part = hooks_server(Hello(), bound)
        for _ in range(2):
            task = asyncio.get_running_loop().create_task(part.run())
            reader, writer = await asyncio.open_connection("127.0.0.1", bound.getsockname()[1])
            writer.write(request("GET", "/", {}))
            assert (await answer(reader))[0] == 200
            task.cancel()
            await asyncio.wait([task], timeout=10)
            assert task.cancelled()
            assert await reader.read() == b""
            writer.close()


async def test_a_taken_port_is_an_os_error() -> None:
    with bind_tcp("127.0.0.1", 0) as bound, pytest.raises(OSError, match="in use"):
        bind_tcp("127.0.0.1", bound.getsockname()[1])


class Hello:
    """The smallest app there is."""

    def room(self, request: Request) -> int:
        return 0

    async def answer(self, request: Request) -> Answer:
        return Answer(200)


async def _hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def test_the_control_socket_is_private_and_serves_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    before = os.umask(0)
    try:
        bound = bind_unix(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    part = control_server(_hello, bound)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(part.run())
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(request("GET", "/", {}))
        assert (await answer(reader))[0] == 200
        writer.close()
        with pytest.raises(AlreadyRunningError):
            bind_unix(path)
        part.stop()
        await task
    bound.close()
    with bind_unix(path):  # a dead daemon's socket is in nobody's way
        pass


def test_binding_leaves_the_permissions_of_what_other_threads_write_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """umask is the whole process's; a database file made in that moment would get the socket's."""

    def touched(_mask: int) -> int:
        raise AssertionError("the process's umask was changed")

    monkeypatch.setattr(os, "umask", touched)
    with bind_unix(tmp_path / "control.sock"):
        assert stat.S_IMODE((tmp_path / "control.sock").stat().st_mode) == 0o600


async def test_something_else_at_the_sockets_place_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("precious")
    with pytest.raises(KairosError, match="no socket"):
        bind_unix(path)
    assert path.read_text() == "precious"


KNOCK = """
import os, socket, sys
os.setgid(65534); os.setuid(65534)
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
s.settimeout(20)
try:
    s.sendall(b"GET / HTTP/1.1\\r\\ncontent-length: 0\\r\\n\\r\\n")
    got = s.recv(1000)
except (ConnectionResetError, BrokenPipeError):
    got = b""
sys.exit(9 if got else 7)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can play another user")
async def test_another_user_is_dropped_even_where_the_mode_lets_it_in(caplog: pytest.LogCaptureFixture) -> None:
    path = Path(f"/tmp/kairos-test-{os.getpid()}.sock")
    with bind_unix(path) as bound:
        path.chmod(0o666)
        part = control_server(_hello, bound)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(part.run())
            with caplog.at_level(logging.WARNING, server.log.name):
                ended = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", KNOCK, str(path)], timeout=60)
            assert ended.returncode == 7
            assert "user 65534" in caplog.text
            part.stop()
            await task
    path.unlink()


async def test_serving_takes_no_signal_and_does_not_poll() -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with bind_tcp("127.0.0.1", 0) as bound:
        part = hooks_server(Hello(), bound)
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(part.run())
            await asyncio.sleep(0.2)
            assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
            assert not [handle for handle in getattr(loop, "_scheduled", []) if not handle.cancelled()]
            part.stop()
            await task
    assert isinstance(bound, socket.socket)
