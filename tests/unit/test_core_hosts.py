"""Hosts: which names and addresses a list covers, and that a rule which narrows never widens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kairosd.core.hosts import Reach, is_public, read_pattern, read_target
from kairosd.core.levels import Ruling
from kairosd.core.policy import Policy, Rule
from kairosd.core.shell.plans import Command
from kairosd.core.shell.verdicts import judge_reach, reach_of


@pytest.mark.parametrize(
    ("pattern", "host", "port", "allowed"),
    [
        ("example.org", "example.org", 443, True),
        ("example.org", "example.org", 80, False),
        ("example.org", "www.example.org", 443, False),
        ("example.org", "example.org.evil.test", 443, False),
        ("example.org", "notexample.org", 443, False),
        ("*.example.org", "a.b.example.org", 443, True),
        ("*.example.org", "example.org", 443, False),
        ("*.example.org", "evilexample.org", 443, False),
        ("example.org:8443", "example.org", 8443, True),
        ("example.org:8443", "example.org", 443, False),
        ("192.0.2.1:8080", "192.0.2.1", 8080, True),
        ("[::1]:443", "::1", 443, True),
    ],
)
def test_a_pattern_covers_just_what_it_says(pattern: str, host: str, port: int, allowed: bool) -> None:
    assert Reach((pattern,)).allows(host, port) is allowed


@pytest.mark.parametrize("pattern", ["example.org", "*.org", "*", "example.org:443"])
def test_what_is_denied_is_not_reached_however_it_was_allowed(pattern: str) -> None:
    assert not Reach(("example.org", "*.org"), (pattern,)).allows("example.org", 443)


@pytest.mark.parametrize(
    "text",
    ["", "http://a.test", "a.test/", "a b", "*", "*.", "a.*", "A.test", "a..test", "127.1", "0x7f.1", "1", "ä.test"],
)
def test_what_is_no_pattern_says_so(text: str) -> None:
    if text == "*":
        assert read_pattern(text) == ("*", None)
        return
    with pytest.raises(ValueError, match=r"\w"):
        read_pattern(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "a:", ":443", "a:0", "a:65536", "a@b:443", "a b:443", "[::1:443", "a:443\r", "a..:443", ".a:443",
        "a..b:443", "..:443",
    ],
)  # fmt: skip
def test_what_is_no_target_is_none(text: str) -> None:
    assert read_target(text) is None


def test_a_target_is_read_as_it_is_compared() -> None:
    assert read_target("Example.ORG.:443") == ("example.org", 443)
    assert read_target("[::1]:8080") == ("::1", 8080)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:10.0.0.1",
        "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b:1::1", "::7f00:1", "nonsense",
    ],
)  # fmt: skip
def test_addresses_that_lead_inward_are_not_the_internets(address: str) -> None:
    assert not is_public(address)
    assert not Reach(("example.org", "*", "*:80")).allows_address(address, 443)
    assert not Reach(("*:80",)).allows_address(address, 80)


def test_an_address_of_the_internet_or_one_that_is_listed_is_connected_to() -> None:
    reach = Reach(("example.org", "10.0.0.1:8080"))
    assert (reach.allows_address("1.1.1.1", 443), reach.allows_address("2606:4700::1111", 443)) == (True, True)
    assert (reach.allows_address("10.0.0.1", 8080), reach.allows_address("10.0.0.1", 443)) == (True, False)
    assert not Reach(("*.org",), ("1.1.1.1",)).allows_address("1.1.1.1", 443)


RULES = st.builds(
    Rule,
    ruling=st.sampled_from(Ruling),
    argv=st.sampled_from([(), ("make",), ("make", "publish"), ("twine",)]),
    host=st.sampled_from(["*", "a.test", "*.a.test", "b.test:8443", "10.0.0.1"]),
)
PLACES = st.tuples(st.sampled_from(["a.test", "x.a.test", "b.test", "10.0.0.1"]), st.sampled_from([443, 8443]))


@given(st.lists(RULES, max_size=4), RULES.filter(lambda rule: rule.ruling is not Ruling.ALLOW), PLACES)
def test_a_rule_that_denies_or_asks_never_widens(rules: list[Rule], more: Rule, place: tuple[str, int]) -> None:
    command = Command(("make", "publish"))
    before, after = Policy(rules=tuple(rules), hosts=("a.test",)), Policy(rules=(*rules, more), hosts=("a.test",))
    if reach_of(after, command, use=None).allows(*place):
        assert reach_of(before, command, use=None).allows(*place)
    assert len(judge_reach(before, command, use=None)) <= len(judge_reach(after, command, use=None))


def test_a_rule_with_words_is_about_those_commands_only() -> None:
    policy = Policy(
        rules=(
            Rule(Ruling.ALLOW, argv=("make", "fetch"), host="a.test"),
            Rule(Ruling.DENY, argv=("npm",), host="b.test"),
            Rule(Ruling.ASK, argv=("twine",), host="b.test"),
        ),
        hosts=("b.test",),
    )
    fetch, npm, twine = (Command(tuple(line.split())) for line in ("make fetch", "npm ci", "twine upload x"))
    assert reach_of(policy, fetch, use=None) == Reach(("b.test", "a.test"))
    assert reach_of(policy, npm, use=None) == Reach(("b.test",), ("b.test",))
    assert [one.ruling for one in judge_reach(policy, twine, use=None)] == [Ruling.ASK]
    assert judge_reach(policy, fetch, use=None) == []


def test_a_workspaces_own_file_cannot_open_a_host() -> None:
    own = Policy(rules=(Rule(Ruling.ALLOW, host="evil.test"), Rule(Ruling.DENY, host="a.test")), hosts=("evil.test",))
    narrowed = Policy(hosts=("a.test", "b.test")).narrowed_by(own)
    reach = reach_of(narrowed, Command(("make",)), use=None)
    assert [reach.allows(host, 443) for host in ("a.test", "b.test", "evil.test")] == [False, True, False]


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "::ffff:1.1.1.1", "::ffff:101:101", "64:ff9b::101:101", "2002:101:101::"]
)
def test_a_denied_address_is_not_reached_in_another_shape(address: str) -> None:
    reach = Reach(("*",), ("1.1.1.1",))
    assert not reach.allows_address(address, 443)
    assert not reach.allows(address, 443)
    assert Reach(("*",)).allows_address(address, 443)
