"""`kairos` as a process of its own: against the control API over a real socket, and without a daemon."""

from __future__ import annotations

import gzip
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.control_server import ControlServer, environment, kairos, program, wait_for

import kairos_cli
from kairosd import wire
from kairosd.core.json import Json
from kairosd.errors import UsageError
from kairosd.ports import Query, Update

SPENT: dict[str, Json] = {
    "label": "", "calls": 12, "price": 2_000_000, "input": 200, "output": 100, "cache_read": 1000, "cache_write": 10,
    "tokens": 1310, "unpriced_calls": 0, "unpriced_tokens": 0,
}  # fmt: skip
RUN: dict[str, Json] = {
    "id": "r_01kaq7t2zjhd0wq1q8xw7b1n9c", "state": "done", "goal": "add a line", "workspace": "api", "trigger": "owner",
    "level": 1, "taint": "owner", "turns": 3, "tokens": 900, "price": 12_300, "created": "2026-03-02T09:00:00+00:00",
    "started": None, "ended": None, "result": "I added it.", "checks": [], "branch": "kairos/add-a-line", "patch": None,
}  # fmt: skip


@pytest.fixture
def server() -> Iterator[ControlServer]:
    with ControlServer() as server:
        yield server


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder


# --- without a daemon


def test_no_daemon_is_exit_3_with_the_command_that_starts_it(home: Path) -> None:
    ran = kairos(home, "status")
    assert (ran.code, ran.out) == (3, "")
    assert "the daemon is not running" in ran.err
    assert f"KAIROS_HOME='{home}' {program('kairosd')}" in ran.err


def test_a_dead_daemons_socket_is_no_daemon(home: Path) -> None:
    with ControlServer() as server:
        shutil.move(server.path.parent, home / "run")
        server.path.parent.mkdir()
    assert (home / "run" / "control.sock").exists()
    assert kairos(home, "status").code == 3


def test_the_overview_and_the_version(home: Path) -> None:
    ran = kairos(home)
    assert ran.code == 0
    for verb in ("init", "status", "tell", "journal", "why", "doctor", "service", "gc"):
        assert f"\n  {verb} " in ran.out
    assert kairos(home, "--version").out == f"kairos {wire.VERSION}\n"
    assert kairos(home, "help", "tell").out.startswith("usage: kairos tell")


def test_an_unknown_verb_is_usage_and_names_the_nearest(home: Path) -> None:
    ran = kairos(home, "statsu")
    assert ran.code == 2
    assert "kairos status" in ran.err


def test_a_home_that_others_may_write_to_is_refused(home: Path) -> None:
    home.chmod(0o777)
    ran = kairos(home, "status")
    assert ran.code == 78
    assert "chmod go-w" in ran.err


def test_a_socket_folder_that_others_may_write_to_is_refused(server: ControlServer) -> None:
    server.path.parent.chmod(0o770)
    ran = server.kairos("status")
    assert ran.code == 78
    assert str(server.path.parent) in ran.err


