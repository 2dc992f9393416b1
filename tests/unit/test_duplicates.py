"""Duplicates: what says the same as an entry confirms it, and what turns it round takes its place."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest
from tests.dreams import LATER, add, entry, frame, generation, op, told

from kairosd.core.dream import Op, Operation, apply
from kairosd.core.dream_audit import audit
from kairosd.core.dream_checks import examine, problems_of
from kairosd.core.dream_support import stems
from kairosd.core.duplicates import fitted, needs_nothing, same
from kairosd.core.events import Tier
from kairosd.core.evidence import Evidence
from kairosd.core.memory import Entry, Kind

TURNED = [
    ("Use tabs, not spaces.", "Use spaces, not tabs."),
    ("The web listens on 8080 and the api on 9090", "The web listens on 9090 and the api on 8080"),
    ("Replication runs from Frankfurt to Dublin", "Replication runs from Dublin to Frankfurt"),
    ("The monthly budget is 30 €", "The monthly budget is 30 $"),
    ("The threshold of the alarm is -5", "The threshold of the alarm is 5"),
    ("The answer takes > 50 ms", "The answer takes < 50 ms"),
    ("The port was 9000", "The port is 9000"),
    ("Ada owns billing", "Ada owned billing"),
    ("Ada owns billing", "Ada will own billing"),
    ("The api is called by the web", "The api called the web"),
    ("Replication runs from Frankfurt to Dublin", "Replication runs to Frankfurt from Dublin"),
    ("Ada owns billing, Bob owns search", "Ada owns search, Bob owns billing"),
    ("Ports of web, api: 8080, 9090", "Ports of web, api: 9090, 8080"),
    ("Run the tests, the build, the release", "Run the release, the build, the tests"),
    ("Ada may deploy", "Ada may not deploy"),
    ("Ada owns billing", "Ada doesn't own billing any more"),
    ("Ada owns billing", "Ada no longer owns billing"),
    ("Ada owns billing", "Ada used to own billing"),
    ("Login works with SSO", "Login works without SSO"),
    ("Use tabs and not spaces", "Use spaces and not tabs"),
    ("Use tabs instead of spaces", "Use spaces instead of tabs"),
    ("Lint runs before tests", "Tests run before lint"),
    ("api: port 9090, web: disabled", "api: disabled, web: port 9090"),
    ("Primary: alpha, standby: beta, port 9090", "Primary: beta, standby: alpha, port 9090"),
    ("Ann: deploys, Bob: reviews, port 9090", "Ann: deploys, port 9090, Bob: reviews"),
]
CLUSTER = (
    "The worker nodes of the {} cluster in the Frankfurt data center run Debian 12 with kernel 6.1, "
    "backups every night, monitoring by Prometheus and alerts by mail"
)
APART = [
    ("Alice manages Bob", "Bob manages Alice"),
    ("Alice manages Bob", "Bob does not manage Alice"),
    ("Servers in Paris back up servers in Rome", "Servers in Rome back up servers in Paris"),
    ("The api service calls the web service", "The web service calls the api service"),
    ("Anna reviews the code of Bob", "Bob reviews the code of Anna"),
    ("db1 depends on db2", "db2 depends on db1"),
    ("The api is in the web", "The web is in the api"),
    (CLUSTER.format("alpha"), CLUSTER.format("beta")),
]
MOVED = [
    ("Deploys run on Friday", "On Friday deploys run"),
    ("On Friday deploys run at noon", "At noon deploys run on Friday"),
    ("It runs only on Linux", "It runs on Linux only"),
    ("Alice and Bob own billing", "Bob and Alice own billing"),
]
ALIKE = [
    ("Deploys run on Hetzner, port 9090.", "Deploys run on port 9090, Hetzner."),
    ("Deploys run on Hetzner.", "The deploy runs on Hetzner"),
    ("Never push to release!", "never push to release"),
    ("Deploys are signed by Ada", "The deploy is signed by Ada."),
    ("It needs Python", "They need Python"),
    ("Hosts: Hetzner, port 9090", "Hosts: port 9090, Hetzner"),
]


@pytest.mark.parametrize(
    ("one", "other"), [*TURNED, *APART, ("It is what it is", ""), ("It is so", "We are who we are")]
)
def test_the_same_words_turned_round_say_something_else(one: str, other: str) -> None:
    assert not same(one, other)
    assert not same(other, one)


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_other_forms_of_the_same_words_say_the_same(one: str, other: str) -> None:
    assert same(one, other)
    assert same(other, one)


@pytest.mark.parametrize(("before", "now"), [*TURNED, *MOVED])
def test_what_the_owner_turns_round_takes_the_place_of_what_was_said(before: str, now: str) -> None:
    """I5, I9: it is neither lost as a duplicate, nor beside its opposite."""
    given = frame([entry("aaaa0001", "a.key", f"{before} in the office.")], [told(101, f"{now} in the office.")])
    operation = add(f"{now} in the office.", "j101", key="another.key")
    made = fitted(operation, given.generation, workspace="app", told=given.evidence)
    assert (made.op, made.targets, made.key) == (Op.SUPERSEDE, ("aaaa0001",), "a.key")
    assert "I9" not in {problem.invariant for problem in problems_of(made, given)}


@pytest.mark.parametrize("pair", [*APART, *(pair[::-1] for pair in APART)])
def test_what_has_the_same_words_and_is_of_another_thing_stands_beside_it(pair: tuple[str, str]) -> None:
    """I5, I9: both may hold, whoever adds it and whoever looks at what came of it."""
    known, said = entry("aaaa0001", "a.key", pair[0]), told(101, pair[1])
    around = frame([known], [said])
    made, _, fresh = fit(pair[1], [known], said)
    assert made.op is Op.ADD
    assert fresh is not None
    done = examine([made], around)
    assert [one.text for one in done.generation.entries] == list(pair)
    assert audit(around.generation, done.generation, accepted=done.accepted, evidence=[said]) == []
    (problem,) = problems_of(op(Op.RESTAMP, "aaaa0001", "j101"), around)
    assert problem.invariant == "I3", "nor does it confirm it"


@pytest.mark.parametrize("now", ["Deploys do not run on Friday", "Use spaces, not tabs"])
def test_a_workspace_may_be_an_exception_to_what_holds_everywhere(now: str) -> None:
    """I9, I22: else a dream that follows the reason would change it for all workspaces."""
    before = {"Use spaces, not tabs": "Use tabs, not spaces"}.get(now, "Deploys run on Friday")
    known = [entry("aaaa0001", "a.key", before, scope="*")]
    said = told(101, now)
    around = frame(known, [said])
    made, _, fresh = fit(now, known, said)
    assert made.op is Op.ADD
    assert fresh is not None
    assert fresh.scope == "app"
    done = examine([made], around)
    assert done.generation.get("aaaa0001") == known[0]
    assert audit(around.generation, done.generation, accepted=done.accepted, evidence=[said]) == []
    (again,) = problems_of(add(before, "j102"), frame(known, [told(102, before)]))
    assert again.invariant == "I9", "what only repeats it is none"


def test_only_near_entries_are_compared() -> None:
    """A check runs on the event loop: with 10,000 entries it may not take each of them apart."""
    words = [f"{one}{two}{three}" for one in "bcdfgh" for two in "aeiou" for three in "klmnrst"]
    draw = Random(3)
    known = [
        entry(f"{number:08x}", f"k.n{number}", " ".join(draw.choices(words, k=14)), trust=Tier.LOCAL)
        for number in range(10_000)
    ]
    said = told(101, "The proxy of alpha listens on port 9090.")
    around = frame(known, [said])
    stems.cache_clear()
    wish = fitted(add(said.text, "j101", key=""), around.generation, workspace="app", told=around.evidence)
    assert len(examine([wish], around).accepted) == 1
    assert stems.cache_info().misses < 100


def fit(
    text: str, known: Sequence[Entry], *evidence: Evidence, **more: object
) -> tuple[Operation, dict[str, Evidence], Entry | None]:
    """What an addition by these words is to those that are known, and what comes of it where it may be done."""
    cited = {one.source: one for one in evidence or (told(101, text),)}
    operation = add(text, *cited, **{"key": "", **more})  # type: ignore[arg-type]
    made = fitted(operation, generation(known), workspace="app", told=cited)
    done = examine([made], frame(known, cited.values()))
    fresh = [one for one in done.generation.entries if one not in known]
    return made, cited, fresh[0] if fresh else None


LONG = [
    "Deploy to production only on Monday after the standup with Carol.",
    "Deploy to production only on Monday needs the flag canary.",
]


@pytest.mark.parametrize("key", ["note.deploy-production-only-monday", "deploy.day"])
def test_what_begins_with_the_same_words_is_another_fact(key: str) -> None:
    """I5: a key that nobody gave is no claim that both are about one thing."""
    known = [entry("aaaa0001", key, LONG[0])]
    made, _, fresh = fit(LONG[1], known)
    assert made.op is Op.ADD
    assert fresh is not None
    assert fresh.key != key
    done = examine([made], frame(known, [told(101, LONG[1])])).generation
    assert len(done.entries) == 2


def test_long_words_leave_room_for_the_number_of_a_key() -> None:
    links = [f"https://example.org/{'a-long-way/' * 8}{name} is the {name} board" for name in ("staging", "billing")]
    _, _, first = fit(links[0], [])
    assert first is not None
    _, _, second = fit(links[1], [first])
    assert second is not None
    assert second.key == f"{first.key}-2"


def test_a_key_that_was_given_is_such_a_claim() -> None:
    known = [entry("aaaa0001", "deploy.day", LONG[0])]
    made, _, _ = fit(LONG[1], known, key="deploy.day")
    assert (made.op, made.targets) == (Op.SUPERSEDE, ("aaaa0001",))


RULE = "Commit messages are in English."


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        ({"everywhere": True}, {"scope": "*"}),
        ({"kind": Kind.FEEDBACK}, {"kind": Kind.FEEDBACK}),
        ({"check": "path=docs/english.md"}, {"check": "path=docs/english.md"}),
    ],
)
def test_what_is_new_in_the_same_words_takes_effect(new: dict[str, object], expected: dict[str, object]) -> None:
    known = [entry("aaaa0001", "git.language", RULE)]
    said = told(101, f"{RULE} See docs/english.md, in all projects.")
    made, cited, fresh = fit(RULE, known, said, **new)
    assert (made.op, made.targets, made.key) == (Op.SUPERSEDE, ("aaaa0001",), "git.language")
    assert fresh is not None
    assert {name: getattr(fresh, name) for name in expected} == expected
    assert (fresh.trust, fresh.sources) == (Tier.OWNER, ("j101",))
    assert fresh.since == known[0].since, "it was so before"
    again, _, _ = fit(RULE, [fresh], said, **new)
    assert again.op is Op.RESTAMP, "told a third time it is known"
    plain, _, _ = fit(RULE, [fresh], *cited.values())
    assert plain.op is Op.RESTAMP, "what is left out is not taken back"


def test_what_is_known_of_it_stays_beside_what_is_new() -> None:
    known = [entry("aaaa0001", "git.language", RULE, check="path=docs/english.md", kind=Kind.FEEDBACK)]
    _, _, fresh = fit(RULE, known, everywhere=True)
    assert fresh is not None
    assert (fresh.scope, fresh.kind, fresh.check) == ("*", Kind.FEEDBACK, "path=docs/english.md")


@pytest.mark.parametrize("new", [{"everywhere": True}, {"kind": Kind.REFERENCE}, {"check": "path=docs/english.md"}])
def test_who_is_trusted_less_changes_nothing_by_saying_it_again(new: dict[str, object]) -> None:
    known = [entry("aaaa0001", "git.language", RULE)]
    said = told(101, f"{RULE} docs/english.md", tier=Tier.LOCAL)
    made, cited, fresh = fit(RULE, known, said, **new)
    assert made.op is Op.RESTAMP
    assert needs_nothing(made, known[0], told=cited)
    assert fresh is None


def test_only_the_owners_words_widen_what_a_tool_said() -> None:
    known = [entry("aaaa0001", "git.language", RULE, trust=Tier.LOCAL)]
    for said, scope in ((told(101, RULE, tier=Tier.LOCAL), None), (told(101, RULE), "*")):
        _, _, fresh = fit(RULE, known, said, everywhere=True)
        assert (fresh.scope if fresh else None) == scope


def test_what_the_owner_says_too_is_trusted_as_the_owners() -> None:
    """I10: on the owner's words alone; a claim that was the stranger's does not come along."""
    text = "Invoices go to billing@acme.example."
    known = [entry("aaaa0001", "bill.mail", text, trust=Tier.PUBLIC, sources=("j9",), check="path=bills")]
    made, _, fresh = fit(text, known)
    assert made.op is Op.SUPERSEDE
    assert fresh is not None
    assert (fresh.trust, fresh.sources, fresh.check) == (Tier.OWNER, ("j101",), "")
    _, _, other = fit(text, known, told(101, "Invoices go to billing."))
    assert other is None or other.trust is Tier.PUBLIC


def test_of_two_that_say_it_the_most_trusted_is_confirmed() -> None:
    known = [
        entry("aaaa0001", "a.b", "Answers are short", trust=Tier.PUBLIC),
        entry("aaaa0002", "c.d", "Answers are short.", scope="*"),
    ]
    made, _, _ = fit("Answers are short", known)
    assert (made.op, made.targets) == (Op.RESTAMP, ("aaaa0002",))


def test_a_pinned_line_is_widened_by_a_proposal() -> None:
    known = [entry("aaaa0001", "git.language", RULE, pinned=True)]
    made, cited, _ = fit(RULE, known, everywhere=True)
    assert len(examine([made], frame(known, cited.values())).held) == 1


def test_a_dream_too_may_widen_what_it_says_again() -> None:
    known = [entry("aaaa0001", "git.language", RULE)]
    around = frame(known, [told(101, f"{RULE} In all projects.")])
    wide = op(Op.SUPERSEDE, "aaaa0001", "j101", text=RULE, everywhere=True)
    assert problems_of(wide, around) == ()
    (made,) = apply(around.generation, wide, evidence=around.evidence, workspace="app", day=LATER).entries
    assert made.scope == "*"
    (told_again,) = problems_of(add(RULE, "j101", everywhere=True), around)
    assert "supersede it" in told_again.text


@pytest.mark.parametrize(
    ("known", "said"),
    [
        *TURNED[:4],
        ("Ada owns billing", "Ada owned billing."),
        ("Ada owns billing", "Ada owned billing until May."),
        ("Ada owns billing", "Formerly it was Ada who owns billing."),
    ],
)
def test_what_says_otherwise_confirms_nothing(known: str, said: str) -> None:
    """I5: neither in a dream that calls it a confirmation, nor by the reason why an addition is refused."""
    around = frame([entry("aaaa0001", "a.key", known)], [told(101, said)])
    assert "I3" in {one.invariant for one in problems_of(op(Op.RESTAMP, "aaaa0001", "j101"), around)}
    refused = [one.text for one in problems_of(add(said, "j101"), around) if one.invariant == "I9"]
    assert not any("restamp" in text for text in refused)


def test_an_update_keeps_the_kind_that_nobody_changed() -> None:
    known = [entry("aaaa0001", "code.indent", "Use tabs, not spaces.", kind=Kind.FEEDBACK)]
    _, _, fresh = fit("Use spaces, not tabs.", known)
    assert fresh is not None
    assert fresh.kind is Kind.FEEDBACK


def test_what_the_owner_turns_round_for_everywhere_takes_its_place_too() -> None:
    known = [entry("aaaa0001", "code.indent", "Use tabs, not spaces.")]
    made, _, fresh = fit("Use spaces, not tabs.", known, everywhere=True)
    assert made.op is Op.SUPERSEDE
    assert fresh is not None
    assert fresh.scope == "*"
