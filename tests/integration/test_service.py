"""The systemd units as systemd reads them, and the verbs `service` and `doctor` as processes."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
from pathlib import Path

import pytest
from tests.control_server import ControlServer, kairos, program

from kairosd.config import load
from kairosd.errors import KairosError
from kairosd.verbs import service
from kairosd.wire import VERSION, Home

REPOSITORY = Path(__file__).resolve().parents[2]
# Each of these takes a sandbox of one's own its namespaces, its mounts, its host name or its view of /proc.
BREAKS_BUBBLEWRAP = (
    "ProtectKernelTunables", "ProtectKernelLogs", "ProtectProc", "ProcSubset", "PrivateUsers", "RestrictNamespaces",
    "SystemCallFilter", "ProtectHostname", "DynamicUser", "MemoryDenyWriteExecute",
)  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / 'a "home" of 100 %'
    folder.mkdir(mode=0o700)
    return folder


def verified(unit: str, folder: Path, *, user: bool) -> str:
    """What systemd complains about."""
    file = folder / "kairosd.service"
    file.write_text(unit)
    env = {"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(folder)}
    done = subprocess.run(
        ["systemd-analyze", *(["--user"] if user else []), "verify", str(file)],
        env=env, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize("user", [True, False])
def test_systemd_has_nothing_to_say_about_the_unit(home: Path, tmp_path: Path, *, user: bool) -> None:
    ran = kairos(home, "service", "print", *([] if user else ["--system", "--run-as", "daemon"]))
    assert ran.code == 0
    assert verified(ran.out, tmp_path, user=user) == ""
    assert "Kairoz" in verified(ran.out.replace("[Service]\n", "[Service]\nKairoz=1\n"), tmp_path, user=user)


def test_the_unit_has_the_real_paths_escaped(home: Path) -> None:
    unit = kairos(home, "service", "print").out
    assert f'ExecStart="{program("kairosd")}"\n' in unit
    escaped = str(home).replace('"', '\\"').replace("%", "%%")
    assert f'Environment="KAIROS_HOME={escaped}"\n' in unit
    assert "@" not in unit
    assert "\nUser=daemon\n" in kairos(home, "service", "print", "--system", "--run-as", "daemon").out


@pytest.mark.parametrize("name", ["kairosd.service", "kairosd-system.service"])
def test_every_directive_has_its_reason_and_none_breaks_the_sandbox(name: str) -> None:
    lines = (REPOSITORY / "systemd" / name).read_text().splitlines()
    directives = [(at, line) for at, line in enumerate(lines) if "=" in line and not line.startswith("#")]
    grouped = {"Description", "StartLimitBurst", "RestartSec"}  # told by their own name, or by the line before
    for at, line in directives:
        assert lines[at - 1].startswith("#") or line.partition("=")[0] in grouped | {"ExecStart"}, line
        assert not line.startswith(BREAKS_BUBBLEWRAP), line


@pytest.mark.skipif(service.BOOTED.is_dir(), reason="systemd is at work here")
def test_without_systemd_it_says_what_to_do(home: Path) -> None:
    for verb in ("install", "uninstall", "status"):
        ran = kairos(home, "service", verb)
        assert ran.code == 1
        assert str(program("kairosd")) in ran.err


def test_the_system_service_needs_a_user(home: Path) -> None:
    assert kairos(home, "service", "print", "--system").code == 2
    assert kairos(home, "service", "print", "--system", "--run-as", "nobody-such").code == 2
    assert kairos(home, "service", "print", "--run-as", "daemon").code == 2


def test_a_unit_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    unit = tmp_path / "kairosd.service"
    unit.write_text("[Service]\nExecStart=/usr/bin/mine\n")
    place = Home(tmp_path / "config.toml", tmp_path, data=tmp_path, run=tmp_path, is_default=False)
    here = service.Installation(place, unit, system=False, user="")
    with pytest.raises(KairosError, match="left alone"):
        service._ours(here)
    unit.write_text(service.render(here))
    assert service._ours(here) == service.render(here)
    system = service.Installation(place, unit, system=True, user="daemon")
    unit.write_text(service.render(system))
    assert service._ours(system) == service.render(system)


# --- doctor


def doctor(home: Path, *checks: str) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for row in json.loads(kairos(home, "doctor", "--json", *checks, cwd=home).out):
        found.setdefault(row["name"], []).append(row)
    return found


def marks(rows: list[dict[str, str]]) -> list[str]:
    return [row["mark"] for row in rows]


def test_doctor_looks_at_everything_and_changes_nothing(home: Path) -> None:
    before = sorted(home.rglob("*"))
    found = doctor(home)
    assert set(found) >= {"config", "python", "programs", "sandbox", "models", "port", "secrets", "watches", "disk",
                          "clock", "database", "journal", "daemon"}  # fmt: skip
    assert marks(found["daemon"]) == ["warn"]
    assert found["models"][0]["fix"] == "kairos model fetch"
    assert sorted(home.rglob("*")) == before


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="no bubblewrap here")
def test_doctor_proves_the_sandbox(home: Path) -> None:
    assert marks(doctor(home, "sandbox")["sandbox"]) == ["ok"]


def test_what_fails_is_exit_1_and_named(home: Path) -> None:
    (home / "config.toml").write_text("[tick]\nenabeld = true\n")
    ran = kairos(home, "doctor", "config")
    assert ran.code == 1
    assert "enabeld" in ran.out
    assert ran.out.endswith("failing: config\n")
    (home / "config.toml").write_text("[tick]\nenabled = true\n")
    assert kairos(home, "doctor", "config").code == 0
    assert kairos(home, "doctor", "confgi").code == 2


def test_doctor_sees_a_broken_database_and_one_of_tomorrow(home: Path) -> None:
    path = home / "state" / "kairos.db"
    path.parent.mkdir(mode=0o700)
    path.write_bytes(b"this is no database" * 100)
    assert marks(doctor(home, "database")["database"]) == ["fail"]
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
    connection.close()
    rows = doctor(home, "database")["database"]
    assert marks(rows) == ["ok", "fail"]
    assert "newer" in rows[1]["detail"]


def test_doctor_sees_a_broken_journal_and_open_secrets(home: Path) -> None:
    day = home / "state" / "journal" / "2026" / "03" / "2026-03-02.jsonl"
    day.parent.mkdir(parents=True)
    day.write_text('{"seq":1}\n')
    (home / "env").write_text("KEY=1\n")
    (home / "env").chmod(0o644)
    found = doctor(home, "journal", "secrets")
    assert marks(found["journal"]) == ["fail"]
    assert "2026-03-02.jsonl:1" in found["journal"][0]["detail"]
    assert found["secrets"][0]["fix"] == f"chmod 600 {home / 'env'}"


def test_doctor_beside_a_daemon_passes_on_its_problems() -> None:
    with ControlServer() as server:
        problem = {"code": "x", "text": "the model is down", "fix": "wait"}
        server.desk.state = {"version": VERSION, "pid": 7, "state": "degraded", "problems": [problem]}
        rows = doctor(server.home, "daemon")["daemon"]
        assert marks(rows) == ["ok", "warn"]
        assert rows[1]["detail"] == "the model is down"
        server.desk.state = {"version": "9.8.7", "pid": 7, "state": "ready", "problems": []}
        assert marks(doctor(server.home, "daemon")["daemon"]) == ["warn"]


def test_a_taken_port_is_seen(home: Path) -> None:
    (home / "secret").write_text("a secret of more than sixteen bytes\n")
    (home / "secret").chmod(0o600)
    config = '[daemon]\nhooks_listen = "{}"\n[webhooks.github]\nsecret_file = "secret"\n'
    with ControlServer() as server:
        server.desk.state = {"state": "ready", "version": VERSION, "problems": []}
        listener = socket.create_server(("127.0.0.1", 0))
        taken = f"127.0.0.1:{listener.getsockname()[1]}"
        (home / "config.toml").write_text(config.format(taken))
        assert load(home / "config.toml", folder=home, place=_place(home)).daemon.hooks_listen == taken
        assert marks(doctor(home, "port")["port"]) == ["fail"]
        listener.close()
        assert marks(doctor(home, "port")["port"]) == ["ok"]


def _place(home: Path) -> Home:
    return Home(home / "config.toml", home / "state", data=home / "data", run=home / "run", is_default=False)
