"""`kairos`: finds the verb, imports its module and no other, and turns what went wrong into words and an exit code."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from kairos_cli.client import Failure
from kairos_cli.terminal import aside, clean, width
from kairosd.wire import EXIT_CONFIG, EXIT_OK, VERSION, Home, HomeError, check_private, home

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it

# verb: (its module in `commands`, what it does in a few words)
VERBS = {
    "init": ("daemonless", "look at this machine and write a configuration"),
    "status": ("status", "what the daemon is doing, and what is wrong"),
    "tell": ("tell", "ask for something now"),
    "journal": ("journal", "read the daily record; `journal verify` checks its chain"),
    "why": ("why", "from any id back to what caused it, with prices"),
    "cost": ("cost", "what it cost, by day, trigger, workspace, run or model"),
    "events": ("events", "what happened; `events retry ID` revives a dead one"),
    "decisions": ("decisions", "what was decided about it, and why"),
    "rate": ("rate", "say what was useful, noise, or missed"),
    "promote": ("promote", "let a trigger act that only wrote down what it would do"),
    "runs": ("runs", "what was done; `runs ID` shows the diff and how to merge it"),
    "undo": ("undo", "take back what a run did on this machine"),
    "memory": ("memory", "what is remembered, and a search in all that was said and done"),
    "dream": ("dream", "what became memory while you were away; `dream undo` goes back"),
    "stop": ("stop", "cancel a run, or all of them"),
    "pause": ("pause", "no initiative until `resume`; `tell` still works"),
    "resume": ("resume", "initiative on again"),
    "approvals": ("approvals", "questions that wait for you"),
    "approve": ("approve", "say yes to one; with `--always` to exactly that call from now on"),
    "deny": ("deny", "say no to one"),
    "grants": ("grants", "what you allowed for always; `grants revoke ID` takes one back"),
    "workspace": ("workspace", "list, add, remove or trust a watched folder, or set its level"),
    "notices": ("notices", "what you were told, and whether it arrived; `--test` sends one"),
    "model": ("daemonless", "fetch the local model"),
    "replay": ("daemonless", "do a recorded run or day again, offline, and say what comes out otherwise"),
    "explain": ("daemonless", "what the gate would say to a command, rule by rule, without running it"),
    "doctor": ("daemonless", "check this installation"),
    "config": ("daemonless", "show the configuration as it is understood"),
    "service": ("daemonless", "install, remove or show the systemd service"),
    "reload": ("reload", "read the configuration again"),
    "gc": ("daemonless", "delete what the retention rules no longer keep"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command. Returns its exit code (wire.py lists them)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a locale without Unicode must not break an answer
    try:
        code = _run(given)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (`| head`) has seen enough. Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Failure as failure:
        return _complain(failure.message, failure.fix, code=failure.code)
    except HomeError as error:
        return _complain(str(error), None, code=EXIT_CONFIG)
    finally:
        gc.freeze()  # else the interpreter's end looks through all that was loaded: a twelfth of `kairos status`
    return code


def _run(given: list[str]) -> int:
    verb = given[0] if given else ""
    if verb in ("-V", "--version"):
        sys.stdout.write(f"kairos {VERSION}\n")
        return EXIT_OK
    if verb == "help" and len(given) > 1:
        verb, given = given[1], [given[1], "--help"]
    if verb not in VERBS:
        code: int = import_module("kairos_cli.overview").run(verb, VERBS)
        return code
    place = home()
    _check_home(place)
    module = "daemonless" if given[:2] == ["journal", "verify"] else VERBS[verb][0]
    command = import_module(f"kairos_cli.commands.{module}")
    if module == "daemonless":
        return int(command.run(argparse.Namespace(verb=verb, rest=given[1:]), place))
    parser = argparse.ArgumentParser(prog=f"kairos {verb}", formatter_class=_formatter)
    command.add(parser)
    return int(command.run(parser.parse_args(given[1:]), place))


def _formatter(prog: str) -> argparse.HelpFormatter:
    # Left to itself it asks `shutil` how wide the terminal is: loading that is a twelfth of `kairos status`.
    return argparse.HelpFormatter(prog, width=(width() or 80) - 2)


def _check_home(place: Home) -> None:
    for folder in place.own_folders():
        check_private(folder)
    if not place.is_default:
        aside(f"home: {clean(str(place.config.parent))}")


def _complain(message: str, fix: str | None, *, code: int) -> int:
    aside(f"kairos: {clean(message)}")
    if fix:
        aside(f"  fix: {clean(fix)}")
    return code
