"""`kairos stop`: cancel a run, or all of them."""

from __future__ import annotations

import argparse
from pathlib import Path

from kairos_cli.client import Client, Failure, SilentError
from kairos_cli.render import print_json, short
from kairos_cli.terminal import one_line, say
from kairosd.wire import EXIT_OK, EXIT_USAGE, Home

ALL_SECONDS = 3.0  # the daemon answers within one, whatever hangs


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
    found = _stop_all(client, place) if arguments.all else client.post("stop", body={"run": wanted})
    if arguments.json:
        print_json(found)
        return EXIT_OK
    stopped = found.get("stopped")
    names = [short(name) for name in stopped] if isinstance(stopped, list) else [one_line(stopped)]
    say(f"Stopped: {', '.join(names) or 'nothing was running'}")
    if arguments.all:
        say("Paused as well: kairos resume goes on.")
    if found.get("recorded") is False:
        say("Not yet on record: the database cannot be written now, and Kairos goes on trying.")
        say("A restart before then begins paused." if found.get("marked") else "Do not restart Kairos before then.")
    return EXIT_OK


def _stop_all(client: Client, place: Home) -> dict[str, object]:
    try:
        found: dict[str, object] = client.post("stop", body={"run": None}, seconds=ALL_SECONDS)
    except SilentError as silent:
        process = _process(place)
        marked = _mark(place)
        told = "; the next start begins stopped and paused" if marked else ""
        raise Failure(
            f"the daemon does not answer, so what it runs may still run{told}",
            fix=f"kill -KILL {process}: everything it started ends with it",
        ) from silent
    return found


def _process(place: Home) -> str:
    """The daemon's process id, as it wrote it into its lock."""
    try:
        written = (place.state / "lock").read_text(encoding="utf-8", errors="replace").split("\n")[0].strip()
    except OSError:
        written = ""
    return written if written.isdigit() else "PID (pgrep kairosd)"


def _mark(place: Home) -> bool:
    try:
        Path(place.stop_mark).touch(mode=0o600)
    except OSError:
        return False
    return True


def _only_running(client: Client) -> str | None:
    parked = client.get("list", "runs", query={"state": "parked"})
    in_background = [row for row in parked if row.get("parked_on") == "task"]
    running = [*client.get("list", "runs", query={"state": "running"}), *in_background]
    found = [str(row["id"]) for row in running]
    if len(found) > 1:
        listed = ", ".join(short(name) for name in found)
        raise Failure(f"which run? {listed}", fix="kairos stop ID, or kairos stop --all", code=EXIT_USAGE)
    return found[0] if found else None
