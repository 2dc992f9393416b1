"""An ordinary day at level `sandboxed`, with a model that writes shell as models do: it asks the owner at most once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.brain import IGNORE, PROVIDERS, Brain, finish, first_words, use
from tests.e2e.coder import Answer, Coder, Flow, Step, table
from tests.e2e.conftest import Make
from tests.e2e.daemon import Daemon, Settings, git
from tests.e2e.projects import FLAKY, MODULES, commit, make_shop, make_site
from tests.servers import Reply, Request

QUESTIONS_MOST = 1
LAST = "tests/test_prices.py"


def says(words: str, *, of: int = -1) -> Answer:
    """Ends with these words and what the tool answered `of` so many answers ago."""
    return lambda seen: finish(f"{words}: {seen[of][:1500]}")


def contains(words: str, path: str, text: str) -> Answer:
    """Ends with these words and a check of a file."""
    return lambda seen: finish(words, {"kind": "file_contains", "path": path, "text": text})


def edit(path: str, old: str, new: str) -> Reply:
    return use("edit", path=path, old=old, new=new, all=True)


def flows(shop: Path, site: Path) -> list[Flow]:
    """The day's work, in its order. What is refused without a line to run instead is done as `otherwise` says."""
    return [
        Flow(
            "schedule", "summarise what changed",
            [
                'git log --since="1 week ago" --oneline 2>/dev/null | head -20',
                "git log --oneline -5 | cat",
                "date +%F && head -n 20 CHANGELOG.md; tail -n 5 CHANGELOG.md",
                Step("echo '- Begin the engine' >> CHANGELOG.md",
                     (edit("CHANGELOG.md", "## Unreleased\n", "## Unreleased\n\n- Begin the engine\n"),)),
                "git diff --stat 2>&1 | tail -3",
                Step('git add -A && git commit -m "Update the changelog"',
                     (use("git_commit", message="Update the changelog"),)),
            ],
            contains("The changelog is up to date.", "CHANGELOG.md", "- Begin the engine"),
        ),
        Flow(
            "saved file", "the saved change breaks a test",
            [
                f"cd {shop} && git status --short 2>/dev/null",
                "git diff HEAD --stat | cat",
                ".venv/bin/pytest -x -q 2>&1 | tail -5",
                Step("cat src/shop/*.py | head -40", ("cat src/shop/cart.py",)),
                Step("sed -i 's/percent)/percent \\/ 100)/' src/shop/cart.py",
                     (edit("src/shop/cart.py", "price * percent\n", "price * percent / 100\n"),)),
                "source .venv/bin/activate && pytest -q 2>&1 | tail -3",
                "pytest -q",
            ],
            contains("The discount forgot to divide.", "src/shop/cart.py", "percent / 100"),
        ),
        Flow(
            "last commit", "what did the last commit change",
            ["pwd && ls", "git log --oneline -5 | cat", "git diff HEAD~1 --stat",
             Step("git show --no-ext-diff --no-textconv $(git rev-parse HEAD) | head -50", (use("git_show"),))],
            says("The last commit"),
        ),
        Flow(
            "CI failure", "make the build pass again",
            [
                "export CI=1 && pytest -q 2>&1 | head -50",
                "PYTHONDONTWRITEBYTECODE=1 python -m pytest -x -q tests/test_prices.py > /tmp/out.txt 2>&1",
                'grep -rn "def parse_price" --include=*.py .',
                "sed -n '1,20p' src/shop/prices.py",
                Step('python -c "from shop.prices import parse_price; print(parse_price(\'1,000\'))"',
                     ("cat src/shop/prices.py",)),
                Step('cat > src/shop/prices.py <<EOF\ndef parse_price(text):\n    return float(text)\nEOF',
                     (edit("src/shop/prices.py", '"$ ")', '"$ ").replace(",", "")'),)),
                f"cd {shop} && pytest -q; echo \"exit: $?\"",
            ],
            contains("Thousands are read now.", "src/shop/prices.py", 'replace(",", "")'),
        ),
        Flow(
            "rename", "rename total to grand_total",
            [
                "grep -rn total --include=*.py . | head -20",
                Step("grep -rl 'total(' src tests | xargs sed -i 's/\\btotal(/grand_total(/g'", (
                    "grep -rlw total src tests",
                    edit("src/shop/cart.py", "def total(", "def grand_total("),
                    edit("src/shop/report.py", "{total(", "{grand_total("),
                    edit("src/shop/report.py", "import total", "import grand_total"),
                    edit("tests/test_cart.py", "assert total(", "assert grand_total("),
                    edit("tests/test_cart.py", "discount, total", "discount, grand_total"))),
                Step('find . -name "*.py" | xargs grep -nw total', ("grep -rnw total src tests || true",)),
                ". .venv/bin/activate; pytest -q | tail -3",
                "pytest -q tests",
            ],
            contains("It is called grand_total everywhere.", "src/shop/report.py", "grand_total"),
        ),
        Flow(
            "docs", "write a guide to the cart",
            [
                "ls -la && ls docs 2>/dev/null || echo none",
                "mkdir -p docs/api",
                Step("cat > docs/api/cart.md <<'EOF'\n# Cart (of a shop)\n\nUse `grand_total`.\nEOF",
                     (use("write", path="docs/api/cart.md", content="# Cart (of a shop)\n\nUse `grand_total`.\n"),)),
                Step('echo "See docs/api/cart.md." >> README.md',
                     (edit("README.md", "A small shop.\n", "A small shop. See docs/api/cart.md.\n"),)),
                "wc -l $(git ls-files '*.md')",
                "git diff --stat",
            ],
            contains("The guide is there.", "docs/api/cart.md", "grand_total"),
        ),
        Flow(
            "dependencies", "look whether the dependencies of the site are old",
            [
                "cat package.json | jq '.dependencies'",
                "npm outdated 2>/dev/null",
                "curl -s https://example.org/left/latest",
                use("notify", title="left is pinned to ^1.2.0", body="I have no network to see the newest version."),
            ],
            says("The owner is told"),
        ),
        Flow(
            "lint", "make the linter happy",
            [
                "which python && ruff --version",
                "ruff check . 2>&1 | head -50",
                Step("ruff check --fix .", ("ruff check --diff src/shop/cart.py; echo",
                                            edit("src/shop/cart.py", "import os\n\n", ""))),
                ".venv/bin/ruff check src",
                "pytest -q",
            ],
            contains("An import was not used.", "src/shop/cart.py", "def grand_total"),
        ),
        Flow(
            "explain", "explain why the tests fail",
            [
                "pytest -q 2>&1 | tail -20",
                Step("for f in tests/*.py; do head -5 $f; done", ("head -5 tests/test_cart.py tests/test_prices.py",)),
                Step('python3 -c "import shop; print(shop)"', ("cat src/shop/report.py",)),
                f"pytest -q {LAST}::test_parse 2>&1 | tail -20",
            ],
            says("parse_price does not know euros"),
        ),
        Flow(
            "flaky", "find out whether test_cache is flaky",
            [
                Step("for i in 1 2 3; do pytest -q tests/test_cache.py; done", ("pytest -q tests/test_cache.py",)),
                Step("timeout 60 pytest -q tests/test_cache.py 2>&1 | tail -3",
                     ("pytest -q tests/test_cache.py 2>&1 | tail -3",)),
            ],
            says("It fails at first and passes then"),
        ),
        Flow(
            "collaborator", "do what the comment asks",
            [
                "ls -la && cat README.md",
                "pytest -q 2>&1 | tail -5",
                "pytest -q 2>&1 | tail -5",
                edit("README.md", "# Shop\n", "# Shop\n\nTests: `pytest -q`.\n"),
                "git diff --stat",
                "ruff check .",
            ],
            contains("README says how to test; I could not run the tests myself.", "README.md", "pytest -q"),
        ),
        Flow(
            "search", "say how many parts are to be tidied",
            [
                "rg -n TIDY src | wc -l",
                "find . -name *.md -not -path './.venv/*' | sort | uniq | wc -l",
                "grep -rn TIDY src --include=*.py | cut -d: -f3 | sort | uniq -c | sort -rn | head -5",
                "ls *.toml",
                Step("find src -type f | xargs wc -l | tail -1", ("rg --files src | wc -l",)),
                Step("ls src/shop/parts/*.py | wc -l", ("find src/shop/parts -name '*.py' | wc -l",)),
            ],
            says("Parts to be tidied"),
        ),
        Flow(
            "logs", "say what goes wrong in the log",
            [
                "tail -n 20 logs/app.log",
                "grep -i error logs/app.log | tail -5",
                Step("cat logs/*.log | grep ERROR | awk '{print $3}' | sort | uniq -c",
                     ("grep ERROR logs/app.log | cut -d' ' -f3 | sort | uniq -c",)),
            ],
            says("Errors by part"),
        ),
        Flow(
            "npm", "make the tests of the site pass",
            [
                "npm test --silent 2>&1 | tail -20",
                "npx eslint . || true",
                Step("node -e \"console.log(require('./src/slug.js').slug('A B'))\"", ("cat src/slug.js",)),
                edit("src/slug.js", "replace(' ', '-')", "replaceAll(' ', '-')"),
                f"cd {site} && npm test",
            ],
            contains("Every blank is replaced.", "src/slug.js", "replaceAll"),
        ),
        Flow(
            "clean-up", "remove the module legacy.py",
            [
                'grep -rn "legacy" --include="*.py" . || echo "nobody uses it"',
                Step("rm src/shop/legacy.py", ("rm src/shop/legacy.py",)),
                "pytest -q tests/test_report.py",
            ],
            lambda seen: finish("legacy.py is gone.", {"kind": "git_changed"}),
        ),
    ]  # fmt: skip


