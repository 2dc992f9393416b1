"""`kairosd explain "COMMAND"`: what the gate would say of a command, opinion by opinion, without running it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from kairosd.config import Config, folder_workspace, load
from kairosd.core.events import Tier
from kairosd.core.json import Json, JsonObject
from kairosd.core.levels import Level, Ruling
from kairosd.core.runs import Run, RunState
from kairosd.core.shell.syntax import read_line
from kairosd.core.workspaces import Workspace
from kairosd.engine.gate import Explained, Gate, Judged
from kairosd.engine.instructions import is_trusted
from kairosd.engine.terms import Terms, narrowing_of
from kairosd.errors import ConfigError, UsageError
from kairosd.frozen import frozen
from kairosd.system.files import LocalFiles
from kairosd.wire import EXIT_FAILED, EXIT_OK, EXIT_USAGE, Home

BUSY_SECONDS = 2.0
NEVER = datetime.fromtimestamp(0, UTC)  # the run that is played here has no time


@frozen
class Stand:
    """Where a command is judged."""

    gate: Gate
    run: Run
    root: Path

    def explain(self, line: str) -> Explained:
        follow = partial(LocalFiles().resolve, self.root)
        return self.gate.explain(partial(read_line, line), run=self.run, root=self.root, follow=follow)


def main(arguments: Sequence[str], place: Home) -> int:
    """Explains one command, or each of a file. Exit 0; 1 with `--check` unless all are allowed; 2 for a bad line."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if (chosen.command is None) == (chosen.file is None):
        parser.error("give one command in quotes, or --file FILE")
    if chosen.file is not None and not chosen.json:
        parser.error("--file prints JSON: add --json")
    stand = _stand(chosen, place)
    if chosen.file is not None:
        return _explain_file(chosen.file, stand, check=chosen.check)
    explained = stand.explain(chosen.command)
    if chosen.json:
        sys.stdout.write(f"{json.dumps({**_row(chosen.command, explained), **_details(explained, stand)})}\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in _lines(explained, stand))
    return EXIT_FAILED if chosen.check and explained.verdict.ruling is not Ruling.ALLOW else EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kairos explain", description="What the gate would say of a command, without running it."
    )
    parser.add_argument("command", nargs="?", help="a command line, in quotes")
    parser.add_argument("-w", "--workspace", metavar="WS", help="default: the one that holds the current folder")
    parser.add_argument("--level", choices=[level.label for level in Level], help="default: the workspace's")
    taint = parser.add_argument("--taint", choices=[tier.label for tier in Tier], default=Tier.OWNER.label)
    taint.help = "the lowest tier of text that the run has read (default: owner)"
    parser.add_argument("--config", type=Path, metavar="FILE", help="another configuration than the home's")
    parser.add_argument("--file", metavar="F", help="commands, one JSON string a line; - is standard input")
    parser.add_argument("--json", action="store_true", help="one JSON object (a line)")
    parser.add_argument("--check", action="store_true", help="exit 1 unless everything is allowed")
    return parser


def _stand(chosen: argparse.Namespace, place: Home) -> Stand:
    config = load(chosen.config, folder=Path.cwd(), place=place)
    workspace = _workspace(config, chosen.workspace, place=place)
    level = Level.parse(chosen.level) if chosen.level else workspace.level
    narrowing = narrowing_of(LocalFiles(), workspace.path, trusted=is_trusted(workspace, _pinned(workspace, place)))
    run = Run(
        id="", state=RunState.RUNNING, goal="", workspace=workspace.name, trigger="owner", decision=None,
        level=int(level), taint=Tier[chosen.taint.upper()], created=NEVER,
    )  # fmt: skip
    policy = config.policy.narrowed_by(narrowing.policy)
    gate = Gate(policy, terms=Terms(policy, [dataclasses.replace(workspace, level=level)]))
    return Stand(gate, run, workspace.path)


