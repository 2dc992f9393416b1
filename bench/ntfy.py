"""A real ntfy server for benchmarks, on loopback and with limits that no benchmark meets."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

from tests.e2e.daemon import end_process, free_port


def ntfy_program() -> str | None:
    """The program: `KAIROS_NTFY`, else `ntfy` on the path."""
    return os.environ.get("KAIROS_NTFY") or shutil.which("ntfy")


class Ntfy:
    """A real ntfy server; its cache file is the truth about notices."""

    def __init__(self, folder: Path, program: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        words = [
            "serve", "--listen-http", f"127.0.0.1:{port}", "--base-url", self.url,
            "--cache-file", str(folder / "ntfy.db"),
            "--visitor-request-limit-burst", "1000000", "--visitor-message-daily-limit", "1000000",
        ]  # fmt: skip
        with (folder / "ntfy.log").open("wb") as log:
            self.process = subprocess.Popen([program, *words], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        for _ in range(200):
            if self._healthy():
                return
            time.sleep(0.1)
        raise SystemExit(f"ntfy does not answer: see {folder / 'ntfy.log'}")

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/v1/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def section(self, topic: str) -> str:
        """What goes into the daemon's configuration."""
        return f'[notifiers.ntfy]\nurl = "{self.url}"\ntopic = "{topic}"\nmin_severity = "normal"\n'

    def topic(self, topic: str) -> str:
        return f"{self.url}/{topic}"

    def close(self) -> None:
        end_process(self.process)
