"""`kairos approvals`: questions that wait for the owner."""

from __future__ import annotations

import argparse

from kairos_cli import moments
from kairos_cli.client import Client
from kairos_cli.listing import add_filters, column, id_column, show_list, show_one
from kairosd.wire import Home


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("id", nargs="?", help="one question whole, by its id")
    add_filters(parser, "open, approved, used, stale, denied, expired, withdrawn")


def run(arguments: argparse.Namespace, place: Home) -> int:
    """Lists questions, or shows one."""
    client = Client(place)
    if arguments.id:
        return show_one(client, arguments.id, as_json=arguments.json)
    now = moments.now()
    columns = [column("code"), column("state"), id_column("run", "run"), column("workspace"),
               ("expires", lambda row: moments.relative(row.get("expires"), now)), column("question")]  # fmt: skip
    empty = "No questions: nothing waits for you."
    return show_list(client, "approvals", arguments=arguments, columns=columns, empty=empty)
