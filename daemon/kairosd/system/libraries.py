"""What the daemon's libraries bring along and it never uses: left out before they are imported.

Together it is 5 MB of an idle daemon and some 100 ms of its start (bench/footprint.py). Nothing here changes
what a library does for us; one that no longer asks for these modules costs nothing.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

from pydantic import BaseModel

# Each is asked for by a library that does without it: FastAPI looks at every route for models of pydantic's former
# major version, and httpx's command line pulls in rich and pygments where they are installed. httpcore looks for
# sniffio seven times in each request, through every folder of the path; where it is not there it takes us for asyncio.
UNUSED = ("pydantic.v1", "httpx._main", "sniffio")


def leave_out_unused() -> None:
    """Holds for what is imported from here on in this process, so it comes before anything heavy. Twice is fine."""
    for name in UNUSED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    # uvicorn itself takes three names from its command line, which brings click and multiprocessing.
    sys.modules.setdefault("uvicorn.main", SimpleNamespace(Server=None, main=None, run=None))  # type: ignore[arg-type]
    # FastAPI alone defines fifty models of an OpenAPI document that nobody asks for. Validators are made at first use.
    BaseModel.model_config["defer_build"] = True
