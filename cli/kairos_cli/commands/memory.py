"""`kairos memory`: what is remembered, what was said before, where a line comes from, and your hand on it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kairos_cli import moments
from kairos_cli.client import Client, Failure
from kairos_cli.commands import daemonless
from kairos_cli.render import Cell, print_json, table
from kairos_cli.terminal import aside, one_line, say
from kairosd.wire import EXIT_FAILED, EXIT_OK, EXIT_USAGE, Home

NOTES = ("CLAUDE.md", "AGENTS.md", "MEMORY.md", "KAIROS.md", ".cursorrules")
NOTE_BYTES = 1_000_000
Row = Mapping[str, object]


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("-w", "--workspace", metavar="WS", help="only what this workspace sees")
    either = argparse.ArgumentParser(add_help=False)  # before the verb or behind it
    either.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="as JSON")
    either.add_argument("-w", "--workspace", metavar="WS", default=argparse.SUPPRESS, help="as before the verb")
    verbs = parser.add_subparsers(dest="verb", metavar="show | search | why | blame | history | forget | pin | …")
    _add_looks(verbs, either)
    forget = verbs.add_parser("forget", parents=[either], help="leave a tombstone without the text, everywhere")
    forget.add_argument("id")
    pin = verbs.add_parser("pin", parents=[either], help="only you change it from now on")
    pin.add_argument("id")
    pin.add_argument("--off", action="store_true", help="let dreams change it again")
    what = "make the search index anew; needs no daemon, and may be stopped and gone on with"
    verbs.add_parser("reindex", parents=[either], help=what)
    what = f"make proposals of notes: a file, or a folder with {', '.join(NOTES[:3])}"
    verbs.add_parser("import", parents=[either], help=what).add_argument("path", type=Path)


def _add_looks(verbs: argparse._SubParsersAction[argparse.ArgumentParser], either: argparse.ArgumentParser) -> None:
    verbs.add_parser("show", parents=[either], help="what is remembered, newest first (default)")
    search = verbs.add_parser("search", parents=[either], help="search memory, journal and transcripts")
    search.add_argument("text", nargs="+", help="what you want to know")
    search.add_argument("--layer", choices=("memory", "journal", "transcript"), default="")
    search.add_argument("--kind", default="", help="user, feedback, project, reference; or a kind of journal line")
    search.add_argument("--when", default="", help='days, such as "last week", 2026-11-03 or 2026-11-01..today')
    search.add_argument("--trust", choices=("owner", "local", "collaborator", "public"), default="")
    search.add_argument("--limit", type=int, default=10)
    verbs.add_parser("why", parents=[either], help="the journal lines behind an entry").add_argument("id")
    what = "each entry with the generation and the dream or run that wrote it"
    verbs.add_parser("blame", parents=[either], help=what)
    history = verbs.add_parser("history", parents=[either], help="what is remembered no more, and why")
    history.add_argument("id", nargs="?")
    verbs.add_parser("export", parents=[either], help="all of it as lines, or with --json as records")


def run(arguments: argparse.Namespace, place: Home) -> int:
    """Asks the daemon, and shows what it says."""
    verb = arguments.verb or "show"
    if verb == "reindex":
        daemonless.run(argparse.Namespace(verb="memory", rest=["reindex", *["--json"] * arguments.json]), place)
    client = Client(place)
    if verb == "import":
        return _import(client, arguments)
    found = _ask(client, verb, arguments=arguments)
    if arguments.json:
        print_json(found)
    elif isinstance(found, list):
        _LISTED[verb]([one for one in found if isinstance(one, dict)])
    elif isinstance(found, dict):
        _SHOWN[verb](found)
    return EXIT_OK


def _ask(client: Client, verb: str, *, arguments: argparse.Namespace) -> object:
    query = {"workspace": arguments.workspace}
    match verb:
        case "show":
            return client.get("memory", query=query)
        case "search":
            names = ("layer", "kind", "when", "trust", "limit")
            body = {name: getattr(arguments, name) for name in names} | {"text": " ".join(arguments.text)}
            return client.post("memory", "search", body=body | query)
        case "why":
            return client.get("memory", arguments.id, "why")
        case "history":
            return client.get("memory", "history", query={"entry": arguments.id})
        case "forget":
            return client.delete("memory", arguments.id)
        case "pin":
            return client.post("memory", arguments.id, "pin", body={"pinned": not arguments.off})
    return client.get("memory", verb, query=query if verb == "blame" else None)


def _import(client: Client, arguments: argparse.Namespace) -> int:
    answers = []
    for path in _notes(arguments.path.absolute()):
        try:
            text = path.read_bytes()[: NOTE_BYTES + 1].decode("utf-8", "replace")
        except OSError as error:
            raise Failure(f"{path} cannot be read: {error.strerror}", code=EXIT_USAGE) from error
        if len(text) > NOTE_BYTES:
            raise Failure(f"{path} is longer than {NOTE_BYTES} characters", fix="carry it in by parts", code=EXIT_USAGE)
        body = {"path": os.path.realpath(path), "text": text, "workspace": arguments.workspace}
        answers.append(client.post("memory", "import", body=body))
    if arguments.json:
        print_json(answers)
    else:
        for answer in answers:
            _imported(answer)
    return EXIT_OK if any(answer["proposals"] for answer in answers) else EXIT_FAILED


def _notes(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = [path / name for name in NOTES if (path / name).is_file()] if path.is_dir() else []
    found = found or sorted(path.glob("*.md")) if path.is_dir() else []
    if not found:
        raise Failure(
            f"{path} holds no notes", fix=f"name a file, or a folder with {', '.join(NOTES)}", code=EXIT_USAGE
        )
    return found


def _entries(found: Sequence[Row]) -> None:
    if not found:
        say("Nothing is remembered yet.")
    for entry in found:
        about = [entry.get("key"), entry.get("kind"), entry.get("trust"), f"seen {entry.get('seen')}"]
        about += ["pinned"] if entry.get("pinned") else []
        about += _doubts(entry)
        say(f"m:{one_line(entry.get('id'))} [{one_line(entry.get('scope'))}] {one_line(entry.get('text'))}")
        say(f"    {', '.join(map(one_line, about))}")


def _found(answer: Row) -> None:
    now, found = moments.now(), _rows(answer, "found")
    if not found:
        say("Nothing was found.")
    for one in found:
        about = [one.get("layer"), one.get("trust"), one.get("scope") or "no workspace", *_doubts(one)]
        say(f"{moments.local(one.get('at'), now)}  {one_line(one.get('source'))}  ({', '.join(map(one_line, about))})")
        say(f"    {one_line(one.get('snippet'))}")
    if answer.get("behind"):
        aside("the index is still reading the journal; ask again in a moment")


def _why(answer: Row) -> None:
    now = moments.now()
    _entries([answer])
    for line in _rows(answer, "lines"):
        said = one_line(str(line.get("data", ""))[:300])
        place = f"j{line.get('seq')} {moments.local(line.get('t'), now)}"
        say(f"  {place} {one_line(line.get('kind'))} {one_line(line.get('id'))}: {said}")
    for each in _rows(answer, "chains"):
        say(f"  {one_line(each.get('source'))}: see kairos why {one_line(each.get('source'))}")
    if "hand" in _list(answer, "sources"):
        say("  written by your own hand")


def _blame(found: Sequence[Row]) -> None:
    columns: list[tuple[str, Cell]] = [
        ("entry", lambda row: f"m:{row.get('id')}"),
        ("generation", lambda row: row.get("generation") or ""),
        ("by", lambda row: row.get("by") or ""),
        ("trust", lambda row: row.get("trust")),
        ("seen", lambda row: row.get("seen")),
        ("text", lambda row: "; ".join((*_doubts(row), str(row.get("text"))))),
    ]
    if found:
        table(columns, found)
    else:
        say("Nothing is remembered yet.")


def _history(found: Sequence[Row]) -> None:
    if not found:
        say("Nothing has been given up yet.")
    for one in found:
        after = f" → m:{one_line(one.get('successor'))}" if one.get("successor") else ""
        text = str(one["line"]).split(" <!-- ")[0] if one.get("line") else "- (forgotten)"
        say(f"{one_line(one.get('ended'))} {one_line(one.get('reason'))} m:{one_line(one.get('id'))}{after}")
        say(f"    {one_line(text)}")


def _forgotten(answer: Row) -> None:
    count = one_line(answer.get("generations"))
    say(f"m:{one_line(answer.get('entry'))} is forgotten: out of {count} generations and the index.")
    say("The journal and the transcripts are records; they stay, and search leaves out what says it still.")
    if answer.get("unlisted"):
        say(f"{one_line(answer['unlisted'])} passages are not found any more.")


def _pinned(answer: Row) -> None:
    say(f"m:{one_line(answer.get('id'))} is {'pinned' if answer.get('pinned') else 'not pinned'}.")


def _exported(answer: Row) -> None:
    for line in _list(answer, "lines"):
        say(one_line(line))


def _imported(answer: Row) -> None:
    count = len(_list(answer, "proposals"))
    about = f"for {one_line(answer.get('workspace'))}, trusted as {one_line(answer.get('tier'))}"
    say(f"{one_line(answer.get('path'))}: {count} {'proposal' if count == 1 else 'proposals'} {about}.")
    for one in _rows(answer, "refused"):
        problems = "; ".join(map(one_line, _list(one, "problems")))
        say(f"  refused: {one_line(one.get('text'))} ({problems})")
    if count:
        say("See them with kairos dream proposals; kairos dream accept ID makes one a memory.")


def _doubts(row: Row) -> list[str]:
    """Why it is not to be taken as current, each with its day."""
    days = (("stale since", row.get("stale")), ("set aside on", row.get("aside")))
    return [f"{said} {day}" for said, day in days if day]


def _list(row: Row, name: str) -> list[object]:
    value = row.get(name)
    return value if isinstance(value, list) else []


def _rows(row: Row, name: str) -> list[Row]:
    return [one for one in _list(row, name) if isinstance(one, dict)]


_LISTED: Mapping[str, Callable[[Sequence[Row]], None]] = {"show": _entries, "blame": _blame, "history": _history}
_SHOWN: Mapping[str, Callable[[Row], None]] = {
    "search": _found, "why": _why, "forget": _forgotten, "pin": _pinned, "export": _exported,
}  # fmt: skip
