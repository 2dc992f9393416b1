"""Standing instructions: `KAIROS.md` and `AGENTS.md` of trusted workspaces, as the owner has seen them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path

from kairosd.core.workspaces import Workspace
from kairosd.errors import ToolError
from kairosd.frozen import frozen
from kairosd.ports import Files

NAMES = ("KAIROS.md", "AGENTS.md")
LIMIT = 16_000  # bytes a file; what is longer is cut, and said so


@frozen
class Instructions:
    """`text` is what prompts may hold; `hashes` what the files hold now; `changed` names files that are not used."""

    text: str
    hashes: Mapping[str, str]
    changed: tuple[str, ...]


async def read_instructions(
    files: Files, workspace: Workspace, *, pinned: str, uncommitted: Collection[str]
) -> Instructions:
    """Reads the instruction files and keeps those whose content the owner has seen.

    A file counts as seen when its hash is in `pinned` (JSON `{name: hash}`), or when its change is not committed yet:
    then somebody at this machine is writing it.
    """
    found = await asyncio.to_thread(_read_all, files, workspace.path)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}
    if not is_trusted(workspace, pinned):
        return Instructions("", hashes, ())
    known = json.loads(pinned) if pinned else {}
    usable = [name for name in found if known.get(name) == hashes[name] or name in uncommitted]
    text = "\n\n".join(f"# {name}\n{found[name].decode('utf-8', 'replace').strip()}" for name in usable)
    return Instructions(text, hashes, tuple(name for name in found if name not in usable))


def is_trusted(workspace: Workspace, pinned: str) -> bool:
    """Whether the owner has trusted this workspace, in the configuration or by `kairos workspace trust`."""
    return workspace.trusted or bool(pinned)


def pin(hashes: Mapping[str, str]) -> str:
    """The form in which hashes are remembered."""
    return json.dumps(dict(hashes), sort_keys=True)


def _read_all(files: Files, root: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name in NAMES:
        try:
            found[name] = files.read(root, name, limit=LIMIT)
        except ToolError:
            continue  # most workspaces have neither
    return found
