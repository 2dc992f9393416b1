"""`kairos approve`: say yes to a question."""

from __future__ import annotations

import argparse

from kairos_cli.client import Client
from kairos_cli.render import print_json, short
from kairos_cli.terminal import one_line, say
from kairosd.wire import EXIT_OK, Home


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    add_code(parser)
    parser.add_argument("--always", action="store_true", help="and to exactly this call from now on: see kairos grants")


def add_code(parser: argparse.ArgumentParser) -> None:
    """What `approve` and `deny` share."""
    parser.add_argument("code", help="the question's code, as `kairos approvals` shows it")
    parser.add_argument("--json", action="store_true", help="the answered question as a JSON object")


def run(arguments: argparse.Namespace, place: Home) -> int:
    """Says yes."""
    return answer(arguments, place, approve=True, always=arguments.always)


def answer(arguments: argparse.Namespace, place: Home, *, approve: bool, always: bool = False) -> int:
    """Answers the question with the code given, and says what was answered."""
    found = Client(place).post("approvals", arguments.code, body={"approve": approve, "always": always})
    if arguments.json:
        print_json(found)
    else:
        say(f"{'Approved' if approve else 'Denied'}: {one_line(found.get('question'))}")
        if always:
            say("Exactly this will not be asked again; take it back with: kairos grants")
        say(f"The run goes on{'' if approve else ' without it'}: kairos runs {short(found.get('run'))}")
    return EXIT_OK
