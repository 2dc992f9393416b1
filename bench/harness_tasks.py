"""Six small tasks as an owner would give them, each with a program that tells whether it was done."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

SECONDS = 20.0  # for a program of a check


@dataclass(frozen=True)
class Work:
    """What a harness left: the folder with its changes in place, and what it answered."""

    folder: Path
    answer: str

    def text(self, name: str) -> str:
        """A file's content, "" where there is none."""
        path = self.folder / name
        return path.read_text("utf-8", "replace") if path.is_file() else ""

    def says(self, *command: str) -> str | None:
        """What a program prints, stripped; None when it fails."""
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=SECONDS, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return done.stdout.strip() if done.returncode == 0 else None

    def python(self, code: str) -> str | None:
        return self.says(sys.executable, "-B", "-c", code)


@dataclass(frozen=True)
class Task:
    """`goal` is what is told; `solved` is never shown to the model. `question`: nothing may change."""

    name: str
    goal: str
    files: Mapping[str, str]
    solved: Callable[[Work], bool]
    question: bool = False


STATISTICS = {
    "README.md": "# Tally\n\nSmall statistics without dependencies.\n\nRun the tests with `python3 -m unittest`.\n",
    "tally/__init__.py": "",
    "tally/median.py": '"""The middle of a list."""\n\n\ndef median(values):\n    ordered = sorted(values)\n'
    "    middle = len(ordered) // 2\n    return ordered[middle]\n",
    "tally/mean.py": '"""The average of a list."""\n\n\ndef mean(values):\n    return sum(values) / len(values)\n',
    "tests/__init__.py": "",
    "tests/test_median.py": "import unittest\n\nfrom tally.median import median\n\n\n"
    "class MedianTest(unittest.TestCase):\n    def test_odd(self):\n        self.assertEqual(median([3, 1, 2]), 2)\n\n"
    "    def test_even(self):\n        self.assertEqual(median([10, 1, 3, 2]), 2.5)\n",
    "tests/test_mean.py": "import unittest\n\nfrom tally.mean import mean\n\n\n"
    "class MeanTest(unittest.TestCase):\n    def test_mean(self):\n        self.assertEqual(mean([1, 2, 3]), 2)\n",
}


def _fixed(work: Work) -> bool:
    told = work.python("from tally.median import median as m; print(m([5, 1, 9]), m([1, 2]), m([8, 2, 4, 6]), m([7]))")
    same = all(work.text(name) == STATISTICS[name] for name in STATISTICS if name.startswith("tests/"))
    return told in ("5 1.5 5.0 7", "5 1.5 5.0 7.0") and same


SHOP = {
    "package.json": '{"name": "corner-shop", "version": "0.3.0", "scripts": {"test": "node --test"}}\n',
    "src/price.js": "function calcTot(items) {\n  return items.reduce((sum, item) => sum + item.price, 0);\n}\n\n"
    "module.exports = { calcTot };\n",
    "src/receipt.js": "const { calcTot } = require('./price');\n\nfunction receipt(items) {\n"
    "  const lines = items.map((item) => `${item.name} ${item.price}`);\n"
    "  lines.push(`total ${calcTot(items)}`);\n  return lines.join('\\n');\n}\n\nmodule.exports = { receipt };\n",
    "README.md": "# Corner shop\n\nPrints receipts.\n",
}


def _renamed(work: Work) -> bool:
    code = (
        "const p = require('./src/price'); const r = require('./src/receipt');"
        "console.log(p.calculateTotal([{price: 2}, {price: 3}]), r.receipt([{name: 'a', price: 4}]).split('\\n').pop())"
    )
    gone = not any(re.search(r"\bcalcTot\b", work.text(name)) for name in ("src/price.js", "src/receipt.js"))
    return gone and work.says("node", "-e", code) == "5 total 4"


