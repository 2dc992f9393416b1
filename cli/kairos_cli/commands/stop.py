"""`kairos stop`: cancel a run, or all of them."""

from __future__ import annotations

import argparse

from kairos_cli.client import Client, Failure
from kairos_cli.render import print_json, short
from kairos_cli.terminal import one_line, say
from kairosd.wire import EXIT_OK, EXIT_USAGE, Home


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.description = "Cancels a run; without an id the running one, if there is just one."
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("run", nargs="?", help="the run's id; a unique start is enough")
    chosen.add_argument("--all", action="store_true", help="every run, and pause")
    parser.add_argument("--json", action="store_true", help="what was stopped, as a JSON object")


def run(arguments: argparse.Namespace, place: Home) -> int:
    """Cancels; what a run has done so far stays where it is."""
    client = Client(place)
    wanted = arguments.run if arguments.run or arguments.all else _only_running(client)
    if wanted is None and not arguments.all:
        say("Nothing is running. No initiative: kairos pause. No daemon: systemctl --user stop kairosd, or Ctrl-C")
        return EXIT_OK
    found = client.post("stop", body={"run": wanted})
    if arguments.json:
        print_json(found)
        return EXIT_OK
    stopped = found.get("stopped")
    names = [short(name) for name in stopped] if isinstance(stopped, list) else [one_line(stopped)]
    say(f"Stopped: {', '.join(names) or 'nothing was running'}")
    if arguments.all:
        say("Paused as well: kairos resume goes on.")
    return EXIT_OK


def _only_running(client: Client) -> str | None:
    found = [str(row["id"]) for row in client.get("list", "runs", query={"state": "running"})]
    if len(found) > 1:
        listed = ", ".join(short(name) for name in found)
        raise Failure(f"which run? {listed}", fix="kairos stop ID, or kairos stop --all", code=EXIT_USAGE)
    return found[0] if found else None
