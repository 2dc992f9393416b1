"""`kairos notices`: what the owner was told, and whether it arrived."""

from __future__ import annotations

import argparse

from kairos_cli.client import Client
from kairos_cli.listing import add_filters, at_column, column, id_column, show_list, show_one
from kairos_cli.render import print_json
from kairos_cli.terminal import say
from kairosd.wire import EXIT_OK, Home


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("id", nargs="?", help="one notice whole; a unique start is enough")
    parser.add_argument("--test", action="store_true", help="send one notice on every channel")
    add_filters(parser, "queued, attempting, delivered, failed, dead, deferred, merged, stale")


def run(arguments: argparse.Namespace, place: Home) -> int:
    """Lists notices, shows one, or sends one."""
    client = Client(place)
    if arguments.test:
        found = client.post("notices", "test")
        if arguments.json:
            print_json(found)
        else:
            say("One notice is queued on every channel. What became of it: kairos notices --limit 3")
        return EXIT_OK
    if arguments.id:
        return show_one(client, arguments.id, as_json=arguments.json)
    columns = [at_column("created"), id_column(), column("channel"), column("state"), column("severity"),
               column("title")]  # fmt: skip
    empty = "No notices yet. Try the channels: kairos notices --test"
    return show_list(client, "notices", arguments=arguments, columns=columns, empty=empty)
