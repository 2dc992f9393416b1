"""What the listing verbs share: their arguments, their question, their table."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime

from kairos_cli import moments
from kairos_cli.client import Client
from kairos_cli.render import Cell, Row, fields, print_json, short, table
from kairos_cli.terminal import say
from kairosd.wire import EXIT_OK


def add_filters(parser: argparse.ArgumentParser, states: str) -> None:
    """The options every listing has; `states` names those `--state` understands."""
    parser.add_argument("--state", metavar="STATE", help=f"only these: {states}")
    parser.add_argument("--since", metavar="WHEN", type=since, help="2h, 3d, today, yesterday or an ISO time")
    parser.add_argument("-w", "--workspace", metavar="WS", help="only this workspace")
    parser.add_argument("--limit", metavar="N", type=count, default=100, help="at most N, newest first (default 100)")
    parser.add_argument("--json", action="store_true", help="a JSON array, newest first")


def since(text: str) -> datetime:
    """`--since` as a moment, for argparse."""
    try:
        return moments.parse_since(text, moments.now())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def count(text: str) -> int:
    """`--limit` as a number, for argparse."""
    if not text.isdigit() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 10000")
    return int(text)


def rows(client: Client, kind: str, *, arguments: argparse.Namespace) -> Sequence[Row]:
    """The rows asked for, newest first."""
    query = {
        "state": arguments.state,
        "workspace": arguments.workspace,
        "since": arguments.since.isoformat() if arguments.since else None,
        "limit": arguments.limit,
        "shadow": getattr(arguments, "shadow", None) or None,
    }
    found: Sequence[Row] = client.get("list", kind, query=query)
    return found


def show_list(
    client: Client, kind: str, *, arguments: argparse.Namespace, columns: Sequence[tuple[str, Cell]], empty: str
) -> int:
    """Prints the rows asked for as a table or as JSON; `empty` is said when there are none and nothing was filtered."""
    found = rows(client, kind, arguments=arguments)
    if arguments.json:
        print_json(found)
    elif found:
        table(columns, found)
    else:
        filtered = any(getattr(arguments, name, None) for name in ("state", "workspace", "since", "shadow"))
        say(f"No {kind} match that." if filtered else empty)
    return EXIT_OK


def show_one(client: Client, identifier: str, *, as_json: bool) -> int:
    """Prints one thing whole."""
    thing = client.get("show", identifier)
    if as_json:
        print_json(thing)
    else:
        fields(thing, moments.now())
    return EXIT_OK


def at_column(name: str) -> tuple[str, Cell]:
    """A column of local times, headed `when`."""
    now = moments.now()
    return ("when", lambda row: moments.local(row.get(name), now))


def id_column(name: str = "id", heading: str = "id") -> tuple[str, Cell]:
    """A column of short ids."""
    return (heading, lambda row: short(row.get(name)))


def column(name: str, heading: str | None = None) -> tuple[str, Cell]:
    """A column of a field as it is."""
    return (heading or name, lambda row: row.get(name))