GREETER = {
    "README.md": "# Greeter\n\n    python3 greet.py Ada\n",
    "greet.py": '"""Greets somebody."""\n\nimport argparse\n\n\ndef main():\n'
    '    parser = argparse.ArgumentParser(description="Greets somebody.")\n    parser.add_argument("name")\n'
    "    options = parser.parse_args()\n"
    '    text = f"Hello, {options.name}!"\n    print(text)\n\n\nif __name__ == "__main__":\n    main()\n',
}


def _shouts(work: Work) -> bool:
    plain = work.says(sys.executable, "-B", "greet.py", "Ada")
    loud = work.says(sys.executable, "-B", "greet.py", "--shout", "Ada")
    return plain == "Hello, Ada!" and loud == "HELLO, ADA!"


FERRY = {
    "README.md": "# Ferry\n\nFerry moves files between two machines.\n\n## Usage\n\n"
    "Every file that you recieve is checked by its hash.\nA transfer that breaks is taken up again.\n\n"
    "## License\n\nMIT\n",
    "ferry.py": "def send(path):\n    raise NotImplementedError\n",
}


def _spelt(work: Work) -> bool:
    return work.text("README.md") == FERRY["README.md"].replace("recieve", "receive")


BEACON = {
    "README.md": "# Beacon\n\nA small status server.\n",
    "beacon/__init__.py": "",
    "beacon/settings.py": '"""What can be configured."""\n\nimport os\n\n'
    'HOST = os.environ.get("BEACON_HOST", "127.0.0.1")\n'
    'PORT = int(os.environ.get("BEACON_PORT", "8473"))\nTIMEOUT = 15\n',
    "beacon/server.py": '"""Serves the status page."""\n\nfrom http.server import HTTPServer\n\n'
    "from beacon import settings\nfrom beacon.page import Page\n\n\ndef serve():\n"
    "    HTTPServer((settings.HOST, settings.PORT), Page).serve_forever()\n",
    "beacon/page.py": '"""The status page."""\n\nfrom http.server import BaseHTTPRequestHandler\n\n\n'
    "class Page(BaseHTTPRequestHandler):\n    def do_GET(self):\n        self.send_response(200)\n"
    '        self.end_headers()\n        self.wfile.write(b"up")\n',
}


def _answered(work: Work) -> bool:
    same = all(work.text(name) == text for name, text in BEACON.items())
    return same and "8473" in work.answer and "BEACON_PORT" in work.answer


FETCHER = {
    "README.md": "# Fetcher\n\nDownloads pages.\n\n## Limits\n\n- A request is tried 3 times.\n"
    "- A request ends after 10 seconds.\n",
    "fetcher/__init__.py": "",
    "fetcher/limits.py": '"""The limits of a request."""\n\nRETRIES = 3\nTIMEOUT_SECONDS = 10\nPAUSE_SECONDS = 1\n',
    "fetcher/client.py": "from urllib.request import urlopen\n\nfrom fetcher.limits import TIMEOUT_SECONDS\n\n\n"
    "def fetch(url):\n    with urlopen(url, timeout=TIMEOUT_SECONDS) as answer:\n        return answer.read()\n",
}


def _raised(work: Work) -> bool:
    told = work.python("from fetcher import limits as l; print(l.RETRIES, l.TIMEOUT_SECONDS, l.PAUSE_SECONDS)")
    readme = FETCHER["README.md"].replace("10 seconds", "30 seconds")
    return told == "3 30 1" and work.text("README.md").strip() == readme.strip()


TASKS: tuple[Task, ...] = (
    Task("fix", "A test in tests/test_median.py fails. Find the bug and fix it.", STATISTICS, _fixed),
    Task("rename", "Rename the function calcTot to calculateTotal everywhere in the code.", SHOP, _renamed),
    Task("flag", "Add an option --shout to greet.py that prints the greeting in capital letters.", GREETER, _shouts),
    Task("typo", "There is a spelling mistake in the Usage section of README.md. Correct it.", FERRY, _spelt),
    Task(
        "question",
        "Which port does the server listen on by default, and which environment variable changes it?",
        BEACON,
        _answered,
        question=True,
    ),
    Task("constant", "Raise the timeout of a request from 10 to 30 seconds, in code and README.", FETCHER, _raised),
)
