"""`kairos undo`: take back what a run did on this machine."""

from __future__ import annotations

import argparse

from kairos_cli.client import Client
from kairos_cli.render import print_json
from kairos_cli.terminal import one_line, say
from kairosd.wire import EXIT_OK, Home


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.description = (
        "Takes back what a run did: drops its checkout, deletes or reverts its branch, restores the files it edited "
        "directly. Nothing is changed where somebody has worked on it since."
    )
    parser.add_argument("run", help="the run's id; a unique start is enough")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be taken back")
    parser.add_argument("--json", action="store_true", help="as a JSON object")


def run(arguments: argparse.Namespace, place: Home) -> int:
    """Takes it back, and lists what is no longer only on this machine."""
    found = Client(place).post("runs", arguments.run, "undo", body={"dry_run": arguments.dry_run})
    if arguments.json:
        print_json(found)
        return EXIT_OK
    undone, left = (_lines(found.get(name)) for name in ("undone", "left_the_machine"))
    say("Would take back:" if arguments.dry_run else "Taken back:")
    for line in undone or ["nothing: the run left nothing here"]:
        say(f"  {line}")
    if left:
        say("Already out of this machine, and not to be undone:")
        for line in left:
            say(f"  {line}")
    return EXIT_OK


def _lines(value: object) -> list[str]:
    return [one_line(each) for each in value] if isinstance(value, list) else []
