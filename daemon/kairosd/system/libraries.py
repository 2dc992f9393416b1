"""What the daemon's libraries bring along and it never uses: left out before they are imported.

Together it is 6 MB of an idle daemon and some 100 ms of its start (bench/footprint.py). Nothing here changes
what a library does for us; one that no longer asks for these modules costs nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from types import ModuleType, SimpleNamespace

from pydantic import BaseModel

# Each is asked for by a library that does without it: FastAPI looks at every route for models of pydantic's former
# major version, and httpx's command line pulls in rich and pygments where they are installed. httpcore looks for
# sniffio seven times in each request, through every folder of the path; where it is not there it takes us for asyncio.
UNUSED = ("pydantic.v1", "httpx._main", "sniffio")

# Of these a library takes no more than names at its import: uvicorn from its command line, which brings click and
# multiprocessing, watchfiles from its runner of programs, SQLAlchemy from its other ways to SQLite.
ONLY_NAMED = (
    "uvicorn.main", "watchfiles.run", "sqlalchemy.dialects.sqlite.aiosqlite", "sqlalchemy.dialects.sqlite.pysqlcipher",
)  # fmt: skip


def leave_out_unused() -> None:
    """Holds for what is imported from here on in this process, so it comes before anything heavy. Twice is fine."""
    for name in UNUSED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    for name in ONLY_NAMED:
        sys.modules.setdefault(name, _Named(name))
    _leave_out_telemetry()
    # FastAPI alone defines fifty models of an OpenAPI document that nobody asks for. Validators are made at first use.
    BaseModel.model_config["defer_build"] = True


def _leave_out_telemetry() -> None:
    """FastAPI tells nobody anything, and takes nothing from the `OTEL_*` of an owner who develops with that.

    It would read them at its import, so that a word meant for the owner's own programs could keep the daemon from
    starting, or send what passes through its control API elsewhere. FastAPI's minor version is pinned for this.
    """
    _stand_in("fastapi.telemetry", TelemetryConfig=dict)
    _stand_in(
        "fastapi.telemetry._asgi",
        ExceptionTelemetryMiddleware=_itself, NativeTelemetry=_Silent, _legacy_otel=_nothing,
    )  # fmt: skip
    _stand_in(
        "fastapi.telemetry._api",
        get_telemetry_data=_nothing, _operation=_untold, _route_selected=_nothing, _run_sync_endpoint=_run,
        _validation_failed=_nothing,
    )  # fmt: skip


def _stand_in(module: str, **names: object) -> None:
    sys.modules.setdefault(module, SimpleNamespace(**names))  # type: ignore[arg-type]


class _Named(ModuleType):
    """Has every name."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


class _Silent:
    def __init__(self, config: object) -> None:
        """Takes no notice of `config`."""

    def enabled(self) -> bool:
        return False


def _itself(app: object) -> object:
    return app


def _nothing(*_: object, **__: object) -> None:
    """What is asked of it is not kept."""


def _untold(**_: object) -> nullcontext[None]:
    return nullcontext()


def _run(*, function: Callable[..., object], arguments: dict[str, object]) -> object:
    return function(**arguments)
