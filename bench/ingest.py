"""Durable webhooks a second, beside @octokit/webhooks with an equally durable commit; and who survives slow senders.

    python -m bench.ingest --node-modules DIR [--requests N] [--rounds N] [--save]

Both servers run in a process of their own on loopback, take the same signed bodies and answer after a commit with
WAL and `synchronous = FULL`. Ours also extracts facts, refuses replays by id and by body, and writes an outbox line in
the same transaction. Without `--node-modules` (a folder with @octokit/webhooks and better-sqlite3) there is no peer.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import json
import os
import platform
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from kairosd.config.sections import GithubSection
from kairosd.core.events import Draft, Receipt
from kairosd.http.hook_server import hooks_server
from kairosd.http.hooks import build_hooks
from kairosd.http.server import bind_tcp
from kairosd.store.assembly import open_stores
from kairosd.system.clock import SystemClock
from kairosd.triggers.github import drafter

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "ingest.json"
PEER = ROOT / "bench" / "peers" / "octokit.mjs"
SECRET = b"a secret for benchmarks only"
# fmt: off
URLS = (
    "archive", "assignees", "blobs", "branches", "collaborators", "comments", "commits", "compare", "contents",
    "contributors", "deployments", "downloads", "events", "forks", "git_commits", "git_refs", "git_tags", "hooks",
    "issue_comment", "issue_events", "issues", "keys", "labels", "languages", "merges", "milestones", "notifications",
    "pulls", "releases", "stargazers", "statuses", "subscribers", "subscription", "tags", "teams", "trees",
)
# fmt: on
CONNECTIONS = (1, 32)
LORISES, LORIS_SECONDS = 31, 10.0
WARM_UP = 200


class StoreIntake:
    """What the inbox does to make an event durable, without anybody to wake."""

    def __init__(self, folder: Path) -> None:
        self._clock = SystemClock()
        self._opened = open_stores(
            folder / "kairos.db", folder / "journal", transcripts_folder=folder / "transcripts", clock=self._clock
        )
        self._opened.start()

    async def submit(self, draft: Draft) -> Receipt:
        return await self._opened.stores.events.add(draft, self._clock.now())


def serve(folder: Path) -> None:
    """Our server: the hooks app as the daemon runs it, on the real store. Prints its port."""

    async def main() -> None:
        intake: Any = StoreIntake(folder)
        app = build_hooks(intake, drafter(()), secrets=[SECRET], settings=GithubSection(), count=lambda _name: None)
        with bind_tcp("127.0.0.1", 0) as bound:
            print(bound.getsockname()[1], flush=True)
            await hooks_server(app, bound).run()

    asyncio.run(main())


def payload(number: int) -> bytes:
    """A push of three commits, with the addresses GitHub sends along: about 8 kB."""
    base = "https://api.github.com/repos/acme/tool"
    urls = {f"{name}_url": f"{base}/{name}{{/number}}" for name in URLS}
    person = {"login": "ann", "id": 21031067, "type": "User", **{name: urls[name] for name in list(urls)[:12]}}
    commits = [
        {
            "id": f"{number:040x}", "message": f"Change {number}.{index}\n\nBecause it was wrong.", "distinct": True,
            "timestamp": "2026-11-20T12:00:00Z", "author": {"name": "Ann", "email": "ann@example.org"},
            "added": ["src/a.py"], "removed": [], "modified": ["README.md", f"src/module_{index}.py"],
        }
        for index in range(3)
    ]  # fmt: skip
    repository = {"id": 186853002, "full_name": "acme/tool", "private": False, "owner": person, **urls}
    pushed = {
        "ref": "refs/heads/main", "before": "0" * 40, "after": f"{number:040x}", "created": False, "deleted": False,
        "forced": False, "commits": commits, "head_commit": commits[-1], "repository": repository, "sender": person,
        "pusher": {"name": "ann"},
    }  # fmt: skip
    return json.dumps(pushed).encode()


def requests(first: int, count: int) -> list[bytes]:
    """Signed requests, made before the clock starts."""
    made = []
    for number in range(first, first + count):
        body = payload(number)
        made.append(
            b"POST /hooks/github HTTP/1.1\r\nHost: localhost\r\nUser-Agent: GitHub-Hookshot/044aadd\r\nAccept: */*\r\n"
            b"Content-Type: application/json\r\nX-GitHub-Event: push\r\nX-GitHub-Delivery: %08d-bench\r\n"
            b"X-Hub-Signature-256: sha256=%s\r\nContent-Length: %d\r\n\r\n%s"
            % (number, hmac.new(SECRET, body, "sha256").hexdigest().encode(), len(body), body)
        )
    return made


class Sender(asyncio.Protocol):
    """Sends one request after the other on one connection, and times each answer."""

    def __init__(self, work: Iterator[bytes], latencies: list[float], failures: list[bytes]) -> None:
        self._work = work
        self._latencies = latencies
        self._failures = failures
        self._answer = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not _complete(self._answer):
            return
        self._latencies.append(time.perf_counter() - self._began)
        if self._answer[9:12] not in (b"202", b"200"):
            self._failures.append(self._answer[:80])
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self._failures.append(f"connection lost: {error}".encode())
            self.done.set_result(None)

    def _next(self) -> None:
        self._answer = b""
        request = next(self._work, None)
        if request is None:
            self.done.set_result(None)
            self._transport.close()
            return
        self._began = time.perf_counter()
        self._transport.write(request)


def _complete(answer: bytes) -> bool:
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.split(b":")[1])
    return body.endswith(b"0\r\n\r\n")


@dataclass(frozen=True)
class Server:
    """A server process under test."""

    pid: int
    port: int


@dataclass(frozen=True)
class Load:
    """What one server did under one load."""

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float  # of the server for one request, user and system: what a busy machine distorts least


def cpu_seconds(pid: int) -> float:
    columns = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(columns[11]) + int(columns[12])) / os.sysconf("SC_CLK_TCK")


async def load(server: Server, work: Sequence[bytes], connections: int) -> Load:
    latencies: list[float] = []
    failures: list[bytes] = []
    todo = iter(work)
    loop = asyncio.get_running_loop()
    cpu, began = cpu_seconds(server.pid), time.perf_counter()
    made = [
        await loop.create_connection(lambda: Sender(todo, latencies, failures), "127.0.0.1", server.port)
        for _ in range(connections)
    ]
    await asyncio.gather(*(sender.done for _, sender in made))
    elapsed = time.perf_counter() - began
    if failures or len(latencies) != len(work):
        raise SystemExit(f"{len(failures)} of {len(work)} failed, first: {failures[:1]}")
    spent = cpu_seconds(server.pid) - cpu
    ranked = sorted(latencies)
    p50, p99 = (ranked[min(len(ranked) - 1, len(ranked) * part // 100)] * 1000 for part in (50, 99))
    return Load(len(work) / elapsed, p50, p99, spent / len(work) * 1e6)


async def lorises(port: int) -> int:
    """How many of the connections that send one header line a second are still open after ten seconds."""

    async def drip() -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /hooks/github HTTP/1.1\r\nHost: localhost\r\n")
        until = time.perf_counter() + LORIS_SECONDS
        try:
            while time.perf_counter() < until:
                writer.write(b"X-Slow: yes\r\n")
                try:
                    if await asyncio.wait_for(reader.read(100), 1.0) == b"":
                        return False
                except TimeoutError:
                    continue
        except ConnectionError:
            return False
        finally:
            writer.transport.abort()
        return True

    return sum(await asyncio.gather(*(drip() for _ in range(LORISES))))


@contextmanager
def running(command: Sequence[str]) -> Iterator[Server]:
    """A server in its own process, which prints its port."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    try:
        line = process.stdout.readline().strip()
        if not line.isdigit():
            raise SystemExit(f"{command[0]} did not start: {line}")
        yield Server(process.pid, int(line))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def raw_commits(folder: Path, count: int) -> float:
    """Commits a second that this disk allows one writer: the floor under both servers at one connection."""
    connection = sqlite3.connect(folder / "raw.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT)")
    began = time.perf_counter()
    for number in range(count):
        connection.execute("INSERT INTO t VALUES (?, ?)", (number, "x" * 2000))
    elapsed = time.perf_counter() - began
    connection.close()
    return count / elapsed


