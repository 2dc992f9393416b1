"""`kairos status`: what the daemon is doing, and what is wrong."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from kairos_cli import moments
from kairos_cli.client import Client
from kairos_cli.render import money, print_json, size, state, task_words
from kairos_cli.terminal import one_line, paint, say
from kairosd.wire import EXIT_OK, Home


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("--json", action="store_true", help="the whole status as one JSON object")


def run(arguments: argparse.Namespace, place: Home) -> int:
    """Prints the status. Problems do not change the exit code: it says whether the daemon answered."""
    status = Client(place).get("status")
    if arguments.json:
        print_json(status)
        return EXIT_OK
    up = moments.span(_number(status.get("uptime_seconds")))
    head = f"kairosd {one_line(status.get('version'))}: {state(status.get('state'))}"
    say(f"{head}, up {up}, process {one_line(status.get('pid'))}")
    for name, text in _lines(status, moments.now()):
        if text:
            say(f"{paint(name.ljust(11), 'bold')} {text}")
    _problems(status.get("problems"))
    return EXIT_OK


def _lines(status: Mapping[str, object], at: datetime) -> Iterator[tuple[str, str]]:
    for index, workspace in enumerate(_rows(status.get("workspaces"))):
        yield "workspaces" if index == 0 else "", _workspace(workspace, at)
    for index, model in enumerate(_rows(status.get("models"))):
        yield "models" if index == 0 else "", _model(model)
    yield "queue", _words(status.get("queue"))
    yield "so far", _words(status.get("counters"))
    yield "notices", _words(status.get("notices"))
    for channel in _rows(status.get("channels")):
        why = channel.get("why")
        yield one_line(channel.get("name")), f"may only say no: {one_line(why)}" if why else "may say yes to questions"
    for index, task in enumerate(_rows(status.get("tasks"))):
        yield "tasks" if index == 0 else "", f"{one_line(task.get('workspace'))}: {task_words(task)}"
    yield "next wake", _when(status.get("next_wake"), at)
    yield "last dream", _when(status.get("last_dream"), at)
    for name, purse in _pairs(status.get("purses")):
        if text := _purse(purse):
            yield "purse", f"{one_line(name)}: {text}"
    sizes = status.get("sizes")
    if isinstance(sizes, Mapping):
        yield "on disk", ", ".join(f"{one_line(name)} {size(count)}" for name, count in sizes.items())


def _purse(value: object) -> str:
    """What was taken from a purse in each of its windows; nothing of one that is untouched."""
    windows = value.items() if isinstance(value, Mapping) else ()
    return "; ".join(
        f"{one_line(span)} {_share(window)}"
        for span, window in windows
        if isinstance(window, Mapping) and _taken(window)
    )


def _taken(window: Mapping[str, object]) -> int:
    return sum(_number(window.get(name)) for name in ("spent", "reserved", "tokens", "tokens_reserved"))


def _share(window: Mapping[str, object]) -> str:
    taken = _number(window.get("spent")) + _number(window.get("reserved"))
    tokens = _number(window.get("tokens")) + _number(window.get("tokens_reserved"))
    return (
        f"{money(taken)} of {money(window.get('limit'))}, {tokens:,} of {_number(window.get('tokens_limit')):,} tokens"
    )


def _model(row: Mapping[str, object]) -> str:
    down = f"  {paint('does not answer', 'red')}: {one_line(row.get('down'))}" if row.get("down") else ""
    down += f"; {one_line(row.get('instead'))} is asked instead" if row.get("instead") else ""
    return f"{one_line(row.get('role')).ljust(7)} {one_line(row.get('model'))} ({one_line(row.get('name'))}){down}"


def _workspace(row: Mapping[str, object], at: datetime) -> str:
    level = f"level {one_line(row.get('level'))}" if row.get("level") else ""
    trusted = "" if row.get("trusted", True) else "instructions not trusted"
    wake = _when(row.get("next_wake"), at)
    words = [state(row.get("state")), level, trusted, f"wakes {wake}" if wake else ""]
    return f"{paint(one_line(row.get('name')), 'bold')} {one_line(row.get('path'))}  {', '.join(filter(None, words))}"


def _words(value: object) -> str:
    """A mapping as `name value, name value`; the names with underscores read as words."""
    if not isinstance(value, Mapping):
        return one_line(value)
    return ", ".join(f"{one_line(name).replace('_', ' ')} {_amount(name, item)}" for name, item in value.items())


def _amount(name: object, value: object) -> str:
    if isinstance(name, str) and name in ("price", "spent", "limit"):
        return money(value)
    return "none" if value is None else one_line(value)


def _when(value: object, at: datetime) -> str:
    return f"{moments.local(value, at)} ({moments.relative(value, at)})" if value else ""


def _problems(value: object) -> None:
    for problem in _rows(value):
        say(f"{paint('problem', 'red')} {one_line(problem.get('text'))}")
        if problem.get("fix"):
            say(f"    fix {one_line(problem.get('fix'))}")


def _rows(value: object) -> list[Mapping[str, object]]:
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def _pairs(value: object) -> Sequence[tuple[object, object]]:
    if isinstance(value, Mapping):
        return list(value.items())
    if not isinstance(value, list):
        return []
    return [
        (row.get("name"), {key: item for key, item in row.items() if key != "name"})
        if isinstance(row, Mapping)
        else (row, "")
        for row in value
    ]


def _number(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) else 0
