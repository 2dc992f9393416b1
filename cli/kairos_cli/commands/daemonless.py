"""Verbs that need no daemon: they are the daemon program's own, and take this process over."""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

from kairosd.wire import Home


def run(arguments: argparse.Namespace, place: Home) -> NoReturn:
    """Becomes `kairosd VERB ...`, run by the same interpreter: no PATH decides which daemon answers."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "kairosd.main", arguments.verb, *arguments.rest])
