"""The daemon's own command line; loaded only when there is one, since a service is started without a word."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from kairosd import wire


def parse(words: Sequence[str], verbs: Sequence[str]) -> Path | None:
    """The configuration file that is named. Ends the process for `--help`, `--version` and what cannot be read."""
    parser = argparse.ArgumentParser(
        prog="kairosd",
        description="Runs the Kairos daemon in the foreground; talk to it with `kairos`.",
        epilog=f"verbs that need no daemon: {', '.join(verbs)} (kairosd VERB --help)",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration (default: the home's config.toml)")
    parser.add_argument("--version", action="version", version=f"kairosd {wire.VERSION}")
    config: Path | None = parser.parse_args(words).config
    return config
