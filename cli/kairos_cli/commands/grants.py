"""`kairos grants`: what the owner allowed for always."""

from __future__ import annotations

import argparse

from kairos_cli import moments
from kairos_cli.client import Client
from kairos_cli.listing import at_column, column, id_column
from kairos_cli.render import print_json, table
from kairos_cli.terminal import one_line, say
from kairosd.wire import EXIT_OK, Home


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("--json", action="store_true", help="a JSON array, newest first")
    parser.add_argument("--all", action="store_true", help="also those that were revoked")
    verbs = parser.add_subparsers(dest="verb", metavar="list | revoke ID")
    verbs.add_parser("list", help="those that hold (default)")
    verbs.add_parser("revoke", help="from now on it is asked again").add_argument("id")


def run(arguments: argparse.Namespace, place: Home) -> int:
    """Lists grants, or takes one back."""
    client = Client(place)
    if arguments.verb == "revoke":
        found = client.delete("grants", arguments.id)
        say(f"Revoked: {one_line(found.get('question'))}")
        return EXIT_OK
    rows = client.get("list", "grants", query={"state": None if arguments.all else "active", "limit": 10_000})
    if arguments.json:
        print_json(rows)
    elif rows:
        now = moments.now()
        used = ("last used", lambda row: moments.local(row.get("used_at"), now) if row.get("used_at") else "never")
        columns = [id_column(), column("state"), column("workspace"), at_column("created"), column("channel", "by"),
                   column("uses"), used, column("question", "exactly")]  # fmt: skip
        table(columns, rows)
    else:
        say("No standing grants. `kairos approve CODE --always` makes one.")
    return EXIT_OK
