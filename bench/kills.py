"""Kills the real daemon at every point of the ledger, for every tool with an effect; counts the effects from outside.

    python -m bench.kills [--tool NAME]... [--point NAME]... [--sabotage] [--save]

Each kill is a SIGKILL the daemon gives itself in the middle of one call (`bench/kills_daemon.py`). Then the daemon is
started again and has to bring the run to its end. Whether the effect happened is read from the files, from git and from
the cache of a real ntfy server; the promise is: exactly once, or the model's next turn is told that nobody knows.
`--sabotage` takes the intent row away: then the table must show repeats. Needs bubblewrap and, for `notify`, an ntfy
server (`KAIROS_NTFY`, else `ntfy`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.crash import payload
from bench.crash_truth import messages
from bench.kills_daemon import POINTS, TASK_POINTS
from bench.ntfy import Ntfy, ntfy_program
from tests.e2e.brain import Brain, finish, first_words, results, steps, use
from tests.e2e.daemon import Daemon, Settings, git, repository
from tests.servers import Reply, Request

ROOT = Path(__file__).resolve().parents[1]
LAUNCHER = (sys.executable, "-m", "bench.kills_daemon")
RESULTS = ROOT / "bench" / "results" / "kills.json"
TOPIC = "kairos-kills"
BANG_SECONDS = 40.0
END_SECONDS = 90.0
NAME = re.compile(r"act-\d{4}")
AWAY = "Kairos was interrupted; you were away"
HIT = "import sys\n\nwith open(f'hits-{sys.argv[1]}.log', 'a') as log:\n    log.write('hit\\n')\n"


@dataclass(frozen=True)
class Effect:
    """One tool with an effect: what a run does to reach it, and which of its results is the effect's, from 1."""

    tool: str
    script: Callable[[str], Sequence[Reply]]
    result: int
    landing: str = "branch"
    points: tuple[str, ...] = tuple(POINTS)
    by_owner: bool = True


def _written(name: str) -> Reply:
    return use("write", path=f"done/{name}.md", content=f"{name}\n")


def _end(name: str) -> Reply:
    return finish(f"{name} is done")


LAND_POINTS = tuple(point for point in POINTS if point != "result-torn")  # its outcome goes to no model
EFFECTS: Mapping[str, Effect] = {
    "write": Effect("write", lambda name: (_written(name), _end(name)), 1),
    "edit": Effect("edit", lambda name: (
        use("read", path="LOG.md"), use("edit", path="LOG.md", old="", new=f"{name}\n"), _end(name)), 2),
    "git_commit": Effect("git_commit", lambda name: (_written(name), use("git_commit", message=name), _end(name)), 2),
    "notify": Effect("notify", lambda name: (
        use("notify", title=f"kill {name}", body="It is done.", severity="normal"), _end(name)), 1),
    "shell": Effect("shell", lambda name: (
        use("shell", command=f"python3 hit.py {name} && sleep 2 && mkdir made-{name}"), _end(name)), 1),
    "land: branch": Effect("land", lambda name: (_written(name), _end(name)), 0, "branch", LAND_POINTS),
    "land: patch": Effect("land", lambda name: (_written(name), _end(name)), 0, "patch", LAND_POINTS),
    "land: direct": Effect("land", lambda name: (_written(name), _end(name)), 0, "direct", LAND_POINTS),
    "task": Effect("shell", lambda name: (
        use("shell", command=f"python3 hit.py {name} && sleep 2"), _end(name)), 1,
        points=(*POINTS, *TASK_POINTS), by_owner=False),
}  # fmt: skip


@dataclass
class Cell:
    """What one kill came to. `count` is how often the effect happened, `told` what the next turn was told of it."""

    point: str
    count: int
    told: str
    trouble: list[str] = field(default_factory=list)

    @property
    def word(self) -> str:
        if self.count > 1:
            return "TWICE"
        if self.told == "unknown":
            return "unknown"
        return "once" if self.count == 1 else "LOST"

    @property
    def good(self) -> bool:
        return self.word in ("once", "unknown") and not self.trouble


