"""Proposals on disk: changes of memory that wait for the owner, and for a while what became of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from kairosd.core.duplicates import same
from kairosd.core.forgetting import folded, wording
from kairosd.core.journal import stamp
from kairosd.core.json import canonical
from kairosd.errors import AmbiguousIdError, NotFoundError
from kairosd.ports.memory import Proposal
from kairosd.store.memory_files import replace_file

WAITS = "proposal"
GONE = "[forgotten]"
_WORDS = frozenset({"text", "reason", "speaker", "problems"})  # the fields that somebody has put into words


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

    def forget(self, texts: set[str]) -> None:
        """Takes the texts out of every one of them; one that wanted to write such a thing waits no more."""
        for path in self._paths():
            record = json.loads(path.read_text(encoding="utf-8"))
            left = purged(record, texts)
            if any(_wrote(one, texts) for one in record["operations"]):
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


def purged(value: Any, texts: set[str], *, field: str = "") -> Any:
    """`value` without the texts; of an operation that wrote one also without what else it said of it.

    What another operation wrote stays, as what it wrote does; so does what is no words: ids, keys, workspaces.
    """
    if isinstance(value, dict) and "op" in value:
        if _wrote(value, texts):
            return {**value, "text": GONE, "key": "", "check": "", "reason": ""}
        return {key: each if key == "text" else purged(each, texts, field=key) for key, each in value.items()}
    if isinstance(value, dict):
        return {key: purged(each, texts, field=key) for key, each in value.items()}
    if isinstance(value, list):
        return [purged(each, texts, field=field) for each in value]
    said = field in _WORDS and isinstance(value, str) and any(wording(one).search(folded(value)) for one in texts)
    return GONE if said else value


def _wrote(operation: Mapping[str, Any], texts: set[str]) -> bool:
    written = str(operation.get("text", ""))
    return written != "" and any(_bare(text) == _bare(written) or same(text, written) for text in texts)


def _bare(text: str) -> str:
    return text.casefold().rstrip(".!?;, ") or text


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
