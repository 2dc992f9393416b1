"""Soundness: whether a text is whole in the language that its file's name says, as far as that can be told cheaply."""

from __future__ import annotations

import ast
import builtins
import json
import re
import symtable
import textwrap
import threading
import tomllib
import warnings
from collections.abc import Iterator

REPEATED_LEAST = 2  # lines of a definition that are given again
TEXT_MOST = 200_000  # characters that are parsed
_FILTERS = threading.Lock()  # the parser may warn, and how warnings are filtered is one thing for all threads
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_ELISION = re.compile(
    r"(?:#|//|--|<!--|/\*|;)?\s*(?:\.\.\.|…).*\b(?:rest|remain\w*|unchanged|existing|same|previous)\b", re.IGNORECASE
)
_NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_LEAVING = (ast.Return, ast.Raise, ast.Continue, ast.Break)


def breaks(path: str, before: str, *, after: str) -> str:
    """Why a change would leave `path` broken in a way it was not; "" where it would not, or where nobody can tell."""
    ending = path.rpartition(".")[2].lower()
    if max(len(before), len(after)) > TEXT_MOST or ending not in ("py", "json", "toml"):
        return ""
    found = _flaw(ending, after)
    if found or ending != "py":
        return found if found and not _flaw(ending, before) else ""
    if _flaw(ending, before):
        return ""
    new_dead = [line for line in _unreachable(after) if line not in set(_unreachable(before))]
    if new_dead:
        return f"`{new_dead[0]}` could never run: what stands before it leaves"
    twice = [name for name in _defined_twice(after) if name not in set(_defined_twice(before))]
    return f"{twice[0]} would be defined twice: change the one that is there" if twice else ""


def redefined(path: str, text: str, *, new: str) -> tuple[str, str] | None:
    """(name, text) with the one function or class that `new` is the whole of put in its place; None where it is not.

    Models that shall change a part of a function often give all of it, after its first line or at the file's end.
    """
    if (found := _definition(path, text, new=new)) is None:
        return None
    fresh, there = found
    lines = text.split("\n")
    made = textwrap.indent(fresh, " " * there.col_offset).split("\n")
    after = "\n".join([*lines[: there.lineno - 1], *made, *lines[there.end_lineno :]])
    return None if breaks(path, text, after=after) else (there.name, after)


def repeated(path: str, text: str, *, old: str, new: str) -> tuple[str, str] | None:
    """As `redefined`, where `old` is only the head of the definition and `new` gives most of its body again.

    Put in the place of the head, those lines would stand there twice. None where `new` just adds lines below the head.
    """
    head, found = old.strip(), _definition(path, text, new=new)
    if found is None or "\n" in head or new.strip().split("\n")[0] != head:
        return None
    there = found[1]
    body = [line.strip() for line in text.split("\n")[there.lineno : there.end_lineno] if line.strip()]
    again = sum(line in body for line in map(str.strip, new.strip().split("\n")[1:]))
    return redefined(path, text, new=new) if again >= REPEATED_LEAST and again * 2 >= len(body) else None


def _definition(path: str, text: str, *, new: str) -> tuple[str, _Definition] | None:
    """`new` without its indentation, where it is one function or class, and the one of that name in `text`."""
    fresh = textwrap.dedent(new).strip("\n")
    if not path.endswith(".py") or _flaw("py", fresh) or _flaw("py", text):
        return None
    body = _parsed(fresh).body
    if len(body) != 1 or not isinstance(body[0], _NAMED):
        return None
    name = body[0].name
    there = [node for node in ast.walk(_parsed(text)) if isinstance(node, _NAMED) and node.name == name]
    return None if len(there) != 1 or there[0].decorator_list else (fresh, there[0])


def elision(before: str, *, after: str) -> str:
    """The line by which a text says that it leaves out what another one had; "" where it says no such thing."""
    there = {line.strip() for line in before.split("\n")}
    lines = (line.strip() for line in after.split("\n"))
    return next((line for line in lines if _ELISION.match(line) and line not in there), "")


def unknown_names(path: str, before: str, *, after: str) -> tuple[str, ...]:
    """The names that a change makes a file use, or leaves it using, without anything of that name in it."""
    if not path.endswith(".py") or max(len(before), len(after)) > TEXT_MOST:
        return ()
    if _flaw("py", before) or _flaw("py", after):
        return ()
    return tuple(sorted(_undefined(after) - _undefined(before)))


def _flaw(ending: str, text: str) -> str:
    """Why `text` does not parse, with the line; "" where it does."""
    try:
        if ending == "json":
            json.loads(text)
        elif ending == "toml":
            tomllib.loads(text)
        else:
            _parsed(text)
    except SyntaxError as error:
        line = (error.text or "").strip()[:120]
        return f"line {error.lineno}: {error.msg}" + (f": {line}" if line else "")
    except (ValueError, RecursionError, MemoryError) as error:
        return str(error)[:200] or type(error).__name__
    return ""


def _parsed(text: str) -> ast.Module:
    with _FILTERS, warnings.catch_warnings(action="ignore"):
        return ast.parse(text)


def _unreachable(text: str) -> list[str]:
    """The first statement behind each one that leaves its block, as code."""
    found: list[str] = []
    for node in ast.walk(_parsed(text)):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                pairs = zip(block, block[1:], strict=False)
                found += [ast.unparse(last).split("\n")[0] for one, last in pairs if isinstance(one, _LEAVING)]
    return found


def _defined_twice(text: str) -> list[str]:
    """The functions and classes of the module, or of one class, that have a second plain definition."""
    found: list[str] = []
    for node in ast.walk(_parsed(text)):
        if isinstance(node, (ast.Module, ast.ClassDef)):
            names = [one.name for one in node.body if isinstance(one, _NAMED) and not one.decorator_list]
            found += [name for name in dict.fromkeys(names) if names.count(name) > 1]
    return found


def _undefined(text: str) -> frozenset[str]:
    """The names that are used and that neither the file nor Python has; none where a star import may bring them."""
    if any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in ast.walk(_parsed(text))):
        return frozenset()
    with _FILTERS, warnings.catch_warnings(action="ignore"):
        top = symtable.symtable(text, "a.py", "exec")
    tables = list(_tables(top))
    known = {
        each.get_name()
        for table in tables
        for each in table.get_symbols()
        if (table is top or each.is_declared_global()) and (each.is_assigned() or each.is_imported())
    }
    used = {
        each.get_name()
        for table in tables
        for each in table.get_symbols()
        if each.is_referenced() and (table is top or each.is_global()) and not each.is_assigned()
    }
    return frozenset(name for name in used - known if not hasattr(builtins, name) and not name.startswith("__"))


def _tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _tables(child)