def _workspace(config: Config, name: str | None, *, place: Home) -> Workspace:
    """The workspace meant: by name, by the current folder, the only one; without any, the current folder itself."""
    there = {one.name: one for one in config.workspaces}
    if name is not None:
        if name not in there:
            raise UsageError(f"there is no workspace {name}", fix=f"there are: {', '.join(there) or 'none'}")
        return there[name]
    here = Path.cwd()
    if inside := [one for one in there.values() if here.is_relative_to(one.path)]:
        return max(inside, key=lambda one: len(one.path.parts))
    if len(there) > 1:
        raise UsageError("which workspace?", fix=f"say -w NAME: {', '.join(there)}")
    return next(iter(there.values())) if there else folder_workspace(here, place=place)


def _pinned(workspace: Workspace, place: Home) -> str:
    """What `kairos workspace trust` has pinned, from the database of a daemon that need not run; "" = nothing."""
    if not place.database.is_file():
        return ""
    try:
        address = f"{place.database.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS)) as connection:
            found = connection.execute("SELECT trusted_hashes FROM worlds WHERE workspace = ?", [workspace.name])
            row = found.fetchone()
    except sqlite3.Error as error:
        raise ConfigError(f"{place.database} cannot be read: {error}", fix="kairos doctor") from error
    return str(row[0]) if row else ""


def _explain_file(name: str, stand: Stand, *, check: bool) -> int:
    try:
        lines = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from error
    bad = refused = False
    for number, line in enumerate(lines.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            command = json.loads(line)
        except (ValueError, RecursionError):  # the latter: absurd depth
            command = None
        if not isinstance(command, str):
            bad = True
            sys.stdout.flush()  # where both go to one place, the complaint stands where the line stood
            sys.stderr.write(f"kairosd: {name}:{number}: not a JSON string\n")
            continue
        explained = stand.explain(command)
        refused = refused or explained.verdict.ruling is not Ruling.ALLOW
        sys.stdout.write(f"{json.dumps(_row(command, explained))}\n")
    return EXIT_USAGE if bad else EXIT_FAILED if check and refused else EXIT_OK


def _row(command: str, explained: Explained) -> JsonObject:
    return {
        "command": command,
        "verdict": explained.verdict.ruling.label,
        "reason": explained.verdict.rule,
        "plan": explained.plan.as_json() if explained.plan else None,
    }


def _details(explained: Explained, stand: Stand) -> JsonObject:
    commands: list[Json] = [
        {
            "argv": list(each.command.argv),
            "cwd": each.cwd,
            "permission": each.permission.value,
            "hosts": [*_hosts(each)],
            "opinions": [{"verdict": one.ruling.label, "rule": one.rule} for one in each.opinions],
        }
        for each in explained.commands
    ]
    return {
        "workspace": stand.run.workspace,
        "level": Level(stand.run.level).label,
        "taint": stand.run.taint.label,
        "fix": explained.fix or None,
        "commands": commands,
    }


def _lines(explained: Explained, stand: Stand) -> Iterator[str]:
    told = _details(explained, stand)
    yield f"workspace  {told['workspace']} ({stand.root}), level {told['level']}, taint {told['taint']}"
    if explained.plan is not None:
        yield f"plan       {explained.plan.text()}"
    for number, each in enumerate(explained.commands, start=1):
        where = "" if each.cwd == "." else f" in {each.cwd}"
        yield f"{number}. {_printable(' '.join(each.command.argv))}{where}  ({each.permission})"
        if hosts := _hosts(each):
            yield f"   reaches {', '.join(hosts)}"
        for opinion in dict.fromkeys(each.opinions):
            yield f"   {opinion.ruling.label:<6} {_printable(opinion.rule)}"
    yield f"verdict    {explained.verdict.ruling.label}: {_printable(explained.verdict.rule)}"
    if explained.fix:
        yield f"fix        {_printable(explained.fix)}"


def _hosts(judged: Judged) -> list[str]:
    """What the command could connect to; what is denied of that with a minus."""
    if judged.reach is None:
        return []
    return [*judged.reach.allow, *(f"-{pattern}" for pattern in judged.reach.deny)]


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