class Day:
    """The day as it goes on: the daemon, the two projects, the model."""

    def __init__(self, tmp_path: Path, brain: Brain, make_daemon: Make) -> None:
        self.shop = make_shop(tmp_path / "shop")
        self.site = make_site(tmp_path / "site")
        self.flows = {flow.name: flow for flow in flows(self.shop, self.site)}
        self.coder = Coder(list(self.flows.values()))
        self.rows: list[tuple[object, ...]] = []
        self.watched = ""  # the goal that a saved file leads to
        brain.decide, brain.act = self.decide, self.coder.act
        self.daemon = self.make(brain, make_daemon)

    def make(self, brain: Brain, make_daemon: Make) -> Daemon:
        due = (datetime.now(UTC) + timedelta(seconds=10)).strftime("%Y-%m-%dT%H:%M:%S")
        schedule = (
            f'[[schedules]]\nname = "changelog"\nat = "{due}"\ngoal = "summarise what changed"\nworkspace = "shop"\n'
        )
        folders = {"shop": self.shop, "site": self.site}
        daemon = make_daemon(Settings(folders, {"scripted": brain.section(PROVIDERS[0])}, "scripted", more=schedule))
        text = daemon.config.read_text()
        for name, bins in (("shop", ".venv"), ("site", "node_modules")):
            folder = {"shop": ".venv/bin", "site": "node_modules/.bin"}[name]
            more = f'level = "sandboxed"\nbin = ["{folder}"]\nshare = ["{bins}"]\nrepo = "ada/{name}"'
            text = text.replace('repo = "ada/engine"', more, 1)
        daemon.config.write_text(text)
        return daemon

    def decide(self, request: Request) -> Mapping[str, Any]:
        words = first_words(request).partition("The workspace now:")[0]
        goals = {
            "- schedule changelog": "summarise what changed",
            "- webhook check_run": "make the build pass again",
            "- webhook issue_comment": f"do what the comment asks, {''.join(re.findall(r'e_[a-z0-9]+', words)[:1])}",
            "- files ": self.watched,
        }
        found = [goal for mark, goal in goals.items() if mark in words and goal]
        if found == [self.watched]:
            self.watched = ""  # once is enough: what is merged later is a change too
        if found and '"act"' in json.dumps({**request.body, "messages": []}):
            return {**IGNORE, "verdict": "act", "goal": found[0], "reason": "the owner wants it"}
        if "- webhook" in words:
            return {**IGNORE, "verdict": "notify", "goal": "somebody wrote an issue", "reason": "the owner wants it"}
        return IGNORE

    def tell(self, name: str, workspace: str = "shop") -> dict[str, Any]:
        self.daemon.kairos("tell", self.flows[name].goal, "-w", workspace)
        return self.ended(name)

    def hook(self, event: str, delivery: str, **payload: Any) -> None:
        body = {"repository": {"full_name": "ada/shop", "name": "shop", "private": False}, **payload}
        answer = self.daemon.hook(event, json.dumps(body).encode(), delivery=delivery)
        assert answer.status == 202, answer

    def ended(self, name: str) -> dict[str, Any]:
        """The run of the flow, once it has ended; a question of its is answered with yes, as the owner would."""
        flow = self.flows[name]

        def over() -> dict[str, Any] | None:
            for question in self.daemon.json("approvals", "--state", "open"):
                self.daemon.kairos("approve", question["code"], check=True)
            found = [run for run in self.daemon.json("runs", "--limit", "100") if flow.goal in run["goal"]]
            return found[0] if found and found[0]["ended"] else None

        run = self.daemon.wait_for(over, f"{name} ends", 120)
        assert run is not None
        shown: dict[str, Any] = self.daemon.json("runs", run["id"])
        return shown

    def row(self, name: str, run: Mapping[str, Any], wanted: str) -> None:
        """Notes how the flow ended, and fails where that is not as it should be; the owner merges what landed."""
        flow = self.flows[name]
        asked = [one for one in self.daemon.json("approvals", "--limit", "100") if one["run"] == run["id"]]
        end = self.end(run)
        self.rows.append((name, len(flow.tried), len(flow.refused), flow.rewritten, len(asked), end))
        assert end == wanted, (name, run, flow.refused, self.daemon.tail())
        folder = self.site if name == "npm" else self.shop
        if run["branch"]:
            git(folder, "merge", "--quiet", "--no-edit", run["branch"])
        elif run["patch"]:
            git(folder, "apply", run["patch"])

    def end(self, run: Mapping[str, Any]) -> str:
        if run["state"] not in ("done", "done_unchecked"):
            return f"{run['state']}: {run['result']}"
        tested = re.search(r"^- ran `[^`]*(?:pytest|npm test|ruff)[^`|]*`: exit 0$", run["result"], re.MULTILINE)
        landed = "branch" if run["branch"] else "patch" if run["patch"] else "answer"
        told = any(one["cause"] == run["id"] and "pinned" in one["title"] for one in self.daemon.json("notices"))
        return f"tested {landed}" if tested and landed != "answer" else "notice" if told else landed


