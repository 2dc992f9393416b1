"""`kairos workspace`: the watched folders."""

from __future__ import annotations

import argparse
from pathlib import Path

from kairos_cli.client import Client, Failure
from kairos_cli.listing import column
from kairos_cli.render import print_json, table
from kairos_cli.terminal import one_line, say
from kairosd.wire import EXIT_OK, EXIT_USAGE, Home

LEVELS = ("observe", "suggest", "sandboxed", "project", "open")


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    verbs = parser.add_subparsers(dest="verb", metavar="list | add | remove | trust | set-level")
    verbs.add_parser("list", help="the watched folders (default)").add_argument("--json", action="store_true")
    adding = verbs.add_parser("add", help="watch a folder")
    adding.add_argument("path", type=Path)
    adding.add_argument("--name", help="default: the folder's own name")
    verbs.add_parser("remove", help="stop watching; nothing in the folder is touched").add_argument("name")
    trusting = verbs.add_parser("trust", help="follow its KAIROS.md and AGENTS.md as they are now")
    trusting.add_argument("name")
    setting = verbs.add_parser("set-level", help="what its runs may do unasked")
    setting.add_argument("name")
    setting.add_argument("level", choices=LEVELS, help="open lasts until the next restart or reload")


def run(arguments: argparse.Namespace, place: Home) -> int:
    """Does it, in the configuration file and at once."""
    client = Client(place)
    match arguments.verb:
        case "add":
            return _add(client, arguments.path, name=arguments.name)
        case "remove":
            client.delete("workspaces", arguments.name)
            say(f"{one_line(arguments.name)} is no longer watched; the folder is as it was.")
        case "trust":
            found = client.post("workspaces", arguments.name, "trust")
            files = [one_line(name) for name in found.get("files") or ()]
            say(f"Trusted as they are now: {', '.join(files)}" if files else "It has no instructions to trust.")
        case "set-level":
            return _set_level(client, arguments.name, level=arguments.level)
        case _:
            return _list(client, as_json=getattr(arguments, "json", False))
    return EXIT_OK


def _add(client: Client, path: Path, *, name: str | None) -> int:
    folder = path.expanduser().resolve()
    if not folder.is_dir():
        raise Failure(f"there is no folder {folder}", code=EXIT_USAGE)
    found = client.post("workspaces", body={"path": str(folder), "name": name})
    added = one_line(found.get("workspace") or name or folder.name)
    say(f"{added} is watched. Its own instructions are not followed before: kairos workspace trust {added}")
    return EXIT_OK


def _set_level(client: Client, name: str, *, level: str) -> int:
    found = client.post("workspaces", name, "level", body={"level": level})
    shown, was = one_line(found.get("workspace") or name), one_line(found.get("was"))
    say(f"{shown}: level {level} (was {was}). Runs under way keep what they had, or less.")
    if level == "open":
        say("It is open until the next restart or reload; protected paths still ask.")
    return EXIT_OK


def _list(client: Client, *, as_json: bool) -> int:
    found = client.get("workspaces")
    if as_json:
        print_json(found)
    elif found:
        columns = [column("name"), column("state"), column("level"), column("trusted"), column("repo"), column("path")]
        table(columns, found)
    else:
        say("No workspaces. Add one: kairos workspace add PATH")
    return EXIT_OK
