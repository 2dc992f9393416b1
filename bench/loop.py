"""How long an agent's loop takes between an answer and the next request, and whether a long run's memory grows.

    python -m bench.loop [--turns N] [--peer PYTHON] [--save]

Each answer asks for one call of a tool that does nothing. A server stamps the moment when it has written the last byte
of an answer, and the moment when the first byte of the next request comes in; in between lies all that a loop does:
reading the answer, its books, the call and its record, the transcript, the next prompt. The daemon is the real one, on
a real disk. `--peer` names a Python that mini-swe-agent is installed in: its tool call is `true`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.footprint import cpu_seconds, memory
from tests.e2e.daemon import Daemon, Settings, git, repository

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "loop.json"
PEER = ROOT / "bench" / "peers" / "mini_loop.py"
AIM_MS, AIM_MB = 3.0, 10.0
EARLY = 50  # the turn at which memory is looked at first; the last one is the second time
SYNCS = 100  # of a small append to a file, for comparison
DONE = "I have done nothing."
CONFIG = """
[limits]
run_turns = 100000
[budget.owner]
tokens_per_hour = 1000000000
tokens_per_day = 1000000000
"""


class Stamping:
    """A model server that stamps. It answers `turns` requests with a call, the next one with words.

    `at` is called with the number of each request, before it is answered.
    """

    def __init__(self, turns: int, *, at: Callable[[int], None] = lambda _: None) -> None:
        self.turns = turns
        self.at = at
        self.gaps: list[float] = []
        self.asked = 0
        self.port = 0
        self._last: float | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stamping", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _start(self) -> None:
        server = await self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    def begun(self) -> None:
        """The first byte of a request is here."""
        if self._last is not None:
            self.gaps.append(time.perf_counter() - self._last)
            self._last = None

    def answered(self) -> None:
        """The last byte of an answer is written."""
        self._last = time.perf_counter()

    def answer(self, path: str, body: Mapping[str, Any]) -> bytes:
        """The whole answer to one request."""
        number, self.asked = self.asked, self.asked + 1
        self.at(number)
        over = number >= self.turns
        if path.endswith("/messages"):
            return _streamed(_said() if over else _called(number))
        text = DONE if over else "THOUGHT: nothing.\n\n```mswea_bash_command\ntrue\n```"
        message = {"role": "assistant", "content": text}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        whole = {"id": f"c{number}", "object": "chat.completion", "created": 1, "model": "test-model"}
        return _json({**whole, "choices": [choice], "usage": usage})


class _Connection(asyncio.Protocol):
    def __init__(self, server: Stamping) -> None:
        self._server = server
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._data:
            self._server.begun()
        self._data += data
        head, found, rest = self._data.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        if not found or len(rest) < length:
            return
        self._data = b""
        answer = self._server.answer(head.split(b" ")[1].decode(), json.loads(rest or b"{}"))
        self._transport.write(answer)  # type: ignore[attr-defined]
        self._server.answered()


def _json(value: Mapping[str, Any]) -> bytes:
    body = json.dumps(value).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


def _streamed(events: Sequence[Mapping[str, Any]]) -> bytes:
    body = b"".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in events)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"


def _called(number: int) -> list[dict[str, Any]]:
    block = {"type": "tool_use", "id": f"toolu_{number}", "name": "noop", "input": {}}
    delta = {"type": "input_json_delta", "partial_json": json.dumps({"number": number})}
    return _message({"index": 0, "content_block": block}, delta, stop="tool_use")


def _said() -> list[dict[str, Any]]:
    block = {"type": "text", "text": ""}
    return _message({"index": 0, "content_block": block}, {"type": "text_delta", "text": DONE}, stop="end_turn")


def _message(start: Mapping[str, Any], delta: Mapping[str, Any], *, stop: str) -> list[dict[str, Any]]:
    usage = {"input_tokens": 10, "output_tokens": 5}
    message = {"id": "m", "type": "message", "role": "assistant", "content": [], "usage": usage}
    return [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", **start},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": usage},
        {"type": "message_stop"},
    ]


def ours(turns: int) -> dict[str, Any]:
    """One run of the daemon, told by the owner, of so many turns."""
    folder = Path(tempfile.mkdtemp(prefix="kairos-loop-"))
    sizes: dict[int, float] = {}
    spent: list[float] = []
    server = Stamping(turns)
    model = {"provider": "anthropic", "model": "test-model", "base_url": server.url, "api_key_env": "SCRIPTED_KEY"}
    settings = Settings({"engine": repository(folder / "engine", {"a.txt": "a\n"})}, {"m": model}, "m", more=CONFIG)
    daemon = Daemon(settings, command=(sys.executable, "-m", "bench.loop_daemon"), env={"PYTHONPATH": str(ROOT)})

    def look(number: int) -> None:
        if number in (EARLY, turns) and daemon.process is not None:
            sizes[number] = round(memory(daemon.process.pid)[0].rss / 1024, 2)
            spent.append(cpu_seconds(daemon.process.pid))

    try:
        daemon.start()
        server.at = look
        daemon.kairos("tell", "do nothing, again and again", cwd=folder / "engine", seconds=600.0, check=True)
        daemon.stop()
    finally:
        daemon.close()
        server.close()
        shutil.rmtree(daemon.root, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
    cpu = round((spent[1] - spent[0]) * 1000 / (turns - EARLY), 2)
    rss = {str(turn): size for turn, size in sizes.items()}
    return {"tool": "noop", **_times(server.gaps), "cpu_ms": cpu, "rss_mb": rss}


def theirs(turns: int, python: str) -> dict[str, Any]:
    """The peer, for so many turns."""
    folder = tempfile.mkdtemp(prefix="kairos-loop-peer-")
    server = Stamping(turns)
    try:
        command = [python, str(PEER), folder, server.url, str(turns + 1)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd=folder)
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)
    if len(server.gaps) < turns:
        raise SystemExit(f"the peer made {len(server.gaps)} turns of {turns}:\n{done.stdout}\n{done.stderr}")
    return {"tool": "true", **_times(server.gaps[:turns])}


def _times(gaps: Sequence[float]) -> dict[str, Any]:
    ordered = sorted(gap * 1000 for gap in gaps)
    return {
        "turns": len(ordered), "median_ms": round(statistics.median(ordered), 2),
        "p95_ms": round(ordered[len(ordered) * 95 // 100], 2), "least_ms": round(ordered[0], 2),
    }  # fmt: skip


def sync_ms() -> float:
    """The median of one small append with fdatasync, where the daemon's home lies too."""
    with tempfile.NamedTemporaryFile() as file:
        spent = []
        for _ in range(SYNCS):
            began = time.perf_counter()
            os.write(file.fileno(), b"x" * 300)
            os.fdatasync(file.fileno())
            spent.append(time.perf_counter() - began)
    return round(statistics.median(spent) * 1000, 2)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.loop", description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=200, help="of one run (default: 200)")
    parser.add_argument("--peer", metavar="PYTHON", help="a Python that has mini-swe-agent")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    chosen = parser.parse_args(arguments)
    found: dict[str, Any] = {"kairos": ours(chosen.turns), "fdatasync_ms": sync_ms()}
    if chosen.peer:
        found["mini_swe_agent"] = theirs(chosen.turns, chosen.peer)
    sizes = found["kairos"]["rss_mb"]
    grown = round(sizes[str(chosen.turns)] - sizes[str(EARLY)], 2)
    for name in ("kairos", "mini_swe_agent"):
        if name in found:
            one = found[name]
            print(f"{name:15} median {one['median_ms']:8.2f} ms   p95 {one['p95_ms']:8.2f} ms   {one['turns']} turns")
    print(f"CPU of a turn   {found['kairos']['cpu_ms']} ms, whatever else the machine does")
    fast, flat = found["kairos"]["median_ms"] <= AIM_MS, grown <= AIM_MB
    print(f"aim             median {AIM_MS:8.2f} ms   {'reached' if fast else 'MISSED'}; one fdatasync here: "
          f"{found['fdatasync_ms']} ms")  # fmt: skip
    print(f"memory          {sizes} MB by turn: {grown:+.2f} MB (aim {AIM_MB:+.0f}) {'reached' if flat else 'MISSED'}")
    if chosen.save:
        machine = f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} cores"
        peer = " --peer PYTHON" if chosen.peer else ""
        whole = {
            "command": f"python -m bench.loop --turns {chosen.turns}{peer}", "machine": machine,
            "commit": git(ROOT, "rev-parse", "HEAD").strip(), "python": platform.python_version(), **found,
        }  # fmt: skip
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(whole, indent=2) + "\n")
    return 0 if fast and flat else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