def median(loads: Sequence[Load]) -> Load:
    return Load(*(statistics.median(getattr(one, each.name) for one in loads) for each in fields(Load)))


def commands(folder: Path, modules: Path | None) -> dict[str, list[str]]:
    found = {"kairos": [sys.executable, "-m", "bench.ingest", "--serve", str(folder / "kairos")]}
    node = shutil.which("node")
    if modules and node:
        found["octokit"] = [node, str(PEER), str(modules), str(folder / "octokit.db"), SECRET.decode()]
    return found


def measure(count: int, rounds: int, modules: Path | None) -> dict[str, Any]:
    """Rounds of both servers in turn, each on a fresh database; medians."""
    loads: dict[str, dict[int, list[Load]]] = {}
    alive: dict[str, int] = {}
    floor: list[float] = []
    for turn in range(rounds):
        with tempfile.TemporaryDirectory(prefix="kairos-ingest-") as name:
            folder = Path(name)
            floor.append(raw_commits(folder, 500))
            for server, command in commands(folder, modules).items():
                with running(command) as process:
                    asyncio.run(load(process, requests(0, WARM_UP), 4))
                    first = WARM_UP
                    for connections in CONNECTIONS:
                        work = requests(first, count)
                        first += count
                        found = asyncio.run(load(process, work, connections))
                        loads.setdefault(server, {}).setdefault(connections, []).append(found)
                    if turn == rounds - 1:
                        alive[server] = asyncio.run(lorises(process.port))
    return {
        "payload_bytes": len(payload(0)),
        "requests": count,
        "rounds": rounds,
        "raw_commits_per_second": round(statistics.median(floor)),
        "servers": {
            server: {
                "slow_alive_after_10_s": alive[server],
                **{str(connections): vars(median(found)) for connections, found in by.items()},
            }
            for server, by in loads.items()
        },
    }


