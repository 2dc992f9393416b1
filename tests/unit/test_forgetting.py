"""Forgetting: what says a forgotten fact still is hidden, and what only has its words is not."""

from __future__ import annotations

import time
import unicodedata
from datetime import date

import pytest

from kairosd.core.forgetting import Echo

DAY = date(2026, 11, 20)
STAGING = "The staging deploy runs on Hetzner, port 9090"

SAID = [
    ("Port 9000", "ok, so it listens on port 9000 from now on"),
    ("Port 9000", 'remember · {"text": "Port 9000."}'),
    ("Port 9000", "api:\n  port: 9000\n"),
    ("Port 9000", "PORT=9000 make run"),
    ("Port 9000", "the ports are 9000"),
    ("Port 9000", "9000 is the port"),
    ("Port 9000", "the port is now 9000, and port 443 is closed"),
    ("use tabs", "he uses tabs here"),
    ("Deploys run on Fridays", "it ran the Friday deploys"),
    ("Zanzibar", "the trip to Zanzibar is in May"),
    ("Der Café-Schlüssel liegt dort", unicodedata.normalize("NFD", "Der Café-Schlüssel liegt dort")),
    (unicodedata.normalize("NFD", "Der Café-Schlüssel liegt dort"), "der café-schlüssel liegt dort"),
    ("Port 9000", "it is on port ９０００"),
    ("端口是9000", "请记住端口是9000。"),
    ("It is what it is.", "and it is what it is, he said"),
    ("C++", "we write C++ here"),
    ("???", "what is it ???"),
    (STAGING, f"remember: {STAGING}."),
    (STAGING, "we moved the deploys of staging over to Hetzner, they listen on port 9090 there"),
    (STAGING, "staging:\n  deploy:\n    host: hetzner\n    region: fsn1\n    size: cx22\n    port: 9090\n"),
    ("The staging server moved to Hetzner on 2026-11-19", "the staging server moved to Hetzner yesterday"),
    ("The staging server of the shop moved to Hetzner Falkenstein on 2026-11-19",
     "on Nov. 19 the staging server of the shop moved to Hetzner in Falkenstein, 2026"),
    ("Ada's phone number is +41 44 555 12 34", "call Ada, her phone number: +41 44 555 12 34"),
]  # fmt: skip
NOT_SAID = [
    ("Port 9000", "the invoice service moved from port 443 to 9000 requests a day"),
    ("Port 9000", "port 80 is open. In Rome 9000 people live"),
    ("Port 9000", "the port of the api is in use by 9000 clients"),
    ("Port 9000", "port 90001 and airport 9000"),
    ("???", "what is it?"),
    ("use tabs", "close the tabs that nobody has any use for"),
    ("Zanzibar", "the zanzibars"[:3]),
    (STAGING, "the staging deploy runs on Hetzner, port 9191"),
    (STAGING, "the staging deploy is slow"),
    (STAGING, f"staging deploy is down. {'one word and another ' * 30} Hetzner. The port of the api is 9090"),
    ("Ada owns billing", "Ada was here. The mail team owns a printer, and a copier. Somebody asks about billing"),
]


@pytest.mark.parametrize(("text", "said"), SAID)
def test_what_says_it_is_known(text: str, said: str) -> None:
    assert Echo(text).is_in(said, DAY)


@pytest.mark.parametrize(("text", "said"), NOT_SAID)
def test_what_only_has_its_words_is_not(text: str, said: str) -> None:
    assert not Echo(text).is_in(said, DAY)


def test_a_long_passage_costs_little() -> None:
    echo, said = Echo("Port 9000"), "port and 9000 or so " * 100
    began = time.monotonic()
    for _ in range(50):
        echo.is_in(said, DAY)
    assert time.monotonic() - began < 2
