"""`kairos resume`: initiative on again."""

from __future__ import annotations

import argparse

from kairos_cli.client import Client
from kairos_cli.terminal import say
from kairosd.wire import EXIT_OK, Home


def add(parser: argparse.ArgumentParser) -> None:
    """It has no arguments."""


def run(arguments: argparse.Namespace, place: Home) -> int:
    """Resumes."""
    Client(place).post("resume")
    say("Resumed.")
    return EXIT_OK
