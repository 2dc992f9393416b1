"""`kairos tell`: ask for something now, and watch it being done."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from kairos_cli.client import Client, Failure
from kairos_cli.render import money, print_json, short
from kairos_cli.terminal import aside, clean, one_line, say
from kairosd.wire import EXIT_FAILED, EXIT_OK, EXIT_PARKED, EXIT_USAGE, Home

_DONE = ("done", "done_unchecked")


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.description = "Asks Kairos for something now. Exit code: 0 done, 4 it waits for your answer, 1 otherwise."
    parser.add_argument("text", nargs="+", help="what you want; `-` reads it from standard input")
    parser.add_argument("-w", "--workspace", metavar="WS", help="default: the one that holds this folder")
    parser.add_argument("--no-wait", action="store_true", help="print the run's id and return at once")
    parser.add_argument("--json", action="store_true", help="print {event, run, state, answer, price} at the end")


def run(arguments: argparse.Namespace, place: Home) -> int:
    """Starts a run and prints its words as they come."""
    text = sys.stdin.read() if arguments.text == ["-"] else " ".join(arguments.text)
    if not text.strip():
        raise Failure("there is nothing to tell", fix='kairos tell "what changed in the last commit?"', code=EXIT_USAGE)
    client = Client(place)
    order = {"text": text, "workspace": arguments.workspace, "folder": _folder()}
    started = client.post("tell", body=order)
    if arguments.no_wait:
        return _leave(started, as_json=arguments.json)
    teller = _Teller(started, quiet=arguments.json)
    try:
        for update in client.follow(started["run"]):
            teller.take(update)
    except KeyboardInterrupt:
        teller.end_words()
        name = started["run"]
        aside(f"Detached; the run goes on. See it: kairos runs {name}   stop it: kairos stop {name}")
        return EXIT_FAILED
    except Failure as failure:
        teller.end_words()
        fix = f"the run is kept: kairos runs {started['run']}"
        raise Failure(failure.message, fix=fix, code=failure.code) from None
    return teller.conclude()


def _folder() -> str | None:
    try:
        return str(Path.cwd().resolve())
    except FileNotFoundError:  # the folder was deleted under the shell: the workspace must be named then
        return None


def _leave(started: Mapping[str, object], *, as_json: bool) -> int:
    if as_json:
        found = {"event": started.get("event"), "run": started.get("run")}
        print_json({**found, "state": "queued", "answer": None, "price": None})
    else:
        say(f"{one_line(started.get('run'))} in {one_line(started.get('workspace'))}")
        aside(f"See it: kairos runs {short(started.get('run'))}")
    return EXIT_OK


class _Teller:
    """Prints the updates of one run: its words on stdout, what it does meanwhile on stderr."""

    def __init__(self, started: Mapping[str, object], *, quiet: bool) -> None:
        self._started = started
        self._quiet = quiet
        self._said = ""
        self._closing: Mapping[str, object] = {}
        self._kind = ""
        self._awaited = ""  # what the run is known to wait for

    def take(self, update: Mapping[str, object]) -> None:
        kind, text, data = update.get("kind"), str(update.get("text") or ""), update.get("data")
        if kind in ("ended", "parked", "error"):
            self._kind = str(kind)
            self._closing = {"text": text, **(data if isinstance(data, Mapping) else {})}
        elif self._quiet:
            return
        elif kind == "text":
            self._said += text
            say(clean(text), end="")
            sys.stdout.flush()
        elif kind == "call":
            self.end_words()
            aside(f"· {one_line(text)}", "dim")
        elif kind == "waiting" and text != self._awaited:
            self._awaited = text
            self.end_words()
            aside(f"· waiting, and trying again by itself: {one_line(text)}")

    def end_words(self) -> None:
        if self._said and not self._said.endswith("\n"):
            self._said += "\n"
            say()

    def conclude(self) -> int:
        state = str(self._closing.get("state") or "")
        if self._kind not in ("ended", "parked"):
            reason = one_line(self._closing.get("text")) or "the daemon ended the answer"
            raise Failure(reason, fix=f"the run is kept: kairos runs {self._started['run']}")
        if self._quiet:
            self._as_json(state)
        else:
            self.end_words()
            self._as_words(state)
        if self._kind == "parked":
            return EXIT_PARKED
        return EXIT_OK if state in _DONE else EXIT_FAILED

    def _as_json(self, state: str) -> None:
        found = {name: self._started.get(name) for name in ("event", "run")}
        found |= {"state": state, "answer": self._closing.get("answer"), "price": self._closing.get("price")}
        if self._kind == "parked":
            found["code"] = self._closing.get("code")
        print_json(found)

    def _as_words(self, state: str) -> None:
        answer = clean(str(self._closing.get("answer") or "")).strip()
        if answer and not clean(self._said).rstrip().endswith(answer):
            say(answer)
        if self._closing.get("branch"):
            say(f"Landed. Merge it: git merge {one_line(self._closing['branch'])}")
        elif self._closing.get("patch"):
            say(f"Landed as a patch: git apply {one_line(self._closing['patch'])}")
        if self._kind == "parked":
            self._how_to_answer()
        run = short(self._started.get("run"))
        aside(f"{state or 'ended'}, {money(self._closing.get('price'))}, {run} (kairos why {run})", "dim")

    def _how_to_answer(self) -> None:
        code = one_line(self._closing.get("code"))
        if code:
            say(f"It waits for your answer: kairos approve {code}   or   kairos deny {code}")
        else:
            say(f"It waits for you: kairos runs {one_line(self._started.get('run'))}")
