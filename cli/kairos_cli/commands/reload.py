"""`kairos reload`: read the configuration again."""

from __future__ import annotations

import argparse

from kairos_cli.client import Client
from kairos_cli.render import print_json
from kairos_cli.terminal import one_line, say
from kairosd.wire import EXIT_OK, Home


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("--json", action="store_true", help="what changed, as a JSON object")


def run(arguments: argparse.Namespace, place: Home) -> int:
    """Reloads; a broken file changes nothing and is named."""
    found = Client(place).post("reload")
    if arguments.json:
        print_json(found)
    else:
        say(_words("Changed", found.get("changed")) or "Nothing changed.")
        if found.get("restart_needed"):
            say(_words("Needs a restart of the daemon", found.get("restart_needed")))
    return EXIT_OK


def _words(heading: str, names: object) -> str:
    return f"{heading}: {', '.join(one_line(name) for name in names)}" if isinstance(names, list) and names else ""
