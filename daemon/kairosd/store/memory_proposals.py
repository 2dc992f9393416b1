"""Proposals on disk: changes of memory that wait for the owner, and for a while what became of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kairosd.core.journal import stamp
from kairosd.core.json import canonical
from kairosd.errors import AmbiguousIdError, NotFoundError
from kairosd.ports.memory import Proposal
from kairosd.store.memory_files import replace_file

if TYPE_CHECKING:
    from kairosd.store.memory_purge import Purge

WAITS = "proposal"


class ProposalFolder:
    """One file a proposal. Whoever writes holds memory's lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, proposal: Proposal) -> None:
        """Keeps it, unless one of that name ever waited: what the owner has said no to is not asked again."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._folder / f"{proposal.id}.json"
        if not path.exists():
            replace_file(path, canonical({**_record(proposal), "state": WAITS}))

    def waiting(self) -> Sequence[Proposal]:
        """What waits for the owner."""
        records = [json.loads(path.read_text(encoding="utf-8")) for path in self._paths()]
        return [_proposal(one) for one in records if one["state"] == WAITS]

    def settle(self, identifier: str, verdict: str) -> Proposal:
        """See `ports.MemoryStore`."""
        found = [one for one in self.waiting() if identifier and one.id.startswith(identifier)]
        if not found:
            raise NotFoundError(f"no proposal {identifier!r} waits", fix="kairos dream proposals")
        if len(found) > 1:
            raise AmbiguousIdError(f"more than one proposal starts with {identifier!r}", fix="give more of the id")
        replace_file(self._folder / f"{found[0].id}.json", canonical({**_record(found[0]), "state": verdict}))
        return found[0]

    def forget(self, purge: Purge) -> None:
        """Purges every one of them; one that wanted to write such a thing waits no more."""
        for path in self._paths():
            record = json.loads(path.read_text(encoding="utf-8"))
            left = purge.of(record)
            if any(purge.wrote(one) for one in record["operations"]):
                left = {**left, "state": "forgotten", "evidence": []}
            if left != record:
                replace_file(path, canonical(left))

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("[!.]*.json"))


def is_settled(path: Path) -> bool:
    """Whether that file is a proposal that waits no more."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and record.get("state") not in (None, WAITS)


def _record(proposal: Proposal) -> dict[str, Any]:
    return {
        "id": proposal.id, "reason": proposal.reason, "made": stamp(proposal.made), "base": proposal.base,
        "operations": list(proposal.operations), "evidence": list(proposal.evidence),
    }  # fmt: skip


def _proposal(record: Mapping[str, Any]) -> Proposal:
    return Proposal(
        record["id"], record["reason"], datetime.fromisoformat(record["made"]), int(record["base"]),
        tuple(record["operations"]), tuple(record["evidence"]),
    )  # fmt: skip