def show(found: dict[str, Any]) -> None:
    print(f"{found['requests']} signed bodies of {found['payload_bytes']} bytes, median of {found['rounds']} rounds;")
    print(f"one writer's commits on this disk: {found['raw_commits_per_second']}/s\n")
    titles = ("durable/s", "p50 ms", "p99 ms", "cpu us")
    print(f"{'server':10} {'conns':>5}", *(f"{title:>10}" for title in titles), f"{'ratio':>6}", "  slow senders alive")
    peers = found["servers"].get("octokit")
    for server, row in found["servers"].items():
        for connections in CONNECTIONS:
            one = row[str(connections)]
            ratio = one["per_second"] / (peers or row)[str(connections)]["per_second"]
            figures = (one["per_second"], one["p50_ms"], one["p99_ms"], one["cpu_us"])
            slow = f"  {row['slow_alive_after_10_s']} of {LORISES}"
            print(f"{server:10} {connections:5}", *(f"{figure:10.2f}" for figure in figures), f"{ratio:5.2f}x", slow)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node-modules", type=Path)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        serve(chosen.serve)
        return
    count, rounds = chosen.requests, chosen.rounds
    found = measure(count, rounds, chosen.node_modules)
    show(found)
    if chosen.save:
        commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True)
        whole = {
            "command": f"python -m bench.ingest --node-modules DIR --requests {count} --rounds {rounds}",
            "commit": commit.strip(),
            "machine": f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} cores",
            "python": platform.python_version(),
            "peer": "@octokit/webhooks on node's http, better-sqlite3, WAL, synchronous = FULL",
            **found,
        }
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(whole, indent=2) + "\n")


if __name__ == "__main__":
    main()
