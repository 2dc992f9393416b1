"""`kairosd config check | show | path`: the configuration as Kairos understands it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from kairosd.config import Config, describe, load
from kairosd.core.json import Json
from kairosd.errors import ConfigError
from kairosd.wire import EXIT_OK, Home


def main(arguments: Sequence[str], place: Home) -> int:
    """Carries out one of the verbs; `check` prints `ok` and warnings, or every problem, with exit code 78."""
    chosen = _parser().parse_args(arguments)
    if chosen.verb == "path":
        sys.stdout.write(f"{place.config}\n")
        return EXIT_OK
    file: Path | None = chosen.file
    try:
        config = load(file, folder=Path.cwd(), place=place, detect=chosen.verb == "show")
    except ConfigError as error:
        sys.stdout.write(f"{error}\n")
        return ConfigError.exit_code
    if chosen.verb == "show":
        _show(config, as_json=chosen.json)
        return EXIT_OK
    source = config.path or f"no file at {place.config}, so the defaults for {Path.cwd()}"
    sys.stdout.write("".join(f"warning: {warning}\n" for warning in config.warnings))
    sys.stdout.write(f"ok: {source}\n")
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kairos config", description="The configuration as Kairos understands it.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    checking = verbs.add_parser("check", help="say what is wrong with it, with lines")
    checking.add_argument("file", nargs="?", type=Path, help="another file than the home's")
    showing = verbs.add_parser("show", help="what is in effect, defaults included, secrets as ***")
    showing.add_argument("file", nargs="?", type=Path, help="another file than the home's")
    showing.add_argument("--json", action="store_true", help="one JSON object")
    verbs.add_parser("path", help="where the file is looked for")
    return parser


def _show(config: Config, *, as_json: bool) -> None:
    shown = describe(config)
    if as_json:
        sys.stdout.write(f"{json.dumps(shown, indent=2, ensure_ascii=False)}\n")
        return
    sys.stdout.write(f"# {config.path or 'no file: defaults for the current folder'}\n")
    sys.stdout.write("".join(f"# warning: {warning}\n" for warning in config.warnings))
    for name, value in shown.items():
        _table(name, value)


def _table(name: str, value: Json) -> None:
    """TOML, to be read; scalars first, since a table ends where the next one begins."""
    if isinstance(value, Mapping):
        scalars = {key: item for key, item in value.items() if not _is_table(item)}
        if scalars:
            sys.stdout.write(f"\n[{name}]\n")
            _keys(scalars)
        for key in value.keys() - scalars.keys():
            _table(f"{name}.{key}", value[key])
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            sys.stdout.write(f"\n[[{name}]]\n")
            _keys(item if isinstance(item, Mapping) else {})


def _keys(items: Mapping[str, Json]) -> None:
    for key, item in items.items():
        # JSON's texts, numbers, booleans and lists of them are TOML's too.
        sys.stdout.write(f"{key} = {json.dumps(item, ensure_ascii=False)}\n")


def _is_table(value: Json) -> bool:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return any(isinstance(item, Mapping) for item in value)
    return isinstance(value, Mapping)
