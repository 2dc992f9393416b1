"""The one thing the CLI may need from the configuration. Imported only when no daemon is where it usually is."""

from __future__ import annotations

import tomllib
from pathlib import Path


def socket_setting(config: Path) -> str | None:
    """`[daemon] socket`, if the file says one. A broken file says nothing here: the daemon names what is wrong."""
    try:
        section = tomllib.loads(config.read_text(encoding="utf-8")).get("daemon", {})
    except (OSError, ValueError):
        return None
    value = section.get("socket") if isinstance(section, dict) else None
    return value if isinstance(value, str) and value else None
