"""`kairosd service`: the systemd unit that keeps the daemon running, installed, shown, removed."""

from __future__ import annotations

import argparse
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from kairosd.config import load, read_environment
from kairosd.errors import ConfigError, KairosError, UsageError
from kairosd.frozen import frozen
from kairosd.wire import EXIT_FAILED, EXIT_NOT_RUNNING, EXIT_OK, Home

UNIT = "kairosd.service"
MARKER = "# Written by `kairos service install"  # the first line of every unit of ours; others are never touched
BOOTED = Path("/run/systemd/system")  # sd_booted(3)
SYSTEM_FOLDER = Path("/etc/systemd/system")
COMMAND_SECONDS = 60


@frozen
class Installation:
    """Where a unit goes and how systemd is spoken to there. `user` is who it runs as, empty for the caller."""

    place: Home
    file: Path
    system: bool
    user: str

    @property
    def systemctl(self) -> tuple[str, ...]:
        return ("systemctl",) if self.system else ("systemctl", "--user")

    @property
    def words(self) -> str:
        """How its owner types it."""
        return " ".join(self.systemctl)


def main(arguments: Sequence[str], place: Home) -> int:
    """Does what the command line says. Raises `KairosError` naming the fix."""
    chosen = _parser().parse_args(arguments)
    here = _installation(chosen, place)
    if chosen.verb == "print":
        return _say(render(here))
    if not BOOTED.is_dir() or shutil.which("systemctl") is None:
        raise KairosError(
            "this machine was not started by systemd, so there is no service to speak of",
            fix=f"keep `{_executable()}` running with what you have (launchd, runit, tmux); "
            "SIGTERM ends it within ten seconds, exit 0",
        )
    actions = {"install": _install, "uninstall": _uninstall, "status": _status}
    return actions[chosen.verb](here)


def render(here: Installation) -> str:
    """The unit's text with the real paths in it."""
    template = (_units_folder() / ("kairosd-system.service" if here.system else UNIT)).read_text(encoding="utf-8")
    home = "" if here.place.is_default else f"Environment={_quoted(f'KAIROS_HOME={here.place.config.parent}')}"
    filled = template.replace("@KAIROSD@", _command()).replace("@USER@", here.user)
    return filled.replace("@ENVIRONMENT@\n", f"{home}\n" if home else "")


def _install(here: Installation) -> int:
    _usable_configuration(here)
    unit, before = render(here), _ours(here)
    if before != unit:
        here.file.parent.mkdir(parents=True, exist_ok=True)
        fresh = here.file.with_name(f".{UNIT}.new")
        fresh.write_text(unit, encoding="utf-8")
        fresh.replace(here.file)
    _systemctl(here, "daemon-reload")
    _systemctl(here, "enable", UNIT)
    _systemctl(here, "start" if before == unit else "restart", UNIT)
    _say(f"{here.file} is {'as it was' if before == unit else 'written'}; the service is enabled and running.")
    _say(f"Its log: journalctl {'' if here.system else '--user '}-u kairosd -f")
    if not here.system:
        _say(_about_lingering())
    return EXIT_OK


def _uninstall(here: Installation) -> int:
    if _ours(here) is None:
        return _say(f"There is no service at {here.file}.")
    _systemctl(here, "disable", "--now", UNIT)
    here.file.unlink()
    _systemctl(here, "daemon-reload")
    _say(f"The service is stopped and {here.file} is gone. What is left, and how to remove it:")
    for what, path in _left(here).items():
        if path.exists():
            _say(f"  {what}: rm -r {path}")
    return _say("  branches kairos/* in your repositories are yours: git branch --list 'kairos/*'")


def _left(here: Installation) -> dict[str, Path]:
    """The folders that uninstalling leaves: the caller's, or with `--system` those of the user it ran as."""
    place = here.place
    folders = (place.config.parent, place.state, place.data)
    if here.user and place.is_default:
        home = Path(pwd.getpwnam(here.user).pw_dir)
        folders = (home / ".config/kairos", home / ".local/state/kairos", home / ".local/share/kairos")
    return dict(zip(("configuration", "journal, database, log", "memory, local model"), folders, strict=True))


def _status(here: Installation) -> int:
    unit = _ours(here)
    if unit is None:
        _say(f"No service is installed at {here.file}. Install it: kairos service install{_flag(here)}")
        return EXIT_NOT_RUNNING
    enabled, active = _asked(here, "is-enabled"), _asked(here, "is-active")
    _say(f"{here.file}: {enabled if enabled == active else f'{enabled}, {active}'}")
    if unit != render(here):
        _say(f"It is not what this Kairos would write: kairos service install{_flag(here)}")
    if not here.system:
        _say(_about_lingering())
    return EXIT_OK if active == "active" else EXIT_NOT_RUNNING


