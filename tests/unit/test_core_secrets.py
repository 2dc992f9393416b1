"""Secrets: known shapes and the daemon's own never get to a model or the journal, and ordinary text stays whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kairosd.core.secrets import Scrubber

# Put together here, so that no scanner of repositories takes them for real ones.
SHAPED = {
    "github": ["ghp_" + "a1B2" * 9, "github_pat_" + "A1b2" * 10, "ghs_" + "x" * 36],
    "gitlab": ["glpat-" + "a1B2" * 5],
    "aws": ["AKIA" + "ABCD" * 4, "aws_secret_access_key = " + "wJal" * 10],
    "google": ["AIza" + "SyB-1" * 7],
    "slack": ["xoxb-" + "1234567890-abc", "https://hooks.slack.com/services/T0/B0/abc"],
    "stripe": ["sk_live_" + "a1B2" * 6],
    "anthropic": ["sk-ant-api03-" + "aB3_" * 8],
    "openai": ["sk-proj-" + "aB3_" * 8, "sk-" + "aB3x" * 10],
    "npm": ["npm_" + "a1B2" * 9],
    "pypi": ["pypi-AgEIcHlwaS5vcmc" + "a1B2" * 8],
    "ntfy": ["tk_" + "abcdefg1234567890abcdefg12345"],
    "jwt": ["eyJ" + "hbGciOiJIU." + "eyJ" + "zdWIiOiIxM." + "SflKxwRJSM"],
    "bearer": ["Authorization: Bearer " + "abcDEF123." * 3],
    "password": ["postgres://app:hunter2hunter2@db/prod"],
    "pem": ["-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----"],
}
ORDINARY = """\
def test_sk(): assert skip == "sk-short" and tk_ == 1
commit 36722dd0c1b2a3f4e5d6c7b8a9f0e1d2c3b4a5f6 (HEAD -> main)
https://example.org:8443/path?x=1 and user@example.org, git@github.com:ada/engine.git
AKIA is a prefix; Bearer token; eyJ is how they begin; sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=
-----BEGIN CERTIFICATE-----
MIIE
-----END CERTIFICATE-----
"""


@pytest.mark.parametrize(("shape", "text"), [(shape, text) for shape, texts in SHAPED.items() for text in texts])
def test_each_known_shape_is_taken_out_and_named(shape: str, text: str) -> None:
    scrubbed = Scrubber()(f"before {text} after")
    assert scrubbed.found == 1
    assert f"[secret: {shape}]" in scrubbed.text
    assert scrubbed.text.startswith("before ")
    assert scrubbed.text.endswith(" after")
    assert text.split()[-1][-12:] not in scrubbed.text or shape == "password"


def test_ordinary_text_stays_as_it_is() -> None:
    assert Scrubber()(ORDINARY).text == ORDINARY


def test_a_key_cut_off_before_its_end_is_taken_out_too() -> None:
    text = "-----BEGIN PRIVATE KEY-----\nMIIEsecret"
    assert "MIIE" not in Scrubber()(text).text


@given(st.text(min_size=8, max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_the_daemons_own_are_found_wherever_they_stand(secret: str, before: str, after: str) -> None:
    marked = f"\x01{secret}\x02"
    assert marked not in Scrubber([marked])(before + marked + after).text


def test_one_secret_within_another_leaves_no_rest() -> None:
    assert Scrubber(["hunter2hunter2", "hunter2hunter2-and-more"])("x hunter2hunter2-and-more y").text == (
        "x [secret: Kairos's own] y"
    )


def test_what_is_too_short_to_be_a_secret_does_not_eat_ordinary_words() -> None:
    assert Scrubber(["on", ""])("once upon a time").text == "once upon a time"
