"""`kairos promote`: what a trigger in the shadow would have done, and letting it act."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import timedelta

from kairos_cli import moments
from kairos_cli.client import Client, Failure
from kairos_cli.listing import column, since
from kairos_cli.render import Row, money, print_json, table
from kairos_cli.terminal import one_line, say
from kairosd.wire import EXIT_OK, EXIT_USAGE, Home

DAYS = 30  # shown without `--since`


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.description = "Shows what a trigger would have done in the shadow, and lets it act in every workspace."
    parser.add_argument("trigger", nargs="?", help="without it every trigger is shown and nothing changed")
    parser.add_argument("-w", "--workspace", metavar="WS", help="show only what it would have done there")
    parser.add_argument(
        "--since", metavar="WHEN", type=since, help=f"2h, 3d, today, yesterday or an ISO time (default {DAYS}d)"
    )
    parser.add_argument("--back", "--shadow", dest="back", action="store_true", help="back into the shadow instead")
    parser.add_argument("--json", action="store_true")


def run(arguments: argparse.Namespace, place: Home) -> int:
    """Shows the shadow's record; with a trigger, writes its mode into the configuration."""
    client = Client(place)
    start = arguments.since or moments.now() - timedelta(days=DAYS)
    rows: Sequence[Row] = client.get("triggers", query={"since": start.isoformat(), "workspace": arguments.workspace})
    if arguments.trigger is None:
        return _list(rows, as_json=arguments.json)
    row = next((row for row in rows if row.get("trigger") == arguments.trigger), None)
    if row is None:
        names = ", ".join(one_line(row.get("trigger")) for row in rows)
        raise Failure(f"there is no trigger {arguments.trigger}", fix=f"one of {names}", code=EXIT_USAGE)
    told = client.post("triggers", arguments.trigger, "mode", body={"mode": "shadow" if arguments.back else "on"})
    if arguments.json:
        print_json({**row, **told})
        return EXIT_OK
    name = one_line(arguments.trigger)
    say(_record(name, row))
    say(_outcome(name, told))
    return EXIT_OK


def _record(name: str, row: Row) -> str:
    decisions = row.get("decisions")
    if not decisions:
        return f"{name} has decided nothing in the shadow."
    counted = f"{decisions} decision{'' if decisions == 1 else 's'}"
    return (
        f"{name} in the shadow: {counted}; would have acted {row.get('acted')} and told you "
        f"{row.get('notified')} times; rated {row.get('useful')} useful, {row.get('noise')} noise, "
        f"{row.get('missed')} missed, {row.get('unrated')} unrated; {_price(row)}. "
        "One by one: kairos decisions --shadow"
    )


def _price(row: Row) -> str:
    if not row.get("unpriced_calls"):
        return money(row.get("price"))
    return f"{money(row.get('price'))} + unknown" if row.get("price") else "price unknown"


def _outcome(name: str, told: Row) -> str:
    if told.get("was") == told.get("mode"):
        return f"{name} was {'in the shadow' if told.get('mode') == 'shadow' else 'allowed to act'} already."
    if told.get("mode") == "shadow":
        return f"{name} is in the shadow again: it decides, and nothing follows."
    return f"{name} acts from now on. Back: kairos promote {name} --back"


def _list(rows: Sequence[Row], *, as_json: bool) -> int:
    if as_json:
        print_json(rows)
        return EXIT_OK
    names = ("trigger", "mode", "decisions", "acted", "notified", "useful", "noise", "missed", "unrated")
    table([*(column(name) for name in names), ("price", _price)], rows)
    say("Counted is what was decided in the shadow and not followed.")
    return EXIT_OK