def _usable_configuration(here: Installation) -> None:
    owner = Path(pwd.getpwnam(here.user).pw_dir) if here.user else None
    file = owner / ".config" / "kairos" / "config.toml" if owner and here.place.is_default else here.place.config
    if not file.is_file():
        # Without a file the daemon takes the folder it was started in, which for a service is no choice of anybody's.
        raise ConfigError(f"there is no {file}, so the service would watch nothing", fix="kairos init")
    if owner is None:
        load(file, folder=file.parent, place=here.place)


def _ours(here: Installation) -> str | None:
    """The installed unit; None where there is none. Raises `KairosError` for one that somebody else wrote."""
    try:
        found = here.file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    if not found.startswith(MARKER):
        raise KairosError(f"{here.file} was not written by Kairos and is left alone", fix="move it away first")
    return found


def _about_lingering() -> str:
    user = pwd.getpwuid(os.getuid()).pw_name
    done = _run("loginctl", "show-user", user, "--property=Linger", "--value")
    if done.stdout.strip() == "yes":
        return "Lingering is on: it runs from boot on, also while you are logged out."
    return (
        "Lingering is off: it runs while you are logged in and stops when you log out. "
        f"From boot on and always: loginctl enable-linger {user}"
    )


def _asked(here: Installation, question: str) -> str:
    done = _run(*here.systemctl, question, UNIT)
    return done.stdout.strip() or done.stderr.strip() or "unknown"


def _systemctl(here: Installation, *words: str) -> None:
    done = _run(*here.systemctl, *words)
    if done.returncode == 0:
        return
    said = " ".join(done.stderr.split()) or f"exit {done.returncode}"
    fix = f"see `{here.words} status {UNIT}` and `journalctl {'' if here.system else '--user '}-u kairosd`"
    if "bus" in said and not here.system:
        fix = "log in as this user itself (su and sudo open no session), or loginctl enable-linger and try again"
    raise KairosError(f"{here.words} {' '.join(words)} failed: {said}", fix=fix)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, EXIT_FAILED, "", f"{command[0]} is not installed")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, EXIT_FAILED, "", f"no answer within {COMMAND_SECONDS} s")


def _installation(chosen: argparse.Namespace, place: Home) -> Installation:
    if not chosen.system:
        if chosen.run_as:
            raise UsageError("--run-as goes with --system: a user's own service runs as that user")
        base = Path(read_environment().variables.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        return Installation(place, base / "systemd" / "user" / UNIT, system=False, user="")
    if not chosen.run_as:
        raise UsageError(
            "a system service needs a user to run as", fix="--run-as USER, the one whose folders these are"
        )
    try:
        pwd.getpwnam(chosen.run_as)
    except KeyError:
        raise UsageError(f"there is no user {chosen.run_as}") from None
    if chosen.verb in ("install", "uninstall") and os.geteuid() != 0:
        raise KairosError("a system service is root's to install", fix="sudo, or leave --system away")
    return Installation(place, SYSTEM_FOLDER / UNIT, system=True, user=chosen.run_as)


def _flag(here: Installation) -> str:
    return f" --system --run-as {here.user}" if here.system else ""


def _executable() -> str:
    beside = Path(sys.executable).with_name("kairosd")
    return str(beside) if beside.exists() else f"{sys.executable} -m kairosd.main"


def _command() -> str:
    beside = Path(sys.executable).with_name("kairosd")
    return _quoted(str(beside)) if beside.exists() else f"{_quoted(sys.executable)} -m kairosd.main"


def _quoted(text: str) -> str:
    """`text` as one word of a unit file (systemd.syntax(7), systemd.unit(5) on `%`)."""
    if "$" in text or not text.isprintable():
        raise KairosError(f"systemd cannot be told this path: {text!r}", fix="install Kairos in a plainer folder")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _units_folder() -> Path:
    package = Path(__file__).resolve().parent.parent
    shipped = package / "_share" / "systemd"
    return shipped if shipped.is_dir() else package.parent.parent / "systemd"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kairos service", description="The systemd service that keeps Kairos running."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="install | uninstall | status | print")
    for verb, words in (
        ("install", "write the unit, enable and start it; again after an update"),
        ("uninstall", "stop it and remove the unit; says what is left"),
        ("status", "whether it is installed, enabled, running and outlives your session"),
        ("print", "show the unit as it would be written"),
    ):
        each = verbs.add_parser(verb, help=words)
        each.add_argument("--system", action="store_true", help="a system service instead of your own (needs root)")
        each.add_argument("--run-as", metavar="USER", help="with --system: the user it runs as")
    return parser


def _say(text: str) -> int:
    sys.stdout.write(f"{text.rstrip()}\n")
    return EXIT_OK