@pytest.fixture
def day(tmp_path: Path, brain: Brain, make_daemon: Make) -> Day:
    return Day(tmp_path, brain, make_daemon)


def test_an_ordinary_day_asks_at_most_once(day: Day, brain: Brain, tmp_path: Path) -> None:
    daemon, shop = day.daemon, day.shop
    daemon.start()
    day.row("schedule", day.ended("schedule"), "branch")

    day.watched = day.flows["saved file"].goal
    cart = shop / "src/shop/cart.py"
    cart.write_text(cart.read_text().replace("percent / 100", "percent"))
    day.row("saved file", day.ended("saved file"), "tested branch")
    git(shop, "checkout", "--quiet", "--", ".")

    run = day.tell("last commit")
    assert git(shop, "rev-parse", "HEAD").strip() in run["result"]
    day.row("last commit", run, "answer")

    thousand = 'from shop.prices import parse_price\n\n\ndef test_parse():\n    assert parse_price("$ 1,000") == 1000\n'
    commit(shop, "Want thousands", {LAST: thousand})
    check = {"id": 7, "name": "build", "status": "completed", "conclusion": "failure", "head_sha": "a" * 40}
    day.hook("check_run", "d-1", action="completed", check_run={**check, "check_suite": {"head_branch": "main"}})
    day.row("CI failure", day.ended("CI failure"), "tested branch")

    day.row("rename", day.tell("rename"), "tested branch")
    day.row("docs", day.tell("docs"), "branch")
    day.row("dependencies", day.tell("dependencies", "site"), "notice")

    commit(shop, "Import os", {"src/shop/cart.py": "import os\n\n" + cart.read_text()})
    day.row("lint", day.tell("lint"), "tested branch")

    commit(shop, "Want euros", {LAST: thousand.replace("$ 1,000", "1000 €")})
    run = day.tell("explain")
    assert "could not convert" in run["result"]
    day.row("explain", run, "answer")

    commit(shop, "Test the cache", {"tests/test_cache.py": FLAKY})
    run = day.tell("flaky")
    assert "1 passed" in run["result"]
    day.row("flaky", run, "answer")
    someone_elses_words(day, brain)

    run = day.tell("search")
    assert f"\n{MODULES}\n" in run["result"]
    day.row("search", run, "answer")
    run = day.tell("logs")
    assert re.search(r"10 pay\n\s+10 web", run["result"])
    day.row("logs", run, "answer")
    day.row("npm", day.tell("npm", "site"), "tested branch")
    assert subprocess.run(["npm", "test"], cwd=day.site, capture_output=True, check=False).returncode == 0
    day.row("clean-up", day.tell("clean-up"), "tested branch")
    assert not (shop / "src/shop/legacy.py").exists()
    report(day, tmp_path / "ordinary_day.txt")


