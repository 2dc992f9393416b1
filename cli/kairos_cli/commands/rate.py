"""`kairos rate`: your word on what Kairos did, or left alone although it mattered."""

from __future__ import annotations

import argparse

from kairos_cli.client import Client
from kairos_cli.render import print_json, short
from kairos_cli.terminal import one_line, say
from kairosd.wire import EXIT_OK, Home

RATINGS = ("useful", "noise", "missed")


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.description = "Rates what was decided. The last word counts; kairos cost --calibration sums up."
    parser.add_argument("id", help="of a decision, or of anything that goes back to one: a run, a notice, a call")
    parser.add_argument(
        "rating", choices=RATINGS, help="missed: of an event or decision that was left alone although it mattered"
    )
    parser.add_argument("--json", action="store_true")


def run(arguments: argparse.Namespace, place: Home) -> int:
    """Sends the rating, and says what it was for."""
    found = Client(place).post("ratings", body={"id": arguments.id, "rating": arguments.rating})
    if arguments.json:
        print_json(found)
        return EXIT_OK
    was = f" (was {one_line(found.get('was'))})" if found.get("was") else ""
    shadow = ", in the shadow" if found.get("shadow") else ""
    what = f"{short(found.get('id'))} from {one_line(found.get('trigger'))}{shadow}"
    say(f"{one_line(found.get('rating'))}{was}: {what}: {one_line(found.get('about'))}")
    return EXIT_OK