class Bench:
    """One home, one repository, one ntfy server, and a death for every point."""

    def __init__(self, folder: Path, ntfy: str | None, *, sabotage: bool = False) -> None:
        files = {"LOG.md": "# Log\n", "hit.py": HIT, ".gitignore": "hits-*\nmade-*\n"}
        self.repository = repository(folder / "engine", files)
        self.ntfy = Ntfy(folder, ntfy) if ntfy else None
        self.brain = Brain(decide=self._decide, act=self._act)
        settings = Settings(
            {"engine": self.repository}, {"scripted": self.brain.section("anthropic")}, "scripted",
            more=self.ntfy.section(TOPIC) if self.ntfy else "",
        )  # fmt: skip
        paths = os.pathsep.join(map(str, (ROOT, ROOT / "daemon", ROOT / "cli")))
        env = {"PYTHONPATH": paths, "KAIROS_BENCH_PATIENCE": "1", "KAIROS_BENCH_SABOTAGE": "intent" if sabotage else ""}
        self.daemon = Daemon(settings, command=LAUNCHER, env=env)
        self._config = self.daemon.config.read_text()
        self._scripts: dict[str, Sequence[Reply]] = {}
        self._number = 0
        self._stamps: dict[str, list[object]] = {}

    def kill(self, effect: Effect, point: str) -> Cell | None:
        """One death at this point and the life after it. None when the point was not passed."""
        self._number += 1
        name = f"act-{self._number:04}"
        self._scripts[name] = effect.script(name)
        section = f'level = "project"\nlanding = "{effect.landing}"\nrepo = "ada/engine"'
        self.daemon.config.write_text(self._config.replace('repo = "ada/engine"', section))
        bomb = f"{effect.tool}:{point}" + (f"#{effect.result}" if point == "result-torn" else "")
        self.daemon.start(env={"KAIROS_BENCH_KILL": bomb}, looked=False)
        self._begin(name, by_owner=effect.by_owner)
        code = self.daemon.wait_end(BANG_SECONDS)
        if code is None:
            self.daemon.kill()
            return None
        assert code == -9, f"the daemon ended with {code} by itself\n{self.daemon.tail()}"
        dead = self._stamp(name)
        self.daemon.start(looked=False)
        run = self.daemon.wait_for(lambda: self._ended(name), f"the run of {name} has ended", END_SECONDS)
        cell = self._judge(name, effect, point=point, run=run, dead=dead)
        self.daemon.kill()
        return cell

    def _begin(self, name: str, *, by_owner: bool) -> None:
        if by_owner:
            self.daemon.kairos("tell", f"Do {name}", "--no-wait")
        else:
            self.daemon.hook("workflow_run", payload(name), delivery=f"delivery-{name}")

    def _ended(self, name: str) -> dict[str, Any] | None:
        found = [run for run in self.daemon.json("runs", "--limit", "20") if name in run["goal"]]
        return dict(found[0]) if found and found[0]["ended"] else None

    def _judge(self, name: str, effect: Effect, *, point: str, run: dict[str, Any], dead: object) -> Cell:
        asked = [request for request in self.brain.turns if name in first_words(request)]
        last = results(asked[-1])
        told = "unknown" if any(text.startswith("unknown:") or " was lost" in text for text in last) else "done"
        if any("was lost" in word for word in _said(asked[-1])):
            told = "unknown"
        cell = Cell(point, self._count(name, effect, run), told)
        if effect.tool in ("write", "edit") and dead is not None and self._stamps[name][-1] not in (dead, None):
            cell.count += 1  # the same content once more is a repeat as well
        # A run that has finished has no turn to be told in; one that waits for its task was not at work. A notice may
        # go out at any time.
        expected = {int(effect.tool != "land" and not point.startswith("end-"))}
        expected |= {0} if (effect.tool, point) == ("notify", "effect-half") else set()
        times = sum(AWAY in word for word in _said(asked[-1]))
        if times not in expected:
            cell.trouble.append(f"told {times} times of the interruption")
        if run["state"] not in ("done", "done_unchecked"):
            cell.trouble.append(f"the run is {run['state']}: {run['result']}")
        return cell

    def _count(self, name: str, effect: Effect, run: dict[str, Any]) -> int:
        """How often it happened, as files, git and ntfy tell."""
        if effect.tool == "notify":
            assert self.ntfy is not None
            self.daemon.wait_for(self._delivered, "every notice is delivered")
            return sum(each.get("title") == f"kill {name}" for each in messages(self.ntfy.topic(TOPIC)))
        if effect.tool == "shell":
            return int(str(self._stamps[name][-1]))
        if effect.landing == "patch":
            patches = [path.read_text() for path in (self.daemon.state / "patches").glob("*.patch")]
            return sum(text.count(f"+{name}\n") for text in patches)
        if effect.landing == "direct":
            kept = self.repository / "done" / f"{name}.md"
            return int(kept.exists()) + len(list(kept.parent.glob(f"{name}.md?*")))
        branches = git(self.repository, "for-each-ref", "--format=%(refname)", "refs/heads/kairos").split()
        if effect.tool == "git_commit":
            subjects = [git(self.repository, "log", "--format=%s", f"main..{ref}").splitlines() for ref in branches]
            return sum(lines.count(name) for lines in subjects)
        diffs = [git(self.repository, "diff", "--unified=0", f"main...{ref}") for ref in branches]
        return sum(diff.count(f"\n+{name}\n") for diff in diffs)

    def _delivered(self) -> bool:
        notices = self.daemon.status()["notices"]
        return notices["queued"] + notices["failed"] == 0

    def _stamp(self, name: str) -> object:
        """What the newest checkout holds of the effect: a file replaced is another file; hits are lines."""
        trees = sorted((self.daemon.state / "checkouts").glob("r_*/tree"))
        if not trees:
            return None
        if (hits := trees[-1] / f"hits-{name}.log").exists():
            return len(hits.read_text().splitlines())
        for path in (trees[-1] / "done" / f"{name}.md", trees[-1] / "LOG.md"):
            if path.exists() and name in path.read_text():
                return path.stat().st_ino
        return 0 if "shell" in json.dumps([reply.uses for reply in self._scripts[name]]) else None

    def _decide(self, request: Request) -> Mapping[str, Any]:
        names = NAME.findall(first_words(request).partition("The workspace now:")[0])
        verdict, goal = ("act", f"Do {names[-1]}") if names and "workflow" in first_words(request) else ("ignore", "")
        return {"reason": "scripted", "verdict": verdict, "goal": goal, "confidence": 90, "wake_seconds": 0}

    def _act(self, request: Request) -> Reply:
        (name,) = set(NAME.findall(first_words(request).splitlines()[0]))
        self._stamps.setdefault(name, []).append(self._stamp(name))
        return steps(*self._scripts[name])(request)

    def close(self) -> None:
        self.daemon.close()
        self.brain.close()
        if self.ntfy:
            self.ntfy.close()