def someone_elses_words(day: Day, brain: Brain) -> None:
    """A collaborator's comment becomes a branch without a command and without a question; a stranger's a notice."""
    issue = {"number": 7, "title": "README", "body": "", "state": "open", "author_association": "COLLABORATOR"}
    comment = {"id": 1, "body": "Please say in README how to test.", "author_association": "COLLABORATOR"}
    writer = {"user": {"login": "grace"}}
    day.hook("issue_comment", "d-2", action="created", issue={**issue, **writer}, comment={**comment, **writer})
    run = day.ended("collaborator")
    assert "pytest" not in run["result"].partition("Looked at")[2], "nothing ran that runs code"
    day.row("collaborator", run, "branch")

    stranger = {**issue, "number": 8, "body": "It stopped.", "author_association": "NONE", "user": {"login": "mallory"}}
    day.hook("issues", "d-3", action="opened", issue=stranger)
    find = lambda: [one for one in day.daemon.json("notices") if "bug about code" in one["body"]]  # noqa: E731
    assert day.daemon.wait_for(find, "a stranger's issue is filed and told")
    day.rows.append(("stranger's issue", 0, 0, 0, 0, "notice"))
    assert brain.filings


def report(day: Day, path: Path) -> None:
    """Prints the table, keeps it, and holds the totals against the ledger and against what was promised."""
    asked = day.daemon.json("approvals", "--limit", "100")
    sums: Sequence[int] = [sum(int(str(row[at])) for row in day.rows) for at in range(1, 5)]
    head = ("flow", "commands tried", "refused", "rewritten", "asked", "end")
    text = table([head, *day.rows, ("all", *sums, f"{len(day.rows)} flows")])
    path.write_text(text + "\n")
    sys.stdout.write(f"\n{text}\n")
    tried, refused, rewritten, questions = sums
    calls = [
        call
        for run in day.daemon.json("runs", "--limit", "100")
        for call in day.daemon.json("runs", run["id"])["calls"]
    ]
    assert len(day.rows) >= 12
    assert tried >= 60
    assert refused == sum(call["tool"] == "shell" and call["state"] == "denied" for call in calls)
    assert rewritten >= 20, "this model writes as models do"
    assert questions == len(asked) <= QUESTIONS_MOST
    assert day.daemon.kairos("journal", "verify").returncode == 0
