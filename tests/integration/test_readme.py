"""The README cannot rot: every command in it is put to the real programs, which must know its verb and its options."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from kairos_cli.main import VERBS
from kairosd.config import load
from kairosd.wire import Home

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = sorted([ROOT / "README.md", ROOT / "SECURITY.md", *(ROOT / "docs").glob("*.md")])
PROGRAMS = Path(sys.executable).parent
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# An option that nothing has: whoever complains about it alone has understood all the rest, and done nothing.
UNKNOWN = "--no-program-has-this-option"


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(README) if kind == language]


def commands() -> Iterator[tuple[str, ...]]:
    """Every command of the `sh` blocks, and what is typed after `$` in the session."""
    lines = [line for text in blocks("sh") for line in text.splitlines()]
    lines += [line[2:] for text in blocks("console") for line in text.splitlines() if line.startswith("$ ")]
    for line in lines:
        for part in re.split(r" && | \| ", line):
            if words := tuple(shlex.split(part, comments=True)):
                yield words


OURS = sorted({words for words in commands() if words[0] in ("kairos", "kairosd")})
SCRIPTS = sorted({words for words in commands() if words[0].startswith("scripts/")})


def complaint(words: tuple[str, ...], home: Path) -> str:
    """What is wrong with a command, by the program's own word; empty when it is understood."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "KAIROS_HOME": str(home / "kairos")}
    done = subprocess.run(
        [str(PROGRAMS / words[0]), *words[1:], UNKNOWN], capture_output=True, text=True, timeout=60, env=environment,
        cwd=home, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    understood = done.returncode == 2 and done.stderr.rstrip().endswith(f"unrecognized arguments: {UNKNOWN}")
    return "" if understood else f"exit {done.returncode}: {done.stdout}{done.stderr}"


def test_there_is_something_to_check() -> None:
    assert len(OURS) >= 20
    assert {words[0] for words in SCRIPTS} == {"scripts/run", "scripts/test"}


@pytest.mark.parametrize("words", OURS, ids=shlex.join)
def test_the_program_knows_the_command(words: tuple[str, ...], tmp_path: Path) -> None:
    assert complaint(words, tmp_path) == ""


@pytest.mark.parametrize(
    "words",
    [("kairos", "dance"), ("kairos", "status", "--fast"), ("kairos", "why"), ("kairosd", "init", "--modle", "x")],
)
def test_a_wrong_command_would_be_found(words: tuple[str, ...], tmp_path: Path) -> None:
    assert complaint(words, tmp_path) != ""


@pytest.mark.parametrize("words", SCRIPTS, ids=shlex.join)
def test_the_script_is_there_and_takes_the_arguments(words: tuple[str, ...]) -> None:
    script = ROOT / words[0]
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", str(script)], check=False, timeout=60).returncode == 0
    assert len(words) <= 2, "scripts/run takes one folder, and scripts/test is shown with one argument at most"


def test_the_readme_names_every_verb() -> None:
    named = {words[1] for words in OURS if len(words) > 1} | set(re.findall(r"`kairos (\w+)", README))
    assert set(VERBS) <= named


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_verb_named_in_prose_exists(page: Path) -> None:
    text = page.read_text("utf-8")
    named = set(re.findall(r"(?:`|^ +|\$ )kairos ([a-z]+)", text, re.MULTILINE))
    assert named <= set(VERBS) | {"service"}, f"{page.name} names verbs that do not exist"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("text", blocks("toml"), ids=lambda text: text.splitlines()[0])
def test_every_configuration_shown_is_accepted(text: str, tmp_path: Path) -> None:
    """Each block as it stands, with a secret, a key and a workspace where it names them."""
    tomllib.loads(text)
    for name in ("github-webhook.secret", "anthropic.key"):
        (tmp_path / name).write_text("0123456789abcdef0123456789abcdef\n")
        (tmp_path / name).chmod(0o600)
    workspace = tmp_path / "code" / "engine"
    workspace.mkdir(parents=True)
    whole = text.replace("~/code/engine", str(workspace))
    if "[[workspaces]]" not in whole:
        whole += f'\n[[workspaces]]\nname = "engine"\npath = "{workspace}"\n'
    file = tmp_path / "config.toml"
    file.write_text(whole)
    own = tmp_path / "own"
    place = Home(own / "config.toml", own / "state", data=own / "data", run=own / "run", is_default=False)
    config = load(file, folder=tmp_path, place=place, environment={})
    assert config.warnings == ()
