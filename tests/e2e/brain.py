"""A scripted model for tests with real processes: the server runs in a thread, its log is the truth about calls."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.servers import ModelServer, Reply, Request

PROVIDERS = ("anthropic", "openai")
IGNORE: Mapping[str, Any] = {
    "reason": "the owner is at work", "verdict": "ignore", "goal": "", "confidence": 90, "wake_seconds": 0,
}  # fmt: skip
FILED: Mapping[str, Any] = {"kind": "bug", "area": "code", "urgency": "normal", "wants": "fix", "orders": "no"}

Decide = Callable[[Request], Mapping[str, Any]]
Act = Callable[[Request], Reply]


class Brain:
    """Answers decisions with `decide` and turns of runs with `act`. Turns can be held back."""

    def __init__(self, *, decide: Decide = lambda _: IGNORE, act: Act = lambda _: Reply(text="nothing to do")) -> None:
        self.decide = decide
        self.triage: Decide = lambda _: FILED
        self.act = act
        self._free = threading.Event()
        self._free.set()
        self._loop = asyncio.new_event_loop()
        self._server = _Held(self._respond, self._free)
        self._thread = threading.Thread(target=self._loop.run_forever, name="brain", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result(10)

    def section(self, provider: str) -> dict[str, object]:
        """`[models.NAME]` for this server, spoken to by the protocol of `provider`."""
        base = self._server.url if provider == "anthropic" else f"{self._server.url}/v1"
        return {"provider": provider, "model": "test-model", "base_url": base, "api_key_env": "SCRIPTED_KEY"}

    @property
    def decisions(self) -> list[Request]:
        """The requests for a decision so far."""
        return [request for request in self._server.asked if request.form and not is_triage(request)]

    @property
    def filings(self) -> list[Request]:
        """The requests to file what a stranger wrote so far."""
        return [request for request in self._server.asked if is_triage(request)]

    @property
    def turns(self) -> list[Request]:
        """The requests for a turn of a run so far."""
        return [request for request in self._server.asked if not request.form]

    @property
    def calls(self) -> int:
        return len(self._server.asked)

    def hold(self) -> None:
        """From now on turns of runs get no answer until `release`."""
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    def close(self) -> None:
        self.release()
        asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _respond(self, request: Request) -> Reply:
        if request.form:
            return Reply(form=self.triage(request) if is_triage(request) else self.decide(request))
        return self.act(request)


class _Held(ModelServer):
    def __init__(self, respond: Callable[[Request], Reply], free: threading.Event) -> None:
        super().__init__(respond)
        self._free = free

    async def answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        if request.method == "POST" and not request.form and not self._free.is_set():
            self.log.append(request)
            while not self._free.is_set():
                await asyncio.sleep(0.02)
            self.log.pop(self.log.index(request))  # the base class logs it once more
        return await super().answer(request, writer)


def is_triage(request: Request) -> bool:
    """Whether the form asked for is the one that files a stranger's text."""
    return bool(request.form) and '"orders"' in json.dumps({**request.body, "messages": []})


def steps(*replies: Reply) -> Act:
    """The same run every time: its n-th turn gets the n-th reply, whatever was answered to others meanwhile."""
    return lambda request: replies[min(request.turns, len(replies) - 1)]


def by_goal(scripts: Mapping[str, Act]) -> Act:
    """Chooses the script by a word of the goal."""

    def act(request: Request) -> Reply:
        goal = first_words(request)
        found = [script for word, script in scripts.items() if word in goal]
        return found[0](request) if found else Reply(text="this goal is not in the script")

    return act


def first_words(request: Request) -> str:
    """The text of the conversation's first message that is not the system's: a run's goal, or a digest."""
    message = next(each for each in request.body["messages"] if each["role"] == "user")
    return flat(message["content"])


def results(request: Request) -> list[str]:
    """What the tools of this run have answered so far, in either protocol."""
    found: list[str] = []
    for message in request.body["messages"]:
        if message["role"] == "tool":
            found.append(flat(message["content"]))
        elif message["role"] == "user" and isinstance(message["content"], list):
            found += [flat(block["content"]) for block in message["content"] if block["type"] == "tool_result"]
    return found


def flat(content: str | Sequence[Mapping[str, Any]]) -> str:
    """Text as one string, whether it came as one or as blocks."""
    if isinstance(content, str):
        return content
    return "\n".join(str(block.get("text", "")) for block in content)


def use(name: str, **arguments: object) -> Reply:
    """One tool call."""
    return Reply(uses=[(name, arguments)])


def finish(answer: str, *checks: Mapping[str, str]) -> Reply:
    """The end of a run."""
    return use("finish", answer=answer, checks=list(checks))


def about_last_commit(request: Request) -> Reply:
    """Answers "what changed?" with what git_show really showed, so that the tool is what the test sees."""
    seen = results(request)
    if not seen:
        return use("git_show")
    subject = re.search(r"^subject: (.*)$", seen[-1], re.MULTILINE)
    files = re.findall(r"^changed file \(\w+\): (.*)$", seen[-1], re.MULTILINE)
    return finish(f"The last commit is {subject and subject[1]!r}; it changed {', '.join(files)}.")


def add_hello(request: Request) -> Reply:
    """Appends a line to README.md and asks for the check of it."""
    return steps(
        use("read", path="README.md"),
        use("edit", path="README.md", old="", new="hello\n"),
        finish("README.md has a line 'hello' now.", {"kind": "file_contains", "path": "README.md", "text": "hello"}),
    )(request)


def edit_workflow(request: Request) -> Reply:
    """Wants to write a protected file."""
    seen = results(request)
    if not seen:
        return use("write", path=".github/workflows/x.yml", content="on: push\n")
    if "did not allow" in seen[-1]:
        return finish("The owner did not want it.")
    return finish("The workflow is there.", {"kind": "file_exists", "path": ".github/workflows/x.yml"})
