"""How the CLI writes: moments, money, cleaned text, sentences."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kairosd
from kairos_cli import moments
from kairos_cli.commands import dream
from kairos_cli.render import money, short, size, table
from kairos_cli.sentences import sentence
from kairos_cli.terminal import clean, one_line

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
UNWANTED = set(range(0x20)) - {9, 10} | set(range(0x7F, 0xA0)) | {0x202E, 0x2066, 0x200B, 0xFEFF, 0xE0041}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("90s", "2026-03-02T11:58:30+00:00"),
        ("2h", "2026-03-02T10:00:00+00:00"),
        ("3 d", "2026-02-27T12:00:00+00:00"),
        ("1w", "2026-02-23T12:00:00+00:00"),
        ("2026-03-01T10:00:00+02:00", "2026-03-01T08:00:00+00:00"),
        ("2026-03-01T10:00:00Z", "2026-03-01T10:00:00+00:00"),
    ],
)
def test_since(text: str, meant: str) -> None:
    assert moments.parse_since(text, NOW).isoformat() == meant


def test_days_begin_at_local_midnight() -> None:
    yesterday = moments.parse_since("yesterday", NOW).astimezone()
    assert (yesterday.hour, yesterday.minute) == (0, 0)
    assert (NOW.astimezone().date() - yesterday.date()).days == 1
    assert moments.parse_since("2026-03-01", NOW).astimezone().strftime("%F %R") == "2026-03-01 00:00"


@pytest.mark.parametrize("text", ["soon", "", "2x", "h", "-2h", "2026-13-01", "2h ago"])
def test_what_is_no_time_names_the_forms(text: str) -> None:
    with pytest.raises(ValueError, match="say 2h, 3d"):
        moments.parse_since(text, NOW)
    with pytest.raises(ValueError, match="say today, yesterday"):
        moments.parse_day(text, NOW)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2026-03-02T11:59:20+00:00", "40 s ago"),
        ("2026-03-02T11:57:00Z", "3 min ago"),
        ("2026-03-02T07:00:00Z", "5 h ago"),
        ("2026-02-26T12:00:00Z", "4 d ago"),
        ("2026-03-02T13:30:00Z", "in 1 h"),
        ("2026-03-02T12:00:00Z", "now"),
        (None, ""),
        ("nonsense", ""),
    ],
)
def test_relative(text: str | None, words: str) -> None:
    assert moments.relative(text, NOW) == words


@pytest.mark.parametrize(
    ("micro", "words"),
    [(None, "unknown"), (0, "free"), (35, "$0.000035"), (12_300, "$0.0123"), (1_500_000, "$1.5000"),
     (25_000_000, "$25.00"), (True, "unknown"), ("12", "unknown")],
)  # fmt: skip
def test_money(micro: object, words: str) -> None:
    assert money(micro) == words


def test_sizes_and_ids() -> None:
    assert [size(n) for n in (0, 999, 1500, 2_500_000, 3_000_000_000)] == ["0 B", "999 B", "2 kB", "2 MB", "3.0 GB"]
    assert short("r_01kaq7t2zjhd0wq1q8xw7b1n9c") == "r_01kaq7t2zjhd"


@pytest.mark.parametrize(
    ("dirty", "left"),
    [
        ("a\x1b[1;31mb\x1b[0m", "ab"),
        ("a\x1b]0;title\x07b", "ab"),
        ("a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "alink"),
        ("a\x9b31mb", "ab"),
        ("a\x1b[31", "a[31"),  # not whole: the words stay, without power
        ("a\x1b]0;never closed", "a]0;never closed"),
        ("over\rwritten", "overwritten"),
        ("a\r\nb\tc", "a\nb\tc"),
        ("abc\u202edef", "abcdef"),
        ("grüße 日本 👩\u200d💻", "grüße 日本 👩\u200d💻"),
        ("\ud800x", "x"),
    ],
)
def test_clean(dirty: str, left: str) -> None:
    assert clean(dirty) == left


@given(st.text(st.characters() | st.sampled_from("\x1b[]0;m\x07\x9b\\P31")))
def test_nothing_that_acts_on_a_terminal_is_left(text: str) -> None:
    assert UNWANTED.isdisjoint(map(ord, clean(text)))
    assert "\n" not in one_line(text)
    clean(text).encode()


def test_wide_characters_keep_columns_in_line(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"a": "日本", "b": "x"}, {"a": "abcde", "b": "y"}]
    table([("a", lambda row: row["a"]), ("b", lambda row: row["b"])], rows)
    assert capsys.readouterr().out == "a      b\n日本   x\nabcde  y\n"


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("event.received", {"source": "files", "kind": "changed", "facts": {"paths": 2}}, "files changed: paths=2"),
        ("event.received", {"source": "owner", "kind": "told", "text": {"m": "hi\nthere"}}, "owner told: hi there"),
        ("decision.made", {"verdict": "act", "reason": "tests fail", "goal": "fix", "price": 35},
         "act: tests fail — fix ($0.000035)"),
        ("decision.made", {"verdict": "ignore", "reason": "", "price": None}, "ignore: no reason given (unknown)"),
        ("decision.made", {"verdict": "act", "reason": "tests fail", "goal": "fix", "price": 35, "shadow": True},
         "would have acted: tests fail — fix ($0.000035)"),
        ("decision.made", {"verdict": "notify", "reason": "r", "goal": "g", "price": 0, "shadow": True},
         "would have told you: r — g (free)"),
        ("decision.made", {"verdict": "ignore", "reason": "r", "price": 9, "model": "big",
                           "escalated": "small was 3 % sure"},
         "ignore: r; big decided, since small was 3 % sure ($0.000009)"),
        ("rating.given", {"rating": "noise", "was": "useful"}, "you called it noise (was useful)"),
        ("trigger.mode", {"trigger": "files", "mode": "on", "was": "shadow"},
         "files: the mode is now on; it was shadow"),
        ("run.ended", {"state": "done", "result": "added", "branch": "kairos/x", "turns": 3, "price": 0},
         "done: added; landed as kairos/x (3 turns, free)"),
        ("run.ended", {"state": "done", "result": "added", "branch": None, "patch": None, "turns": 3, "price": 0,
                       "checks": [{"kind": "landed", "passed": True, "seen": "your own files (a.txt)"}]},
         "done: added; landed as changes in your own files (3 turns, free)"),
        ("run.parked", {"on": "approval"}, "waits for your answer"),
        ("run.undone", {"undone": ["restored a.txt", "removed b.txt"]}, "undone: restored a.txt, removed b.txt"),
        (
            "run.connected",
            {"places": [{"host": "a.test", "port": 443, "why": ""}, {"host": "b", "port": 1, "why": "no"}]},
            "its commands connected: a.test:443 reached, b:1 no",
        ),
        ("run.undone", {"undone": []}, "undone: there was nothing to take back"),
        ("approval.withdrawn", {"code": "KMNPQ", "state": "withdrawn", "question": "may I?"},
         "KMNPQ withdrawn: may I?"),
        ("grant.used", {"state": "active", "tool": "shell", "question": "shell: make", "exact": "0" * 64, "uses": 2},
         "active, used 2 times: shell: make"),
        ("grant.revoked", {"state": "revoked", "question": "shell: make", "uses": 0}, "revoked: shell: make"),
        ("workspace.level", {"level": "open", "was": "project"},
         "the level is now open, until the daemon ends; it was project"),
        ("workspace.level", {"level": "observe", "was": "project"}, "the level is now observe; it was project"),
        ("workspace.trusted", {"files": {"AGENTS.md": "0" * 64}}, "trusted as they are now: AGENTS.md"),
        ("workspace.missing", {}, "its folder is missing"),
        ("daemon.paused", {"reason": "you said stop"}, "the initiative rests: you said stop"),
        ("daemon.reloaded", {"changed": ["policy"], "restart_needed": []}, "changed: policy"),
        ("daemon.reloaded", {"changed": []}, "nothing had changed"),
        ("channel.silenced", {"channel": "ntfy", "minutes": 10},
         "ntfy is not listened to for 10 min: too many unknown codes"),
        ("schedule.missed", {"job": "{late}"}, "job={late}"),
        ("model.call", {"role": "triage", "model": "m", "input": 5, "output": 2, "price": 0, "outcome": "ok"},
         "filing an outsider's text by m: 5 in, 2 out, free"),
        ("task.started", {"command": "make all"}, "goes on in the background: make all"),
        ("task.ended", {"command": "make all", "seconds": 43, "code": 2}, "make all: after 43 s, exit 2"),
        ("task.lost", {"command": "make all", "seconds": 43, "code": None}, "make all: after 43 s"),
        ("run.parked", {"on": "task"}, "waits for its command in the background"),
        ("call.denied", {"tool": "write", "path": ".env", "rule": "secrets"}, "write .env: secrets"),
        ("approval.opened", {"code": "KMNPQ", "state": "open", "question": "may I?"}, "KMNPQ open: may I?"),
        ("notice.failed", {"channel": "ntfy", "title": "hi", "error": "down"}, "ntfy: hi — down"),
        ("model.call", {"role": "act", "model": "m", "input": 5, "output": None, "price": 9, "outcome": "lost"},
         "act by m: 5 in, ? out, $0.000009, lost"),
        ("something.new", {"one": 1, "two": "", "three": ["x"]}, "one=1, three=['x']"),
    ],
)  # fmt: skip
def test_sentences(kind: str, data: dict[str, object], words: str) -> None:
    assert sentence(kind, data) == words


KIND = re.compile(r"""(?:Note|of_event|of_run|_move)\([^"]*?"([a-z]+\.[a-z_]+)\"""", re.DOTALL)


def test_every_kind_that_the_daemon_writes_by_name_has_a_sentence() -> None:
    source = Path(kairosd.__file__).parent
    kinds = {kind for file in source.rglob("*.py") for kind in KIND.findall(file.read_text())}
    assert {"run.undone", "workspace.level", "daemon.paused", "model.call"} <= kinds
    facts_say_it_all = {"event.retried", "event.released", "event.dead"}
    raw = {kind for kind in kinds if sentence(kind, {}) == "" or sentence(kind, {"unheard": 1}) == "unheard=1"}
    assert {kind for kind in raw if kind not in NEED_FIELDS} <= facts_say_it_all


NEED_FIELDS = {
    "event.coalesced", "event.duplicate", "run.started", "run.requeued", "watch.limit", "daemon.paused", "daemon.swept",
    "channel.silenced", "model.down", "model.up", "schedule.missed", "tick.skipped", "trigger.mode", "run.escalated",
    "dream.stopped",
}  # fmt: skip


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ([], ""),
        ([4], "Generation 4; what it changed: kairos dream diff. Back: kairos dream undo\n"),
        (
            [4, 5],
            "Generations 4, 5; what each changed: kairos dream diff 4, kairos dream diff 5. "
            "Back: kairos dream undo 2\n",
        ),
    ],
)
def test_a_dream_names_every_generation_it_made(
    made: list[int], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dream._told({"outcome": "done", "operations": {"add": 1}, "generations": made})
    assert capsys.readouterr().out == f"Done. 1 add\n{expected}"
