"""The desk: what the owner can ask of the daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import field
from datetime import datetime
from typing import Protocol

from kairosd.core.json import JsonObject
from kairosd.frozen import frozen
from kairosd.ports.stores import Query


@frozen
class Update:
    """Something a follower of a run sees.

    `kind` is `text` (the model's words), `call`, `result`, `waiting` (for its model), `parked` or `ended`.
    """

    kind: str
    text: str
    data: JsonObject = field(default_factory=dict)


class Desk(Protocol):
    """What the owner can ask of the daemon; the control API is a thin layer over it. All answers are JSON-ready."""

    async def status(self) -> JsonObject:
        """The object of design §12."""

    async def tell(self, text: str, workspace: str | None, *, folder: str | None) -> JsonObject:
        """`{event, run, workspace}`: starts a run at once.

        The workspace is the named one, else the one that holds `folder`, else the only one.
        Raises `UsageError` listing the workspaces.
        """

    def follow(self, run: str) -> AsyncIterator[Update]:
        """What happened in a run so far and happens from now on.

        Ends with `parked` or `ended`, whose data is `{state, answer, price, code, run, event, branch, patch}`.
        """

    async def listing(self, kind: str, query: Query) -> Sequence[JsonObject]:
        """Rows of `events decisions runs approvals grants notices`, in the shapes of design §12."""

    async def costs(self, by: str, *, since: datetime, limit: int) -> Sequence[JsonObject]:
        """What model calls took since then, by `day`, `trigger`, `workspace`, `run` or `model`.

        Rows of `{<by>, label, calls, price, input, output, cache_read, cache_write, tokens, unpriced_calls,
        unpriced_tokens}`: days newest first, else dearest first. Raises `UsageError` for another `by`.
        """

    async def calibration(self, since: datetime) -> Sequence[JsonObject]:
        """What each trigger's decisions since then came to, the busiest first.

        Rows of `{trigger, decisions, acted, notified, shadow, useful, noise, missed, unrated, price, unpriced_calls,
        price_per_useful}`; prices in micro-dollars, `price_per_useful` None where it is not known.
        """

    async def rate(self, identifier: str, rating: str) -> JsonObject:
        """Rates `useful`, `noise` or `missed` what anything goes back to: `{id, rating, was, trigger, about, shadow}`.

        The last rating of a thing counts. Raises `NotFoundError`, `AmbiguousIdError`, and `UsageError` where the rating
        does not fit.
        """

    async def triggers(self, since: datetime, workspace: str | None) -> Sequence[JsonObject]:
        """Every trigger with its `mode`, and in the columns of `calibration` what it would have done in the shadow."""

    async def set_trigger(self, trigger: str, mode: str) -> JsonObject:
        """Sets a trigger's mode, `on` or `shadow`, in the configuration file: `{trigger, mode, was, changed}`.

        The file is then read again. Raises `UsageError` naming the triggers, `TransitionError` where all is off.
        """

    async def show(self, identifier: str) -> JsonObject:
        """One thing whole; a run with its calls, its diff and the line to merge it."""

    async def why(self, identifier: str) -> Sequence[JsonObject]:
        """The chain `[{id, kind, at, title, detail, price}]` from the thing back to what caused it."""

    async def retry(self, event: str) -> JsonObject:
        """Revives a dead event."""

    async def pause(self, reason: str) -> JsonObject:
        """No initiative until `resume`, also over a restart; `tell` still works."""

    async def resume(self) -> JsonObject:
        """Initiative on again."""

    async def stop(self, run: str | None) -> JsonObject:
        """`{stopped}`: cancels one run. None = all, and pauses: `{stopped, recorded, marked}`.

        All is done within a second, whatever hangs; without `recorded` the database is still to be written, and
        `marked` says whether a restart before then would know. Raises `TransitionError` for a run that has ended.
        """

    async def answer(self, code: str, *, approve: bool, channel: str, always: bool = False) -> JsonObject:
        """Answers an approval; with `always` a yes becomes a standing grant for exactly this call.

        Raises `ChannelError` for what the channel may not say, `NotFoundError`, `TransitionError`.
        """

    async def revoke(self, grant: str) -> JsonObject:
        """Takes a standing grant back. Raises `NotFoundError`, `AmbiguousIdError`, `TransitionError`."""

    async def workspaces(self) -> Sequence[JsonObject]:
        """The watched folders with their state."""

    async def trust(self, workspace: str) -> JsonObject:
        """Pins the workspace's standing instructions as they are now."""

    async def set_workspace(self, name: str, path: str | None) -> JsonObject:
        """Adds (`path`) or removes (None) a workspace in the configuration file, then reloads."""

    async def undo(self, run: str, *, dry_run: bool) -> JsonObject:
        """`{run, undone: [...], left_the_machine: [...], dry_run}`: takes back what a run did on this machine.

        Raises `UsageError` for a run that has not ended, `UndoRefusedError` where somebody has worked on it since.
        """

    async def set_level(self, workspace: str, level: str) -> JsonObject:
        """Sets a workspace's level: `{workspace, level, was, changed}`.

        In the configuration file, but `open` only until the next restart or reload. No run under way gets more than it
        had. Raises `UsageError`, also for `open` where the daemon runs as root.
        """

    async def reload(self) -> JsonObject:
        """Reads the configuration again: `{changed: [...], restart_needed: [...]}`.

        A broken file changes nothing. Raises `ConfigError`.
        """

    async def test_notice(self) -> JsonObject:
        """Queues one notice on every channel."""
