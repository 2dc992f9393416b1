"""What the syntax tree shows: budgets of functions and classes, swallowed errors, `Any`, purity, docstrings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from checks import rules
from checks.tree import Finding

Function = ast.FunctionDef | ast.AsyncFunctionDef
BROAD = frozenset({"Exception", "BaseException"})
ANY = re.compile(r"\bAny\b")  # in a quoted annotation
OURS = frozenset({"__init__", "__new__", "__call__", "__post_init__"})  # dunders whose parameters we choose ourselves
ASGI = ("scope", "receive", "send")
WAIVED = re.compile(r"noqa(: [A-Z0-9, ]+)?")
SHORTEST_REASON = 10  # characters
IMPOSED = "# imposed by "  # a comment on a signature: the caller's side is not ours, and it says whose


@dataclass(frozen=True, slots=True)
class Module:
    """One Python file; `path` is relative to the root of the tree."""

    path: str
    lines: list[str]

    def finding(self, node: ast.stmt | ast.expr | ast.ExceptHandler, *, rule: str, message: str) -> Finding:
        """A finding at the node's line."""
        return Finding(self.path, node.lineno, rule, message)


def check(path: str, source: str) -> Iterator[Finding]:
    """Yields the findings of one Python file; `path` is relative to the root of the tree."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        yield Finding(path, error.lineno or 1, "syntax", error.msg)
        return
    module = Module(path, source.splitlines())
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield from _function(module, node)
        elif isinstance(node, ast.ClassDef):
            yield from _length(module, node, limit=rules.CLASS_LINES)
        elif isinstance(node, ast.ExceptHandler):
            yield from _handler(module, node)
        elif isinstance(node, ast.Call):
            yield from _suppress(module, node)
        if path.startswith(rules.PURE):
            yield from _impure(module, node)
    if path.startswith(rules.CODE):
        yield from _docstrings(module, tree)


def _function(module: Module, node: Function) -> Iterator[Finding]:
    yield from _length(module, node, limit=rules.FUNCTION_LINES)
    signature = module.lines[node.lineno - 1 : max(node.lineno, node.body[0].lineno - 1)]
    if not any(IMPOSED in line for line in signature):
        yield from _parameters(module, node)
    if module.path.startswith(rules.CODE) and not module.path.startswith(rules.ANY_ALLOWED):
        yield from _any(module, node)


def _length(module: Module, node: Function | ast.ClassDef, *, limit: int) -> Iterator[Finding]:
    length = (node.end_lineno or node.lineno) - node.lineno + 1
    rule = "class-lines" if isinstance(node, ast.ClassDef) else "function-lines"
    if length > limit:
        yield module.finding(node, rule=rule, message=f"{node.name} has {length} lines, at most {limit}")


def _parameters(module: Module, node: Function) -> Iterator[Finding]:
    positional = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    if positional[:1] in (["self"], ["cls"], ["mcs"]):
        del positional[0]
    total = len(positional) + len(node.args.kwonlyargs)
    if total > rules.PARAMETERS:
        yield module.finding(
            node, rule="parameters", message=f"{node.name} takes {total}, at most {rules.PARAMETERS}: group them"
        )
    foreign = node.name.startswith("__") and node.name.endswith("__") and node.name not in OURS
    if len(positional) > rules.POSITIONAL and not foreign and tuple(positional) != ASGI:
        allowed = f"at most {rules.POSITIONAL}: put a * before the others"
        yield module.finding(
            node, rule="positional", message=f"{node.name} takes {len(positional)} by position, {allowed}"
        )


def _any(module: Module, node: Function) -> Iterator[Finding]:
    spec = node.args
    arguments = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, *(each for each in (spec.vararg, spec.kwarg) if each)]
    for annotation in (*(argument.annotation for argument in arguments), node.returns):
        if annotation is not None and _says_any(annotation):
            message = f"{node.name}: Any belongs where bytes enter (list in scripts/checks/rules.py); name the type"
            yield module.finding(annotation, rule="any", message=message)


def _says_any(annotation: ast.expr) -> bool:
    for node in ast.walk(annotation):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and ANY.search(node.value):
            return True
        if _name(node) == "Any":
            return True
    return False


def _handler(module: Module, node: ast.ExceptHandler) -> Iterator[Finding]:
    if node.type is None or not BROAD.isdisjoint(_caught(node.type)):
        if module.path.startswith(rules.CODE) and module.path not in rules.BROAD_EXCEPT:
            message = "name what can be raised; only the supervisor and the gate catch all"
            yield module.finding(node, rule="broad-except", message=message)
        elif not _has_reason(module.lines[node.lineno - 1]):
            yield module.finding(node, rule="broad-except", message="say on this line why everything is caught")
    idle = all(isinstance(step, ast.Pass | ast.Continue) or _is_ellipsis(step) for step in node.body)
    block = module.lines[node.lineno - 1 : node.end_lineno]
    if idle and not any(_has_reason(line) for line in block):
        yield module.finding(
            node, rule="swallow", message="an error vanishes here: handle it, or say why that is right"
        )


def _has_reason(line: str) -> bool:
    comment = line.partition("#")[2]
    return len(WAIVED.sub("", comment).strip(" -:—")) >= SHORTEST_REASON


def _suppress(module: Module, node: ast.Call) -> Iterator[Finding]:
    if _name(node.func) == "suppress" and any(not BROAD.isdisjoint(_caught(argument)) for argument in node.args):
        yield module.finding(node, rule="swallow", message="suppress() of everything: name the narrow exception")


def _caught(node: ast.expr) -> set[str]:
    return {_name(each) for each in (node.elts if isinstance(node, ast.Tuple) else [node])}


def _is_ellipsis(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _impure(module: Module, node: ast.AST) -> Iterator[Finding]:
    if isinstance(node, ast.AsyncFunctionDef):
        yield module.finding(node, rule="pure", message=f"{node.name} is async: core does not wait")
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"open", "input", "print"}:
        yield module.finding(node, rule="pure", message=f"{node.func.id}(): core does no I/O")
    elif isinstance(node, ast.Import | ast.ImportFrom):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        for name in names:
            if name.split(".")[0] in rules.IMPURE_MODULES:
                yield module.finding(
                    node, rule="pure", message=f"core does not import {name}: no I/O, no clock, no randomness"
                )


def _docstrings(module: Module, tree: ast.Module) -> Iterator[Finding]:
    if not tree.body:
        return
    if ast.get_docstring(tree) is None:
        yield Finding(module.path, 1, "docstring", "the module says nothing about what it is for")
    if any(part.startswith("_") and part != "__init__.py" for part in PurePosixPath(module.path).parts):
        return
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef):
            yield from _documented(module, node)


def _documented(module: Module, node: Function | ast.ClassDef) -> Iterator[Finding]:
    if node.name.startswith("_") or node.name in rules.UNDOCUMENTED_FUNCTIONS:
        return
    if ast.get_docstring(node) is None and not _is_overload(node):
        yield module.finding(node, rule="docstring", message=f"{node.name} is public and promises nothing")
    if isinstance(node, ast.ClassDef) and module.path.startswith(rules.PORTS):
        for method in node.body:
            if isinstance(method, Function) and not _is_property(method):
                yield from _documented(module, method)


def _is_overload(node: Function | ast.ClassDef) -> bool:
    return any(_name(decorator) == "overload" for decorator in node.decorator_list)


def _is_property(node: Function) -> bool:
    return any(_name(decorator) == "property" for decorator in node.decorator_list)


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
