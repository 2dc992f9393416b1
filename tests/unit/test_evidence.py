"""What of the journal is evidence: the table in docs/memory.md is the one the code reads; nothing else counts."""

from __future__ import annotations

import re
from datetime import UTC, date, timedelta, timezone
from pathlib import Path

import pytest
from tests.dreams import entry, line, said

import kairosd
from kairosd.core.events import Tier
from kairosd.core.evidence import NOISE, RULES, Evidence, gather, grouped, rule_of
from kairosd.core.secrets import Scrubber

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/memory.md").read_text("utf-8")


def found(*lines: dict[str, object], memory: tuple[object, ...] = ()) -> tuple[Evidence, ...]:
    return gather(lines, memory, scrub=Scrubber(), zone=UTC).evidence  # type: ignore[arg-type]


def test_the_table_is_the_one_the_code_reads() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| (.*?) \| (.*?) \| `(\w+)` \| (.*?) \|$", PAGE, re.MULTILINE)
    assert [(kind, speaker, Tier.parse(tier)) for kind, _, speaker, tier, _ in rows] == [
        (rule.kind, rule.speaker, rule.tier) for rule in RULES
    ]
    for (_, where, _, _, takes), rule in zip(rows, RULES, strict=True):
        assert re.findall(r"`([^`]+)`", takes) == list(rule.takes)
        assert re.findall(r"`([^`]+)`", where) == [
            word for name, values in rule.where.items() for word in (name, *values)
        ]
    noise = re.findall(r"^\| `([\w.]+)` \| ([^|]*) \|$", PAGE, re.MULTILINE)
    assert noise == [*NOISE]


def test_every_kind_of_line_there_is_has_been_thought_of() -> None:
    code = "\n".join(path.read_text("utf-8") for path in Path(next(iter(kairosd.__path__))).rglob("*.py"))
    kinds = set(re.findall(r"""\bNote\(\s*f?"([a-z_]+\.?)""", code))
    kinds |= {f"{name}." for name in re.findall(r"\bof_(?:run|event|decision|task)\(\s*\"([a-z]+)\.", code)}
    known = {rule.kind.partition(".")[0] + "." for rule in RULES} | {prefix for prefix, _ in NOISE}
    assert len(kinds) > 10
    assert kinds - known == set()


@pytest.mark.parametrize(
    "given",
    [
        line(1, "decision.made", {"reason": "Deploys run on Hetzner now", "goal": "Deploy now"}, tier="owner"),
        line(1, "notice.queued", {"title": "Deploys run on Hetzner now"}),
        line(1, "dream.committed", {"text": "Deploys run on Hetzner now"}, tier="owner"),
        line(1, "memory.proposed", {"reason": "Deploys run on Hetzner now"}, tier="owner"),
        line(1, "run.ended", {"state": "done_unchecked", "result": "Deploys run on Hetzner now"}, tier="owner"),
        line(1, "run.ended", {"state": "failed", "result": "Deploys run on Hetzner now"}, tier="owner"),
        line(1, "call.succeeded", {"tool": "read", "characters": 100}),
        line(1, "call.succeeded", {"tool": "memory_search", "result": "Deploys run on Hetzner now"}),
        line(1, "call.succeeded", {"tool": "notify", "result": "Deploys run on Hetzner now"}),
        line(1, "call.failed", {"tool": "shell", "result": "Deploys run on Hetzner now"}),
        line(1, "event.received", {"source": "tick", "text": {"message": "Deploys run on Hetzner"}}, tier="owner"),
        line(1, "made.up", {"source": "owner", "text": {"message": "Deploys run on Hetzner now"}}, tier="owner"),
        {**said(1, "Deploys run on Hetzner now"), "data": "broken"},
        said(1, "Deploys run on Hetzner now", ws=""),
        said(1, "thanks!"), said(1, "ok"), said(1, "go on"), said(1, "x"),
        said(1, "the token is ghp_" + "a1B2c3D4e5" * 4),
        line(1, "call.succeeded", {"tool": "shell", "result": "npm warn deprecated package left-pad"}),
    ],
)  # fmt: skip
def test_noise_secrets_and_own_output_are_no_evidence(given: dict[str, object]) -> None:
    assert found(given) == ()


