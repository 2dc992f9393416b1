"""The daemon's log: key=value lines on stderr, with priorities for journald, and a rotating file without systemd."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

FILE_BYTES, FILES = 5_000_000, 5  # design §5: 5 × 5 MB
QUIET = ("uvicorn", "httpx", "httpcore", "asyncio", "alembic", "sqlalchemy", "watchfiles", "apscheduler")
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
# syslog(3): what a line's `<N>` prefix means to journald
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))


class KeyValues(logging.Formatter):
    """`time=… level=… logger=… message=…` and the record's extra fields; a traceback follows, indented.

    With `journald` each line begins with its priority and carries no time: the journal adds its own.
    """

    def __init__(self, *, journald: bool) -> None:
        super().__init__()
        self._journald = journald

    def format(self, record: logging.LogRecord) -> str:
        """One line, plus those of a traceback."""
        fields: dict[str, object] = {"level": record.levelname.lower(), "logger": record.name}
        if not self._journald:
            when = datetime.fromtimestamp(record.created, UTC)
            fields = {"time": when.isoformat(timespec="milliseconds"), **fields}
        fields["message"] = record.getMessage()
        fields |= {name: value for name, value in vars(record).items() if name not in _OWN}
        lines = [" ".join(f"{name}={_value(value)}" for name, value in fields.items())]
        if record.exc_info:
            lines += [f"  {_plain(line)}" for line in self.formatException(record.exc_info).splitlines()]
        prefix = f"<{_priority(record.levelno)}>" if self._journald else ""
        return "\n".join(prefix + line for line in lines)


def start_logging(*, journald: bool, folder: Path | None = None, level: int = logging.INFO) -> None:
    """Sends every logger to stderr, and without journald also to `folder`/kairosd.log. Replaces earlier settings.

    Other people's loggers say warnings and worse only.
    """
    root = logging.getLogger()
    for old in tuple(root.handlers):
        root.removeHandler(old)
        old.close()
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if folder is not None and not journald:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handlers.append(
            RotatingFileHandler(
                folder / "kairosd.log", maxBytes=FILE_BYTES, backupCount=FILES - 1, encoding="utf-8", delay=True
            )
        )
    for handler in handlers:
        handler.setFormatter(KeyValues(journald=journald))
        root.addHandler(handler)
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


def _value(value: object) -> str:
    text = _plain(str(value))
    if text and not any(character in ' "=' for character in text):
        return text
    quoted = text.replace('"', '\\"')
    return f'"{quoted}"'


def _plain(text: str) -> str:
    """Without control characters: what a stranger wrote must not forge a log line."""
    if text.isprintable():
        return text
    escaped = (c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
    return "".join(escaped)


def _priority(level: int) -> int:
    return next(priority for least, priority in _PRIORITIES if level >= least)
