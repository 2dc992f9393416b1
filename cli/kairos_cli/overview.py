"""What `kairos` prints without a verb, or with one it does not know."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from kairos_cli.terminal import aside, clean, say
from kairosd.wire import EXIT_OK, EXIT_USAGE, VERSION

INTRO = f"""kairos {VERSION}: an always-on background agent for developers.

usage: kairos VERB [...]      kairos VERB --help says more; kairos --version
"""
OUTRO = """
first: kairos init, then kairosd (or kairos service install), then kairos tell "what changed in the last commit?"
exit codes: 0 ok, 1 failed, 2 usage, 3 daemon not running, 4 parked, 78 configuration"""


def run(verb: str, verbs: Mapping[str, tuple[str, str]]) -> int:
    """Prints the overview, or for an unknown verb the nearest known one."""
    if verb in ("", "help", "-h", "--help"):
        say(INTRO)
        for name, (_, words) in verbs.items():
            say(f"  {name.ljust(10)} {words}")
        say(OUTRO)
        return EXIT_OK
    near = difflib.get_close_matches(verb, verbs, n=1)
    aside(f"kairos: there is no verb {clean(verb)!r}")
    aside(f"  fix: {f'kairos {near[0]}' if near else 'kairos help lists them'}")
    return EXIT_USAGE
