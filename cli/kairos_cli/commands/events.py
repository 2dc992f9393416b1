"""`kairos events`: what happened."""

from __future__ import annotations

import argparse

from kairos_cli.client import Client, Failure
from kairos_cli.listing import add_filters, at_column, column, id_column, show_list, show_one
from kairos_cli.render import Row, print_json, short
from kairos_cli.terminal import one_line, say
from kairosd.wire import EXIT_OK, EXIT_USAGE, Home


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("what", nargs="*", metavar="ID | retry ID", help="one event whole, or a dead one to revive")
    add_filters(parser, "pending, claimed, settled, coalesced, dead")


def run(arguments: argparse.Namespace, place: Home) -> int:
    """Lists events, shows one, or revives a dead one."""
    client = Client(place)
    match arguments.what:
        case []:
            columns = [at_column("received_at"), id_column(), column("source"), column("kind"), column("state"),
                       column("tier"), column("workspace"), ("what", _gist)]  # fmt: skip
            empty = "No events yet: nothing has happened since the daemon first started."
            return show_list(client, "events", arguments=arguments, columns=columns, empty=empty)
        case ["retry", identifier]:
            found = client.post("events", identifier, "retry")
            if arguments.json:
                print_json(found)
            else:
                say(f"{short(found.get('id'))} is {one_line(found.get('state'))} again.")
            return EXIT_OK
        case [identifier]:
            return show_one(client, identifier, as_json=arguments.json)
    raise Failure("one event at a time", fix="kairos events ID, or kairos events retry ID", code=EXIT_USAGE)


def _gist(row: Row) -> str:
    facts, text = row.get("facts"), row.get("text")
    words = [str(value) for value in text.values()] if isinstance(text, dict) else []
    words += [f"{name}={value}" for name, value in facts.items()] if isinstance(facts, dict) else []
    return one_line("; ".join([*([str(row["error"])] if row.get("error") else []), *words]))[:200]