def test_a_socket_path_that_is_too_long_is_named(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir(mode=0o700)
    ran = kairos(long, "status")
    assert ran.code == 78
    assert "longer than 100 bytes" in ran.err


def test_the_configured_socket_is_found(server: ControlServer, home: Path) -> None:
    (home / "config.toml").write_text(f'[daemon]\nsocket = "{server.path}"\n')
    assert kairos(home, "status").code == 0


def test_verbs_without_a_daemon_are_the_daemon_programs_own(home: Path) -> None:
    ran = kairos(home, "gc", "--help")
    assert ran.code == 0
    assert "--dry-run" in ran.out


@pytest.mark.parametrize("verb", ["status", "cost"])
def test_a_verb_loads_no_third_party_module_and_nothing_else_of_the_daemon(server: ControlServer, verb: str) -> None:
    server.desk.rows["costs"] = [SPENT]
    hook = (
        f"import sys; from kairos_cli.main import main; main([{verb!r}]);"
        "import json; files = {n: getattr(m, '__file__', None) for n, m in sys.modules.items()};"
        "sys.stderr.write('\\n' + json.dumps(files))"
    )
    # -S: no hooks of the environment's may load anything of their own.
    roots = [str(Path(wire.__file__).parents[1]), str(Path(kairos_cli.__file__ or "").parents[1])]
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {roots!r}; {hook}"],
        env=environment(server.home), capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = json.loads(done.stderr.splitlines()[-1])
    ours = {name for name in loaded if name.startswith("kairosd")}
    assert ours == {"kairosd", "kairosd.wire"}
    assert {name for name in loaded if name.startswith("kairos_cli.commands.")} == {f"kairos_cli.commands.{verb}"}
    foreign = [name for name, file in loaded.items() if file and "-packages" in file]
    assert foreign == []
    assert not {"asyncio", "http.client", "email", "subprocess", "tomllib", "typing"} & set(loaded)


# --- with one


def test_status_says_what_is_wrong_and_what_to_do(server: ControlServer) -> None:
    server.desk.state = {
        "version": wire.VERSION, "pid": 7, "state": "degraded", "uptime_seconds": 7300,
        "problems": [{"code": "port", "text": "port 8787 is taken", "fix": "set hooks_listen"}],
        "models": {"decide": "claude"}, "workspaces": [{"name": "api", "path": "/src/api", "state": "watched"}],
        "queue": {"pending": 2, "parked": 1, "dead": 0}, "counters": {"model_calls": 4},
        "sizes": {"journal": 1_234_000}, "next_wake": None,
    }  # fmt: skip
    ran = server.kairos("status")
    assert ran.code == 0
    for words in ("degraded", "up 2 h", "api /src/api", "pending 2", "model calls 4", "journal 1 MB"):
        assert words in ran.out
    assert "problem port 8787 is taken\n    fix set hooks_listen" in ran.out
    assert ran.err == f"home: {server.home}\n"
    assert json.loads(server.kairos("status", "--json").out) == server.desk.state


def test_status_shows_the_purses_that_were_used(server: ControlServer) -> None:
    untouched = {"spent": 0, "reserved": 0, "limit": 1_000_000, "tokens": 0, "tokens_reserved": 0, "tokens_limit": 9}
    used = {**untouched, "spent": 10_000, "reserved": 2_000, "tokens": 3000, "tokens_limit": 2_000_000}
    server.desk.state = {
        "version": wire.VERSION, "state": "ready",
        "purses": {"owner": {"hour": untouched, "day": used}, "dream": {"hour": untouched, "day": untouched}},
    }  # fmt: skip
    ran = server.kairos("status")
    assert "owner: day $0.0120 of $1.0000, 3,000 of 2,000,000 tokens\n" in ran.out
    assert "dream" not in ran.out


def test_cost_draws_what_it_was_told(server: ControlServer) -> None:
    unpriced = {
        "price": None,
        "tokens": 5000,
        "cache_read": 0,
        "unpriced_calls": 3,
        "unpriced_tokens": 5000,
        "calls": 3,
    }
    server.desk.rows["costs"] = [
        {**SPENT, "model": "strong\x1b[2J"},
        {**SPENT, "model": "quick", "price": 20_000, "calls": 1, "unpriced_calls": 1, "unpriced_tokens": 40},
        {**SPENT, **unpriced, "model": "unheard-of"},
    ]
    before = datetime.now(UTC)
    ran = server.kairos("cost", "--by", "model", "--since", "2h", "--limit", "3")
    assert ran.code == 0
    heading, strong, quick, unknown, together = ran.out.splitlines()
    assert heading.split() == ["model", "price", "calls", "tokens", "cached"]
    assert strong.split()[:5] == ["strong", "$2.0000", "12", "1,310", "1,000"]
    bar = strong.split()[5]
    assert set(bar) == {"#"}
    assert len(bar) >= 8
    assert quick.endswith("  #")
    assert "$0.0200 + unknown" in quick
    assert "price unknown" in unknown
    assert unknown.endswith(" 0")
    assert together == "together $2.0200, 7,620 tokens; price unknown of 4 calls, 5,040 tokens"
    assert max(map(len, ran.out.splitlines())) <= 80
    ((_, by, since, limit),) = server.desk.asked
    assert (by, limit) == ("model", 3)
    assert isinstance(since, datetime)
    assert abs(since - (before - timedelta(hours=2))) < timedelta(minutes=2)
    assert json.loads(server.kairos("cost", "--by", "model", "--json").out) == server.desk.rows["costs"]


def test_without_any_price_the_bars_compare_tokens(server: ControlServer) -> None:
    rows = [("2026-03-02", 2000), ("2026-03-01", 1000)]
    server.desk.rows["costs"] = [{**SPENT, "day": day, "price": 0, "tokens": tokens} for day, tokens in rows]
    ran = server.kairos("cost")
    _, more, less, together = ran.out.splitlines()
    assert more.count("#") == 2 * less.count("#") > 0
    assert "free" in more
    assert together == "together free, 3,000 tokens"


def test_a_runs_cost_is_named_by_its_goal_and_fits_a_terminal(server: ControlServer) -> None:
    server.desk.rows["costs"] = [
        {**SPENT, "run": "r_01kaq7t2zjhd0000", "label": "mend the very long thing " * 9},
        {**SPENT, "run": "", "label": ""},
    ]
    ran = server.kairos("cost", "--by", "run")
    _, named, nameless, _ = ran.out.splitlines()
    assert named.startswith("r_01kaq7t2zjhd mend the")
    assert nameless.startswith("(no run)")
    assert max(map(len, ran.out.splitlines())) <= 100


def test_nothing_spent_says_so_and_a_wrong_group_is_usage(server: ControlServer) -> None:
    assert server.kairos("cost").out.startswith("No model was asked since ")
    assert server.kairos("cost", "--by", "mood").code == 2
    assert server.kairos("cost", "--since", "soon").code == 2


CALIBRATED: dict[str, Json] = {
    "trigger": "files", "decisions": 40, "acted": 3, "notified": 2, "shadow": 0, "useful": 2, "noise": 1, "missed": 1,
    "unrated": 2, "price": 20_000, "unpriced_calls": 0, "price_per_useful": 10_000,
}  # fmt: skip


def test_calibration_draws_what_each_trigger_came_to(server: ControlServer) -> None:
    busy: dict[str, Json] = {**CALIBRATED, "trigger": "web\x1b[2Jhook", "useful": 900, "noise": 1, "missed": 0}
    quiet: dict[str, Json] = {**CALIBRATED, "trigger": "tick", "useful": 0, "price_per_useful": None}
    rows = [CALIBRATED, quiet, {**CALIBRATED, "trigger": "task", "price_per_useful": None}]
    server.desk.rows["calibration"] = rows
    before = datetime.now(UTC)
    ran = server.kairos("cost", "--calibration", "--since", "3d")
    heading, files, tick, task, legend = ran.out.splitlines()
    assert heading.split() == ["trigger", "decisions", "acted", "notified", "useful", "noise", "missed", "unrated",
                               "per", "useful"]  # fmt: skip
    assert files.split() == ["files", "40", "3", "2", "2", "1", "1", "2", "$0.0100", "##-!.."]
    assert tick.split()[-2:] == ["-", "-!.."]
    assert task.split()[-2] == "unknown"
    assert legend == "bars: # useful, - noise, ! missed, . unrated"
    ((_, since),) = server.desk.asked
    assert isinstance(since, datetime)
    assert abs(since - (before - timedelta(days=3))) < timedelta(minutes=2)
    assert json.loads(server.kairos("cost", "--calibration", "--json").out) == rows
    server.desk.rows["calibration"] = [busy, CALIBRATED]
    _, wide, small, _ = server.kairos("cost", "--calibration").out.splitlines()
    assert "\x1b" not in wide
    assert "-" in wide.split()[-1]
    assert small.split()[-1] == "#-!."
    assert max(len(wide), len(small)) <= 100


def test_nothing_decided_says_so_and_two_views_are_usage(server: ControlServer) -> None:
    assert server.kairos("cost", "--calibration").out.startswith("Nothing was decided since ")
    assert server.kairos("cost", "--calibration", "--by", "day").code == 2


def test_a_rating_says_what_it_was_for(server: ControlServer) -> None:
    ran = server.kairos("rate", "r_1", "noise")
    assert (ran.code, ran.out) == (0, "noise: d_1 from files: add a line\n")
    assert server.desk.asked == [("rate", "r_1", "noise")]
    assert server.kairos("rate", "r_1", "nice").code == 2
    server.desk.error = UsageError("d_1 was act, so it was not missed", fix="say useful or noise")
    refused = server.kairos("rate", "d_1", "missed")
    assert refused.code == 2
    assert "fix: say useful or noise" in refused.err


def test_a_trigger_is_promoted_and_taken_back(server: ControlServer) -> None:
    server.desk.rows["triggers"] = [
        {**CALIBRATED, "mode": "shadow"}, {**CALIBRATED, "trigger": "tick", "decisions": 0, "mode": "on"},
    ]  # fmt: skip
    ran = server.kairos("promote", "files", "-w", "api")
    assert ran.code == 0
    record, outcome = ran.out.splitlines()
    assert "40 decisions; would have acted 3 and told you 2 times; rated 2 useful, 1 noise, 1 missed, 2" in record
    assert outcome == "files acts from now on. Back: kairos promote files --back"
    assert [asked[0] for asked in server.desk.asked] == ["triggers", "set_trigger"]
    assert server.desk.asked[0][2] == "api"
    assert server.desk.asked[1] == ("set_trigger", "files", "on")
    server.desk.rows["triggers"][0] = {**CALIBRATED, "mode": "shadow", "price": 0, "unpriced_calls": 2}
    assert "2 unrated; price unknown. One by one" in server.kairos("promote", "files").out
    for back in ("--back", "--shadow"):
        assert server.kairos("promote", "tick", back).out.endswith("it decides, and nothing follows.\n")
        assert server.desk.asked[-1] == ("set_trigger", "tick", "shadow")
    assert server.kairos("promote", "tick").out.splitlines()[-1] == "tick was allowed to act already."
    assert json.loads(server.kairos("promote", "files", "--json").out)["mode"] == "on"
    asked = len(server.desk.asked)
    listed = server.kairos("promote")
    assert listed.out.splitlines()[0].split()[:3] == ["trigger", "mode", "decisions"]
    wrong = server.kairos("promote", "webhok")
    assert wrong.code == 2
    assert "one of files, tick" in wrong.err
    assert [each[0] for each in server.desk.asked[asked:]] == ["triggers", "triggers"]


def test_the_shadow_lists_what_it_would_have_done(server: ControlServer) -> None:
    server.desk.rows["decisions"] = [
        {"id": "d_01kaq7t2zjhd0wq1q8xw7b1n9c", "verdict": "act", "goal": "add a line", "source": "webhook",
         "workspace": "api", "price": 35, "at": "2026-03-02T09:00:00+00:00", "shadow": True},
    ]  # fmt: skip
    ran = server.kairos("decisions", "--shadow")
    heading, line = ran.out.splitlines()
    assert heading.split() == ["when", "id", "trigger", "would", "have", "workspace", "price", "goal"]
    assert line.endswith("webhook  acted       api        $0.000035  add a line")
    assert server.desk.asked == [("listing", "decisions", Query(shadow=True))]


def test_another_version_is_named_with_the_fix() -> None:
    with ControlServer(version="9.8.7") as server:
        ran = server.kairos("status")
    assert ran.code == 0
    assert f"the daemon is version 9.8.7, this command is {wire.VERSION}" in ran.err
    assert "fix: restart the daemon" in ran.err


def test_a_listing_asks_for_what_was_said(server: ControlServer) -> None:
    server.desk.rows["runs"] = [RUN]
    before = datetime.now(UTC)
    ran = server.kairos("runs", "--state", "done", "-w", "api", "--since", "2h", "--limit", "5")
    assert ran.code == 0
    heading, row = ran.out.splitlines()
    assert heading.split() == ["when", "id", "state", "workspace", "trigger", "price", "branch", "goal"]
    assert "r_01kaq7t2zjhd" in row
    assert "$0.0123" in row
    ((_, kind, query),) = server.desk.asked
    assert isinstance(query, Query)
    assert (kind, query.state, query.workspace, query.limit) == ("runs", "done", "api", 5)
    assert query.since is not None
    assert abs(query.since - (before - timedelta(hours=2))) < timedelta(minutes=2)


@pytest.mark.parametrize("kind", ["events", "decisions", "runs", "approvals", "notices"])
def test_json_is_the_array_as_it_came_and_an_empty_list_says_so(server: ControlServer, kind: str) -> None:
    assert server.kairos(kind).out.startswith("No ")
    assert json.loads(server.kairos(kind, "--json").out) == []
    server.desk.rows[kind] = [{"id": "x_2", "text": {"a": "\x1b[31mü"}}, {"id": "x_1"}]
    ran = server.kairos(kind, "--json")
    assert json.loads(ran.out) == server.desk.rows[kind]
    assert ran.out.isascii()
    assert "\x1b" not in ran.out
    assert server.kairos(kind).code == 0


@pytest.mark.parametrize("words", [("--since", "soon"), ("--limit", "0"), ("--limit", "x"), ("--what",)])
def test_a_wrong_option_is_usage(server: ControlServer, words: tuple[str, ...]) -> None:
    assert server.kairos("runs", *words).code == 2
    assert server.desk.asked == []


def test_a_refusal_has_its_own_exit_code_and_fix(server: ControlServer) -> None:
    ran = server.kairos("why", "r_none\x1b[2J")
    server.desk.error = UsageError("which \x1b[2Jworkspace?", fix="say -w NAME")
    ran = server.kairos("tell", "hi")
    assert ran.code == 2
    assert ran.err.endswith("kairos: which workspace?\n  fix: say -w NAME\n")


def test_a_run_is_shown_whole_with_its_diff_and_the_line_to_merge_it(server: ControlServer) -> None:
    server.desk.things["r_01"] = {
        **RUN, "calls": [{"tool": "write", "state": "succeeded", "arguments": {"path": "README.md"}}],
        "diff": "--- a/README.md\n+++ b/README.md\n@@ -1 +1,2 @@\n hello\n+\x1b]0;owned\x07world\n",
        "merge": "git merge kairos/add-a-line",
    }  # fmt: skip
    ran = server.kairos("runs", "r_01")
    assert "I added it." in ran.out
    assert "succeeded write path=README.md" in ran.out
    assert "\n+world\n" in ran.out
    assert ran.out.endswith("Merge it: git merge kairos/add-a-line\n")
    assert server.kairos("runs", "r_none").code == 2


def test_nothing_from_outside_reaches_the_terminal_with_power(server: ControlServer) -> None:
    evil = "a\x1b[31m\x1b]52;c;ZXZpbA==\x07b\u202ec\x9b2Jd\x00\x08\x7f\u200b\u2066e\U000e0041\nf"
    server.desk.rows["events"] = [{"id": "e_1", "source": evil, "kind": evil, "text": {"title": evil}, "facts": {}}]
    server.desk.things["e_1"] = {"id": "e_1", evil: evil, "text": {"title": evil}}
    server.desk.chain = [{"id": "e_1", "kind": "event", "at": None, "title": evil, "detail": evil, "price": 0}]
    server.desk.updates = [Update("text", evil, {}), Update("call", evil, {}), Update("ended", evil, {"answer": evil})]
    for words in (("events",), ("events", "e_1"), ("why", "e_1"), ("tell", "hi")):
        ran = server.kairos(*words)
        printed = ran.out + ran.err
        assert "abcde" in printed.replace("ab c", "abc")
        assert [c for c in printed if not c.isprintable() and c != "\n"] == []


def test_colours_are_for_terminals_only_and_not_with_no_color(server: ControlServer) -> None:
    assert "\x1b" not in server.kairos("status").out
    assert b"\x1b[32mready" in _on_terminal(server, {})
    assert b"\x1b" not in _on_terminal(server, {"NO_COLOR": "1"})


def _on_terminal(server: ControlServer, more: dict[str, str]) -> bytes:
    ours, theirs = pty.openpty()
    env = environment(server.home) | {"TERM": "xterm"} | more
    subprocess.run([str(program("kairos")), "status"], env=env, stdout=theirs, stderr=theirs, check=True)
    os.close(theirs)
    found = os.read(ours, 65536)
    os.close(ours)
    return found


def test_a_reader_that_has_seen_enough_is_no_error(server: ControlServer) -> None:
    server.desk.rows["runs"] = [{**RUN, "goal": "x" * 100}] * 2000
    line = f"{program('kairos')} runs | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["/bin/bash", "-c", line], env=environment(server.home), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stderr == f"home: {server.home}\n"


def test_why_indents_each_cause_below_its_effect(server: ControlServer) -> None:
    link = {"at": "2026-03-02T09:00:00+00:00", "detail": ""}
    server.desk.chain = [
        {**link, "id": "r_1", "kind": "run", "title": "done: add a line", "price": 0},
        {**link, "id": "d_1", "kind": "decision", "title": "act: add a line", "price": None},
        {**link, "id": "e_1", "kind": "event", "title": "files changed", "price": 0},
        {**link, "id": "e_2", "kind": "event", "title": "files changed", "price": 0},
    ]
    out = server.kairos("why", "r_1").out
    starts = [
        line.index(word)
        for line in out.splitlines()
        for word in ("run r_1", "decision d_1", "event e_")
        if word in line
    ]
    assert starts == [0, 6, 9, 9]
    assert "price: free" in out
    assert "price: unknown" in out


def test_grants_are_listed_with_what_they_allow(server: ControlServer) -> None:
    assert "No standing grants" in server.kairos("grants").out
    row = {
        "id": "g_01kjpwd7k8w3tx7m02pa2yt99v", "state": "active", "workspace": "api", "tool": "shell", "uses": 2,
        "question": "shell: make\x1b[2J deploy", "channel": "socket", "created": "2026-03-02T09:00:00+00:00",
        "used_at": None,
    }  # fmt: skip
    server.desk.rows["grants"] = [row]
    shown = server.kairos("grants").out
    assert "deploy" in shown
    assert "never" in shown
    assert "\x1b" not in shown
    assert json.loads(server.kairos("grants", "--json").out) == [row]
    wanted = [asked[2] for asked in server.desk.asked if asked[0] == "listing"]
    assert {query.state for query in wanted} == {"active"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("words", "asked", "said"),
    [
        (("events", "retry", "e_1"), ("retry", "e_1"), "e_1 is pending again"),
        (("pause", "on", "holiday"), ("pause", "on holiday"), "Paused"),
        (("resume",), ("resume",), "Resumed"),
        (("stop", "r_1"), ("stop", "r_1"), "Stopped: r_1"),
        (("stop", "--all"), ("stop", None), "kairos resume"),
        (("approve", "KMNPQ"), ("answer", "KMNPQ", True, "socket"), "Approved: edit .ci/run?"),
        (("approve", "KMNPQ", "--always"), ("answer", "KMNPQ", True, "socket", "always"), "kairos grants"),
        (("deny", "KMNPQ"), ("answer", "KMNPQ", False, "socket"), "Denied: edit .ci/run?"),
        (("grants", "revoke", "g_1"), ("revoke", "g_1"), "Revoked: shell: make"),
        (("workspace",), ("workspaces",), "kairos workspace add PATH"),
        (("workspace", "remove", "api"), ("set_workspace", "api", None), "no longer watched"),
        (("workspace", "trust", "api"), ("trust", "api"), "KAIROS.md"),
        (("workspace", "set-level", "api", "open"), ("set_level", "api", "open"), "until the next restart"),
        (("reload",), ("reload",), "Changed: tick.min_seconds"),
        (("notices", "--test"), ("test_notice",), "queued on every channel"),
    ],
)
def test_each_order_is_given_and_told(
    server: ControlServer, words: tuple[str, ...], asked: tuple[object, ...], said: str
) -> None:
    ran = server.kairos(*words)
    assert ran.code == 0
    assert said in ran.out
    assert server.desk.asked == [asked]


def test_a_workspace_is_added_by_its_whole_path(server: ControlServer, tmp_path: Path) -> None:
    (tmp_path / "api").mkdir()
    assert server.kairos("workspace", "add", "api", cwd=tmp_path).code == 0
    assert server.desk.asked == [("set_workspace", "api", str((tmp_path / "api").resolve()))]
    assert server.kairos("workspace", "add", "nowhere", cwd=tmp_path).code == 2


def test_stop_without_an_id_asks_which_when_there_are_several(server: ControlServer) -> None:
    assert "Nothing is running" in server.kairos("stop").out
    server.desk.rows["runs"] = [RUN]
    assert server.kairos("stop").code == 0
    assert server.desk.asked[-1] == ("stop", RUN["id"])
    server.desk.rows["runs"] = [RUN, {**RUN, "id": "r_2"}]
    assert server.kairos("stop").code == 2


# --- tell


def closing(kind: str, **data: object) -> Update:
    return Update(kind, "", {"run": "r_1", "event": "e_1", "price": 12, "branch": None, "patch": None, **data})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("state", "code"), [("done", 0), ("done_unchecked", 0), ("failed", 1), ("cancelled", 1), ("over_budget", 1)]
)
def test_tell_exits_with_what_became_of_it(server: ControlServer, state: str, code: int) -> None:
    server.desk.updates = [Update("text", "Looking.", {}), Update("call", "read README.md", {}),
                           closing("ended", state=state, answer="It says hello.")]  # fmt: skip
    ran = server.kairos("tell", "what", "does", "it", "say?", cwd="/")
    assert ran.code == code
    assert ran.out == "Looking.\nIt says hello.\n"
    assert "read README.md" in ran.err
    assert server.desk.asked == [("tell", "what does it say?", None, "/"), ("follow", "r_1")]


