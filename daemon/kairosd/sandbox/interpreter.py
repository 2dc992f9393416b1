"""The daemon's own interpreter inside the sandbox: no other program is sure to be there."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ARGV = (os.path.realpath(sys.executable), "-I", "-S", "-c")  # and a text to run


def places() -> set[Path]:
    """What has to be shown of it besides /usr; it may lie in the user's home (pyenv, uv)."""
    program = Path(sys.executable).resolve()
    found = {Path(sys.base_prefix).resolve(), Path(sys.base_exec_prefix).resolve()}
    if not any(program.is_relative_to(place) for place in found):
        found.add(program)
    return {place for place in found if not place.is_relative_to("/usr")}