REPORTS = (
    "heartbeat 3 from worker 4", "[3/10] downloading wheel number 12", "total 4096",
    "progress: 4 percent of 99 objects",
    "drwxr-xr-x 2 root root 4096 build", "npm warn deprecated left-pad 1.3", "npm notice New major version of npm",
    "42% [=====>      ] 10 MB/s", "remote: Counting objects: 12, done.", "Receiving objects: 45% (123/270)",
    "GET /healthz HTTP/1.1 200 12ms", "GET /healthz 200 from 10.0.0.3, 512 bytes", "cache miss for key 9-3",
    "2026-11-20T10:11:12Z INFO listening on 0.0.0.0:9090", "[    0.123456] Booting Linux on CPU 0",
    "systemd[1]: Started the printer service", "Compiled 41 modules in 2.31s", "ran 99 steps in 3 seconds.",
    "ETA 3 minutes, 99 left",
)  # fmt: skip
FACTS = (
    "Heartbeats go to the proxy on port 9090 each 30 seconds.", "The staging deploy runs on Hetzner, port 9090",
    "Worker 3 runs PostgreSQL on port 5432", "80 % of the traffic goes through Fly.io",
    "Job 12 runs on Fridays at noon", "Info: the staging port is 9090",
    "The total of 12 servers stands in Berlin", "Cache misses of the API are logged to Loki",
    "Progress of the migration is tracked in ticket 12", "The service was started in 2019",
    "Releases are done in 3 places",
    "The build finished in 12 minutes. Since then it runs on the machine in Zurich.",
)  # fmt: skip
# What begins as a machine's report does, and is a person's sentence.
FACTS_LIKE_REPORTS = (
    "Rebooting the staging router is Anna's job.", "Booting the build box needs the vault key card.",
    "Heartbeat from the pump controller goes to channel ops.", "Debug: logs of the app go to /var/log/app.",
    "The tests passed in 2 minutes on Linux but never pass on Windows.",
    "The nightly backup finished in 3 hours and may never run at noon.",
    "The migration must be completed in 2 hours or we roll back.", "Restores must be completed in 30 minutes.",
    "Request 5 skipped the queue by mistake", "Worker 3 disconnected from the old broker for good",
    "Task 12 is done.", "Step 4 finished the move to Fly.io", "Heartbeat ok means nothing on the old pumps",
    "Still alive after the move: the server in Zurich", "ETA 3 weeks for the new data centre, says Anna",
    "ETA 2 hours for each restore of the archive", "Progress 3 is the name of the new cluster",
    "Progress: 4 of 7 services are on Fly.io", "80% done means shipped to Anna",
    "90% complete covers count as complete",
    "Cache hit on checkout is a bug", "Cache miss for Anna means a call", "Total 12 servers",
    "Receiving objects over the satellite link takes an hour", "Resolving deltas needs 4 GB on the old runner",
    "Downloading wheels 3 times a day is the mirror's job", "Fetching images (4 GB) runs over the cable in Zurich",
    "Remote: counting on Anna for the release", "Trace: kept for 14 days in Loki",
    "2026-11-20 10:00 info session with the auditors in room 4", "2026-11-20T10:00 notice of the lease is sent to Bob",
    "GET /healthz 200 is what the probe of the balancer expects", "POST /pay 402 means the card was refused",
    "HEAD / 200 from the balancer is no proof of life", "npm warn lines are harmless in our build",
    "[1/3] of the servers stay in Berlin", "Built 3 houses in 2 m of snow with Bob",
    "Compiled languages took over in 2 hours of debate",
)  # fmt: skip


@pytest.mark.parametrize("text", REPORTS)
def test_what_a_machine_reports_of_itself_is_noise_whoever_passes_it_on(text: str) -> None:
    assert found(said(1, text)) == ()
    assert found(line(1, "call.succeeded", {"tool": "shell", "result": text}, cause="r_1")) == ()


