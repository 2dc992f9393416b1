"""Answers from a phone: a real daemon, a real ntfy server, open to everybody or closed, and what each may say."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e.brain import Brain, by_goal, finish, steps, use
from tests.e2e.conftest import Make
from tests.e2e.daemon import Daemon, Settings, git, repository
from tests.ntfy_server import Closed, real_ntfy, serving_closed_ntfy, serving_ntfy

pytestmark = real_ntfy

LINE = 'for word in one two; do echo "$word" >> words.txt; done'
WORKFLOW = ".github/workflows/ci.yml"
NOTICES, ANSWERS = "kairos-notices", "kairos-answers"


@dataclass
class Phone:
    """What the owner, or a stranger, does with an ntfy server: reads notices, presses buttons, writes answers."""

    url: str
    token: str = ""

    def notices(self) -> list[dict[str, Any]]:
        text = self._ask("GET", f"{NOTICES}/json?poll=1&since=all").text
        return [json.loads(line) for line in text.splitlines()]

    def question(self, code: str) -> dict[str, Any]:
        """The notice with that code."""
        (found,) = [one for one in self.notices() if f"Answer: kairos approve {code}" in one["message"]]
        return found

    def says(self, text: str) -> int:
        return self._ask("POST", ANSWERS, content=text).status_code

    def presses(self, label: str, code: str) -> int:
        """Does what an app does: the request of the button, with nothing of its own."""
        (button,) = [one for one in self.question(code)["actions"] if one["label"] == label]
        assert button["action"] == "http"
        request = {"content": button["body"], "headers": button.get("headers", {})}
        with httpx.Client(trust_env=False) as client:
            return _surely(lambda: client.request(button["method"], button["url"], **request)).status_code

    def labels(self, code: str) -> list[str]:
        return [one["label"] for one in self.question(code).get("actions", [])]

    def _ask(self, method: str, path: str, content: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        with httpx.Client(trust_env=False, headers=headers) as client:
            return _surely(
                lambda: client.request(method, f"{self.url}/{path}", content=content), tries=4 * bool(headers)
            )


def _surely(ask: Callable[[], httpx.Response], tries: int = 4) -> httpx.Response:
    """The answer; a busy server refuses a valid token now and then, as somebody with a phone would see too."""
    answer = ask()
    for _ in range(tries):
        if answer.status_code != 403:
            break
        time.sleep(0.5)
        answer = ask()
    return answer


class Desk:
    """A daemon whose owner is asked."""

    def __init__(self, daemon: Daemon, phone: Phone) -> None:
        self.daemon = daemon
        self.phone = phone

    def ask(self, goal: str = "words") -> str:
        """A run has asked; the code, once the phone shows it."""
        assert self.daemon.kairos("tell", goal, cwd=self.daemon.settings.workspaces["engine"]).returncode == 4
        (question,) = self.daemon.json("approvals", "--state", "open")
        code = str(question["code"])
        self.daemon.wait_for(lambda: code in str(self.phone.notices()), "the phone shows the question")
        return code

    def state(self, code: str) -> str:
        return str(next(one["state"] for one in self.daemon.json("approvals") if one["code"] == code))

    def becomes(self, code: str, *states: str) -> None:
        self.daemon.wait_for(lambda: self.state(code) in states, f"the question is {states}")

    def shown(self, text: str) -> None:
        self.daemon.wait_for(lambda: text in str(self.phone.notices()), f"the phone shows: {text}")


@pytest.fixture
def folder(tmp_path: Path, brain: Brain) -> Path:
    brain.act = by_goal(
        {
            "words": steps(use("request_approval", command=LINE, reason="it is asked for"), finish("done")),
            "guarded": steps(use("write", path=WORKFLOW, content="on: push\n"), finish("done")),
        }
    )
    return repository(tmp_path / "engine")


def settings(folder: Path, brain: Brain, url: str, more: str = "") -> Settings:
    section = f'[notifiers.ntfy]\nurl = "{url}"\ntopic = "{NOTICES}"\nanswers = "{ANSWERS}"\n{more}'
    return Settings({"engine": folder}, {"scripted": brain.section("openai")}, "scripted", more=section)


@pytest.fixture
def open_server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "ntfy").mkdir()
    with serving_ntfy(tmp_path / "ntfy") as url:
        yield url


@pytest.fixture
def closed_server(tmp_path: Path) -> Iterator[Closed]:
    (tmp_path / "ntfy").mkdir()
    with serving_closed_ntfy(tmp_path / "ntfy") as made:
        yield made


def test_over_an_open_topic_a_no_counts_a_yes_does_not_and_guesses_silence_it(
    folder: Path, brain: Brain, make_daemon: Make, open_server: str
) -> None:
    daemon, phone = make_daemon(settings(folder, brain, open_server)), Phone(open_server)
    daemon.start()
    desk = Desk(daemon, phone)
    code = desk.ask()
    assert phone.labels(code) == ["No"]
    phone.says(f"yes {code}")
    desk.shown("was not seen to be closed to strangers")
    assert desk.state(code) == "open"
    assert phone.presses("No", code) == 200
    desk.becomes(code, "denied")
    (answered,) = [one for one in daemon.json("approvals") if one["code"] == code]
    assert answered["channel"] == "ntfy"
    daemon.wait_for(lambda: daemon.json("runs")[0]["ended"], "the run has heard the no")
    assert daemon.json("runs")[0]["branch"] is None

    code = desk.ask()
    for guess in ("bbbbb", "ccccc", "ddddd", "fffff", "ggggg"):
        phone.says(f"no {guess}")
    desk.shown("Somebody guesses codes over ntfy")
    phone.says(f"no {code}")
    daemon.wait_for(lambda: b"is silenced until" in daemon.log.read_bytes(), "it was heard and does not count")
    assert desk.state(code) == "open"
    daemon.kairos("approve", code, check=True)


def test_over_closed_topics_both_count_once_and_never_for_what_is_protected(
    folder: Path, brain: Brain, make_daemon: Make, closed_server: Closed, tmp_path: Path
) -> None:
    for name, token in (("token", closed_server.token), ("buttons", closed_server.phone)):
        (tmp_path / name).write_text(token)
        (tmp_path / name).chmod(0o600)
    more = f'token_file = "{tmp_path / "token"}"\nanswers_token_file = "{tmp_path / "buttons"}"\n'
    daemon = make_daemon(settings(folder, brain, closed_server.url, more))
    owner, stranger = Phone(closed_server.url, closed_server.token), Phone(closed_server.url)
    daemon.start()
    daemon.wait_for(lambda: daemon.status()["channels"][0]["private"], "the topics were seen to be closed")
    desk = Desk(daemon, owner)
    time.sleep(2.5)  # what was said in the same second as the first look, or the next, may be a stranger's

    first = desk.ask()
    assert closed_server.token not in str(owner.notices()), "Kairos's own token stays with it"
    assert stranger.says(f"yes {first}") == 403
    assert owner.labels(first) == ["Yes", "No"]
    assert owner.presses("Yes", first) == 200
    desk.becomes(first, "approved", "used")
    daemon.wait_for(lambda: daemon.json("runs")[0]["ended"], "the run goes on to its end")
    (run,) = daemon.json("runs")
    assert git(folder, "show", f"{run['branch']}:words.txt") == "one\ntwo\n"

    second = desk.ask("words again")
    owner.says(f"yes {first}")
    daemon.kill()
    owner.says(f"  ALLOW {second}\n")
    daemon.start()
    desk.becomes(second, "approved", "used")
    daemon.wait_for(lambda: daemon.json("runs")[0]["ended"], "the run goes on to its end")

    third = desk.ask("words once more")
    assert owner.presses("No", third) == 200
    desk.becomes(third, "denied")
    daemon.wait_for(lambda: daemon.json("runs")[0]["ended"], "the run has heard the no")

    guarded = desk.ask("guarded")
    assert owner.labels(guarded) == ["No"]
    owner.says(f"yes {guarded}")
    desk.shown("this question is about a protected path")
    assert desk.state(guarded) == "open"
    daemon.kairos("approve", guarded, check=True)
    daemon.wait_for(lambda: daemon.json("runs")[0]["ended"], "the run goes on to its end")
    assert [one["state"] for one in reversed(daemon.json("approvals"))] == ["used", "used", "denied", "used"]


def test_what_a_stranger_said_while_the_topics_were_open_does_not_count_once_they_are_closed(
    folder: Path, brain: Brain, make_daemon: Make, closed_server: Closed, tmp_path: Path
) -> None:
    closed_server.tell("access", "everyone", "kairos-*", "rw")
    (tmp_path / "token").write_text(closed_server.token)
    (tmp_path / "token").chmod(0o600)
    daemon = make_daemon(settings(folder, brain, closed_server.url, f'token_file = "{tmp_path / "token"}"\n'))
    owner, stranger = Phone(closed_server.url, closed_server.token), Phone(closed_server.url)
    daemon.start()
    desk = Desk(daemon, owner)
    code = desk.ask()
    assert stranger.says(f"yes {code}") == 200
    desk.shown("was not seen to be closed to strangers")

    closed_server.tell("access", "--reset", "everyone", "kairos-*")
    daemon.kill()
    daemon.start()
    daemon.wait_for(lambda: daemon.status()["channels"][0]["private"], "the topics were seen to be closed")
    assert stranger.says(f"yes {code}") == 403
    time.sleep(2.5)  # it is heard again, if at all
    assert desk.state(code) == "open"
    assert owner.says(f"yes {code}") == 200
    desk.becomes(code, "approved", "used")


def test_without_a_topic_for_answers_nothing_is_heard(
    folder: Path, brain: Brain, make_daemon: Make, open_server: str
) -> None:
    made = settings(folder, brain, open_server)
    made.more = made.more.replace(f'answers = "{ANSWERS}"\n', "")
    daemon, phone = make_daemon(made), Phone(open_server)
    daemon.start()
    desk = Desk(daemon, phone)
    code = desk.ask()
    assert phone.labels(code) == []
    phone.says(f"no {code}")
    daemon.kairos("tell", "words", cwd=folder)
    assert desk.state(code) == "open"
