"""`kairosd doctor`: looks at everything Kairos needs and says what is wrong and what to do. Changes nothing."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

from kairosd.verbs import doctor_home as home
from kairosd.verbs import doctor_machine as machine
from kairosd.verbs.doctor_subject import Finding, Mark, Subject, meet
from kairosd.wire import EXIT_FAILED, EXIT_OK, Home

Check = Callable[[Subject], Iterator[Finding]]

CHECKS: Mapping[str, Check] = {
    "config": home.config,
    "python": machine.python,
    "programs": machine.programs,
    "sandbox": machine.sandbox,
    "models": machine.models,
    "port": machine.hooks_port,
    "secrets": home.secrets,
    "workspaces": home.workspaces,
    "watches": machine.watches,
    "disk": machine.disk,
    "clock": machine.clock,
    "database": home.database,
    "journal": home.journal,
    "channels": home.channels,
    "daemon": home.daemon,
}


def main(arguments: Sequence[str], place: Home) -> int:
    """Exit 1 when something fails; warnings alone are 0. Works beside a running daemon and without one."""
    parser = argparse.ArgumentParser(prog="kairos doctor", description="Looks at everything Kairos needs.")
    parser.add_argument("check", nargs="*", metavar="CHECK", help=f"only these: {', '.join(CHECKS)}")
    parser.add_argument("--json", action="store_true", help="a JSON array of {name, mark, detail, fix}")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.check) - set(CHECKS):
        parser.error(f"no such check: {', '.join(sorted(unknown))} (there are: {', '.join(CHECKS)})")
    subject = meet(place)
    rows: list[dict[str, str]] = []
    for name in chosen.check or CHECKS:
        for finding in CHECKS[name](subject):
            row = {"name": name, "mark": finding.mark.value, "detail": finding.detail, "fix": finding.fix}
            rows.append(row)
            if not chosen.json:
                _print(row)
    if chosen.json:
        sys.stdout.write(f"{json.dumps(rows, indent=2)}\n")
    failed = [row["name"] for row in rows if row["mark"] == Mark.FAIL]
    if not chosen.json:
        sys.stdout.write(f"failing: {', '.join(dict.fromkeys(failed))}\n" if failed else "nothing fails\n")
    return EXIT_FAILED if failed else EXIT_OK


def _print(row: Mapping[str, str]) -> None:
    first, *more = row["detail"].splitlines() or [""]
    sys.stdout.write(f"{row['mark']:4}  {row['name']:10}  {first}\n")
    for line in more:
        sys.stdout.write(f"{'':18}{line}\n")
    if row["fix"] and row["fix"] not in row["detail"]:
        sys.stdout.write(f"{'':18}fix: {row['fix']}\n")
    sys.stdout.flush()
