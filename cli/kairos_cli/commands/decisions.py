"""`kairos decisions`: what was decided, and why."""

from __future__ import annotations

import argparse

from kairos_cli.client import Client
from kairos_cli.listing import add_filters, at_column, column, id_column, show_list, show_one
from kairos_cli.render import Row, money
from kairos_cli.sentences import would_have
from kairosd.wire import Home


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("id", nargs="?", help="one decision whole; a unique start is enough")
    add_filters(parser, "asked, act, notify, wait, ignore, unusable")
    parser.add_argument("--shadow", action="store_true", help="only those of triggers in the shadow, with their goals")


def run(arguments: argparse.Namespace, place: Home) -> int:
    """Lists decisions, or shows one."""
    client = Client(place)
    if arguments.id:
        return show_one(client, arguments.id, as_json=arguments.json)
    if arguments.shadow:
        return _show_shadow(client, arguments)
    columns = [at_column("at"), id_column(), ("verdict", _verdict), column("workspace"),
               ("price", lambda row: money(row.get("price"))), id_column("run", "run"),
               ("reason", lambda row: row.get("reason") or row.get("goal"))]  # fmt: skip
    empty = "No decisions yet: nothing has asked for one."
    return show_list(client, "decisions", arguments=arguments, columns=columns, empty=empty)


def _show_shadow(client: Client, arguments: argparse.Namespace) -> int:
    columns = [at_column("at"), id_column(), column("source", "trigger"), ("would have", _would_have),
               column("workspace"), ("price", lambda row: money(row.get("price"))),
               ("goal", lambda row: row.get("goal") or row.get("reason"))]  # fmt: skip
    return show_list(client, "decisions", arguments=arguments, columns=columns, empty="")


def _verdict(row: Row) -> str:
    return f"{row.get('verdict')}{' (shadow)' if row.get('shadow') else ''}"


def _would_have(row: Row) -> str:
    return would_have(row.get("verdict"))
