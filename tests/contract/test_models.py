"""Every HTTP provider against scripted servers on real sockets: what `kairosd.ports.Model` promises."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from tests.fakes import ManualClock
from tests.servers import ModelServer, Reply, Request, Respond

from kairosd.config import ModelSection
from kairosd.core.messages import (
    Done,
    Form,
    Message,
    NeedsRoomError,
    Prompt,
    StreamPart,
    TextDelta,
    ToolResult,
    ToolSpec,
    ToolUse,
    Usage,
    UseBroken,
    UseReady,
)
from kairosd.core.pricing import price
from kairosd.errors import ModelError, ModelProtocolError, ModelRefusedError, ModelUnavailableError
from kairosd.models import anthropic, openai
from kairosd.models.deps import ModelDeps
from kairosd.models.prices import load_prices, tariff_of
from kairosd.ports import Model
from kairosd.system.sse import EventDecoder, MalformedStreamError

pytestmark = pytest.mark.anyio

KEY = "sk-test-0123456789"
FORM = Form(
    "decide",
    "the verdict",
    {
        "type": "object",
        "properties": {"verdict": {"enum": ["act", "ignore"]}, "reason": {"type": "string", "maxLength": 200}},
        "required": ["verdict", "reason"],
    },
)
READ = ToolSpec(
    "read",
    "Reads a file.\nMore words.",
    {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
)
ASK = Prompt("You are terse.", (Message("user", "Hello?"),))
ASK_FORM = Prompt("You decide.", (Message("user", "A file changed."),), form=FORM)
ASK_TOOL = Prompt("You act.", (Message("user", "What is in README.md?"),), tools=(READ,))


class HastyClock(ManualClock):
    """Nobody waits: a sleep is noted and over."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.jump(seconds)
        await asyncio.sleep(0)


class Bench:
    """A model of one provider, its scripted server and its clock."""

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self.clock = HastyClock()
        self.server = ModelServer(lambda _: Reply(text="unscripted"))
        self.model: Model

    async def start(self, **keys: Any) -> None:
        await self.server.start()
        self.model = self.make(**keys)

    def make(self, **keys: Any) -> Model:
        path = "/v1" if self.provider == "openai" else ""
        section = ModelSection(
            provider=self.provider,  # type: ignore[arg-type]
            **{"model": "test-model", "base_url": self.server.url + path, "api_key_env": "THE_KEY", **keys},
        )
        module = {"anthropic": anthropic, "openai": openai}[self.provider]
        return module.build(
            "main", section, deps=ModelDeps(self.clock, KEY, Path("/nowhere"), jitter=lambda seconds: seconds)
        )

    def script(self, *replies: Reply | Respond) -> None:
        queue = list(replies)

        def respond(request: Request) -> Reply:
            reply = queue.pop(0) if len(queue) > 1 else queue[0]
            return reply if isinstance(reply, Reply) else reply(request)

        self.server._respond = respond

    async def stream(self, prompt: Prompt) -> list[StreamPart]:
        return [part async for part in self.model.stream(prompt)]

    async def fails(self, kind: type[ModelError], prompt: Prompt = ASK) -> ModelError:
        with pytest.raises(kind) as caught:
            await self.stream(prompt)
        assert KEY not in str(caught.value)
        assert "Hello?" not in str(caught.value)
        return caught.value


