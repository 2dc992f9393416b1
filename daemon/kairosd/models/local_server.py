"""The child process that holds a local model: `python -m kairosd.models.local_server`, told what to do over stdin.

The first line is JSON: `model`, `key`, `context`, `threads`, `idle_seconds`. It answers `{"address": …}` once it
serves. After that each line says `busy` (answered by `ok`) or `idle`; idle for too long, or the pipe's end, ends the
process. So it lives as long as somebody needs it, and never longer than its parent.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
from typing import Any

import xllamacpp  # type: ignore[import-untyped]

PR_SET_PDEATHSIG = 1
PROMPT_CACHE_MIB = 256  # llama.cpp's own default is 8 GiB of finished prompts

PING_SECONDS = 15  # a long prompt is read for minutes: comments in the stream tell that from silence


def main() -> int:
    """Serves until it is not needed any more."""
    if sys.platform == "linux":
        # A parent that is killed closes the pipe too, but a child in the middle of loading would notice late.
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    orders = sys.stdin.fileno()  # read unbuffered: select() must see every line
    settings = json.loads(_line(orders))
    server = xllamacpp.Server(_parameters(settings))
    _say(json.dumps({"address": server.listening_address}))
    _wait(orders, float(settings["idle_seconds"]))
    os._exit(0)  # the library's own shutdown waits for requests that nobody reads any more


def _parameters(settings: dict[str, Any]) -> xllamacpp.CommonParams:
    params = xllamacpp.CommonParams()
    params.model.path = settings["model"]
    params.n_ctx = settings["context"]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [settings["key"]]
    params.cpuparams.n_threads = settings["threads"]
    params.n_parallel = 1
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.use_jinja = True
    params.sse_ping_interval = PING_SECONDS
    params.ui = False
    params.endpoint_slots = False  # it shows prompts
    params.verbosity = 0  # so does the log
    return params


def _wait(orders: int, idle_seconds: float) -> None:
    busy = 0
    while True:
        ready, _, _ = select.select([orders], [], [], None if busy else idle_seconds)
        if not ready:
            return
        word = _line(orders)
        if not word:
            return
        busy = max(0, busy + (1 if word == "busy" else -1))
        if word == "busy":
            _say("ok")


def _line(orders: int) -> str:
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(orders, 1)
        if not byte:
            return ""
        line += byte
    return line.decode().strip()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
