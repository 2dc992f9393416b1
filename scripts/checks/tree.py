"""The files a check looks at, and what it finds in them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NOT_OURS = {"build", "dist", "node_modules", "__pycache__"}


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One broken rule at one place; prints as `path:line: RULE message`."""

    path: str
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule} {self.message}"


def files(root: Path) -> list[str]:
    """The tree's files relative to `root`: tracked and untracked-not-ignored in a git checkout, else a walk."""
    if (root / ".git").exists():
        listed = subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", str(root), "ls-files", "-z", "-c", "-o", "--exclude-standard"],
            capture_output=True,
            text=True,
            check=False,
        )
        if listed.returncode == 0:
            return sorted(name for name in set(listed.stdout.split("\0")) if name and (root / name).is_file())
    return sorted(path.relative_to(root).as_posix() for path in _walk(root))


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_symlink():
            continue
        if path.is_dir():
            hidden = path.name.startswith(".") and path.name != ".ci"
            if path.name not in NOT_OURS and not hidden and not path.name.endswith(".egg-info"):
                yield from _walk(path)
        elif path.suffix != ".pyc":
            yield path
