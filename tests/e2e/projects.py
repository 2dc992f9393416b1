"""Two small projects as owners have them: one of Python with a virtual environment, one of JavaScript with npm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from tests.e2e.daemon import git, repository

PACKAGES = ("pytest", "pluggy", "iniconfig", "packaging", "pygments")
MODULES = 300  # of the part that nobody has tidied up

SHOP: Mapping[str, str] = {
    ".gitignore": ".venv/\n.pytest_cache/\n.ruff_cache/\n__pycache__/\n.seen\n",
    "README.md": "# Shop\n\nA small shop.\n",
    "CHANGELOG.md": "# Changelog\n\n## Unreleased\n",
    "pyproject.toml": '[project]\nname = "shop"\nversion = "1.0"\ndependencies = ["left >= 1.2"]\n\n'
    '[tool.pytest.ini_options]\npythonpath = ["src"]\n',
    "src/shop/__init__.py": '"""A shop."""\n',
    "src/shop/cart.py": '"""What is bought."""\n\n\ndef total(prices):\n    return sum(prices)\n\n\n'
    "def discount(price, percent):\n    return price - price * percent / 100\n",
    "src/shop/prices.py": '"""Prices as people write them."""\n\n\ndef parse_price(text):\n'
    '    return float(text.strip("$ "))\n',
    "src/shop/legacy.py": "OLD = True\n",
    "src/shop/report.py": "from shop.cart import total\n\n\ndef report(prices):\n"
    '    return f"{len(prices)} things: {total(prices)}"\n',
    "tests/test_cart.py": "from shop.cart import discount, total\n\n\ndef test_total():\n"
    "    assert total([1, 2]) == 3\n\n\ndef test_discount():\n    assert discount(100, 10) == 90\n",
    "tests/test_prices.py": "from shop.prices import parse_price\n\n\ndef test_parse():\n"
    '    assert parse_price("$ 1.50") == 1.5\n',
    "tests/test_report.py": "from shop.report import report\n\n\ndef test_report():\n"
    '    assert report([1, 2]) == "2 things: 3"\n',
}
FLAKY = (
    "import pathlib\n\n\ndef test_cache():\n    seen = pathlib.Path('.seen')\n"
    "    warm = seen.exists()\n    seen.touch()\n    assert warm, 'the cache was cold'\n"
)
LOG = "".join(
    f"2026-03-02T10:{at // 60:02}:{at % 60:02} {'ERROR' if at % 50 == 7 else 'INFO'} "
    f"{'pay' if at % 100 == 7 else 'web'} m\n"
    for at in range(1000)
)
SITE: Mapping[str, str] = {
    ".gitignore": "node_modules/\n",
    "package.json": json.dumps(
        {"name": "site", "version": "1.0.0", "scripts": {"test": "node --test"}, "dependencies": {"left": "^1.2.0"}},
        indent=2,
    ),
    "src/slug.js": "exports.slug = (text) => text.toLowerCase().replace(' ', '-');\n",
    "test/slug.test.js": "const test = require('node:test');\nconst assert = require('node:assert');\n"
    "const { slug } = require('../src/slug.js');\n\n"
    "test('every blank', () => assert.strictEqual(slug('A B C'), 'a-b-c'));\n",
}


def make_shop(folder: Path) -> Path:
    """The Python project: tests that pass but for a flaky one, a log, many files, pytest and ruff in `.venv`."""
    many = {f"src/shop/parts/part{at}.py": f"# TIDY: part {at % 7}\nPART = {at}\n" for at in range(MODULES)}
    repository(folder, {**SHOP, "logs/app.log": LOG, **many})
    environment = folder / ".venv"
    subprocess.run([os.path.realpath(sys.executable), "-m", "venv", "--without-pip", str(environment)], check=True)
    (site,) = environment.glob("lib/python3*/site-packages")
    for name in PACKAGES:
        for file in metadata.files(name) or ():
            if ".." not in file.parts:
                target = site / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), target)
    start = f"#!{environment}/bin/python\nimport sys\nfrom pytest import console_main\nsys.exit(console_main())\n"
    (environment / "bin/pytest").write_text(start)
    (environment / "bin/pytest").chmod(0o755)
    shutil.copy(Path(sys.executable).parent / "ruff", environment / "bin/ruff")
    return folder


def make_site(folder: Path) -> Path:
    """The JavaScript project: a test that fails, and a linter in `node_modules`."""
    repository(folder, SITE)
    linter = folder / "node_modules/.bin/eslint"
    linter.parent.mkdir(parents=True)
    linter.write_text("#!/usr/bin/env node\nconsole.log('1 warning');\n")
    linter.chmod(0o755)
    return folder


def commit(folder: Path, message: str, files: Mapping[str, str]) -> None:
    """The owner's own commit."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)
