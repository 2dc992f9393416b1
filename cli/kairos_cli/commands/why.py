"""`kairos why`: from any id back to what caused it."""

from __future__ import annotations

import argparse

from kairos_cli import moments
from kairos_cli.client import Client
from kairos_cli.render import money, print_json, short
from kairos_cli.terminal import one_line, paint, say
from kairosd.wire import EXIT_OK, Home


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("id", help="an event, decision, run, call, approval or notice; a unique start is enough")
    parser.add_argument("--json", action="store_true", help="the chain as a JSON array")


def run(arguments: argparse.Namespace, place: Home) -> int:
    """Prints the chain, each cause indented below what it caused."""
    chain = Client(place).get("why", arguments.id)
    if arguments.json:
        print_json(chain)
        return EXIT_OK
    at = moments.now()
    depth = -1
    last = None
    for link in chain:
        # All events of one batch caused the decision together: they stand side by side.
        depth += link.get("kind") != "event" or last != "event"
        last = link.get("kind")
        indent = "   " * depth
        kind = paint(one_line(last), "bold")
        say(f"{indent}{'└─ ' if depth else ''}{kind} {short(link.get('id'))}  {moments.local(link.get('at'), at)}")
        inner = f"{indent}{'   ' if depth else ''}"
        say(f"{inner}{one_line(link.get('title'))}")
        if link.get("detail") and one_line(link["detail"]) not in one_line(link.get("title")):
            say(paint(f"{inner}{one_line(link['detail'])}", "dim"))
        if link.get("kind") in ("decision", "run"):
            say(paint(f"{inner}price: {money(link.get('price'))}", "dim"))
    return EXIT_OK
