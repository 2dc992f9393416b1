"""What a command that may reach hosts does reach: those, by the proxy, and nothing else. Real sandboxes and sockets."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kairosd.core.hosts import Connection, Reach
from kairosd.executor import proxy
from kairosd.executor.client import ProcessExecutor
from kairosd.ports import Job, Mount, Outcome
from kairosd.sandbox import bubblewrap

pytestmark = pytest.mark.anyio

# Runs inside: asks the proxy, which it finds as every program does, and tries what goes past it.
ASKING = """
import json, os, socket, sys
from urllib.parse import urlsplit
proxy = urlsplit(os.environ["HTTPS_PROXY"])
def ask(line):
    with socket.create_connection((proxy.hostname, proxy.port), 10) as connection:
        connection.sendall(line.encode() + b"\\r\\n\\r\\n")
        file = connection.makefile("rb")
        said = file.readline().decode().strip()
        while file.readline().strip(): pass
        if " 200 " not in said: return said
        connection.sendall(b"hello")
        return said + " " + file.read(5).decode()
def tries(action):
    try: action()
    except OSError as error: return type(error).__name__
    return "reached"
"""


@pytest.fixture
async def executor() -> AsyncIterator[ProcessExecutor]:
    executor = ProcessExecutor()
    yield executor
    await executor.close()


@pytest.fixture
def sandbox(executor: ProcessExecutor, tmp_path: Path) -> bubblewrap.Bubblewrap:
    (tmp_path / "state").mkdir()
    return bubblewrap.build(executor, folder=tmp_path / "state")


@pytest.fixture
async def echo() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A host on the loopback: its port, and what it has been sent."""
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            heard.append(data)
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], heard
    server.close()


async def inside(sandbox: bubblewrap.Bubblewrap, script: str, reach: Reach | None, **more: float) -> Outcome:
    program = os.path.realpath(sys.executable)
    prefix = Path(sys.base_prefix).resolve()
    mounts = () if prefix.is_relative_to("/usr") else (Mount(prefix, prefix),)
    job = Job((program, "-I", "-S", "-c", ASKING + script), Path("/tmp"), mounts, reach=reach, **more)
    return await sandbox.run(job)


async def test_a_listed_host_is_reached_and_accounted_for(
    sandbox: bubblewrap.Bubblewrap, echo: tuple[int, list[bytes]]
) -> None:
    port, heard = echo
    script = f"print(ask('CONNECT 127.0.0.1:{port} HTTP/1.1')); print(ask('CONNECT 127.0.0.1:{port} HTTP/1.1'))"
    outcome = await inside(sandbox, script, Reach((f"127.0.0.1:{port}",)))
    assert outcome.stdout.decode().splitlines() == ["HTTP/1.1 200 Connection established hello"] * 2, outcome.stderr
    assert heard == [b"hello", b"hello"]
    assert outcome.connections == (Connection("127.0.0.1", port, "", 2, 10, 10),)


async def test_a_name_that_leads_to_a_listed_address_is_connected_to_that_very_address(
    sandbox: bubblewrap.Bubblewrap, echo: tuple[int, list[bytes]]
) -> None:
    port, _ = echo
    listed = (f"localhost:{port}", f"127.0.0.1:{port}")
    outcome = await inside(sandbox, f"print(ask('CONNECT LOCALHOST.:{port} HTTP/1.1'))", Reach(listed))
    assert outcome.stdout.decode().strip().endswith("hello")


