"""The control API over a real unix socket: its answers, its refusals, its stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from tests.control_server import ControlServer, wait_for

from kairosd.errors import AmbiguousIdError, ConfigError, KairosError, StoreError, TransitionError, UsageError
from kairosd.ports import Query, Update

ENDED = Update("ended", "it says hello", {"state": "done", "answer": "it says hello", "price": 12})


@pytest.fixture
def server() -> Iterator[ControlServer]:
    with ControlServer(version="9.8.7", heartbeat_seconds=0.05) as server:
        yield server


def test_every_answer_carries_the_version(server: ControlServer) -> None:
    for method, target in (("GET", "/status"), ("GET", "/show/r_none"), ("GET", "/nowhere"), ("DELETE", "/status")):
        assert server.ask(method, target).headers["x-kairos-version"] == "9.8.7"


def test_status_is_the_desks(server: ControlServer) -> None:
    told = server.ask("GET", "/status")
    assert (told.status, told.body) == (200, server.desk.state)


def test_tell_is_accepted_with_the_ids(server: ControlServer) -> None:
    told = server.ask("POST", "/tell", {"text": "hi", "workspace": None, "folder": "/src/api"})
    assert told.status == 202
    assert told.body == {"event": "e_1", "run": "r_1", "workspace": "api"}
    assert server.desk.asked == [("tell", "hi", None, "/src/api")]


def test_a_listing_is_asked_for_as_it_was_wanted(server: ControlServer) -> None:
    server.desk.rows["runs"] = [{"id": "r_2"}, {"id": "r_1"}]
    target = "/list/runs?state=done&workspace=api&since=2026-03-01T10:00:00%2B02:00&prefix=r_&limit=7"
    assert server.ask("GET", target).body == [{"id": "r_2"}, {"id": "r_1"}]
    since = datetime(2026, 3, 1, 8, tzinfo=UTC)
    assert server.desk.asked == [("listing", "runs", Query("done", "api", since, "r_", 7))]


@pytest.mark.parametrize(
    ("method", "target", "body", "asked"),
    [
        ("GET", "/why/r_1", None, ("why", "r_1")),
        (
            "GET",
            "/costs?by=run&since=2026-03-01T10:00:00%2B02:00&limit=7",
            None,
            ("costs", "run", datetime(2026, 3, 1, 8, tzinfo=UTC), 7),
        ),
        ("POST", "/events/e_1/retry", None, ("retry", "e_1")),
        ("POST", "/pause", {"reason": "holiday"}, ("pause", "holiday")),
        ("POST", "/pause", None, ("pause", "")),
        ("POST", "/resume", None, ("resume",)),
        ("POST", "/stop", {"run": "r_1"}, ("stop", "r_1")),
        ("POST", "/stop", {}, ("stop", None)),
        ("POST", "/approvals/KMNPQ", {"approve": False}, ("answer", "KMNPQ", False, "socket")),
        ("POST", "/approvals/KMNPQ", {"approve": True, "always": True}, ("answer", "KMNPQ", True, "socket", "always")),
        ("DELETE", "/grants/g_1", None, ("revoke", "g_1")),
        ("GET", "/workspaces", None, ("workspaces",)),
        ("POST", "/workspaces", {"path": "/src/api"}, ("set_workspace", "api", "/src/api")),
        ("POST", "/workspaces", {"path": "/src/api", "name": "b"}, ("set_workspace", "b", "/src/api")),
        ("DELETE", "/workspaces/api", None, ("set_workspace", "api", None)),
        ("POST", "/workspaces/api/trust", None, ("trust", "api")),
        ("POST", "/workspaces/api/level", {"level": "open"}, ("set_level", "api", "open")),
        ("POST", "/reload", None, ("reload",)),
        ("POST", "/ratings", {"id": "d_1", "rating": "noise"}, ("rate", "d_1", "noise")),
        ("GET", "/calibration?since=2026-03-01T08:00:00Z", None, ("calibration", datetime(2026, 3, 1, 8, tzinfo=UTC))),
        (
            "GET",
            "/triggers?since=2026-03-01T08:00:00Z&workspace=api",
            None,
            ("triggers", datetime(2026, 3, 1, 8, tzinfo=UTC), "api"),
        ),
        ("POST", "/triggers/files/mode", {"mode": "on"}, ("set_trigger", "files", "on")),
        ("GET", "/list/decisions?shadow=true", None, ("listing", "decisions", Query(shadow=True))),
        ("POST", "/notices/test", None, ("test_notice",)),
    ],
)
def test_each_order_reaches_the_desk(
    server: ControlServer, method: str, target: str, body: object, asked: tuple[object, ...]
) -> None:
    assert server.ask(method, target, body).status == 200
    assert server.desk.asked == [asked]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (UsageError("which workspace?", fix="say -w NAME"), 400, 2),
        (AmbiguousIdError("r_1 could be two", fix="say -w NAME"), 400, 2),
        (TransitionError("it is not dead", fix="say -w NAME"), 409, 1),
        (ConfigError("line 3", fix="say -w NAME"), 409, 78),
        (StoreError("no", fix="say -w NAME"), 500, 1),
        (KairosError("no", fix="say -w NAME"), 500, 1),
    ],
)
def test_a_refusal_names_the_fix_and_the_exit_code(
    server: ControlServer, error: KairosError, status: int, code: int
) -> None:
    server.desk.error = error
    told = server.ask("GET", "/status")
    assert told.status == status
    assert told.body == {"error": error.message, "fix": "say -w NAME", "exit_code": code, "version": "9.8.7"}


def test_what_is_not_there_is_404(server: ControlServer) -> None:
    told = server.ask("GET", "/show/r_none")
    assert (told.status, told.body["exit_code"], told.body["fix"]) == (404, 2, "look into the journal")
    assert server.ask("GET", "/list/dreams").status == 404
    assert server.ask("GET", "/runs/r_none/nothing").body["version"] == "9.8.7"


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("POST", "/tell", {}),
        ("POST", "/tell", {"text": "hi", "txet": "ho"}),
        ("POST", "/tell", {"text": "x" * 100_001}),
        ("POST", "/approvals/KMNPQ", {"approve": "perhaps"}),
        ("POST", "/workspaces", {"path": "relative"}),
        ("POST", "/workspaces/api/level", {"level": "everything"}),
        ("POST", "/workspaces/api/level", {}),
        ("POST", "/ratings", {"id": "d_1", "rating": "nice"}),
        ("POST", "/triggers/files/mode", {"mode": "off"}),
        ("GET", "/list/runs?limit=0", None),
        ("GET", "/list/runs?since=2026-03-01T10:00:00", None),
        ("GET", "/list/runs?sate=done", None),
    ],
)
def test_a_malformed_request_is_refused_in_the_same_form(
    server: ControlServer, method: str, target: str, body: object
) -> None:
    told = server.ask(method, target, body)
    assert told.status == 400
    assert set(told.body) == {"error", "fix", "exit_code", "version"}
    assert told.body["exit_code"] == 2
    assert server.desk.asked == []


def test_a_crash_is_told_in_the_same_form_without_its_insides(server: ControlServer) -> None:
    server.desk.error = RuntimeError("secret detail")
    told = server.ask("GET", "/status")
    assert told.status == 500
    assert told.headers["x-kairos-version"] == "9.8.7"
    assert "secret detail" not in json.dumps(told.body)


def test_no_pages_are_served(server: ControlServer) -> None:
    for target in ("/docs", "/redoc", "/openapi.json"):
        assert server.ask("GET", target).status == 404


def test_updates_come_while_the_run_goes_on(server: ControlServer) -> None:
    server.desk.updates = [Update("text", "héllo", {})]
    server.desk.unending = True
    connection = server.connect()
    connection.request("GET", "/runs/r_1/follow")
    response = connection.getresponse()
    assert response.headers["x-kairos-version"] == "9.8.7"
    assert json.loads(response.readline()) == {"kind": "text", "text": "héllo", "data": {}}
    assert [response.readline() for _ in range(3)] == [b"\n"] * 3
    assert not server.desk.left.is_set()
    response.close()
    connection.close()
    wait_for(server.desk.left.is_set)


def test_a_stream_ends_with_its_run(server: ControlServer) -> None:
    server.desk.updates = [Update("text", "a", {}), ENDED]
    connection = server.connect()
    connection.request("GET", "/runs/r_1/follow")
    lines = [json.loads(line) for line in connection.getresponse().read().splitlines() if line]
    connection.close()
    assert [line["kind"] for line in lines] == ["text", "ended"]
    assert lines[1]["data"]["price"] == 12


def test_following_what_is_not_there_is_refused_before_the_stream(server: ControlServer) -> None:
    server.desk.error = UsageError("no such run")
    told = server.ask("GET", "/runs/r_none/follow")
    assert (told.status, told.body["error"]) == (400, "no such run")


def test_an_error_in_the_middle_is_the_last_line(server: ControlServer) -> None:
    server.desk.updates = [Update("text", "a", {"then": "the run is gone"})]
    connection = server.connect()
    connection.request("GET", "/runs/r_1/follow")
    last = connection.getresponse().read().splitlines()[-1]
    connection.close()
    assert json.loads(last) == {"kind": "error", "text": "the run is gone", "data": {"fix": None, "exit_code": 2}}
