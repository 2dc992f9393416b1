"""log: notices as lines of the daemon's own log."""

from __future__ import annotations

import logging

from kairosd.config import LogSection
from kairosd.core.notices import Notice, Severity
from kairosd.notifiers.deps import NotifierDeps
from kairosd.ports import Notifier

LEVELS = {
    Severity.LOW: logging.INFO,
    Severity.NORMAL: logging.INFO,
    Severity.HIGH: logging.WARNING,
    Severity.URGENT: logging.ERROR,
}


class LogNotifier:
    """Writes one structured line a notice."""

    name = "log"

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    async def deliver(self, notice: Notice) -> str:
        fields = {"notice": notice.id, "severity": notice.severity.label, "cause": notice.cause or ""}
        self._logger.log(LEVELS[notice.severity], "%s: %s", notice.title, notice.body, extra=fields)
        return "logged"

    async def arrived(self, notice: Notice) -> bool:
        return False  # the same line twice in a log disturbs nobody

    async def close(self) -> None:
        """Holds nothing open."""


def build(section: LogSection, deps: NotifierDeps) -> Notifier:
    return LogNotifier(deps.logger)
