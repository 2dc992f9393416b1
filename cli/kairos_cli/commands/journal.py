"""`kairos journal`: the daily record, read from its files; no daemon is needed."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import date

from kairos_cli import moments
from kairos_cli.client import Failure
from kairos_cli.daybook import Daybook, Line
from kairos_cli.render import STYLES, short
from kairos_cli.sentences import sentence
from kairos_cli.terminal import aside, one_line, paint, say
from kairosd.wire import EXIT_OK, EXIT_USAGE, Home

_MARKDOWN = re.compile(r"([\\`*_\[\]<>#|~])")


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.description = "Prints a day of the journal; `kairos journal verify` checks that nothing in it was altered."
    parser.add_argument("day", nargs="?", default="today", help="today (default), yesterday, 2026-11-20, or `verify`")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what is written from now on")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object a line")
    form.add_argument("--md", action="store_true", help="as Markdown")
    parser.add_argument("-w", "--workspace", metavar="WS", help="only lines of this workspace")
    parser.add_argument("--kind", metavar="KIND", help="only this kind: `run`, `decision.made`, ...")


def run(arguments: argparse.Namespace, place: Home) -> int:
    """Prints a day, or follows it."""
    book = Daybook(place.journal)
    day = _day(book, arguments.day)
    wanted = _filter(arguments)
    if arguments.follow:
        if arguments.md:
            raise Failure("--md is for a whole day", fix="kairos journal -f, or kairos journal --md", code=EXIT_USAGE)
        for line in filter(wanted, book.follow(day)):
            _print(line, as_json=arguments.json)
            sys.stdout.flush()
        return EXIT_OK
    lines = list(filter(wanted, book.lines(day)))
    if arguments.md:
        _markdown(day, lines)
    elif lines:
        for line in lines:
            _print(line, as_json=arguments.json)
    elif not arguments.json:
        say(f"The journal has nothing{' like that' if arguments.workspace or arguments.kind else ''} for {day}.")
    return EXIT_OK


def _day(book: Daybook, text: str) -> date:
    now = moments.now()
    try:
        day = moments.parse_day(text, now)
    except ValueError as error:
        raise Failure(str(error), code=EXIT_USAGE) from None
    days = book.days()
    if text != "today" or day in days or not days:
        return day
    # Also a later day: the journal's day never goes backwards, the traveller's may (design §5).
    aside(f"Nothing is written for today yet; the last day with lines is {days[-1]}.")
    return days[-1]


def _filter(arguments: argparse.Namespace) -> Callable[[Line], bool]:
    def wanted(line: Line) -> bool:
        kind = str(line.get("kind", ""))
        if arguments.kind and kind != arguments.kind and not kind.startswith(f"{arguments.kind}."):
            return False
        return not arguments.workspace or line.get("ws") == arguments.workspace

    return wanted


def _print(line: Line, *, as_json: bool) -> None:
    if as_json:
        say(json.dumps(line, ensure_ascii=True, separators=(",", ":")))
        return
    when, kind, words = _told(line)
    outcome = kind.rpartition(".")[2]
    name = paint(kind.ljust(18), STYLES.get(outcome, ""))
    say(f"{paint(when, 'dim')}  {name} {short(line.get('id')).ljust(14)}  {words}")


def _told(line: Line) -> tuple[str, str, str]:
    moment = moments.parse(line.get("t"))
    when = f"{moment.astimezone():%H:%M:%S}" if moment else "--:--:--"
    kind, data = one_line(line.get("kind")), line.get("data")
    workspace = f"[{one_line(line.get('ws'))}] " if line.get("ws") else ""
    return when, kind, workspace + sentence(kind, data if isinstance(data, dict) else {})


def _markdown(day: date, lines: Iterable[Line]) -> None:
    say(f"# Kairos, {day:%A} {day.day} {day:%B %Y}\n")
    written = list(_bullets(lines))
    say("\n".join(written) if written else "Nothing was written.")


def _bullets(lines: Iterable[Line]) -> Iterator[str]:
    hour = ""
    for line in lines:
        when, kind, words = _told(line)
        if when[:2] != hour:
            yield f"{'' if not hour else chr(10)}## {when[:2]}:00\n"
            hour = when[:2]
        identifier = f" `{short(line.get('id'))}`" if line.get("id") else ""
        yield f"- {when} **{_escaped(kind)}**{identifier} {_escaped(words)}"


def _escaped(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)
