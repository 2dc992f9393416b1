"""A real ntfy server, where its binary is found: open to everybody, or with access control."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

NTFY = os.environ.get("KAIROS_NTFY") or shutil.which("ntfy")
START_SECONDS = 30.0
real_ntfy = pytest.mark.skipif(not NTFY, reason="NOT TESTED: no ntfy server here; set KAIROS_NTFY to its binary")


@contextmanager
def serving_ntfy(folder: Path, *options: str) -> Iterator[str]:
    """The address of a real server that keeps its things in `folder`."""
    assert NTFY is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [NTFY, "serve", "--listen-http", f"127.0.0.1:{port}", "--base-url", url]
    command += ["--cache-file", str(folder / "cache.db"), "--visitor-request-limit-exempt-hosts", "127.0.0.1", *options]
    with (folder / "log").open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as server:
        try:
            _until_healthy(url, server)
            yield url
        finally:
            server.terminate()
            server.wait(START_SECONDS)


def _until_healthy(url: str, server: subprocess.Popen[bytes]) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(retries=50), trust_env=False, timeout=START_SECONDS) as client:
        assert client.get(f"{url}/v1/health").json()["healthy"] is True
    assert server.poll() is None


@dataclass(frozen=True, slots=True)
class Closed:
    """A server that refuses everybody whom it does not know. `phone` may write `kairos-answers` and nothing else.

    `tell` runs a command of ntfy's on its users and their access.
    """

    url: str
    token: str
    phone: str
    tell: Callable[..., str]


@contextmanager
def serving_closed_ntfy(folder: Path) -> Iterator[Closed]:
    """A real server with access control, where the owner may use all topics `kairos-…`."""
    auth = ["--auth-file", str(folder / "auth.db"), "--auth-default-access", "deny-all"]
    with serving_ntfy(folder, *auth) as url:
        given = {**os.environ, "NTFY_PASSWORD": "a-long-password"}

        def tell(*words: str) -> str:
            what, *rest = words
            said = subprocess.run([str(NTFY), what, *auth, *rest], env=given, check=True, capture_output=True)
            return (said.stdout + said.stderr).decode()

        tell("user", "add", "kairos")
        tell("user", "add", "phone")
        tell("access", "kairos", "kairos-*", "rw")
        tell("access", "phone", "kairos-answers", "wo")
        tell("access", "everyone", "kairos-readable", "ro")
        tell("access", "everyone", "kairos-writable", "wo")
        (token,) = set(re.findall(r"tk_\w+", tell("token", "add", "kairos")))
        (phone,) = set(re.findall(r"tk_\w+", tell("token", "add", "phone")))
        yield Closed(url, token, phone, tell)
