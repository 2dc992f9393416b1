"""Entry point: `kairosd [--config FILE]` runs the daemon, `kairosd VERB …` does what needs none."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from kairosd import wire
from kairosd.errors import ConfigError, KairosError

VERBS = ("init", "config", "doctor", "model", "service", "gc", "journal")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what the command line asks for and returns the exit code of design §12."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        place = wire.home()
        for folder in place.own_folders():
            wire.check_private(folder)
        if words and words[0] in VERBS:
            module = importlib.import_module(f"kairosd.verbs.{words[0]}")
            return int(module.main(words[1:], place))
        chosen = _parser().parse_args(words)
        daemon = importlib.import_module("kairosd.app")
        return int(daemon.run(chosen.config, place))
    except wire.HomeError as error:
        return _fail(str(error), ConfigError.exit_code)
    except KairosError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kairosd",
        description="Runs the Kairos daemon in the foreground; talk to it with `kairos`.",
        epilog=f"verbs that need no daemon: {', '.join(VERBS)} (kairosd VERB --help)",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration (default: the home's config.toml)")
    parser.add_argument("--version", action="version", version=f"kairosd {wire.VERSION}")
    return parser


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"kairosd: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
