"""What a start of the daemon imports, and when: its memory and its time to ready hang on it."""

from __future__ import annotations

import subprocess
import sys

import pytest

CONTROL = """
import sys
from kairosd.system.libraries import leave_out_unused
leave_out_unused()
from kairosd.http.control import build_control
class Desk:
    async def listing(self, kind, query):
        return [kind, query.limit]
app = build_control(Desk(), "1")
"""


def _run(program: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("seldom", ["alembic", "apscheduler", "argparse", "fastapi", "httpx", "sqlalchemy", "uvicorn"])
def test_the_locks_are_taken_and_the_canary_flies_before_anything_heavy_is_imported(seldom: str) -> None:
    assert seldom not in _run("import sys, kairosd.main, kairosd.app; print(*sys.modules)")


@pytest.mark.parametrize("childs", ["ctypes", "resource", "kairosd.executor.child"])
def test_what_only_the_executors_process_needs_stays_there(childs: str) -> None:
    assert childs not in _run("import sys, kairosd.executor.client; print(*sys.modules)")


@pytest.mark.parametrize(
    "program",
    ["import kairosd.core.shell.plans, kairosd.core.shell.programs", "import kairosd.tools.shell as s; s.build()"],
)
def test_the_grammar_of_the_shell_is_loaded_at_the_first_line_only(program: str) -> None:
    assert "tree_sitter" not in _run(f"import sys; {program}; print(*sys.modules)")


def test_modules_that_the_libraries_only_ask_for_stay_out() -> None:
    serves = "import kairosd.http.server, kairosd.store.database, watchfiles"
    loaded = _run(f"{CONTROL}\n{serves}\nprint(*(name for name, module in sys.modules.items() if module is not None))")
    assert "fastapi.routing" in loaded
    assert {"uvicorn.server", "watchfiles.main", "sqlalchemy.dialects.sqlite.pysqlite"} <= set(loaded)
    seldom = (
        "pydantic.v1",
        "httpx._main",
        "rich",
        "click",
        "multiprocessing",
        "opentelemetry",
        "sqlalchemy.connectors",
    )
    assert not [name for name in loaded if name.startswith(seldom)]


def test_models_nobody_uses_are_not_built_and_the_others_judge_as_ever() -> None:
    asks = """
import asyncio, httpx
from fastapi.openapi.models import OpenAPI
async def ask(address):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://kairos") as client:
        return (await client.get(address)).status_code
print(OpenAPI.__pydantic_complete__, asyncio.run(ask("/list/runs?limit=7")), asyncio.run(ask("/list/runs?limit=no")))
"""
    assert _run(CONTROL + asks) == ["False", "200", "400"]


def test_no_library_warns_of_the_daemons_own_requests() -> None:
    asks = """
import asyncio, httpx, warnings
warnings.simplefilter("error")
async def ask():
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://kairos") as client:
        answers = [await client.get("/list/runs?limit=7")]
        answers += [await client.post(address, json={}) for address in ("/tell", "/pause")]
    return [answer.status_code for answer in answers]
Desk.pause = lambda self, reason: asyncio.sleep(0, {})
print(*asyncio.run(ask()))
"""
    assert _run(CONTROL + asks) == ["200", "400", "200"]