@pytest.mark.parametrize(
    ("line", "allow", "deny", "status"),
    [
        ("CONNECT 127.0.0.1:{port} HTTP/1.1", (), (), 403),
        ("CONNECT 127.0.0.1:{port} HTTP/1.1", ("127.0.0.1",), (), 403),  # on its own port only
        ("CONNECT 127.0.0.1:{port} HTTP/1.1", ("127.0.0.1:{port}",), ("127.0.0.1",), 403),
        ("CONNECT 127.0.0.1:{port} HTTP/1.1", ("127.0.0.1:{port}",), ("*",), 403),
        ("CONNECT 127.1:{port} HTTP/1.1", ("127.0.0.1:{port}",), (), 403),  # the same address as nobody lists it
        ("CONNECT 2130706433:{port} HTTP/1.1", ("127.0.0.1:{port}",), (), 403),
        ("CONNECT localhost:{port} HTTP/1.1", ("127.0.0.1:{port}",), (), 403),
        ("CONNECT localhost:{port} HTTP/1.1", ("localhost:{port}",), (), 403),  # a name that leads to this machine
        ("CONNECT [::ffff:127.0.0.1]:{port} HTTP/1.1", ("127.0.0.1:{port}",), (), 403),
        ("CONNECT localhost:{port} HTTP/1.1", ("*:{port}",), (), 403),  # every host of the internet, not this machine
        ("CONNECT [::ffff:127.0.0.1]:{port} HTTP/1.1", ("*:{port}",), (), 403),
        ("CONNECT evil.test..:{port} HTTP/1.1", ("*:{port}",), ("evil.test",), 405),
        ("GET http://127.0.0.1:{port}/ HTTP/1.1", ("127.0.0.1:{port}",), (), 405),  # not even to a listed one
        ("CONNECT 127.0.0.1:{port}@evil.test:443 HTTP/1.1", ("127.0.0.1:{port}",), (), 405),
        ("CONNECT 127.0.0.1 HTTP/1.1", ("127.0.0.1:{port}",), (), 405),
        ("CONNECT 127.0.0.1:99999 HTTP/1.1", ("127.0.0.1:{port}",), (), 405),
        ("CONNECT no-such-host.invalid:443 HTTP/1.1", ("no-such-host.invalid",), (), 502),
    ],
)
async def test_what_is_not_listed_is_refused_and_never_connected_to(
    sandbox: bubblewrap.Bubblewrap,
    echo: tuple[int, list[bytes]],
    line: str,
    allow: tuple[str, ...],
    deny: tuple[str, ...],
    status: int,
) -> None:
    port, heard = echo
    reach = Reach(tuple(each.format(port=port) for each in ("unused.test", *allow)), deny)
    outcome = await inside(sandbox, f"print(ask({line.format(port=port)!r}))", reach)
    assert f" {status} Kairos: " in outcome.stdout.decode(), outcome
    assert heard == []
    (connection,) = outcome.connections
    assert (bool(connection.why), connection.sent, connection.received) == (True, 0, 0)


CANARIES = """
found = {
    "direct": tries(lambda: socket.create_connection(("127.0.0.1", %d), 2)),
    "by address": tries(lambda: socket.create_connection(("%s", %d), 2)),
    "name": tries(lambda: socket.getaddrinfo("example.org", 443)),
    "datagram": tries(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("8.8.8.8", 53))),
    "path": tries(lambda: socket.socket(socket.AF_UNIX)),
    "held": [name for name in os.listdir("/proc/self/fd") if int(name) > 3],
}
print(json.dumps(found))
"""


async def test_past_the_proxy_there_is_nothing(sandbox: bubblewrap.Bubblewrap, echo: tuple[int, list[bytes]]) -> None:
    port, heard = echo
    with own_address() as (address, other):
        outcome = await inside(sandbox, CANARIES % (port, address, other), Reach((f"127.0.0.1:{port}",)))
    found = json.loads(outcome.stdout)
    assert found.pop("held") == []
    assert "reached" not in found.values(), found
    assert heard == []


async def test_without_a_reach_there_is_no_proxy_and_no_word_of_one(sandbox: bubblewrap.Bubblewrap) -> None:
    script = "print(tries(lambda: socket.create_connection(('127.0.0.1', 3128), 2)))"
    outcome = await inside(sandbox, f"os.environ['HTTPS_PROXY']\n{script}", None)
    assert b"KeyError" in outcome.stderr
    without = await sandbox.run(Job(("/usr/bin/env",), Path("/tmp"), ()))
    assert b"roxy" not in without.stdout.lower()


