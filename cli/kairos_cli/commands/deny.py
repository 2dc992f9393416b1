"""`kairos deny`: say no to a question."""

from __future__ import annotations

import argparse

from kairos_cli.commands import approve
from kairosd.wire import Home


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    approve.add_code(parser)


def run(arguments: argparse.Namespace, place: Home) -> int:
    """Says no."""
    return approve.answer(arguments, place, approve=False)
