"""`kairos pause`: no initiative until `resume`."""

from __future__ import annotations

import argparse

from kairos_cli.client import Client
from kairos_cli.terminal import say
from kairosd.wire import EXIT_OK, Home


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("reason", nargs="*", help="why, for the journal")


def run(arguments: argparse.Namespace, place: Home) -> int:
    """Pauses, also over a restart."""
    Client(place).post("pause", body={"reason": " ".join(arguments.reason)[:500]})
    say("Paused. Events are kept and nothing is decided; kairos tell still works. Go on: kairos resume")
    return EXIT_OK
