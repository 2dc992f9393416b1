"""Channels that may say yes: only those that the start saw closed, and they are looked at until that is known."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.engine_bench import Setup
from tests.fakes import ManualClock, says, use

from kairosd.core.notices import Severity
from kairosd.engine.notices import Channel
from kairosd.engine.privacy import Privacy
from kairosd.errors import ChannelError, NotifierError, NotifierRefusedError
from kairosd.verbs import doctor_home
from kairosd.verbs.doctor_subject import Subject

pytestmark = pytest.mark.anyio

ASK_BELL = '[[policy.rules]]\nverdict = "ask"\ntool = "bell"\n'


class Looks:
    """What a channel sees at each look: words, or an error."""

    def __init__(self, *seen: str | Exception) -> None:
        self.seen = list(seen)

    async def __call__(self) -> str:
        found = self.seen.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


def channel(looks: Looks | None) -> Channel:
    return Channel("ntfy", Severity.LOW, lambda: None, strangers=looks)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    ("seen", "why"),
    [("", ""), ("whoever knows its topic may read it", "whoever knows"), (NotifierRefusedError("401"), "401")],
)
async def test_what_was_seen_is_known_and_looked_at_once(seen: str | Exception, why: str) -> None:
    looks = Looks(seen)
    privacy = Privacy([channel(looks), channel(None)], ManualClock())
    await privacy.run()
    (shown,) = privacy.view()
    assert (shown["private"], privacy.proven, looks.seen) == (not why, {"ntfy"} if not why else set(), [])
    assert why in str(shown["why"])


async def test_a_server_that_is_away_is_asked_again_and_until_then_is_not_private() -> None:
    clock = ManualClock()
    privacy = Privacy([channel(Looks(NotifierError("away"), NotifierError("away"), ""))], clock)
    running = asyncio.ensure_future(privacy.run())
    for seconds, proven in ((0, False), (60, False), (120, True)):
        await clock.advance(seconds)
        for _ in range(5):
            await asyncio.sleep(0)
        assert ("ntfy" in privacy.proven) is proven
    await running


async def test_the_desk_takes_a_yes_from_the_moment_on_that_the_channel_was_seen_closed(tmp_path: Path) -> None:
    setup = Setup(tmp_path, config=ASK_BELL)
    setup.privacy = Privacy([channel(Looks(""))], setup.clock)
    setup.actor.add(says("", use("bell")), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        code = str((await bench.question())["code"])
        with pytest.raises(ChannelError, match="closed to strangers"):
            await bench.engine.desk.answer(code, approve=True, channel="ntfy")
        await setup.privacy.run()
        assert (await bench.engine.desk.status())["channels"] == [{"name": "ntfy", "private": True, "why": ""}]
        await bench.engine.desk.answer(code, approve=True, channel="ntfy")
        await bench.quiet()
        assert (await bench.run(run)).state.value == "done_unchecked"
    assert len(setup.bell.rung) == 1


def test_the_doctor_says_what_the_daemon_has_seen() -> None:
    channels = [{"name": "ntfy", "private": True, "why": ""}, {"name": "other", "private": False, "why": "it is open"}]
    subject = Subject(None, None, None, problem="", status={"channels": channels}, silence="")  # type: ignore[arg-type]
    told = [finding.detail for finding in doctor_home.channels(subject)]
    assert told == ["ntfy may say yes: strangers are refused", "other may only say no: it is open"]
