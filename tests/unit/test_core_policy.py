"""Levels, rules and globs: deny > ask > allow, and no spelling of a path gets around its glob."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.phrases import phrases

from kairosd.core.events import Tier
from kairosd.core.levels import LEVELS, Level, Opinion, Permission, Ruling, judge_level, judge_taint, may_ask
from kairosd.core.paths import PROTECTED_PATHS, SECRET_PATHS, matches
from kairosd.core.policy import Policy, Rule, judge_path, judge_rules, worst

quick = settings(max_examples=40, deadline=None)
names = st.text(st.characters(codec="ascii", categories=["Ll", "Lu", "Nd"], include_characters="._-"), min_size=1)
# Half of them are names that a rule or a prefix knows: two of those drawn at random would hardly ever be the same.
known = st.sampled_from(["src", "docs", "ci", "a.md", "b.PEM", "x.toml"])
parts = known | names.filter(lambda name: name not in (".", ".."))
paths = st.lists(parts, min_size=1, max_size=4).map("/".join)
rulings = st.sampled_from(Ruling)
rules = st.builds(Rule, rulings, st.sampled_from(["", "write", "w*", "read"]), st.sampled_from(["", "src/**", "*.md"]))


@quick
@given(st.lists(st.builds(Opinion, rulings, st.integers().map(str)), min_size=1))
def test_the_worst_opinion_wins_and_the_first_of_equals_is_named(opinions: list[Opinion]) -> None:
    found = worst(opinions)
    assert all(opinion.ruling <= found.ruling for opinion in opinions)
    assert found.rule == next(opinion.rule for opinion in opinions if opinion.ruling is found.ruling)


@quick
@given(st.lists(rules), rules, paths)
def test_one_rule_more_never_makes_a_verdict_milder(given_rules: list[Rule], more: Rule, path: str) -> None:
    before = judge_rules(Policy(tuple(given_rules)), "write", paths=(path,))
    after = judge_rules(Policy((*given_rules, more)), "write", paths=(path,))
    assert after.ruling >= before.ruling


@quick
@given(st.lists(rules), paths)
def test_the_order_of_rules_does_not_matter(given_rules: list[Rule], path: str) -> None:
    one = judge_rules(Policy(tuple(given_rules)), "write", paths=(path,))
    other = judge_rules(Policy(tuple(reversed(given_rules))), "write", paths=(path,))
    assert one.ruling is other.ruling


def test_a_path_rule_does_not_match_a_call_without_paths() -> None:
    policy = Policy((Rule(Ruling.DENY, "", "src/**"),))
    assert judge_rules(policy, "notify", paths=()).ruling is Ruling.ALLOW
    assert judge_rules(policy, "write", paths=("a.md", "src/b.py")).ruling is Ruling.DENY


@quick
@given(paths, st.sampled_from([*SECRET_PATHS, *PROTECTED_PATHS]))
def test_case_never_matters(path: str, glob: str) -> None:
    assert matches(path, [glob]) == matches(path.swapcase(), [glob]) == matches(path, [glob.upper()])


@quick
@given(paths, st.sampled_from([".env", "id_rsa", "server.pem", ".npmrc", "secrets.yaml", ".ssh/config", ".aws/x"]))
def test_secrets_are_secret_in_every_folder(folder: str, name: str) -> None:
    assert matches(name, SECRET_PATHS)
    assert matches(f"{folder}/{name}", SECRET_PATHS)


@quick
@given(paths)
def test_all_below_git_is_protected(path: str) -> None:
    assert matches(f".git/{path}", PROTECTED_PATHS)
    assert matches(f"sub/.git/{path}", PROTECTED_PATHS)


@quick
@given(paths)
def test_two_stars_match_any_depth_and_one_star_one_part(path: str) -> None:
    assert matches(path, ["**"])
    assert matches(f"src/{path}", ["src/**"])
    assert matches(path, [f"**/{path}"])
    assert matches(path, ["*/*"]) == (path.count("/") == 1)


@pytest.mark.parametrize(
    ("path", "glob", "wanted"),
    [
        ("src", "src/**", True),
        ("srcs/a", "src/**", False),
        ("a/b/c.txt", "a/**/c.txt", True),
        ("a/c.txt", "a/**/c.txt", True),
        ("README.md", "docs/README.md", False),
        ("docs/README.md", "README.md", True),
        ("environment", ".env", False),
        ("my.env", ".env", False),
    ],
)
def test_globs(path: str, glob: str, wanted: bool) -> None:
    assert matches(path, [glob]) is wanted


@pytest.mark.parametrize("path", ["README.md", "src/main.py", "docs/keys.md", "environment.yml", "src/secret_sauce.py"])
def test_an_ordinary_file_asks_nothing(path: str) -> None:
    assert judge_path(Policy(), path=path, writes=True).ruling is Ruling.ALLOW


@pytest.mark.parametrize(
    "path", [".kairos.toml", ".git/config", "sub/.git/hooks/pre-commit", ".github/workflows/ci.yml"]
)
def test_a_protected_path_is_read_freely_and_asked_about_before_it_is_changed(path: str) -> None:
    assert judge_path(Policy(), path=path, writes=False).ruling is Ruling.ALLOW
    assert judge_path(Policy(), path=path, writes=True).ruling is Ruling.ASK


def test_beyond_its_level_a_run_asks_and_the_lowest_has_nothing_to_ask() -> None:
    for level in Level:
        for permission in Permission:
            found = judge_level(level, permission).ruling
            covered = permission in LEVELS[level]
            assert (found is Ruling.ALLOW) is covered
            assert may_ask(level, permission) is (covered or level is not Level.OBSERVE)
            assert (found is Ruling.DENY) is (not covered and level is Level.OBSERVE)


def test_each_level_covers_the_one_below() -> None:
    for lower, higher in itertools.pairwise(Level):
        assert LEVELS[lower] < LEVELS[higher]
    assert LEVELS[Level.OPEN] == set(Permission)


def test_a_strangers_words_leave_no_tool_and_a_collaborators_no_program_that_runs_code() -> None:
    for permission in Permission:
        wanted = Ruling.ALLOW if permission is Permission.CONTROL else Ruling.DENY
        assert judge_taint(Tier.PUBLIC, permission).ruling is wanted
        wanted = Ruling.ALLOW if permission in LEVELS[Level.SUGGEST] else Ruling.ASK
        assert judge_taint(Tier.COLLABORATOR, permission).ruling is wanted
        assert not judge_taint(Tier.LOCAL, permission).ruling
        assert not judge_taint(Tier.OWNER, permission).ruling


prefixes = st.lists(phrases(("git", "push", "log", "rm", "-rf", "make"), most=3), max_size=3).map(tuple)
policies = st.builds(
    Policy,
    st.lists(rules, max_size=3).map(tuple),
    st.none() | prefixes,
    prefixes,
    prefixes,
    st.lists(st.sampled_from(["*.pem", "src/**"])).map(tuple),
    st.lists(st.sampled_from(["*.toml", "ci/**"])).map(tuple),
)


@quick
@given(policies, policies, paths, st.booleans())
def test_narrowing_never_widens(policy: Policy, other: Policy, path: str, writes: bool) -> None:
    narrowed = policy.narrowed_by(other)
    before = judge_rules(policy, "write", paths=(path,)).ruling, judge_path(policy, path=path, writes=writes).ruling
    after = judge_rules(narrowed, "write", paths=(path,)).ruling, judge_path(narrowed, path=path, writes=writes).ruling
    assert all(late >= early for early, late in zip(before, after, strict=True))
    assert narrowed.allow == policy.allow
    assert {*policy.deny, *other.deny} == set(narrowed.deny)
    assert {*policy.ask, *other.ask} == set(narrowed.ask)
    assert {rule for rule in other.rules if rule.ruling is not Ruling.ALLOW} <= set(narrowed.rules)
