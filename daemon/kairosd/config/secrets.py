"""Secrets: by file, by environment variable or as a systemd credential. No message ever holds a value."""

from __future__ import annotations

import stat
from pathlib import Path

from kairosd.config.environment import Environment, read_environment
from kairosd.config.sections import ModelSection, NtfySection
from kairosd.errors import ConfigError

LONGEST_FILE = 65536  # bytes; a secret is a line, and a wrong path may be anything


def secret_path(name: str, folder: Path, *, environment: Environment) -> Path:
    """Where a `…_file` key points: a bare name to a systemd credential if there is one, else relative to `folder`."""
    credentials = environment.credentials_directory
    if credentials and "/" not in name and (Path(credentials) / name).is_file():
        return Path(credentials) / name
    path = Path(name).expanduser()
    return path if path.is_absolute() else folder / path


def read_secret(
    *, file: str = "", variable: str = "", folder: Path = Path(), environment: Environment | None = None
) -> tuple[str, ...]:
    """The secrets in a file (relative to `folder`) or an environment variable: one a line, so that they can be rotated.

    Raises `ConfigError` when neither or both are named, when there is nothing, and when others may read the file
    (systemd's own credentials excepted: it shows their access list as group permission).
    """
    known = environment or read_environment()
    if bool(file) == bool(variable):
        raise ConfigError("name a file or a variable, and not both" if file else "name a file or a variable")
    text = _file(secret_path(file, folder, environment=known), known) if file else known.variables.get(variable, "")
    secrets = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not secrets:
        raise ConfigError("the file is empty" if file else "the variable it names is not set in Kairos's environment")
    return secrets


def api_key(section: ModelSection, environment: Environment | None = None) -> str | None:
    """The key of a model; None where none is configured. Raises `ConfigError` when it cannot be read."""
    return _first(section.api_key_file, section.api_key_env, environment=environment)


def access_token(section: NtfySection, environment: Environment | None = None) -> str | None:
    """The token of a notifier; None where none is configured. Raises `ConfigError` when it cannot be read."""
    return _first(section.token_file, section.token_env, environment=environment)


def answers_token(section: NtfySection, environment: Environment | None = None) -> str | None:
    """The token of its buttons; None where none is configured. Raises `ConfigError` when it cannot be read."""
    return _first(section.answers_token_file, section.answers_token_env, environment=environment)


def _first(file: str, variable: str, *, environment: Environment | None) -> str | None:
    if not file and not variable:
        return None
    return read_secret(file=file, variable=variable, environment=environment)[0]


def _file(path: Path, environment: Environment) -> str:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait for ever
            raise ConfigError("it is not a file")
        credential = bool(environment.credentials_directory) and path.is_relative_to(environment.credentials_directory)
        if found.st_mode & 0o077 and not credential:
            raise ConfigError("others may read it", fix=f"chmod 600 {path}")
        if found.st_size > LONGEST_FILE:
            raise ConfigError(f"it holds more than {LONGEST_FILE} bytes: that is no secret")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError("there is no such file") from None
    except UnicodeDecodeError:
        raise ConfigError("it does not hold text") from None
    except OSError as error:
        raise ConfigError(f"it cannot be read: {error.strerror}") from None