def test_tell_prints_the_code_when_it_parks(server: ControlServer) -> None:
    server.desk.updates = [closing("parked", state="parked", answer="edit .ci/run?", code="KMNPQ")]
    ran = server.kairos("tell", "-w", "api", "-", input="do it")
    assert ran.code == 4
    assert "edit .ci/run?" in ran.out
    assert "kairos approve KMNPQ" in ran.out
    assert server.desk.asked[0][1:3] == ("do it", "api")


def test_tell_as_json_has_exactly_its_fields(server: ControlServer) -> None:
    server.desk.updates = [Update("text", "words", {}), closing("ended", state="done", answer="yes")]
    ran = server.kairos("tell", "--json", "hi")
    assert json.loads(ran.out) == {"event": "e_1", "run": "r_1", "state": "done", "answer": "yes", "price": 12}


def test_tell_says_what_it_waits_for_and_says_it_once(server: ControlServer) -> None:
    away = Update("waiting", "m cannot be reached", {"seconds": 10})
    server.desk.updates = [away, away, closing("ended", state="done", answer="It says hello.")]
    ran = server.kairos("tell", "what does it say?")
    assert ran.out == "It says hello.\n"
    assert ran.err.count("· waiting, and trying again by itself: m cannot be reached") == 1
    assert "waiting" not in server.kairos("tell", "--json", "what does it say?").err


