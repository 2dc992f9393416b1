"""Kills the real daemon in every phase of a busy day, and asks the outside world what became of it (design §1.2).

    python -m bench.crash [--kills N] [--phase NAME]... [--seed N] [--save]
    python -m bench.crash --sabotage outbox|intent|claim     the same with one mechanism taken out: must show losses

The day: webhooks, of which a good part leads to a run that edits, writes, commits, lands and notifies. Each kill is a
SIGKILL the daemon gives itself at the n-th passage of a point (`bench/crash_daemon.py`). Then the plain daemon is
started, and has to put everything right by itself. Needs bubblewrap and an ntfy server (`KAIROS_NTFY`, else `ntfy`).
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.crash_points import PASSAGES, POINTS, SABOTAGES
from bench.crash_truth import MARKER, Seen, Tally, compare, look
from bench.ntfy import Ntfy, ntfy_program
from tests.e2e.brain import Brain, finish, first_words, use
from tests.e2e.daemon import Daemon, Settings, git, repository
from tests.servers import Reply, Request

ROOT = Path(__file__).resolve().parents[1]
LAUNCHER = (sys.executable, "-m", "bench.crash_daemon")
RESULTS = ROOT / "bench" / "results" / "crash.json"
TOPIC = "kairos-crash"
BURST = ("act", "tell", "act", "calm")
BANG_SECONDS = 40.0  # how long the bomb has to go off
SETTLE_SECONDS = 150.0
SABOTAGED_SETTLE_SECONDS = 15.0


@dataclass
class Day:
    """The sender's side: what was sent, what was acknowledged, and what is to be sent again."""

    daemon: Daemon
    dice: random.Random
    number: int = 0
    accepted: dict[str, str] = field(default_factory=dict)
    open: dict[str, bytes] = field(default_factory=dict)

    def burst(self) -> None:
        """Sends some events, as a forge does: an answer that does not come means that it is sent again later."""
        kinds = list(BURST)
        self.dice.shuffle(kinds)
        for kind in kinds:
            self.number += 1
            marker = f"{kind}-{self.number:04}"
            self.open[marker] = payload(marker)
            self.send(marker)
            time.sleep(self.dice.choice((0.0, 0.02, 0.3)))

    def send(self, marker: str) -> None:
        """One delivery. 202 and "duplicate" both mean that the daemon has it."""
        try:
            answer = self.daemon.hook("workflow_run", self.open[marker], delivery=f"delivery-{marker}")
        except (OSError, http.client.HTTPException):
            return
        if answer.status == 202:
            self.accepted[marker] = answer.body["id"]
        elif answer.status == 200:
            self.accepted[marker] = answer.body["duplicate_of"]
        else:
            raise AssertionError(f"{marker}: {answer}")
        del self.open[marker]

    def redeliver(self) -> None:
        for marker in list(self.open):
            self.send(marker)


def payload(marker: str) -> bytes:
    """A failed workflow on a branch with a telling name: facts that a machine reports, so it may lead to a run."""
    number = int(marker[-4:])
    run = {
        "id": number, "run_number": number, "run_attempt": 1, "workflow_id": 1, "name": "tests", "event": "push",
        "path": ".github/workflows/tests.yml", "status": "completed", "conclusion": "failure",
        "head_branch": marker, "head_sha": f"{number:040x}", "head_repository": {"full_name": "ada/engine"},
    }  # fmt: skip
    whole = {
        "action": "completed", "workflow_run": run, "sender": {"login": "ada", "type": "User"},
        "repository": {"full_name": "ada/engine", "name": "engine", "owner": {"login": "ada"}, "private": False},
    }  # fmt: skip
    return json.dumps(whole).encode()


def decide(request: Request) -> Mapping[str, Any]:
    """Depends on the digest alone, so that a decision asked for twice is the same."""
    happened = first_words(request).partition("The workspace now:")[0]
    markers = sorted(set(MARKER.findall(happened)))
    loud = [marker for marker in markers if not marker.startswith("calm")]
    verdict, goal = "ignore", ""
    if any(marker.startswith("act") for marker in loud):
        verdict, goal = "act", f"Handle {' '.join(loud)}"
    elif loud:
        verdict, goal = "notify", f"News of {' '.join(loud)}"
    return {"reason": "scripted", "verdict": verdict, "goal": goal, "confidence": 90, "wake_seconds": 0}


