"""`scripts/check` finds one planted sin for each house rule, and says nothing about the honest file beside it.

One copy of the tree is checked twice: first with an honest version of every planted file, then with the sins.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.integration.tree import PROJECT, copy_tree

CHECK = PROJECT / "scripts" / "check"
ENGINE = "daemon/kairosd/engine"
FINDING = re.compile(r"^(?P<path>[^:\n]+):\d+: (?P<rule>\S+) ", re.MULTILINE)


@dataclass(frozen=True)
class Sin:
    """A file, the rule its sinful body breaks, and a body that does the same job honestly (None: no such file)."""

    rule: str
    path: str
    sinful: str
    honest: str | None = "ANSWER = 42\n"

    def __str__(self) -> str:
        return f"{self.rule}-{Path(self.path).stem}"


def _plant(name: str) -> str:
    return f"{ENGINE}/planted_{name}.py"


def _function(body: str, *, signature: str = "def work() -> None:") -> str:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f'{signature}\n    """Works."""\n{lines}'


def _catching(caught: str, *, then: str) -> str:
    return _function(f"try:\n    print_nothing = int('1')\nexcept {caught}\n    {then}\ndel print_nothing")


def _lines(count: int) -> str:
    return "".join(f"NUMBER_{number} = {number}\n" for number in range(count))


def _class(attributes: int) -> str:
    return 'class Long:\n    """Long."""\n\n' + "".join(
        f"    number_{number} = {number}\n" for number in range(attributes)
    )


FORGOTTEN = "TO" + "DO"
WORKPLACE = "/wo" + "rk/"
BRANCHES = "\n".join(f"if number == {number}:\n    return {number * number}" for number in range(12))
STATEMENTS = "\n".join(f"number_{number} = {number}" for number in range(42))
PORT = 'class Port(Protocol):\n    """A port."""\n\n    def ask(self) -> int:{}\n        ...\n'

SINS = [
    Sin("TID251", _plant("environment"), "import os\n\nHOME = os.environ['HOME']\n"),
    Sin("TID251", _plant("clock"), "import time\n\nNOW = time.time()\n", "import time\n\nNOW = time.monotonic()\n"),
    Sin("TID251", _plant("datetime"), "import datetime\n\nNOW = datetime.datetime.now(datetime.UTC)\n"),
    Sin("DTZ005", _plant("zone"), "import datetime\n\nNOW = datetime.datetime.now()\n"),
    Sin("TID251", _plant("task"), "import asyncio\n\nSTART = asyncio.create_task\n"),
    Sin("PLC0415", _plant("inner_import"), _function("import json\n\njson.loads('1')")),
    Sin(
        "ASYNC251",
        _plant("sleep"),
        "import time\n\n\n" + _function("time.sleep(1)", signature="async def work() -> None:"),
    ),
    Sin("T201", _plant("print"), 'print("here")\n'),
    Sin("BLE001", _plant("blind"), _catching("Exception:", then="print_nothing = 0")),
    Sin("S110", _plant("quiet"), _catching("Exception:", then="pass")),
    Sin("F401", _plant("unused"), "import json\n"),
    Sin("E501", _plant("wide"), f'WIDE = "{"x" * 120}"\n'),
    Sin("I001", _plant("unsorted"), "import sys\nimport json\n\nBOTH = (sys, json)\n"),
    Sin("UP006", _plant("old"), "from typing import List\n\nNAMES: List[str] = []\n"),
    Sin("B006", _plant("default"), _function("each.append(1)", signature="def work(each: list[int] = []) -> None:")),
    Sin("PTH123", _plant("open"), 'SOURCE = open("source")\n'),
    Sin("SIM105", _plant("try"), _catching("ValueError:", then="pass  # one is a number")),
    Sin(
        "RET505", _plant("else"), "def work(a: int) -> int:\n    if a:\n        return 1\n    else:\n        return 2\n"
    ),
    Sin("RUF100", _plant("waived"), "ANSWER = 42  # noqa: E501\n"),
    Sin("C901", _plant("branches"), _function(f"{BRANCHES}\nreturn 0", signature="def work(number: int) -> int:")),
    Sin("PLR0915", _plant("statements"), _function(STATEMENTS)),
    Sin("PT011", "tests/unit/test_planted.py", "import pytest\n\nRAISES = pytest.raises(ValueError)\n"),
    Sin("format", _plant("layout"), "ANSWER  =  42\n"),
    Sin("mypy", _plant("types"), 'ANSWER: int = "42"\n', "ANSWER: int = 42\n"),
    Sin("mypy", _plant("untyped"), "def work(a):\n    return a\n", "def work(a: int) -> int:\n    return a\n"),
    Sin("imports", "daemon/kairosd/core/planted_layer.py", "from kairosd import engine\n\nENGINE = engine\n"),
    Sin("imports", _plant("engine_system"), "from kairosd import system\n\nSYSTEM = system\n"),
    Sin("imports", "daemon/kairosd/tools/planted_tool.py", "from kairosd import store\n\nSTORE = store\n"),
    Sin("imports", "daemon/kairosd/system/planted_cli.py", "import kairos_cli\n\nCLI = kairos_cli\n"),
    Sin("imports", "cli/kairos_cli/planted_client.py", "from kairosd import errors\n\nERRORS = errors\n"),
    Sin("swallow", _plant("swallow"), _catching("ValueError:", then="..."), _catching("ValueError:", then="raise")),
    Sin("swallow", _plant("suppress"), "import contextlib\n\nQUIET = contextlib.suppress(OSError, Exception)\n"),
    Sin("broad-except", _plant("broad"), _catching("BaseException:", then="raise")),
    Sin("broad-except", _plant("bare"), _catching("(KeyError, Exception):", then="raise")),
    Sin(
        "broad-except",
        f"{ENGINE}/supervise.py",
        _catching("Exception:  # noqa: BLE001, S110", then="print_nothing = 0"),
        _catching("Exception:  # noqa: BLE001 - a failing part must not end the others", then="print_nothing = 0"),
    ),
    Sin(
        "any",
        _plant("any"),
        "from typing import Any\n\n\n" + _function("del a", signature="def work(a: list[Any]) -> None:"),
    ),
    Sin("file-lines", _plant("long_file"), _lines(397), _lines(396)),
    Sin("function-lines", _plant("long_function"), _function(_lines(49)), _function(_lines(48))),
    Sin("class-lines", _plant("long_class"), _class(248), _class(247)),
    Sin(
        "parameters", _plant("parameters"), "def _do(*, a: int, b: int, c: int, d: int, e: int, f: int) -> None: ...\n"
    ),
    Sin("positional", _plant("positional"), "def _do(a: int, b: int, c: int) -> None: ...\n"),
    Sin("positional", _plant("method"), "class _It:\n    def __init__(self, a: int, b: int, c: int) -> None: ...\n"),
    Sin("module-name", f"{ENGINE}/helpers.py", "ANSWER = 42\n", None),
    Sin(
        "comments",
        _plant("chatty"),
        "# Says what the next line says.\n" * 11 + _lines(50),
        "# Says why.\n" * 2 + _lines(50),
    ),
    Sin("waiver", _plant("waiver"), "import os, sys  # noqa\n"),
    Sin("docstring", _plant("function"), "def work() -> None: ...\n", _function("...")),
    Sin("docstring", "daemon/kairosd/ports/planted.py", PORT.format(""), PORT.format('\n        """Asks."""')),
    Sin(
        "pure",
        "daemon/kairosd/core/planted_wait.py",
        _function("...", signature="async def work() -> None:"),
        _function("..."),
    ),
    Sin("pure", "daemon/kairosd/core/planted_io.py", "import os\n\nSEPARATOR = os.sep\n"),
    Sin("unfinished", _plant("unfinished"), f"ANSWER = 42  # {FORGOTTEN}: ask again\n"),
    Sin("leak", "docs/planted.md", f"Built in {WORKPLACE}main.\n", "Built in /home/me/project.\n"),
    Sin("syntax", _plant("syntax"), "def work(:\n"),
]
# A module that does not parse stops the type checker and the import graph: it is checked by itself.
TOGETHER = [sin for sin in SINS if sin.rule != "syntax"]


def _complete(sin: Sin, body: str) -> str:
    if not sin.path.endswith(".py"):
        return body
    protocol = "from typing import Protocol\n\n\n" if "Protocol" in body else ""
    gap = "\n\n" if body.startswith(("def", "async", "class")) and not protocol else ""
    return f'"""Planted."""\n\nfrom __future__ import annotations\n\n{protocol}{gap}{body}'.replace(
        "\n\n\n\n", "\n\n\n"
    )


def _write(root: Path, sins: list[Sin], *, body: Callable[[Sin], str | None]) -> None:
    for sin in sins:
        text = body(sin)
        target = root / sin.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            target.write_text(_complete(sin, text))


def _found(root: Path, *, only: str) -> set[tuple[str, str]]:
    done = subprocess.run(
        [sys.executable, str(CHECK), "--root", str(root), "--only", only],
        cwd=root.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode in (0, 1), done.stderr
    found = {(match["rule"], match["path"]) for match in FINDING.finditer(done.stdout)}
    assert (done.returncode == 1) == bool(found)
    return found


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree") / "kairos"
    copy_tree(root)
    cache = PROJECT / ".mypy_cache"
    if cache.is_dir():  # what mypy knows of the installed packages holds for the copy too, and saves most of the time
        shutil.copytree(cache, root / ".mypy_cache")
    return root


@pytest.fixture(scope="module")
def honest(copy: Path) -> set[tuple[str, str]]:
    _write(copy, TOGETHER, body=lambda sin: sin.honest)
    return _found(copy, only="ruff,format,mypy,imports,shape,text")


@pytest.fixture(scope="module")
def sinful(copy: Path, honest: set[tuple[str, str]]) -> set[tuple[str, str]]:
    del honest  # the honest tree is checked before it is spoiled
    _write(copy, TOGETHER, body=lambda sin: sin.sinful)
    return _found(copy, only="ruff,format,mypy,imports,shape,text")


@pytest.mark.parametrize("sin", TOGETHER, ids=str)
def test_a_planted_sin_is_found_and_its_honest_form_is_not(
    sin: Sin, honest: set[tuple[str, str]], sinful: set[tuple[str, str]]
) -> None:
    assert (sin.rule, sin.path) not in honest
    assert (sin.rule, sin.path) in sinful


def test_a_file_that_does_not_parse_is_found(tmp_path: Path) -> None:
    (sin,) = (sin for sin in SINS if sin.rule == "syntax")
    (tmp_path / "pyproject.toml").touch()
    _write(tmp_path, [sin], body=lambda sin: sin.sinful)
    assert _found(tmp_path, only="shape,text") == {("syntax", sin.path)}


def test_a_tool_that_cannot_work_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.importlinter]\n")
    assert _found(tmp_path, only="imports") == {("imports", "pyproject.toml")}