async def test_more_connections_than_are_served_at_once_wait_and_are_served(
    sandbox: bubblewrap.Bubblewrap, echo: tuple[int, list[bytes]]
) -> None:
    port, heard = echo
    many = proxy.CONNECTIONS_MAX + 40
    script = f"""
import threading
answers = []
def one(): answers.append(ask('CONNECT 127.0.0.1:{port} HTTP/1.1'))
threads = [threading.Thread(target=one) for _ in range({many})]
[thread.start() for thread in threads]; [thread.join() for thread in threads]
print(sum("hello" in answer for answer in answers))
"""
    outcome = await inside(sandbox, script, Reach((f"127.0.0.1:{port}",)))
    assert outcome.stdout.split() == [str(many).encode()], outcome.stderr
    assert outcome.connections[0].count == many == len(heard)


async def test_the_proxy_ends_with_its_command_whatever_that_left_open(
    sandbox: bubblewrap.Bubblewrap, echo: tuple[int, list[bytes]]
) -> None:
    port, heard = echo
    script = f"""
line = b"CONNECT 127.0.0.1:{port} HTTP/1.1\\r\\n\\r\\n"
open_one = socket.create_connection((proxy.hostname, proxy.port)); open_one.sendall(line); open_one.recv(100)
open_one.sendall(b"still here"); open_one.recv(10)
silent = socket.create_connection((proxy.hostname, proxy.port)); silent.sendall(b"CONN")
if os.fork() == 0:
    import time; os.setsid(); time.sleep(600)
"""
    began = asyncio.get_running_loop().time()
    outcome = await inside(sandbox, script, Reach((f"127.0.0.1:{port}",)))
    assert asyncio.get_running_loop().time() - began < 5
    assert (outcome.code, heard) == (0, [b"still here"])
    assert outcome.connections == (Connection("127.0.0.1", port, "", 1, 10, 10),)
    assert await gone()


async def test_a_command_that_is_stopped_takes_its_proxy_along(sandbox: bubblewrap.Bubblewrap) -> None:
    outcome = await inside(sandbox, "import time; time.sleep(600)", Reach(("example.org",)), timeout=1.0)
    assert outcome.timed_out
    assert await gone()


async def test_when_the_executor_is_killed_no_proxy_stays(
    sandbox: bubblewrap.Bubblewrap, executor: ProcessExecutor
) -> None:
    running = asyncio.ensure_future(inside(sandbox, "import time; time.sleep(600)", Reach(("example.org",))))
    while not proxies():
        await asyncio.sleep(0.02)
    assert executor.pid is not None
    os.kill(executor.pid, 9)
    await asyncio.gather(running, return_exceptions=True)
    assert await gone()


async def test_the_program_starts_as_without_a_network(sandbox: bubblewrap.Bubblewrap) -> None:
    """The signals that an interpreter ignores are not ignored in what it becomes; words, folder, PATH are the job's."""
    job = Job(
        ("sh", "-c", 'yes | head -1; grep SigIgn /proc/self/status; pwd; echo "$1"', "sh", "a b"), Path("/usr"), ()
    )
    plain = await sandbox.run(job)
    networked = await sandbox.run(Job(job.argv, job.cwd, (), reach=Reach(("example.org",))))
    assert networked.stdout == plain.stdout
    missing = await sandbox.run(Job(("/usr/bin/no-such",), Path("/usr"), (), reach=Reach(("example.org",))))
    assert (missing.code != 0, b"No such file" in missing.stderr) == (True, True)


@contextmanager
def own_address() -> Iterator[tuple[str, int]]:
    """An address of this machine that is not the loopback's, with a socket that listens there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            address = probe.getsockname()[0]
        except OSError:
            address = "127.0.0.2"
    with socket.socket() as listener:
        listener.bind((address, 0))
        listener.listen()
        yield address, listener.getsockname()[1]


def proxies() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if b"import kairosd.executor.proxy" in words:
            found.append(entry.name)
    return found


async def gone() -> bool:
    for _ in range(200):
        if not proxies():
            return True
        await asyncio.sleep(0.02)
    return False
