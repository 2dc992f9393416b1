"""The real thing for tests and benchmarks: `kairosd` as a process of its own, with a home and a configuration."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

PROGRAMS = Path(sys.executable).parent
SECRET = "a secret of more than sixteen bytes"
READY_SECONDS = 60.0  # a machine that eight others share
LOG_SHOWN = 6000  # characters of the log that a failure shows


@dataclass(frozen=True, slots=True)
class Answer:
    """What an HTTP server said. `body` is the parsed JSON, or the text where it is none."""

    status: int
    body: Any


@dataclass
class Settings:
    """The configuration of one daemon, as the sections that differ from test to test.

    `workspaces` maps names to folders, `models` names to sections; `more` is appended to the file as it is.
    """

    workspaces: Mapping[str, Path]
    models: Mapping[str, Mapping[str, object]]
    role: str
    tick: Mapping[str, object] = field(default_factory=lambda: {"enabled": False})
    spacing_seconds: int = 0
    hooks: bool = True
    more: str = ""


class Daemon:
    """One home and the daemon on it, which may be stopped, killed and started again.

    The home lies right below the temporary folder: a socket's path has 100 bytes at most.
    """

    def __init__(
        self, settings: Settings, *, command: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="kairos-e2e-"))
        self.home = self.root / "home"
        self.settings = settings
        self.hooks_port = free_port()
        self.command = tuple(command) or (str(PROGRAMS / "kairosd"),)
        self.process: subprocess.Popen[bytes] | None = None
        self.ready_seconds = 0.0
        self.env = clean_environment(self.root / "user", self.home) | dict(env or {})
        self._write()

    @property
    def config(self) -> Path:
        return self.home / "config.toml"

    @property
    def state(self) -> Path:
        return self.home / "state"

    @property
    def log(self) -> Path:
        return self.root / "daemon.log"

    # Its life.

    def start(
        self,
        *,
        ready: bool = True,
        looked: bool = True,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = (),
    ) -> None:
        """Starts the process; with `ready` returns once `kairos status` says so, `looked` after the first look too.

        The first look stores the world without a call: what changes before it is no news.
        """
        assert self.process is None or self.process.poll() is not None, "the daemon runs already"
        began, looks = time.monotonic(), self._looks()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                tuple(command) or self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=self.env | dict(env or {}), cwd=self.root, start_new_session=True,
            )  # fmt: skip
        if ready:
            self.wait_for(self.is_ready, "the daemon is ready", READY_SECONDS)
            self.ready_seconds = time.monotonic() - began
            wanted = looks + len(self.settings.workspaces)
            if looked:
                self.wait_for(lambda: self._looks() >= wanted, "every workspace was looked at", READY_SECONDS)

    def _looks(self) -> int:
        """How many first looks the journal tells of."""
        return sum(b'"kind":"workspace.looked"' in line for line in self.journal_lines())

    def journal_lines(self) -> list[bytes]:
        """The journal's lines as they lie on disk."""
        files = sorted((self.state / "journal").rglob("*.jsonl"))
        return [line for file in files for line in file.read_bytes().splitlines()]

    def is_ready(self) -> bool:
        """Whether `kairos status --json` says ready. Raises `AssertionError` when the process has ended."""
        status = self.status_or_none()
        return status is not None and status["state"] in ("ready", "paused", "degraded")

    def stop(self, seconds: float = 20.0) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self._gone(seconds)

    def kill(self) -> None:
        """`kill -9`, as a power cut would: nothing of ours gets to run."""
        assert self.process is not None
        self.process.kill()
        self._gone(20.0)

    def restart(self, *, kill: bool = False) -> None:
        """Ends it, politely or not, and starts it again."""
        if kill:
            self.kill()
        else:
            self.stop()
        self.start()

    def wait_end(self, seconds: float) -> int | None:
        """The exit code once the process has ended by itself; None when it still runs after `seconds`."""
        assert self.process is not None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> None:
        """Ends whatever still runs. The folder stays where a failure can be looked at; `remove` takes it away."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(20)

    def _gone(self, seconds: float) -> int:
        assert self.process is not None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the daemon did not end within {seconds} s\n{self.tail()}") from None

    # Talking to it.

    def kairos(
        self, *words: str, seconds: float = 120.0, cwd: Path | None = None, check: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Runs the CLI to its end. With `check` a non-zero exit fails with everything that was said."""
        try:
            done = subprocess.run(
                [str(PROGRAMS / "kairos"), *words], capture_output=True, text=True, timeout=seconds, env=self.env,
                cwd=cwd or self.root, check=False, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired as late:
            raise AssertionError(f"{late}: {late.stdout!r} {late.stderr!r}\n{self.tail()}") from None
        assert not check or done.returncode == 0, f"kairos {words}: {done}\n{self.tail()}"
        return done

    def json(self, *words: str) -> Any:
        """What a CLI command prints with `--json`."""
        return json.loads(self.kairos(*words, "--json", check=True).stdout)

    def status(self) -> dict[str, Any]:
        status = self.json("status")
        assert isinstance(status, dict)
        return status

    def status_or_none(self) -> dict[str, Any] | None:
        assert self.process is not None
        ended = self.process.poll()
        assert ended is None, f"the daemon ended with {ended}\n{self.tail()}"
        done = self.kairos("status", "--json")
        if done.returncode != 0:
            return None
        found = json.loads(done.stdout)
        assert isinstance(found, dict)
        return found

    def hook(self, event: str, body: bytes, *, delivery: str | None, signature: str | None = "right") -> Answer:
        """Posts to `/hooks/github`; `signature` is `right`, None (left out) or the header's own text."""
        headers = {"Content-Type": "application/json", "X-GitHub-Event": event, "User-Agent": "GitHub-Hookshot/e2e"}
        if delivery is not None:
            headers["X-GitHub-Delivery"] = delivery
        if signature is not None:
            headers["X-Hub-Signature-256"] = signed(body) if signature == "right" else signature
        return post(self.hooks_port, "/hooks/github", body, headers)

    def wait_for(self, ask: Callable[[], T], what: str, seconds: float = 60.0, *, pause: float = 0.1) -> T:
        """Asks until the answer is true. Fails with `what` and the end of the log."""
        deadline = time.monotonic() + seconds
        while not (found := ask()):
            assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}\n{self.tail()}"
            time.sleep(pause)
        return found

    def tail(self) -> str:
        """The end of the daemon's log."""
        text = self.log.read_text("utf-8", "replace") if self.log.exists() else ""
        return f"--- {self.log} ---\n{text[-LOG_SHOWN:]}"

    # Its configuration.

    def _write(self) -> None:
        for folder in (self.home, self.root / "user"):
            folder.mkdir(mode=0o700)
        (self.root / "user" / ".gitconfig").write_text("[user]\n\tname = Ada Lovelace\n\temail = ada@example.org\n")
        secret = self.root / "secret"
        secret.write_text(SECRET)
        secret.chmod(0o600)
        self.config.write_text(self._toml(secret), "utf-8")
        self.config.chmod(0o600)

    def _toml(self, secret: Path) -> str:
        one = self.settings
        role = one.role
        parts = [
            _section("daemon", {"hooks_listen": f"127.0.0.1:{self.hooks_port}"}),
            *[_section(f"models.{name}", section) for name, section in one.models.items()],
            _section("roles", {"decide": role, "act": role}),
            _section("tick", one.tick),
            _section("initiative", {"spacing_seconds": one.spacing_seconds}),
            *[
                f"[{_section('workspaces', {'name': name, 'path': str(path), 'repo': 'ada/engine'})}".replace(
                    "]", "]]", 1
                )
                for name, path in one.workspaces.items()
            ],
            _section("webhooks.github", {"secret_file": str(secret)}) if one.hooks else "",
            one.more,
        ]
        return "\n".join(parts)


