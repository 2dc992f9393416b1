"""What http/server.py takes for granted of uvicorn's insides. A failure here means: read uvicorn's changes first."""

from __future__ import annotations

import inspect

import uvicorn
from uvicorn.config import Config

from kairosd.http.server import QuietServer, UnixProtocol


def test_the_minor_version_is_the_one_that_was_read() -> None:
    assert uvicorn.__version__.split(".")[:2] == ["0", "54"]


def test_serve_captures_signals_and_then_calls_what_we_call() -> None:
    source = inspect.getsource(uvicorn.Server.serve)
    assert "capture_signals" in source
    assert "self._serve(sockets)" in source
    assert "capture_signals" not in inspect.getsource(uvicorn.Server._serve)


def test_the_loop_we_replace_is_the_only_one_that_polls_while_serving() -> None:
    source = inspect.getsource(uvicorn.Server._serve)
    assert source.index("self.startup") < source.index("self.main_loop") < source.index("self.shutdown")
    assert "default_headers" in inspect.getsource(uvicorn.Server.on_tick)
    assert "sleep(0.1)" in inspect.getsource(uvicorn.Server.main_loop)


def test_the_server_keeps_what_is_cut_at_the_end() -> None:
    server = QuietServer(lambda *_: None)
    assert server.server_state.connections == set()
    assert server.server_state.tasks == set()
    assert "timeout_graceful_shutdown" in inspect.getsource(uvicorn.Server.shutdown)
    assert "self.servers" in inspect.getsource(uvicorn.Server.startup)


def test_a_protocol_class_is_taken_as_it_is() -> None:
    config = Config(lambda *_: None, http=UnixProtocol, ws="none", lifespan="off", log_config=None)
    config.load()
    assert config.http_protocol_class is UnixProtocol
