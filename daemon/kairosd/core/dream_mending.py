"""Mending: what of a model's operation can be read in one way only is read so, before the checks judge it."""

from __future__ import annotations

from dataclasses import replace

from kairosd.core.dream import WRITING, Op, Operation
from kairosd.core.dream_checks import Frame, is_claim
from kairosd.core.memory import is_key


def mended(operation: Operation, frame: Frame) -> Operation:
    """`operation`, with what stands in the wrong place or has no form left out.

    Evidence that is named as the entry to supersede, by an operation that cites it, is news. What is no key or no
    check is left out: a key is then the target's, or made from the text.
    """
    if operation.op not in WRITING:
        return operation
    if operation.op is Op.SUPERSEDE and len(operation.targets) == 1 and _is_evidence(operation, frame):
        operation = replace(operation, op=Op.ADD, targets=())
    key = operation.key if is_key(operation.key) else ""
    return replace(operation, key=key, check=operation.check if is_claim(operation.check) else "")


def _is_evidence(operation: Operation, frame: Frame) -> bool:
    (name,) = operation.targets
    return name in operation.sources and name in frame.evidence and frame.generation.get(name) is None
