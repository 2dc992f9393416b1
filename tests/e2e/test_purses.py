"""A purse, end to end with real processes: a run asks before it takes more, also over a kill; what it took is shown."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.brain import Brain, about_last_commit, by_goal
from tests.e2e.conftest import Make
from tests.e2e.daemon import Settings, repository


def test_an_empty_purse_asks_once_also_over_a_kill_and_the_cost_is_shown(
    tmp_path: Path, brain: Brain, make_daemon: Make
) -> None:
    folder = repository(tmp_path / "engine")
    brain.act = by_goal({"last commit": about_last_commit})
    purse = "[budget.owner]\ndollars_per_hour = 0\ntokens_per_hour = 1000\n"
    daemon = make_daemon(Settings({"engine": folder}, {"m": brain.section("openai")}, "m", more=purse))
    daemon.start()
    told = daemon.kairos("tell", "what changed in the last commit?", cwd=folder)
    assert told.returncode == 4, told
    assert "1,000 tokens in any hour" in told.stdout + told.stderr
    (question,) = daemon.json("approvals", "--state", "open")
    assert str(question["question"]).endswith("tokens for this run?")
    daemon.restart(kill=True)
    assert [one["code"] for one in daemon.json("approvals", "--state", "open")] == [question["code"]]
    assert brain.calls == 0
    assert daemon.kairos("approve", str(question["code"])).returncode == 0
    ended = daemon.wait_for(lambda: daemon.json("runs", "--state", "done_unchecked"), "the run to end")
    assert brain.calls > 0
    (model,) = daemon.json("cost", "--by", "model")
    assert (model["calls"], model["price"], model["unpriced_calls"]) == (brain.calls, None, brain.calls)
    (run,) = daemon.json("cost", "--by", "run")
    assert (run["run"], run["tokens"]) == (ended[0]["id"], ended[0]["tokens"])
    assert "price unknown" in daemon.kairos("cost").stdout
    # What the owner allowed beyond the purse was not taken out of it.
    assert daemon.status()["purses"]["owner"]["hour"]["tokens"] == 0