def act(request: Request) -> Reply:
    """Depends on the goal and the number of turns alone."""
    goal = first_words(request).splitlines()[0]
    markers = MARKER.findall(goal)
    turn = request.turns
    if turn == 0:
        edits: list[tuple[str, dict[str, object]]] = []
        for marker in markers:
            edits.append(("edit", {"path": "LOG.md", "old": "", "new": f"{marker}\n"}))
            edits.append(("write", {"path": f"handled/{marker}.md", "content": f"# {marker}\n"}))
        return Reply(text="I write it down first, then I commit it.", uses=edits)
    if turn == 1:
        return use("git_commit", message=f"Handle {' '.join(markers)}")
    if turn == 2:
        return use("notify", title="Handled", body=f"These are done: {', '.join(markers)}", severity="normal")
    checks = [{"kind": "file_contains", "path": "LOG.md", "text": marker} for marker in markers]
    return finish(f"Handled {len(markers)} events.", *checks)


@dataclass
class Row:
    """One phase of the table."""

    phase: str
    kills: int = 0
    missed: int = 0
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def add(self, point: str, tally: Tally) -> None:
        self.kills += 1
        self.lost += [f"{point}: {one}" for one in tally.lost]
        self.twice += [f"{point}: {one}" for one in tally.twice]
        self.wrong += [f"{point}: {one}" for one in tally.wrong]


class Bench:
    """One home, one repository, one ntfy server, and many deaths."""

    def __init__(self, folder: Path, seed: int, sabotage: str, ntfy: str) -> None:
        self.dice = random.Random(seed)
        self.sabotage = sabotage
        self.repository = repository(folder / "engine", {"LOG.md": "# Log\n", "README.md": "# Engine\n"})
        self.ntfy = Ntfy(folder, ntfy)
        self.brain = Brain(decide=decide, act=act)
        settings = Settings(
            {"engine": self.repository}, {"scripted": self.brain.section("anthropic")}, "scripted", spacing_seconds=0,
            more=self.ntfy.section(TOPIC),
        )  # fmt: skip
        env = {"PYTHONPATH": str(ROOT), "KAIROS_BENCH_SABOTAGE": sabotage}
        self.daemon = Daemon(settings, command=LAUNCHER if sabotage else (), env=env)
        self.day = Day(self.daemon, self.dice)
        self.told: set[str] = set()
        self.strays: list[str] = []

    def kill(self, phase: str, moment: str) -> Tally | None:
        """One death at this point and the life after it. None when the point was not passed."""
        number = self.dice.randint(1, PASSAGES[phase])
        if not self._until_dead(f"{phase}:{moment}:{number}"):
            return None
        self.daemon.start(looked=not self.sabotage)
        self.day.redeliver()
        trouble = self._settle()
        tally = self._judge()
        tally.wrong += trouble
        if self.sabotage:
            self.daemon.kill()
        elif (code := self.daemon.stop()) != 0:
            tally.wrong.append(f"SIGTERM ended it with {code}")
        return tally

    def _until_dead(self, bomb: str) -> bool:
        self.daemon.start(ready=False, command=LAUNCHER, env={"KAIROS_BENCH_KILL": bomb})
        try:
            self.daemon.wait_for(self.daemon.is_ready, "ready")
        except AssertionError:
            if self.daemon.wait_end(0) != -9:
                raise
        self.day.burst()
        code = self.daemon.wait_end(BANG_SECONDS)
        if code is None:
            self.daemon.kill()
            self.daemon.start(looked=not self.sabotage)
            self.day.redeliver()
            self._settle()
            self.daemon.stop()
            return False
        assert code == -9, f"the daemon ended with {code} by itself\n{self.daemon.tail()}"
        return True

    def _settle(self) -> list[str]:
        """Waits until nothing is under way any more. What remains is returned as sentences."""
        deadline = time.monotonic() + (SABOTAGED_SETTLE_SECONDS if self.sabotage else SETTLE_SECONDS)
        left = quiet = 0
        while time.monotonic() < deadline:
            status = self.daemon.wait_for(self.daemon.status_or_none, "status answers")
            runs = [run["id"] for run in self.daemon.json("runs", "--limit", "30") if not run["ended"]]
            left = status["queue"]["pending"] + len(runs) + status["notices"]["queued"] + status["notices"]["failed"]
            quiet = quiet + 1 if left == 0 else 0
            if quiet == 2:
                return []
            time.sleep(0.25)
        what = f"{status['queue']}, {status['notices']}, runs {runs}" if left else "busy"
        return [f"it did not settle by itself: {what}"]

    def _judge(self) -> Tally:
        seen = self._look()
        rows = self.daemon.json("events", "--limit", "1000")
        states = {row["id"]: row["state"] for row in rows}
        recent = {m: e for m, e in self.day.accepted.items() if m not in self.told}
        tally = compare(recent, states, seen, self.strays)
        self.told |= recent.keys()
        self.strays = seen.strays
        # Nothing of the earlier bursts may come a second time either.
        for marker in self.told - recent.keys():
            for name in ("commits", "lines", "handled", "ended", "news"):
                if getattr(seen, name)[marker] > 1 and not self.sabotage:
                    tally.twice.append(f"{marker}: {name} of an earlier burst")
        return tally

    def _look(self) -> Seen:
        # The journal's writer is a step behind the database: an idle daemon's is not.
        time.sleep(0.2)
        return look(self.repository, self.ntfy.topic(TOPIC), self.daemon.state / "journal")

    def acting_share(self) -> float:
        """Which part of the decisions with an answer was to act."""
        self.daemon.start()
        verdicts = [row["verdict"] for row in self.daemon.json("decisions", "--limit", "1000")]
        self.daemon.stop()
        answers = [verdict for verdict in verdicts if verdict not in ("asked", "unusable")]
        return answers.count("act") / max(1, len(answers))

    def close(self) -> None:
        self.daemon.close()
        self.brain.close()
        self.ntfy.close()