def _section(name: str, values: Mapping[str, object]) -> str:
    # JSON's strings, numbers, booleans and lists of them are TOML's too.
    return "\n".join([f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""])


def clean_environment(user: Path, home: Path) -> dict[str, str]:
    """An environment that knows nothing of the machine's owner: no keys, no desktop, no session, no proxies."""
    return {
        "PATH": os.environ["PATH"], "HOME": str(user), "KAIROS_HOME": str(home), "LC_ALL": "C.UTF-8", "TZ": "UTC",
        "SCRIPTED_KEY": "no secret", "GIT_CONFIG_NOSYSTEM": "1", "NO_COLOR": "1",
    }  # fmt: skip


def signed(body: bytes, secret: str = SECRET) -> str:
    """The signature header of `body`."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def post(port: int, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """One POST to loopback on a connection of its own. Raises `OSError`, `http.client.HTTPException`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, body=body, headers=dict(headers))
        answer = connection.getresponse()
        return Answer(answer.status, _parsed(answer.read()))
    finally:
        connection.close()


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")


def free_port() -> int:
    """A TCP port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def git(folder: Path, *arguments: str, check: bool = True) -> str:
    """Runs git as the owner would, without anybody's configuration; returns what it prints."""
    env = {
        "PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_GLOBAL": "/dev/null",
    }  # fmt: skip
    identity = ("-c", "user.name=Ada Lovelace", "-c", "user.email=ada@example.org", "-c", "safe.directory=*")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, env=env, check=False
    )
    assert not check or done.returncode == 0, f"git {arguments}: {done.stderr}"
    return done.stdout


def repository(folder: Path, files: Mapping[str, str] | None = None) -> Path:
    """A git repository with one commit, "Begin the engine"."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (files or {"README.md": "# Engine\n", "src/engine.py": "SPEED = 1\n"}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Begin the engine")
    return folder


def end_process(process: subprocess.Popen[Any], seconds: float = 10.0) -> None:
    """Ends a helper process: asked first, then killed."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(seconds)
