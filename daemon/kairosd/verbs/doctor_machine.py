"""The doctor on the machine: programs, sandbox, models, ports, watches, disk, clock."""

from __future__ import annotations

import asyncio
import errno
import importlib
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from kairosd.config import address, api_key
from kairosd.errors import ConfigError, ExecutorError, ModelError
from kairosd.executor.client import ProcessExecutor
from kairosd.models.book import ModelBook
from kairosd.models.deps import ModelDeps
from kairosd.system.clock import SystemClock
from kairosd.system.disks import FIX, LITTLE, TOO_LITTLE, free_bytes
from kairosd.triggers.files import survey, watch_limit, watch_problem
from kairosd.verbs.doctor_subject import Finding, Subject, fail, ok, warn
from kairosd.verbs.model import ROLES, network_of

OLDEST_PYTHON = (3, 11)
CLOCK_SECONDS = 2.0  # more than this between wall and file system, and "newer" means nothing
MODEL_SECONDS = 30.0
# program: (what goes without it, whether Kairos can do without)
PROGRAMS = {
    "git": ("nothing: every run works on a clone", False),
    "bwrap": ("no sandbox: commands, git and editing are refused", True),
}


def python(_: Subject) -> Iterator[Finding]:
    """The interpreter and the platform."""
    words = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < OLDEST_PYTHON:
        yield fail(words, "Kairos needs Python 3.11 or newer")
    elif sys.platform != "linux":
        yield warn(f"{words}: there is no sandbox here", "runs can only read; watching, deciding and notifying work")
    else:
        yield ok(words)


def programs(_: Subject) -> Iterator[Finding]:
    """The programs Kairos starts."""
    packages = {"bwrap": "bubblewrap"}
    for name, (without, can_do_without) in PROGRAMS.items():
        found = shutil.which(name)
        fix = f"install {packages.get(name, name)}"
        if found:
            yield ok(found)
        elif can_do_without:
            yield warn(f"{name} is not here: {without}", fix)
        else:
            yield fail(f"{name} is not here", fix)


def sandbox(subject: Subject) -> Iterator[Finding]:
    """The canary: does the sandbox hold?"""
    name = "bubblewrap" if sys.platform == "linux" else "none"
    reason = asyncio.run(_canary(name, subject))
    if reason is None:
        yield ok(f"{name} holds: the canary reached neither network, home nor daemon")
    elif name == "none":
        yield warn(reason)
    else:
        yield fail(reason, "without it commands, git and editing are refused; docs/security.md names the causes")


async def _canary(name: str, subject: Subject) -> str | None:
    executor = ProcessExecutor()
    module = importlib.import_module(f"kairosd.sandbox.{name}")
    # The state folder is where the daemon proves it, too; the folder for temporary files is where there is none yet.
    base = subject.place.state if subject.place.state.is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="doctor-", dir=base))
    try:
        reason: str | None = await module.build(executor, folder=folder).check()
    except ExecutorError as error:
        reason = str(error)
    finally:
        await executor.close()
        shutil.rmtree(folder)
    return reason


def models(subject: Subject) -> Iterator[Finding]:
    """Whether the model of each role can be reached; costs nothing."""
    if subject.config is not None:
        yield from asyncio.run(_check_models(subject))


async def _check_models(subject: Subject) -> list[Finding]:
    assert subject.config is not None
    config, environment = subject.config, subject.environment
    deps = ModelDeps(SystemClock(), "", subject.place.data, network_of(environment))
    book = ModelBook(config.models, lambda section: replace(deps, api_key=api_key(section, environment) or ""))
    roles: dict[str, list[str]] = {}
    for role in ROLES:
        roles.setdefault(getattr(config.roles, role), []).append(role)
    found = []
    try:
        for name, held in roles.items():
            who = f"{name} ({', '.join(held)})"
            try:
                async with asyncio.timeout(MODEL_SECONDS):
                    found.append(ok(f"{who}: {await book.get(name).check()}"))
            except (ModelError, ConfigError) as error:
                found.append(fail(f"{who}: {error.message}", error.fix or ""))
            except TimeoutError:
                found.append(fail(f"{who}: no answer within {MODEL_SECONDS:.0f} s", "events wait until it answers"))
    finally:
        await book.close()
    return found


def hooks_port(subject: Subject) -> Iterator[Finding]:
    """Whether webhooks can be received."""
    if subject.config is None:
        return
    text = subject.config.daemon.hooks_listen
    if subject.config.github is None:
        yield ok("no [webhooks.github]: nothing listens")
        return
    host, port = address(text)
    taken = _bind_problem(host, port)
    problems = subject.status.get("problems") if subject.status else None
    codes = [one.get("code") for one in problems if isinstance(one, dict)] if isinstance(problems, list) else []
    if taken is None:
        yield ok(f"{text} is free") if subject.status is None else warn(f"the daemon does not listen on {text}")
    elif subject.status is not None and "hooks_port" not in codes:
        yield ok(f"{text} is the daemon's")
    else:
        yield fail(f"{text}: {taken}", "free the port or change [daemon] hooks_listen")


def _bind_problem(host: str, port: int) -> str | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            # On Linux two may bind with that option; only one may listen.
            probe.listen(1)
        except OSError as error:
            return "it is taken" if error.errno == errno.EADDRINUSE else str(error.strerror or error)
    return None


def watches(subject: Subject) -> Iterator[Finding]:
    """Whether the kernel lets all folders of the workspaces be watched."""
    limit = watch_limit()
    watched = [one for one in subject.config.workspaces if one.watch and one.path.is_dir()] if subject.config else []
    count = sum(len(survey(one).folders) for one in watched)
    if limit is None:
        yield ok(f"{count} folders; this system names no limit")
    elif problem := watch_problem(count, limit):
        yield warn(problem, f"sysctl fs.inotify.max_user_watches={count * 2}")
    else:
        yield ok(f"{count} folders of {limit} that may be watched")


def disk(subject: Subject) -> Iterator[Finding]:
    """Whether there is room: on a full disk Kairos stops acting."""
    for folder in {subject.place.state, subject.place.data}:
        free = free_bytes(folder)
        words = f"{free / 1e9:.1f} GB free for {folder}"
        yield fail(words, FIX) if free < TOO_LITTLE else warn(words, FIX) if free < LITTLE else ok(words)


def clock(_: Subject) -> Iterator[Finding]:
    """Whether the wall clock is one that schedules, approvals and the journal can go by."""
    with tempfile.TemporaryFile() as file:
        file.write(b"\0")
        file.flush()
        written = Path(f"/proc/self/fd/{file.fileno()}").stat().st_mtime if sys.platform == "linux" else None
        now = SystemClock().now()
    local = now.astimezone()
    words = f"{local:%Y-%m-%d %H:%M:%S} {local.tzname()}"
    apart = abs(now.timestamp() - written) if written is not None else 0.0
    if apart > CLOCK_SECONDS:
        yield warn(f"{words}; the file system is {apart:.0f} s apart", "set the clock (timedatectl set-ntp true)")
    elif now.year < 2026:
        yield fail(f"{words} is long ago", "set the clock (timedatectl set-ntp true)")
    else:
        yield ok(words)