@pytest.mark.parametrize(
    "text", ["daemon booted in 812 ms on kernel 6.3", "job 99 was queued on runner 4", "Booting the system on core 3"]
)
def test_what_a_machine_or_a_person_may_say_is_noise_from_a_machine_alone(text: str) -> None:
    assert [one.text for one in found(said(1, text))] == [text]
    assert found(line(1, "call.succeeded", {"tool": "shell", "result": text}, cause="r_1")) == ()


@pytest.mark.parametrize("text", [*FACTS, *FACTS_LIKE_REPORTS])
def test_what_a_person_says_with_the_same_words_is_evidence(text: str) -> None:
    """A fact of the owner's that is taken for noise is lost for good: the cursor moves past it."""
    assert [one.text for one in found(said(1, text))] == [text]


@pytest.mark.parametrize(
    "text",
    [
        "Port 9000", "use tabs", "No emojis.", "Be brief", "Node 22", "Go 1.22!", "No Mondays", "Call me Ada",
        "port=9000", "Test in Zurich", "Stop Mondays", "Thanks to Bob: port 9000", "Good tests only",
        "No tests, please Ann", "端口是9000",
    ],
)  # fmt: skip
def test_a_short_fact_of_the_owners_is_evidence_and_a_machines_is_not(text: str) -> None:
    assert [one.text for one in found(said(1, text))] == [text]
    if len(text.split()) < 3:
        assert found(line(1, "call.succeeded", {"tool": "shell", "result": text}, cause="r_1")) == ()


@pytest.mark.parametrize(
    "text",
    [
        "thanks, great", "ok, thanks", "Yes please!", "sounds good", "Looks good to me.", "well done", "go ahead",
        "do it", "try again", "never mind", "No problem :)", "got it, thank you very much", "ok ok", "👍", "...",
        "that's fine, go on", "Good morning", "what time is it?", "Which port?", "deploy", "tabs.", "9000",
        "yes, do that", "all good", "Nice work, thanks",
    ],
)  # fmt: skip
def test_what_only_answers_is_no_fact(text: str) -> None:
    """I8: a day of it asks no model."""
    assert found(said(1, text)) == ()


@pytest.mark.parametrize(
    "text",
    ["Approve all", "always approve", "yes, always", "Ignore that", "delete everything", "rm -rf /", "ship it",
     "Option 2", "that one", "not now", "no idea", "main.py", "3.11", "correct-horse-battery"],
)  # fmt: skip
def test_a_short_answer_or_order_is_of_the_moment(text: str) -> None:
    """I10: it would stand in every later prompt as what the owner wants."""
    assert found(said(1, text)) == ()


@pytest.mark.parametrize(
    "text", ["password hunter2", "PIN 4711", "Passwort: hunter2", "wifi Sommer2024!", "pw: h.u-7x"]
)
def test_a_secret_told_by_its_name_is_none(text: str) -> None:
    gathered = gather([said(1, text)], (), scrub=Scrubber())
    assert (gathered.evidence, gathered.dropped) == ((), {"secret": 1})


def test_many_answers_in_a_row_are_looked_through_at_once() -> None:
    """A pattern that tries every split of them would never end."""
    assert found(said(1, "yes do it " * 50 + "with port 9000")) != ()


def test_the_owners_words_have_their_tier_and_the_day_they_were_said() -> None:
    (one,) = found(said(7, "We moved deploys to Fly.io yesterday."))
    assert (one.source, one.tier, one.workspace, one.day) == ("j7", Tier.OWNER, "app", date(2026, 11, 20))
    assert one.text == "We moved deploys to Fly.io on 2026-11-19."
    east = gather([said(7, "Fly.io it is since today.")], (), scrub=Scrubber(), zone=timezone(timedelta(hours=13)))
    assert east.evidence[0].text == "Fly.io it is since 2026-11-21."


@pytest.mark.parametrize(
    ("tier", "wanted"),
    [("owner", Tier.LOCAL), ("collaborator", Tier.COLLABORATOR), ("public", Tier.PUBLIC), ("", Tier.PUBLIC)],
)
def test_no_run_proves_more_than_it_has_read(tier: str, wanted: Tier) -> None:
    data = {"state": "done", "goal": "look at the parser", "result": "The parser accepts ISO weeks."}
    (one,) = found(line(3, "run.ended", data, id="r_1", tier=tier))
    assert one.tier is wanted


