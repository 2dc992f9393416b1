"""Entry point: `kairosd [--config FILE]` runs the daemon, `kairosd VERB …` does what needs none."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from kairosd import wire
from kairosd.errors import ConfigError, KairosError

VERBS = ("init", "config", "doctor", "explain", "model", "service", "gc", "journal", "memory", "replay")


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
        config = importlib.import_module("kairosd.options").parse(words, VERBS) if words else None
        importlib.import_module("kairosd.system.libraries").leave_out_unused()
        return int(importlib.import_module("kairosd.app").run(config, place))
    except wire.HomeError as error:
        return _fail(str(error), ConfigError.exit_code)
    except KairosError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return 130


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"kairosd: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
