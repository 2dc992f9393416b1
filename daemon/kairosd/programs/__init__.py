"""Program files: one TOML file for each program that a shell line may use, with all that it may be told.

A file is named after its program (`ruff_.toml`: ruff would obey a `ruff.toml`); `names` lists others that read the
same. `opaque.toml` lists the programs that start or interpret what their arguments say. The keys are the fields of
`core/shell/programs.py: Program`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from kairosd.core.shell.programs import Program, ProgramClass, parse_program

OPAQUE = "opaque.toml"


@cache
def load_programs() -> Mapping[str, Program]:
    """All programs by name. Raises `ValueError` for a file that is wrong, which a test would have found."""
    found: dict[str, Program] = {}
    for file in sorted(files(__package__).iterdir(), key=lambda each: each.name):
        if not file.name.endswith(".toml"):
            continue
        table = tomllib.loads(file.read_text(encoding="utf-8"))
        own = [] if file.name == OPAQUE else [file.name.removesuffix(".toml").removesuffix("_")]
        for name in (*own, *str(table.pop("names", "")).split()):
            if name in found:
                raise ValueError(f"{file.name}: {name} has a file already")
            if own:
                found[name] = parse_program(name, table)
            else:
                found[name] = Program(name, ProgramClass.EFFECT, opaque=True, fixes=table.get("fixes", {}))
    return MappingProxyType(found)
