"""A copy of this project's files, as a clone would have them, plus what is not committed yet."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def copy_tree(target: Path) -> None:
    """Copies every tracked and every untracked-not-ignored file to `target`; no `.git`, no `.venv`, no caches."""
    listed = subprocess.run(
        # CI may run as root over a checkout that belongs to somebody else.
        ["git", "-c", "safe.directory=*", "-C", str(PROJECT), "ls-files", "-z", "-c", "-o", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        source, copy = PROJECT / name, target / name
        if source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)