def run_phase(bench: Bench, phase: str, kills: int) -> Row:
    """All kills of one phase, its moments in turn."""
    row, moments, tries = Row(phase), list(POINTS[phase]), 0
    while row.kills < kills and tries < kills * 2:
        moment = moments[tries % len(moments)]
        tries += 1
        tally = bench.kill(phase, moment)
        if tally is None:
            row.missed += 1
            print(f"  {phase}:{moment}: not passed, no kill", flush=True)
            continue
        row.add(moment, tally)
        said = "; ".join([*tally.lost, *tally.twice, *tally.wrong]) or "all there, once"
        print(f"  {phase}:{moment}: {said}", flush=True)
    return row


def table(rows: Sequence[Row]) -> str:
    """The rows as text."""
    lines = [f"{'phase':12} {'kills':>5} {'lost':>5} {'twice':>5} {'wrong':>5}"]
    for row in rows:
        lines.append(f"{row.phase:12} {row.kills:5} {len(row.lost):5} {len(row.twice):5} {len(row.wrong):5}")
    return "\n".join(lines)


def save(rows: Sequence[Row], share: float, arguments: Sequence[str]) -> None:
    """Writes bench/results/crash.json."""
    RESULTS.parent.mkdir(exist_ok=True)
    found = {
        "command": f"python -m bench.crash {' '.join(arguments)}".strip(),
        "commit": git(ROOT, "rev-parse", "HEAD").strip(),
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "acting_decisions_percent": round(share * 100),
        "phases": [
            {"phase": row.phase, "kills": row.kills, "lost": row.lost, "twice": row.twice, "wrong": row.wrong}
            for row in rows
        ],
    }  # fmt: skip
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.crash", description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=5, help="for each phase (default: 5)")
    parser.add_argument("--phase", action="append", choices=sorted(POINTS), help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sabotage", choices=SABOTAGES, default="", help="run without this mechanism")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    parser.add_argument("--keep", action="store_true", help="leave home, repository and logs behind")
    chosen = parser.parse_args(arguments)
    if (ntfy := ntfy_program()) is None:
        raise SystemExit("no ntfy server: install Debian's package ntfy, or name the program in KAIROS_NTFY")
    folder = Path(tempfile.mkdtemp(prefix="kairos-crash-"))
    bench = Bench(folder, chosen.seed, chosen.sabotage, ntfy)
    print(f"home {bench.daemon.home}, repository {bench.repository}", flush=True)
    try:
        rows = [run_phase(bench, phase, chosen.kills) for phase in chosen.phase or POINTS]
        share = 0.0 if chosen.sabotage else bench.acting_share()
    finally:
        bench.close()
    print(table(rows))
    if not chosen.keep:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(bench.daemon.root, ignore_errors=True)
    if chosen.save:
        save(rows, share, [word for word in arguments if word != "--save"])
    return verdict(rows, share, chosen)


def verdict(rows: Sequence[Row], share: float, chosen: argparse.Namespace) -> int:
    """0 when the promise held, or, with sabotage, when its absence was noticed."""
    hits = sum(len(row.lost) + len(row.twice) + len(row.wrong) for row in rows)
    if chosen.sabotage:
        print(
            f"without the {chosen.sabotage}: {hits} losses, doubles and breaks" if hits else "the bench does not bite"
        )
        return 0 if hits else 1
    print(f"acting decisions: {share:.0%}")
    short = [row.phase for row in rows if row.kills < chosen.kills]
    if short:
        print(f"too few kills in: {', '.join(short)}")
    return 1 if hits or short or share < 0.4 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