@pytest.fixture(params=["anthropic", "openai"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    bench = Bench(request.param)
    await bench.start()
    yield bench
    await bench.model.close()
    await bench.server.stop()


def words(parts: list[StreamPart]) -> str:
    return "".join(part.text for part in parts if isinstance(part, TextDelta))


async def test_text_streams_in_pieces_and_ends_with_usage(bench: Bench) -> None:
    bench.script(Reply(text="Good day to you — ünïcode 🦊 too.", usage=(100, 20, 40, 0)))
    parts = await bench.stream(ASK)
    assert words(parts) == "Good day to you — ünïcode 🦊 too."
    assert len(parts) > 3
    done = parts[-1]
    assert isinstance(done, Done)
    assert (done.stop, done.usage.input, done.usage.output, done.usage.cache_read) == ("end", 100, 20, 40)


async def test_a_request_says_that_it_is_json(bench: Bench) -> None:
    """Some servers refuse it otherwise, whatever it holds: the scripted ones too."""
    bench.script(Reply(text="hello"))
    await bench.stream(ASK)
    await bench.model.check()
    asked, looked_up = bench.server.log
    assert asked.headers["content-type"] == "application/json"
    assert "content-type" not in looked_up.headers


async def test_missing_usage_is_unknown_and_priced_unknown(bench: Bench) -> None:
    bench.script(Reply(text="hi", usage=None))
    done = (await bench.stream(ASK))[-1]
    assert isinstance(done, Done)
    assert done.usage.input is None
    assert price(done.usage, load_prices()["claude-opus-5"]) is None


async def test_tool_calls_come_whole_and_in_order(bench: Bench) -> None:
    bench.script(Reply(text="Looking.", uses=[("read", {"path": "a"}), ("read", {"path": "b é"})]))
    parts = await bench.stream(ASK_TOOL)
    uses = [part.use for part in parts if isinstance(part, UseReady)]
    assert [use.arguments for use in uses] == [{"path": "a"}, {"path": "b é"}]
    assert len({use.id for use in uses}) == 2
    assert isinstance(parts[-1], Done)
    assert parts[-1].stop == "tool_use"
    assert bench.server.asked[0].tools == ["read"]


async def test_broken_arguments_are_handed_over_as_broken(bench: Bench) -> None:
    bench.script(Reply(raw_uses=[("read", '{"path": "a'), ("read", "[1]")]))
    broken = [part for part in await bench.stream(ASK_TOOL) if isinstance(part, UseBroken)]
    assert [part.name for part in broken] == ["read", "read"]
    assert "JSON" in broken[0].problem
    assert "object" in broken[1].problem


async def test_a_conversation_with_results_is_rendered_for_the_provider(bench: Bench) -> None:
    bench.script(Reply(text="ok"))
    use = ToolUse("call_9", "read", {"path": "a"})
    messages = (
        Message("user", "Go."),
        Message("assistant", "Sure.", uses=(use,)),
        Message("user", "And hurry.", results=(ToolResult("call_9", "no such file", error=True),)),
    )
    await bench.stream(Prompt("S", messages, tools=(READ,)))
    sent = bench.server.asked[0].body["messages"]
    if bench.provider == "anthropic":
        assert sent[1]["content"][1] == {"type": "tool_use", "id": "call_9", "name": "read", "input": {"path": "a"}}
        result, text = sent[2]["content"]
        assert (result["type"], result["tool_use_id"], result["is_error"]) == ("tool_result", "call_9", True)
        assert text == {"type": "text", "text": "And hurry.", "cache_control": {"type": "ephemeral"}}
        body = bench.server.asked[0].body
        ends = [body["tools"][-1], body["system"][-1], sent[0]["content"][-1], text]
        assert all(block["cache_control"] == {"type": "ephemeral"} for block in ends)
        assert json.dumps(body).count("cache_control") == 4  # the most that the API takes
    else:
        assert [message["role"] for message in sent] == ["system", "user", "assistant", "tool", "user"]
        assert json.loads(sent[2]["tool_calls"][0]["function"]["arguments"]) == {"path": "a"}
        assert sent[3]["tool_call_id"] == "call_9"


async def test_a_form_is_filled_as_one_use(bench: Bench) -> None:
    bench.script(Reply(form={"verdict": "act", "reason": "because"}))
    first, done = await bench.stream(ASK_FORM)
    assert isinstance(first, UseReady)
    assert (first.use.name, first.use.arguments["verdict"]) == ("decide", "act")
    assert isinstance(done, Done)
    assert done.stop == "tool_use"


async def test_a_form_inside_prose_is_found_and_prose_alone_is_a_protocol_error(bench: Bench) -> None:
    bench.script(Reply(text='Here:\n```json\n{"verdict": "act", "reason": "x"}\n```'), Reply(text="I would act."))
    first, _ = await bench.stream(ASK_FORM)
    assert isinstance(first, UseReady)
    assert "decide" in str(await bench.fails(ModelProtocolError, ASK_FORM))


@pytest.mark.parametrize("status", [429, 500, 503, 529])
async def test_temporary_refusals_are_tried_again(bench: Bench, status: int) -> None:
    bench.script(Reply(status=status), Reply(status=status), Reply(text="at last"))
    assert words(await bench.stream(ASK)) == "at last"
    assert bench.clock.slept == [2.0, 4.0]


async def test_retry_after_is_honoured_as_seconds_and_as_a_date(bench: Bench) -> None:
    when = format_datetime(bench.clock.now() + timedelta(seconds=17 + 8), usegmt=True)
    bench.script(
        Reply(status=429, headers={"retry-after": "7"}),
        Reply(status=429, headers={"retry-after": when}),
        Reply(text="now"),
        Reply(status=429, headers={"retry-after": "600"}),
    )
    assert words(await bench.stream(ASK)) == "now"
    assert bench.clock.slept == [8.0, 18.0]
    error = await bench.fails(ModelUnavailableError)  # a wait for whoever asked, and nothing for a call to hang in
    assert (error.retry_after, len(bench.server.asked)) == (600, 4)  # type: ignore[attr-defined]


async def test_four_tries_and_no_more(bench: Bench) -> None:
    bench.script(Reply(status=529, headers={"retry-after": "3"}))
    error = await bench.fails(ModelUnavailableError)
    assert isinstance(error, ModelUnavailableError)
    assert (error.retry_after, error.tries) == (3.0, 4)
    assert len(bench.server.asked) == 4
    await bench.fails(ModelUnavailableError)
    assert len(bench.server.asked) == 5  # until it has answered again, once is enough
    bench.script(Reply(text="whole"), Reply(status=529))
    assert words(await bench.stream(ASK)) == "whole"
    await bench.fails(ModelUnavailableError)
    assert len(bench.server.asked) == 10


async def test_nobody_listens(bench: Bench) -> None:
    await bench.server.stop()
    error = await bench.fails(ModelUnavailableError)
    assert "cannot be reached" in str(error)
    assert len(bench.clock.slept) == 3
    await bench.server.start(bench.server.port)


async def test_a_stream_cut_in_the_middle_is_not_tried_again(bench: Bench) -> None:
    bench.script(Reply(text="one two three four five six", cut_after=5))
    assert "cut" in str(await bench.fails(ModelUnavailableError))
    assert len(bench.server.asked) == 1


async def test_a_stream_that_ends_neatly_without_saying_so_is_cut(bench: Bench) -> None:
    bench.script(Reply(text="one two three", usage=None, without_last=2))
    assert "cut" in str(await bench.fails(ModelUnavailableError))


async def test_a_stream_cut_before_its_first_part_is_tried_again(bench: Bench) -> None:
    bench.script(Reply(text="x", cut_after=1), Reply(text="whole"))
    assert words(await bench.stream(ASK)) == "whole"


async def test_a_cut_form_is_not_tried_again_because_it_may_be_charged(bench: Bench) -> None:
    filled = {"verdict": "ignore", "reason": "r" * 60}
    bench.script(Reply(form=filled, cut_after=7), Reply(form=filled))
    error = await bench.fails(ModelUnavailableError, ASK_FORM)
    assert (error.worked, len(bench.server.asked)) == (True, 1)  # type: ignore[attr-defined]


async def test_malformed_events_are_temporary(bench: Bench) -> None:
    bench.script(Reply(text="hello", malformed=True))
    assert "malformed" in str(await bench.fails(ModelUnavailableError))


async def test_an_error_in_the_middle_of_a_stream(bench: Bench) -> None:
    bench.script(Reply(text="some words", error="Overloaded"))
    assert "Overloaded" in str(await bench.fails(ModelUnavailableError))


@pytest.mark.parametrize("body", [{"error": {"type": "overloaded_error", "message": "busy"}}, "<html>log in</html>"])
async def test_200_without_a_stream(bench: Bench, body: Any) -> None:
    bench.script(Reply(body=body))
    await bench.fails(ModelUnavailableError)


async def test_an_empty_answer_is_a_protocol_error(bench: Bench) -> None:
    bench.script(Reply(text=""))
    assert "empty" in str(await bench.fails(ModelProtocolError))


async def test_a_refusal_is_an_answer(bench: Bench) -> None:
    bench.script(Reply(text="", stop="refusal" if bench.provider == "anthropic" else "content_filter"))
    (done,) = await bench.stream(ASK)
    assert isinstance(done, Done)
    assert done.stop == "refusal"


@pytest.mark.parametrize(
    ("status", "said", "fix"),
    [
        (401, f"wrong key {KEY}", "THE_KEY"),
        (403, "no", "THE_KEY"),
        (404, "model: test-model", "`model`"),
        (400, "prompt is too long: 9 tokens > 8 maximum", "context"),
        (400, f"something else about {KEY}", "[models.main]"),
        (400, "Your credit balance is too low", "top it up"),
    ],
)
async def test_permanent_refusals_name_the_fix_and_are_not_repeated(
    bench: Bench, status: int, said: str, fix: str
) -> None:
    bench.script(Reply(status=status, error=said))
    error = await bench.fails(ModelRefusedError)
    assert fix in (error.fix or "")
    assert len(bench.server.asked) == 1


async def test_silence_ends_the_call_and_slow_drops_do_not(bench: Bench) -> None:
    await bench.model.close()
    bench.model = bench.make(timeout_seconds=1)
    bench.script(Reply(text="slow but sure", drip=0.12), Reply(stall=True))
    assert words(await bench.stream(ASK)) == "slow but sure"  # takes longer than the silence that is allowed
    assert "not a byte" in str(await bench.fails(ModelUnavailableError))
    assert len(bench.server.asked) == 2


async def test_thinking_that_used_up_the_answer_is_given_room_and_paid_for(bench: Bench) -> None:
    stop = "max_tokens" if bench.provider == "anthropic" else "length"
    bench.script(Reply(thinking=True, stop=stop, usage=(10, 50, 0, 0)), Reply(text="thought", usage=(10, 60, 0, 0)))
    assert bench.model.thinking == 0
    needs = await bench.fails(NeedsRoomError)
    assert needs.usage == Usage(10, 50)  # type: ignore[attr-defined]
    parts = await bench.stream(replace(ASK, thinking=bench.model.thinking))
    assert words(parts) == "thought"
    assert isinstance(parts[-1], Done)
    assert (parts[-1].usage.input, parts[-1].usage.output) == (10, 60)
    assert bench.server.asked[1].body["max_tokens"] == ASK.max_tokens + bench.model.thinking > ASK.max_tokens


async def test_nothing_is_sent_that_was_not_reserved_although_room_is_known_by_now(bench: Bench) -> None:
    stop = "max_tokens" if bench.provider == "anthropic" else "length"
    thinks = Reply(thinking=True, stop=stop, usage=(10, 50, 0, 0))
    bench.script(thinks, thinks, Reply(text="thought"))
    for _ in range(2):  # the second was reserved before the first had taught anything
        await bench.fails(NeedsRoomError)
    await bench.stream(replace(ASK, thinking=bench.model.thinking))
    limits = [asked.body["max_tokens"] for asked in bench.server.asked]
    assert limits == [ASK.max_tokens, ASK.max_tokens, ASK.max_tokens + bench.model.thinking]


async def test_a_caller_that_stops_at_done_leaves_the_connection_free(bench: Bench) -> None:
    bench.script(Reply(text="a"))
    for _ in range(12):  # more than there are connections
        async for part in bench.model.stream(ASK):
            if isinstance(part, Done):
                break


async def test_check_is_free_and_says_what_is_wrong(bench: Bench) -> None:
    assert "test-model" in await bench.model.check()
    assert bench.server.asked == []
    other = bench.make(model="missing-model")
    with pytest.raises(ModelRefusedError) as caught:
        await other.check()
    assert "missing-model" in str(caught.value)
    await other.close()


async def test_models_that_refuse_a_forced_tool_are_asked_by_schema_from_then_on() -> None:
    bench = Bench("anthropic")
    await bench.start()

    def respond(request: Request) -> Reply:
        if "tool_choice" in request.body:
            return Reply(status=400, error='tool_choice: type "tool" and "any" are not supported for this model.')
        assert request.body["output_config"]["format"]["schema"]["additionalProperties"] is False
        return Reply(form={"verdict": "act", "reason": "x"})

    bench.script(respond)
    for _ in range(2):
        first, _done = await bench.stream(ASK_FORM)
        assert isinstance(first, UseReady)
        assert first.use.name == "decide"
    assert len(bench.server.asked) == 3  # the refusal is met once
    await bench.model.close()
    await bench.server.stop()


@pytest.mark.parametrize(
    ("said", "changed"),
    [
        ("'max_tokens' is not supported. Use 'max_completion_tokens' instead.", "max_completion_tokens"),
        ("unknown field stream_options", "stream_options"),
        ("Function tools need reasoning_effort to be 'none' in /v1/chat/completions", "reasoning_effort"),
        ("response_format json_schema is not supported", "response_format"),
    ],
)  # fmt: skip
async def test_compatible_servers_teach_what_they_take(said: str, changed: str) -> None:
    bench = Bench("openai")
    await bench.start()
    bench.script(Reply(status=400, error=said), Reply(form={"verdict": "act", "reason": "x"}))
    first, _ = await bench.stream(ASK_FORM)
    assert isinstance(first, UseReady)
    before, after = (request.body for request in bench.server.asked)
    assert (changed in before) != (changed in after)
    await bench.model.close()
    await bench.server.stop()


async def test_schema_style_calls_tools_and_renders_history_as_text() -> None:
    bench = Bench("openai")
    await bench.start(tool_style="schema")
    bench.script(
        Reply(uses=[("read", {"path": "b"})]), Reply(text='{"tool": "fly", "arguments": {}}'), Reply(text="hm")
    )
    use = ToolUse("call_1", "read", {"path": "a"})
    messages = (
        Message("user", "Go."),
        Message("assistant", uses=(use,)),
        Message("user", results=(ToolResult("call_1", "the text"),)),
    )
    prompt = Prompt("S", messages, tools=(READ,))
    ready, done = await bench.stream(prompt)
    assert ready == UseReady(ToolUse("call_2", "read", {"path": "b"}))
    assert isinstance(done, Done)
    sent = bench.server.asked[0].body
    assert [message["role"] for message in sent["messages"]] == ["system", "user", "assistant", "user"]
    assert "- read(path): Reads a file." in sent["messages"][0]["content"]
    assert json.loads(sent["messages"][2]["content"]) == {"tool": "read", "arguments": {"path": "a"}}
    assert sent["messages"][3]["content"] == "# read returned\nthe text"
    broken, _ = await bench.stream(prompt)
    assert isinstance(broken, UseBroken)
    assert words(await bench.stream(prompt)) == "hm"
    await bench.model.close()
    await bench.server.stop()


async def test_a_stream_without_the_done_marker_is_whole_when_it_said_why_it_ended() -> None:
    bench = Bench("openai")
    await bench.start()
    chunk = {"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}
    bench.script(Reply(events=[("", json.dumps(chunk))]))
    assert words(await bench.stream(ASK)) == "hi"
    await bench.model.close()
    await bench.server.stop()


async def test_prices_know_dated_names_and_never_guess() -> None:
    bench = Bench("anthropic")
    await bench.start(model="claude-opus-5-5-20260922")
    assert tariff_of(bench.model) == load_prices()["claude-opus-5-5"]
    assert load_prices() is load_prices()
    assert load_prices()["claude-opus-5-5"].input == Decimal(4)
    bench.script(Reply(text="x", usage=(1000, 100, 10, 10)))
    done = (await bench.stream(ASK))[-1]
    assert isinstance(done, Done)
    assert price(done.usage, tariff_of(bench.model)) == 4000 + 2000 + 2 + 50
    assert tariff_of(bench.make(model="somebody-elses")) is None
    assert all(tariff.output > tariff.input > 0 for tariff in load_prices().values())
    await bench.model.close()
    await bench.server.stop()


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
async def test_events_survive_any_cut(step: int) -> None:
    raw = "\ufeff: hello\r\nevent: a\r\ndata: one\r\ndata:two é\r\n\r\nid: 4\ndata\n\ndata: {}\n\ndata: torn".encode()
    decoder = EventDecoder()
    events = [event for at in range(0, len(raw), step) for event in decoder.feed(raw[at : at + step])]
    assert [(event.name, event.data) for event in events] == [("a", "one\ntwo é"), ("", ""), ("", "{}")]


async def test_an_event_without_an_end_is_given_up_in_time_that_grows_with_it() -> None:
    def feed() -> None:
        decoder = EventDecoder()
        for _ in range(100_000):
            decoder.feed(b"x" * 100)

    began = time.process_time()
    with pytest.raises(MalformedStreamError):
        feed()
    assert time.process_time() - began < 2.0  # looked through anew for each piece it would take minutes


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("step", [1, 2, 3])
async def test_every_kind_of_line_end_ends_an_event_at_once(end: str, step: int) -> None:
    raw = f"data: a{end}{end}data: b{end}{end}".encode()
    decoder = EventDecoder()
    events = [event for at in range(0, len(raw), step) for event in decoder.feed(raw[at : at + step])]
    assert [event.data for event in events] == ["a", "b"]


async def test_bytes_that_are_no_text_are_malformed() -> None:
    with pytest.raises(MalformedStreamError):
        EventDecoder().feed(b"data: \xff\n\n")


AIMOCK = os.environ.get("KAIROS_AIMOCK", "")


@pytest.fixture
async def aimock(tmp_path: Path) -> AsyncIterator[Callable[[str], Model]]:
    cli = Path(AIMOCK) / "@copilotkit" / "aimock" / "dist" / "cli.js"
    node = shutil.which("node")
    if not AIMOCK or node is None or not cli.exists():
        pytest.skip("needs node and KAIROS_AIMOCK=…/node_modules with @copilotkit/aimock")
    verdict = {"verdict": "act", "reason": "x"}
    decided = {"toolCalls": [{"name": "decide", "arguments": verdict}]}
    read = {"toolCalls": [{"name": "read", "arguments": {"path": "README.md"}}]}
    fixtures = [
        {"match": {"userMessage": "Hello?"}, "response": {"content": "A greeting from elsewhere."}},
        {"match": {"toolName": "decide"}, "response": decided},
        {"match": {"userMessage": "A file changed."}, "response": {"content": json.dumps(verdict)}},
        {"match": {"toolName": "read"}, "response": read},
    ]
    file = tmp_path / "fixtures.json"
    file.write_text(json.dumps({"fixtures": fixtures}))
    process = await asyncio.create_subprocess_exec(
        node, str(cli), "-p", "0", "-f", str(file), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    url = ""
    async with asyncio.timeout(60):
        while "http://" not in url:
            url = (await process.stdout.readline()).decode()
    url = url[url.index("http://") :].split()[0].rstrip("/.,")
    made: list[Model] = []

    def make(provider: str) -> Model:
        base = f"{url}/v1" if provider == "openai" else url
        section = ModelSection(
            provider=provider, model="gpt-5.4" if provider == "openai" else "claude-opus-5", base_url=base
        )  # type: ignore[arg-type]
        module = {"anthropic": anthropic, "openai": openai}[provider]
        made.append(module.build("main", section, deps=ModelDeps(HastyClock(), KEY, tmp_path)))
        return made[-1]

    yield make
    for model in made:
        await model.close()
    process.kill()
    await process.communicate()


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
async def test_against_aimock(aimock: Callable[[str], Model], provider: str) -> None:
    model = aimock(provider)
    assert words([part async for part in model.stream(ASK)]) == "A greeting from elsewhere."
    parts = [part async for part in model.stream(ASK_TOOL)]
    assert [part.use.arguments for part in parts if isinstance(part, UseReady)] == [{"path": "README.md"}]
    form = [part async for part in model.stream(ASK_FORM)]
    assert isinstance(form[0], UseReady)
    assert form[0].use.name == "decide"


async def test_calls_that_are_all_counted_as_the_first_are_told_apart() -> None:
    bench = Bench("openai")
    await bench.start()
    calls = [
        {"index": 0, "id": f"c{number}", "function": {"name": "read", "arguments": json.dumps({"path": str(number)})}}
        for number in (1, 2)
    ]
    chunks = [{"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]} for call in calls]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    bench.script(Reply(events=[("", json.dumps(chunk)) for chunk in chunks]))
    found = [part.use for part in await bench.stream(ASK_TOOL) if isinstance(part, UseReady)]
    assert [(each.id, each.arguments) for each in found] == [("c1", {"path": "1"}), ("c2", {"path": "2"})]
    await bench.model.close()
    await bench.server.stop()


async def test_a_conversation_that_another_server_began_is_one_that_the_provider_takes(bench: Bench) -> None:
    """Anthropic refuses an id twice in a request, and whatever is no name."""
    bench.script(Reply(text="ok"))
    turns = [
        (
            Message("assistant", uses=(ToolUse("functions.read:0", name, {"path": path}),)),
            Message("user", results=(ToolResult("functions.read:0", path),)),
        )
        for name, path in (("functions.read", "a"), ("", "b"), ("read", "c"))
    ]
    await bench.stream(Prompt("S", (Message("user", "Go."), *turns[0], *turns[1], *turns[2]), tools=(READ,)))
    sent = bench.server.asked[0].body["messages"]
    if bench.provider == "anthropic":
        uses = [block for each in sent[1::2] for block in each["content"]]
        back = [block["tool_use_id"] for each in sent[2::2] for block in each["content"]]
        assert [use["id"] for use in uses] == back
        assert len(set(back)) == 3
        names = [*back, *(use["name"] for use in uses)]
    else:
        names = [call["function"]["name"] for each in sent for call in each.get("tool_calls", ())]
    assert len(names) >= 3
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in names)
