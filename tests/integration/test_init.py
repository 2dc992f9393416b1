"""`kairosd init` and `kairosd config`: what they find, write and say. Ollama is a real server on loopback."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType

import pytest

from kairosd.config import choice, load
from kairosd.errors import ConfigError, KairosError, UsageError
from kairosd.verbs import config as config_verb
from kairosd.verbs import init
from kairosd.wire import Home, home


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A machine without keys, proxies or Ollama; the current folder is inside a checkout."""
    for name in [*choice.KEYS.values(), "CREDENTIALS_DIRECTORY"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAIROS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(choice, "OLLAMA_PORT", 1)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    (tmp_path / "engine" / "src").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", tmp_path / "engine"], check=True)
    monkeypatch.chdir(tmp_path / "engine" / "src")
    return home()


class Ollama(BaseHTTPRequestHandler):
    models: tuple[str, ...] = ()

    def do_GET(self) -> None:
        assert self.path == "/v1/models"
        body = json.dumps({"object": "list", "data": [{"id": name} for name in self.models]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def ollama(place: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Ollama]]:
    server = HTTPServer(("127.0.0.1", 0), Ollama)
    monkeypatch.setattr(choice, "OLLAMA_PORT", server.server_port)
    monkeypatch.setattr(choice, "PROBE_SECONDS", 30)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield Ollama
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_file_it_writes_is_private_and_loads(
    place: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-not-a-key")
    assert init.main(["--webhooks"], place) == 0
    said = capsys.readouterr().out
    assert place.config.stat().st_mode & 0o777 == 0o600
    assert place.config.parent.stat().st_mode & 0o777 == 0o700
    config = load(None, folder=Path("/"), place=place)
    assert [each.path for each in config.workspaces] == [Path.cwd().parent]
    assert config.models[config.roles.act].model == choice.HOSTED["anthropic"][1]
    assert config.warnings == ()
    assert len(config.github_secrets[0]) >= 32
    secret = place.config.with_name("github-webhook.secret")
    assert secret.stat().st_mode & 0o777 == 0o600
    assert secret.read_text().strip() not in said
    assert "sk-not-a-key" not in said + place.config.read_text()
    for heading in ("may do here", "can cost", "Which text goes where", "How to stop", "uninstalling leaves"):
        assert heading in said
    assert "To Anthropic:" in said
    assert "$0." in said
    assert str(place.state) in said


def test_the_commented_lines_of_the_file_are_true(place: Home, tmp_path: Path) -> None:
    assert init.main([], place) == 0
    text = place.config.read_text()
    tail = text[text.index("# GitHub's webhooks") :]
    live = "\n".join(
        line[2:] if line[:3] == "# [" or " = " in line and line[:2] == "# " else line for line in tail.splitlines()
    )
    live = live.replace('topic = ""', 'topic = "unguessable"')
    (place.config.with_name("github-webhook.secret")).write_text("0123456789abcdef")
    (place.config.with_name("github-webhook.secret")).chmod(0o600)
    place.config.write_text(text[: text.index("# GitHub's webhooks")] + live)
    config = load(None, folder=tmp_path, place=place)
    assert config.github is not None
    assert config.quiet_hours is not None
    assert list(config.notifiers) == ["log", "ntfy", "desktop"]
    assert [each.name for each in config.schedules] == ["morning"]


def test_nothing_is_overwritten_and_force_keeps_a_backup(place: Home, capsys: pytest.CaptureFixture[str]) -> None:
    place.config.parent.mkdir(mode=0o700)
    place.config.write_text("# mine\n")
    with pytest.raises(KairosError, match="--force") as caught:
        init.main([], place)
    assert caught.value.exit_code == 1
    assert place.config.read_text() == "# mine\n"
    for number in (1, 2):
        before = place.config.read_text()
        assert init.main(["--force", "--json"], place) == 0
        backup = Path(json.loads(capsys.readouterr().out)["backup"])
        assert backup.name == f"config.toml.backup-{number}"
        assert backup.read_text() == before


def test_outside_a_checkout_a_workspace_must_be_named(
    place: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tmp_path / "notes"
    plain.mkdir()
    monkeypatch.chdir(plain)
    for arguments in ([], ["--workspace", "/"], ["--workspace", str(tmp_path)], ["--workspace", "gone"]):
        with pytest.raises(UsageError):
            init.main(arguments, place)
        assert not place.config.exists()
    assert init.main(["--workspace", "."], place) == 0
    assert tomllib.loads(place.config.read_text())["workspaces"][0]["path"] == str(plain)


def test_an_odd_folder_name_survives(place: Home, tmp_path: Path) -> None:
    odd = tmp_path / 'a "quoted" näme\\{x}'
    odd.mkdir()
    assert init.main(["--workspace", str(odd)], place) == 0
    assert [each.path for each in load(None, folder=tmp_path, place=place).workspaces] == [odd]


def test_ollama_is_found_and_its_coder_taken(
    place: Home, ollama: type[Ollama], capsys: pytest.CaptureFixture[str]
) -> None:
    ollama.models = ("nomic-embed-text:latest", "llama3.3:latest", "qwen2.5-coder:7b")
    assert init.main(["--json"], place) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["model"]["kind"], said["model"]["act"]) == ("ollama", "qwen2.5-coder:7b")
    config = load(None, folder=place.config.parent, place=place)
    assert config.models["ollama"].base_url == f"http://127.0.0.1:{choice.OLLAMA_PORT}/v1"
    place.config.unlink()
    assert list(load(None, folder=Path.cwd(), place=place, detect=True).models) == ["ollama"]
    assert list(load(None, folder=Path.cwd(), place=place).models) == ["local"]


def test_an_ollama_without_models_is_not_taken(
    place: Home, ollama: type[Ollama], capsys: pytest.CaptureFixture[str]
) -> None:
    ollama.models = ()
    with pytest.raises(KairosError, match="ollama pull"):
        init.main(["--model", "ollama"], place)
    assert init.main(["--json"], place) == 0
    assert json.loads(capsys.readouterr().out)["model"]["kind"] == "local"


@pytest.mark.parametrize("model", ["anthropic", "openai", "ollama"])
def test_a_model_that_is_not_there_is_not_written(place: Home, model: str) -> None:
    with pytest.raises(KairosError):
        init.main(["--model", model], place)
    assert not place.config.exists()


def test_the_local_model_is_downloaded_only_after_a_yes(
    place: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[list[str]] = []
    fetching = ModuleType("kairosd.verbs.model")  # the real one would fetch 1.1 GB
    fetching.main = lambda arguments, place: calls.append(list(arguments)) or 7  # type: ignore[attr-defined, func-returns-value]
    monkeypatch.setitem(sys.modules, "kairosd.verbs.model", fetching)
    assert init.main(["--model", "local"], place) == 0
    assert "kairos model fetch" in capsys.readouterr().out
    terminal, answer = os.openpty()
    for word, expected in (("\n", 0), ("no\n", 0), ("y\n", 7)):
        os.write(answer, word.encode())
        with os.fdopen(os.dup(terminal)) as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            assert init.main(["--model", "local", "--force"], place) == expected
    os.close(terminal)
    os.close(answer)
    assert len(calls) == 1
    assert init.main(["--yes", "--force"], place) == 7
    assert calls == [["fetch", "--yes"]] * 2
    weights = Path(load(None, folder=Path.cwd(), place=place).models["local"].file)
    weights.parent.mkdir(parents=True)
    weights.touch()
    assert init.main(["--yes", "--force"], place) == 0


def test_config_check_says_ok_or_everything_that_is_wrong(
    place: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert config_verb.main(["check"], place) == 0
    assert "no file at" in capsys.readouterr().out
    init.main([], place)
    capsys.readouterr()
    assert config_verb.main(["check"], place) == 0
    assert capsys.readouterr().out == f"ok: {place.config}\n"
    bad = tmp_path / "bad.toml"
    bad.write_text("[tick]\nenabeld = true\n[gti]\n")
    assert config_verb.main(["check", str(bad)], place) == 78
    assert capsys.readouterr().out.splitlines() == [
        f'{bad}:2: [tick] enabeld: unknown key; did you mean "enabled"?',
        f'{bad}:3: [gti]: unknown section; did you mean "git"?',
    ]
    with pytest.raises(ConfigError):
        load(bad, folder=tmp_path, place=place)


def test_config_show_is_toml_without_secrets(
    place: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-key")
    init.main(["--webhooks"], place)
    capsys.readouterr()
    assert config_verb.main(["show"], place) == 0
    text = capsys.readouterr().out
    assert config_verb.main(["show", "--json"], place) == 0
    shown = json.loads(capsys.readouterr().out)
    parsed = tomllib.loads(text)
    assert parsed["models"]["strong"]["api_key"] == shown["webhooks"]["github"]["secret"] == "***"
    assert parsed["tick"] == shown["tick"] == {"enabled": True, "min_seconds": 300, "max_seconds": 3600}
    assert parsed["workspaces"] == shown["workspaces"]
    assert "sk-not-a-key" not in text
    assert place.config.with_name("github-webhook.secret").read_text().strip() not in text
    assert config_verb.main(["path"], place) == 0
    assert capsys.readouterr().out == f"{place.config}\n"