def test_tell_says_where_it_landed(server: ControlServer) -> None:
    server.desk.updates = [closing("ended", state="done", answer="Added.", branch="kairos/hello")]
    assert "git merge kairos/hello" in server.kairos("tell", "hi").out


def test_tell_without_waiting_leaves_at_once(server: ControlServer) -> None:
    ran = server.kairos("tell", "--no-wait", "hi")
    assert (ran.code, ran.out) == (0, "r_1 in api\n")
    assert [one[0] for one in server.desk.asked] == ["tell"]


def test_tell_of_nothing_is_usage(server: ControlServer) -> None:
    assert server.kairos("tell", "  ").code == 2
    assert server.kairos("tell", "-", input="").code == 2


def test_interrupting_tell_detaches_and_says_how_to_look_again(server: ControlServer) -> None:
    server.desk.updates = [Update("text", "Looking", {})]
    server.desk.unending = True
    process = subprocess.Popen(
        [str(program("kairos")), "tell", "hi"], env=environment(server.home),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.read(7) == b"Looking"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"kairos runs r_1" in err
    wait_for(server.desk.left.is_set)


def test_a_daemon_that_goes_away_in_the_middle_is_named(server: ControlServer) -> None:
    server.desk.updates = [Update("text", "Looking", {})]  # and then the stream just ends
    ran = server.kairos("tell", "hi")
    assert ran.code == 1
    assert "kairos runs r_1" in ran.err


# --- journal


def write_day(home: Path, day: str, *lines: dict[str, object], packed: bool = False) -> Path:
    path = home / "state" / "journal" / day[:4] / day[5:7] / f"{day}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps({"t": f"{day}T10:00:00.000000Z", **line}) + "\n" for line in lines)
    if packed:
        path = path.with_name(f"{path.name}.gz")
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


TODAY = f"{datetime.now(UTC):%Y-%m-%d}"
QUEUED = {
    "kind": "run.queued",
    "id": RUN["id"],
    "ws": "api",
    "data": {"goal": "add a *line*", "trigger": "owner", "level": 1},
}


def test_the_journal_is_told_in_sentences(home: Path) -> None:
    write_day(home, TODAY, QUEUED, {"kind": "odd", "id": "", "data": {"one": 1, "none": None}})
    ran = kairos(home, "journal")
    first, second = ran.out.splitlines()
    assert first.split() == [
        "10:00:00",
        "run.queued",
        "r_01kaq7t2zjhd",
        "[api]",
        "add",
        "a",
        "*line*",
        "(from",
        "owner,",
        "level",
        "1)",
    ]
    assert second.endswith("one=1")


def test_the_journal_filters_and_renders(home: Path) -> None:
    write_day(home, "2026-03-02", QUEUED, {"kind": "runaway", "ws": "web", "data": {}}, packed=True)
    assert len(kairos(home, "journal", "2026-03-02").out.splitlines()) == 2
    only = kairos(home, "journal", "2026-03-02", "--kind", "run", "-w", "api", "--json")
    assert [json.loads(line)["kind"] for line in only.out.splitlines()] == ["run.queued"]
    markdown = kairos(home, "journal", "2026-03-02", "--md").out
    assert markdown.startswith(
        "# Kairos, Monday 2 March 2026\n\n## 10:00\n\n- 10:00:00 **run.queued** `r_01kaq7t2zjhd`"
    )
    assert "add a \\*line\\*" in markdown


def test_a_day_without_lines_says_so_and_today_falls_back(home: Path) -> None:
    assert "nothing" in kairos(home, "journal").out
    write_day(home, "2026-03-02", QUEUED)
    ran = kairos(home, "journal")
    assert "the last day with lines is 2026-03-02" in ran.err
    assert "run.queued" in ran.out
    assert "nothing" in kairos(home, "journal", "2026-03-01").out
    assert kairos(home, "journal", "someday").code == 2


def test_a_half_written_line_waits_and_a_broken_one_is_named(home: Path) -> None:
    path = write_day(home, TODAY, QUEUED)
    with path.open("a") as file:
        file.write('not json\n{"kind":"half')
    lines = kairos(home, "journal").out.splitlines()
    assert len(lines) == 2
    assert "unreadable" in lines[1]


def test_following_goes_on_over_the_change_of_days(home: Path) -> None:
    path = write_day(home, "2026-03-02", QUEUED)
    process = subprocess.Popen(
        [str(program("kairos")), "journal", "2026-03-02", "-f", "--json"], env=environment(home),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["kind"] == "run.queued"
    with path.open("a") as file:
        file.write('{"kind":"half"')
        file.flush()
        file.write(',"data":{}}\n')
    assert json.loads(process.stdout.readline())["kind"] == "half"
    write_day(home, "2026-03-03", {"kind": "next"})
    assert json.loads(process.stdout.readline())["kind"] == "next"
    process.send_signal(signal.SIGINT)
    process.stdout.close()
    assert process.wait(30) == 130
