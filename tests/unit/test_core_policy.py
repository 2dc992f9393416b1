"""Levels, rules and globs: deny > ask > allow, and no spelling of a path gets around its glob."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kairosd.core.events import Tier
from kairosd.core.policy import (
    LEVELS,
    PROTECTED_PATHS,
    SECRET_PATHS,
    Level,
    Opinion,
    Permission,
    Policy,
    Rule,
    Ruling,
    judge_level,
    judge_path,
    judge_rules,
    judge_taint,
    matches,
    worst,
)

quick = settings(max_examples=40, deadline=None)
names = st.text(st.characters(codec="ascii", categories=["Ll", "Lu", "Nd"], include_characters="._-"), min_size=1)
parts = names.filter(lambda name: name not in (".", ".."))
paths = st.lists(parts, min_size=1, max_size=4).map("/".join)
rulings = st.sampled_from(Ruling)
rules = st.builds(Rule, rulings, st.sampled_from(["", "write", "w*", "read"]), st.sampled_from(["", "src/**", "*.md"]))


@quick
@given(st.lists(st.builds(Opinion, rulings, names), min_size=1))
def test_the_worst_opinion_wins_and_the_first_of_equals_is_named(opinions: list[Opinion]) -> None:
    found = worst(opinions)
    assert all(opinion.ruling <= found.ruling for opinion in opinions)
    assert found is next(opinion for opinion in opinions if opinion.ruling is found.ruling)


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
    assert judge_path(Policy(), Permission.EDIT, path=path).ruling is Ruling.ALLOW


def test_levels_and_taint() -> None:
    for level in Level:
        for permission in Permission:
            wanted = Ruling.ALLOW if permission in LEVELS[level] else Ruling.DENY
            assert judge_level(level, permission).ruling is wanted
    asks = {(tier, permission) for tier in Tier for permission in Permission if judge_taint(tier, permission).ruling}
    assert asks == {(Tier.PUBLIC, Permission.EDIT), (Tier.PUBLIC, Permission.COMMIT)}
