"""`kairos runs`: what was done; with an id also its calls, its diff and the line to merge it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

from kairos_cli import moments
from kairos_cli.client import Client
from kairos_cli.listing import add_filters, at_column, column, id_column, show_list
from kairos_cli.render import Row, diff, fields, money, print_json, state, task_words
from kairos_cli.sentences import landed_directly
from kairos_cli.terminal import clean, one_line, paint, say
from kairosd.wire import EXIT_OK, Home

_APART = ("calls", "tasks", "model_calls", "diff", "merge", "result", "checks")


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("id", nargs="?", help="one run whole; a unique start is enough")
    add_filters(parser, "queued, running, parked, interrupted, done, done_unchecked, failed, cancelled, over_budget")


def run(arguments: argparse.Namespace, place: Home) -> int:
    """Lists runs, or shows one."""
    client = Client(place)
    if not arguments.id:
        columns = [at_column("created"), id_column(), column("state"), column("workspace"), column("trigger"),
                   ("price", lambda row: money(row.get("price"))), ("branch", _branch), column("goal")]  # fmt: skip
        empty = 'No runs yet. Ask for one: kairos tell "what changed in the last commit?"'
        return show_list(client, "runs", arguments=arguments, columns=columns, empty=empty)
    found = client.get("show", arguments.id)
    if arguments.json:
        print_json(found)
    else:
        _show(found)
    return EXIT_OK


def _show(run: Row) -> None:
    fields(run, moments.now(), skip=_APART)
    if run.get("result"):
        say(f"\n{clean(str(run['result'])).strip()}")
    _block("checks", run.get("checks"), words=_check)
    _block("calls", run.get("calls"), words=_call)
    _block("in the background", run.get("tasks"), words=task_words)
    if run.get("diff"):
        say()
        diff(str(run["diff"]))
    if run.get("merge"):
        say(f"\nMerge it: {one_line(run['merge'])}")
    elif run.get("undone"):
        say("\nIt was undone.")
    elif landed_directly(run):
        say(f"\nIt is in your own files, not committed. Take it back: kairos undo {one_line(run.get('id'))}")


def _branch(run: Row) -> str:
    """Where its work is; what was undone is nowhere."""
    return "(undone)" if run.get("undone") else one_line(run.get("branch") or "")


def _block(heading: str, rows: object, *, words: Callable[[Mapping[str, object]], str]) -> None:
    found = [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
    if found:
        say(f"\n{paint(heading, 'bold')}")
    for row in found:
        say(f"  {words(row)}")


def _check(row: Mapping[str, object]) -> str:
    passed = row.get("passed") is True
    word = paint("passed" if passed else "failed", "green" if passed else "red")
    return f"{word} {one_line(row.get('kind'))}: {one_line(row.get('seen'))}"


def _call(row: Mapping[str, object]) -> str:
    arguments = row.get("arguments")
    pairs = arguments.items() if isinstance(arguments, Mapping) else ()
    words = ", ".join(f"{one_line(name)}={one_line(value)[:60]}" for name, value in pairs)
    rule = f"  [{one_line(row.get('rule'))}]" if row.get("state") == "denied" else ""
    return f"{state(row.get('state'))} {one_line(row.get('tool'))} {words}{rule}"