def test_a_call_has_the_lowest_tier_its_run_ever_had() -> None:
    call = line(2, "call.succeeded", {"tool": "git_commit", "result": "4f3a9c1d fix the parser"}, cause="r_1")
    assert found(call)[0].tier is Tier.COLLABORATOR, "nothing is known of its run"
    started = line(1, "run.started", {"goal": "x"}, id="r_1", tier="owner")
    assert found(started, call)[0].tier is Tier.LOCAL
    ended = line(3, "run.parked", {"on": "x"}, id="r_1", tier="public")
    assert found(started, call, ended)[0].tier is Tier.PUBLIC


def test_repetitions_and_echoes_are_dropped_and_the_cursor_moves_past_all() -> None:
    memory = (entry("aaaa0001", "parser.weeks", "The parser accepts ISO weeks."),)
    echo = line(3, "run.ended", {"state": "done", "result": "The parser accepts ISO weeks."}, id="r_1", tier="owner")
    lines = [said(1, "Deploys run on Hetzner."), said(2, "Deploys run on Hetzner!"), echo, line(9, "tick.skipped", {})]
    made = gather(lines, memory, scrub=Scrubber(), zone=UTC)
    assert [one.source for one in made.evidence] == ["j1"]
    assert made.upto == 9
    assert dict(made.dropped) == {"repeated": 1, "echo": 1, "noise": 1}
    (again,) = found(said(4, "The parser accepts ISO weeks."), memory=memory)
    assert again.tier is Tier.OWNER, "what the owner says again confirms it"


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("Use tabs, not spaces.", "Use spaces, not tabs."),
        ("The port of the api was 9000.", "The port of the api is 9000."),
        ("Replication runs from Frankfurt to Dublin.", "Replication runs from Dublin to Frankfurt."),
        ("The monthly budget is 30 €.", "The monthly budget is 30 $."),
    ],
)
def test_the_same_words_turned_round_are_no_repetition(before: str, now: str) -> None:
    """I5: else the older one holds."""
    assert [one.source for one in found(said(1, before), said(2, now))] == ["j1", "j2"]


def test_what_came_back_after_another_value_is_no_repetition() -> None:
    texts = ["The build of main passes.", "The build of main fails.", "Tea is at four.", "The build of main passes."]
    assert [one.source for one in found(*(said(n, text) for n, text in enumerate(texts)))] == ["j0", "j1", "j2", "j3"]


@pytest.mark.parametrize(
    "now",
    [
        "The staging api of the shop listens behind the proxy in Falkenstein for health checks, on port 9191",
        "In Falkenstein the staging api of the shop listens behind the proxy for health checks, never on 9090",
    ],
)
def test_a_long_line_with_another_value_is_no_echo_of_memory(now: str) -> None:
    known = "The staging api of the shop listens behind the proxy in Falkenstein for health checks, on port 9090"
    memory = (entry("aaaa0001", "api.port", known),)

    def run(text: str) -> dict[str, object]:
        return dict(line(3, "run.ended", {"state": "done", "result": text}, id="r_1", tier="owner"))

    assert found(run(known), memory=memory) == ()
    assert len(found(run(now), memory=memory)) == 1


def test_tiers_and_workspaces_are_never_mixed_in_one_question() -> None:
    commit = line(2, "call.succeeded", {"tool": "git_commit", "result": "4f3a9c1d fix the parser"}, cause="r_1")
    groups = grouped(found(said(1, "Deploys run on Hetzner."), said(3, "Deploys run on Fly.io.", ws="lib"), commit))
    assert list(groups) == [("app", Tier.OWNER), ("app", Tier.COLLABORATOR), ("lib", Tier.OWNER)]


def test_every_rule_can_be_met() -> None:
    for rule in RULES:
        data = {name: values[0] for name, values in rule.where.items()}
        assert rule_of(line(1, rule.kind, data)) is rule
