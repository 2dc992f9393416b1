"""How far a call's result is trusted, and what of it is an echo of memory."""

from __future__ import annotations

import random

from tests.dreams import entry, line

from kairosd.core.events import Tier
from kairosd.core.evidence import ECHO, Evidence, gather
from kairosd.core.memory import Entry, content_words
from kairosd.core.secrets import Scrubber


def ran(text: str, *, ws: str = "app") -> dict[str, object]:
    return dict(line(2, "call.succeeded", {"tool": "shell", "result": text}, cause="r_1", ws=ws))


def found(*lines: dict[str, object], memory: tuple[Entry, ...] = (), **known: Tier) -> tuple[Evidence, ...]:
    return gather(lines, memory, scrub=Scrubber(), known=known).evidence  # type: ignore[arg-type]


def test_what_lowered_a_run_may_stand_outside_of_the_lines() -> None:
    """I10: a run that read a stranger's page and goes on is no better for not having rested yet."""
    started = dict(line(1, "run.started", {"goal": "x"}, id="r_1", tier="owner"))
    call = ran("the parser accepts ISO weeks")
    assert found(started, call)[0].tier is Tier.LOCAL
    assert found(started, call, r_1=Tier.PUBLIC)[0].tier is Tier.PUBLIC
    assert found(dict(line(1, "run.parked", {}, id="r_1", tier="public")), call, r_1=Tier.OWNER)[0].tier is Tier.PUBLIC


def test_what_another_workspace_remembers_is_no_echo() -> None:
    """I22: else a workspace would never learn what another one knows."""
    call = ran("tests run with pytest in the folder tests")
    assert found(call, memory=(entry("aaaa0001", "test.run", "Tests run with pytest in the folder tests."),)) == ()
    elsewhere = entry("aaaa0001", "test.run", "Tests run with pytest in the folder tests.", scope="lib")
    assert len(found(call, memory=(elsewhere,))) == 1


def test_an_echo_is_found_by_its_rarest_words_as_by_all_of_them() -> None:
    chance = random.Random(7)
    names = [f"word{number}" for number in range(14)]
    memory = tuple(
        entry(f"aaaa{number:04x}", f"n.e{number}", " ".join(chance.sample(names, chance.randint(3, 13))))
        for number in range(40)
    )
    outcomes = set()
    for _ in range(300):
        text = " ".join(chance.sample(names, chance.randint(4, 12)))
        words = set(content_words(text))
        echo = any(len(words & set(content_words(one.text))) >= ECHO * len(words) for one in memory)
        assert (found(ran(text), memory=memory) == ()) is echo
        outcomes.add(echo)
    assert outcomes == {True, False}