def _said(request: Request) -> list[str]:
    """What the daemon said to the run besides results."""
    said: list[str] = []
    for message in request.body["messages"][1:]:
        if message["role"] == "user":
            content = message["content"]
            blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
            said += [str(block["text"]) for block in blocks if block["type"] == "text"]
    return said


def table(rows: Mapping[str, Sequence[Cell]]) -> str:
    """The cells as text: a line for each tool."""
    lines = []
    for name, cells in rows.items():
        lines.append(f"{name:13} " + "  ".join(f"{cell.point} {cell.word}" for cell in cells))
        lines += [f"{'':13} {cell.point}: {'; '.join(cell.trouble)}" for cell in cells if cell.trouble]
    return "\n".join(lines)


def save(rows: Mapping[str, Sequence[Cell]], arguments: Sequence[str]) -> None:
    """Writes bench/results/kills.json."""
    found = {
        "command": f"python -m bench.kills {' '.join(arguments)}".strip(),
        "commit": git(ROOT, "rev-parse", "HEAD").strip(),
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "kills": {name: {cell.point: cell.word for cell in cells} for name, cells in rows.items()},
    }
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.kills", description=__doc__.partition("\n")[0])
    parser.add_argument("--tool", action="append", choices=list(EFFECTS), help="only this one; may be repeated")
    parser.add_argument("--point", action="append", choices=[*POINTS, *TASK_POINTS], help="only this one; as above")
    parser.add_argument("--sabotage", action="store_true", help="run without the intent row: must show repeats")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    parser.add_argument("--keep", action="store_true", help="leave home, repository and logs behind")
    chosen = parser.parse_args(arguments)
    if (ntfy := ntfy_program()) is None:
        raise SystemExit("no ntfy server: install Debian's package ntfy, or name the program in KAIROS_NTFY")
    folder = Path(tempfile.mkdtemp(prefix="kairos-kills-"))
    bench = Bench(folder, ntfy, sabotage=chosen.sabotage)
    rows: dict[str, list[Cell]] = {}
    try:
        for name in chosen.tool or EFFECTS:
            effect = EFFECTS[name]
            for point in effect.points:
                if point not in (chosen.point or effect.points) or (chosen.sabotage and point == "intent-in"):
                    continue
                cell = bench.kill(effect, point)
                came_to = "; ".join([cell.word, *cell.trouble]) if cell else "not passed, no kill"
                print(f"  {name} {point}: {came_to}", flush=True)
                rows.setdefault(name, []).extend([cell] if cell else [])
    finally:
        bench.close()
    print(table(rows))
    if not chosen.keep:
        for left in (folder, bench.daemon.root):
            shutil.rmtree(left, ignore_errors=True)
    if chosen.save:
        save(rows, [word for word in arguments if word != "--save"])
    return verdict([cell for cells in rows.values() for cell in cells], sabotage=chosen.sabotage)


def verdict(cells: Sequence[Cell], *, sabotage: bool) -> int:
    """0 when the promise held; with sabotage, when its absence was noticed."""
    repeats = sum(cell.word == "TWICE" for cell in cells)
    bad = sum(not cell.good for cell in cells)
    print(f"{len(cells)} kills, {repeats} repeats, {bad} not as promised")
    return int(not repeats) if sabotage else int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
