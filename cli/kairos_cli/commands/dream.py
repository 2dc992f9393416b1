"""`kairos dream`: what was learned while you were away, what that changed, and the way back."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence

from kairos_cli import moments
from kairos_cli.client import Client
from kairos_cli.render import Cell, diff, fields, money, print_json, table
from kairos_cli.terminal import clean, one_line, say
from kairosd.wire import EXIT_FAILED, EXIT_OK, Home

DREAM_SECONDS = 3600.0  # a local model takes its time
Row = Mapping[str, object]


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("--json", action="store_true", help="as JSON")
    either = argparse.ArgumentParser(add_help=False)  # it may stand behind the verb too
    either.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="as JSON")
    verbs = parser.add_subparsers(dest="verb", metavar="show | now | diff | undo | redo | verify | proposals | …")
    verbs.add_parser("now", help="dream now, also while you are here", parents=[either])
    for name, what in (
        ("show", "the generations of memory, newest first; with NUMBER one of them whole (default)"),
        ("diff", "what a generation changed of the one before it"),
        ("verify", "check a generation against the rules, the one before it and the journal"),
    ):
        verbs.add_parser(name, help=what, parents=[either]).add_argument("number", nargs="?", type=int)
    for name, what in (("undo", "go back to the generation before"), ("redo", "take an undo back")):
        verbs.add_parser(name, help=what, parents=[either]).add_argument("steps", nargs="?", type=int, default=1)
    verbs.add_parser("proposals", help="changes that wait for you", parents=[either])
    for name, what in (("accept", "do what a proposal says"), ("reject", "never propose it again")):
        verbs.add_parser(name, help=what, parents=[either]).add_argument("id")


def run(arguments: argparse.Namespace, place: Home) -> int:
    """Asks the daemon, and shows what it says."""
    found = _ask(Client(place), arguments)
    if arguments.json:
        print_json(found)
    elif isinstance(found, list):
        (_proposals if arguments.verb == "proposals" else _generations)(found)
    elif isinstance(found, dict):
        _SHOWN[arguments.verb](found)
    wrong = arguments.verb == "verify" and isinstance(found, dict) and found.get("problems")
    return EXIT_FAILED if wrong else EXIT_OK


def _ask(client: Client, arguments: argparse.Namespace) -> object:
    verb, number = arguments.verb or "show", getattr(arguments, "number", None)
    match verb:
        case "now":
            return client.post("dream", seconds=DREAM_SECONDS)
        case "undo" | "redo":
            return client.post("dream", verb, body={"steps": arguments.steps})
        case "accept" | "reject":
            return client.post("dream", "proposals", arguments.id, verb)
        case "show" if number is None:
            return client.get("dream")
        case "proposals":
            return client.get("dream", "proposals")
    return client.get("dream", verb, query={"number": number})


def _told(found: Row) -> None:
    counts = found.get("operations")
    told = [f"{count} {one_line(name)}" for name, count in counts.items() if count] if isinstance(counts, dict) else []
    say(f"{one_line(found.get('outcome')).capitalize()}. {', '.join(told)}".strip())
    made = [one_line(number) for number in _list(found, "generations")]
    if len(made) == 1:
        say(f"Generation {made[0]}; what it changed: kairos dream diff. Back: kairos dream undo")
    elif made:
        diffs = ", ".join(f"kairos dream diff {number}" for number in made)
        say(f"Generations {', '.join(made)}; what each changed: {diffs}. Back: kairos dream undo {len(made)}")
    for reason in _list(found, "dropped"):
        say(f"  dropped: {one_line(reason)}")
    for name in _list(found, "proposals"):
        say(f"  waits for you: kairos dream accept {one_line(name)}")
    if found.get("tokens"):
        say(f"{one_line(found['tokens'])} tokens, {money(found.get('price'))}")


def _generations(found: Sequence[Row]) -> None:
    if not found:
        say("There is no memory yet. `kairos dream now` makes the first one.")
        return
    now = moments.now()
    columns: list[tuple[str, Cell]] = [
        ("number", lambda row: f"{one_line(row.get('number'))}{' *' if row.get('current') else ''}"),
        ("made", lambda row: moments.local(row.get("made"), now)),
        ("by", lambda row: row.get("phase") or ""),
        ("changes", lambda row: len(_list(row, "operations"))),
        ("rejected", lambda row: len(_list(row, "rejected"))),
        ("tokens", lambda row: row.get("tokens") or 0),
        ("price", lambda row: money(row.get("price") or 0)),
    ]
    table(columns, found)


def _one(found: Row) -> None:
    fields(found, moments.now(), skip=("entries", "operations", "rejected", "held"))
    for line in _list(found, "entries"):
        say(clean(str(line)))
    for one in _rows(found, "rejected"):
        operation = one.get("operation")
        told = operation if isinstance(operation, dict) else {}
        say(f"rejected: {one_line(told.get('op'))} {one_line(told.get('text'))}")
        for problem in _list(one, "problems"):
            say(f"  {one_line(problem)}")


def _diff(found: Row) -> None:
    say(f"Generation {one_line(found.get('parent'))} → {one_line(found.get('number'))}")
    for change in _rows(found, "changes"):
        lines = [f"@ {one_line(change.get('change'))} {one_line(change.get('key'))}"]
        lines += [
            f"{mark}{one_line(change[name])[1:]}" for name, mark in (("old", "-"), ("new", "+")) if change.get(name)
        ]
        diff("\n".join(lines))


def _verified(found: Row) -> None:
    problems = _list(found, "problems")
    if not problems:
        entries = one_line(found.get("entries"))
        say(f"Generation {one_line(found.get('number'))} holds: {entries} entries, nothing is wrong.")
    for problem in problems:
        say(one_line(problem))


def _stepped(found: Row) -> None:
    now, was, cursor = (one_line(found.get(name)) for name in ("generation", "was", "cursor"))
    say(f"Memory is generation {now} (was {was}); its journal cursor is {cursor}.")


def _proposals(found: Sequence[Row]) -> None:
    if not found:
        say("No change of memory waits for you.")
    for one in found:
        say(f"{one_line(one.get('id'))}: {one_line(one.get('reason'))}")
        for operation in _rows(one, "operations"):
            named = one_line(", ".join(map(str, _list(operation, "targets"))))
            say(f"  {one_line(operation.get('op'))} {named} {one_line(operation.get('text'))}".rstrip())


def _settled(found: Row) -> None:
    say(f"{one_line(found.get('id'))} is {one_line(found.get('state'))}.")


def _list(row: Row, name: str) -> list[object]:
    value = row.get(name)
    return value if isinstance(value, list) else []


def _rows(row: Row, name: str) -> list[Row]:
    return [one for one in _list(row, name) if isinstance(one, dict)]


_SHOWN: Mapping[str, Callable[[Row], None]] = {
    "now": _told, "show": _one, "diff": _diff, "verify": _verified, "undo": _stepped, "redo": _stepped,
    "accept": _settled, "reject": _settled,
}  # fmt: skip
