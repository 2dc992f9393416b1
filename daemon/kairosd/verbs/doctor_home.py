"""The doctor in the home: configuration, secrets, workspaces, database, journal, the daemon itself."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from kairosd.config import NtfySection, access_token, answers_token, api_key
from kairosd.errors import ConfigError
from kairosd.store.journal_files import Verified, verify
from kairosd.store.migrate import HEAD, REVISIONS
from kairosd.verbs.doctor_subject import Finding, Subject, fail, ok, warn
from kairosd.wire import VERSION, HomeError, check_private

BUSY_SECONDS = 5.0


def config(subject: Subject) -> Iterator[Finding]:
    """Whether the configuration is usable."""
    if subject.config is None:
        yield fail(subject.problem, f"edit {subject.place.config}")
        return
    for warning in subject.config.warnings:
        yield warn(warning)
    if subject.config.path is None:
        yield warn("there is no file: the defaults, for the current folder", "kairos init writes one")
    else:
        yield ok(str(subject.config.path))


def secrets(subject: Subject) -> Iterator[Finding]:
    """Whether only the owner can read what is secret or private. No value is ever printed."""
    place = subject.place
    found = [*_private_folders(subject), *_keys(subject)]
    for file in (place.database, place.config.parent / "env"):
        if file.exists() and stat.S_IMODE(file.stat().st_mode) & 0o077:
            found.append(fail(f"others may read {file}", f"chmod 600 {file}"))
    yield from found or [ok("nothing that others may read")]


def _private_folders(subject: Subject) -> Iterator[Finding]:
    for folder in subject.place.own_folders():
        try:
            check_private(folder)
        except HomeError as error:
            yield fail(str(error))


def _keys(subject: Subject) -> Iterator[Finding]:
    if subject.config is None:
        return
    for name, section in subject.config.models.items():
        try:
            api_key(section, subject.environment)
        except ConfigError as error:
            yield fail(f"the key of [models.{name}]: {error.message}", error.fix or "")
    for name, notifier in subject.config.notifiers.items():
        try:
            if isinstance(notifier, NtfySection):
                access_token(notifier, subject.environment)
                answers_token(notifier, subject.environment)
        except ConfigError as error:
            yield fail(f"the token of [notifiers.{name}]: {error.message}", error.fix or "")


def workspaces(subject: Subject) -> Iterator[Finding]:
    """Whether the watched folders are there and are git checkouts."""
    for workspace in subject.config.workspaces if subject.config else ():
        if not workspace.path.is_dir():
            yield warn(f"{workspace.name}: {workspace.path} is not there", "it is watched again when it comes back")
        elif not (workspace.path / ".git").exists():
            yield warn(f"{workspace.name}: {workspace.path} is no git checkout: runs may read it, not change it")
        else:
            yield ok(f"{workspace.name}: {workspace.path}")


def database(subject: Subject) -> Iterator[Finding]:
    """Whether the database opens, is whole and of this version. Read only: it may be the daemon's at this moment."""
    path = subject.place.database
    if not path.exists():
        yield ok("none yet: the daemon makes it")
        return
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as connection:
            yield _whole(connection, path)
            yield _version(connection)
    except sqlite3.Error as error:
        yield fail(f"{path} cannot be read: {error}", "stop the daemon, move it away, start anew: the journal stays")


def _whole(connection: sqlite3.Connection, path: Path) -> Finding:
    said = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if said == "ok":
        return ok(f"{path} is whole, {path.stat().st_size / 1e6:.1f} MB")
    return fail(f"{path} is damaged: {said}", "stop the daemon and bring back a copy, or move it away and start anew")


def _version(connection: sqlite3.Connection) -> Finding:
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone() is None:
        return warn("it has no schema yet", "the daemon makes it at its next start")
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    found = str(row[0]) if row else "none"
    if found == HEAD:
        return ok(f"schema {found}")
    if found in REVISIONS:
        return warn(f"schema {found} is older than {HEAD}", "the daemon brings it up at its next start")
    return fail(f"schema {found} was made by a newer Kairos", "install the newer Kairos again")


def journal(subject: Subject) -> Iterator[Finding]:
    """Whether the journal's chain holds, from its first line on: a later one proves nothing without those before."""
    try:
        found = verify(subject.place.journal)
        if _mid_line(found) and subject.status is not None:
            found = verify(subject.place.journal)  # the daemon was just writing its last line
    except OSError as error:
        yield fail(f"it cannot be read: {error}")
        return
    if found.problem is None:
        yield ok(f"{found.lines} lines in {found.files} files verify")
    elif _mid_line(found):
        yield warn(str(found.problem))
    else:
        yield fail(str(found.problem), "something altered it; kairos journal verify says the same")


def _mid_line(found: Verified) -> bool:
    return found.problem is not None and found.problem.problem.startswith("has no end")


def channels(subject: Subject) -> Iterator[Finding]:
    """Whether a phone may say yes to questions: only the daemon knows what its start has seen."""
    known = subject.status.get("channels") if subject.status else None
    for channel in known if isinstance(known, list) else ():
        if isinstance(channel, dict):
            may = f"may only say no: {channel['why']}" if channel.get("why") else "may say yes: strangers are refused"
            yield ok(f"{channel.get('name')} {may}")
    phones = (
        [one for one in subject.config.notifiers.values() if isinstance(one, NtfySection)] if subject.config else []
    )
    if phones and known is None:
        yield ok("ntfy: whether it may say yes is tried when the daemon starts")


def daemon(subject: Subject) -> Iterator[Finding]:
    """Whether the daemon runs, is of this version, and what it says of itself."""
    status = subject.status
    if status is None and subject.silence:
        yield fail(subject.silence, "see its log: journalctl --user -u kairosd")
        return
    if status is None:
        yield warn("it is not running", "kairosd, or for always: kairos service install")
        return
    version = status.get("version")
    words = f"{status.get('state')}, version {version}, process {status.get('pid')}"
    yield ok(words) if version == VERSION else warn(f"{words}; this is {VERSION}", "restart the daemon")
    problems = status.get("problems")
    for problem in problems if isinstance(problems, list) else ():
        if isinstance(problem, dict):
            yield warn(str(problem.get("text")), str(problem.get("fix") or ""))
