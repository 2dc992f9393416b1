"""Files below a root: what is read and written, and that nothing leads out."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

import pytest

from kairosd.errors import ToolError
from kairosd.system.files import LocalFiles

FILES = LocalFiles()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "src").mkdir(parents=True)
    (root / "src" / "main.py").write_text("print()\n")
    (tmp_path / "secret").write_text("hush")
    return root


def test_reading_takes_at_most_the_limit(root: Path) -> None:
    assert FILES.read(root, "src/main.py", limit=100) == b"print()\n"
    assert FILES.read(root, "./src/../src//main.py", limit=5) == b"print"
    assert FILES.read(root, "src/main.py", limit=0) == b""


def test_names_near_a_missing_file_are_looked_for_only_when_the_answer_is_read(root: Path) -> None:
    with pytest.raises(ToolError) as caught:
        FILES.read(root, "quince.py", limit=10)
    (root / "quinces.py").write_text("")
    assert "nearest: quinces.py" in str(caught.value), "a look at a workspace asks for files that mostly are not there"
    assert "nearest: quinces.py" in (caught.value.fix or "")


def test_a_missing_file_is_answered_with_the_nearest_names(root: Path) -> None:
    with pytest.raises(ToolError, match=r"no file src/mian.py .*src/main.py"):
        FILES.read(root, "src/mian.py", limit=10)
    with pytest.raises(ToolError, match="nearest: src/main.py"):
        FILES.read(root, "lib/deep/main.py", limit=10)
    with pytest.raises(ToolError, match="is a folder"):
        FILES.read(root, "src", limit=10)
    with pytest.raises(ToolError, match="is a folder"):
        FILES.read(root, ".", limit=10)


@pytest.mark.parametrize("path", ["../secret", "src/../../secret", "/etc/passwd", "a\0b"])
def test_a_path_out_of_the_root_is_refused(root: Path, path: str) -> None:
    for act in (lambda: FILES.read(root, path, limit=9), lambda: FILES.replace(root, path, content=b"x")):
        with pytest.raises(ToolError):
            act()
    with pytest.raises(ToolError):
        FILES.digest(root, path)
    assert (root.parent / "secret").read_text() == "hush"


def test_links_are_read_while_they_stay_inside(root: Path) -> None:
    (root / "near").symlink_to("src/main.py")
    (root / "folder").symlink_to("src")
    (root / "src" / "up").symlink_to("../near")
    (root / "absolute").symlink_to(root / "src")
    for path in ("near", "folder/main.py", "src/up", "absolute/up", "folder/../near"):
        assert FILES.read(root, path, limit=100) == b"print()\n"


@pytest.mark.parametrize("target", ["../secret", "{outside}/secret", "src/../../secret", "/etc/passwd"])
def test_links_that_lead_out_are_not_followed(root: Path, target: str) -> None:
    (root / "link").symlink_to(target.format(outside=root.parent))
    with pytest.raises(ToolError, match="out of the workspace"):
        FILES.read(root, "link", limit=10)
    with pytest.raises(ToolError, match="is a link"):
        FILES.replace(root, "link", content=b"x")
    (root / "out").symlink_to(root.parent)
    with pytest.raises(ToolError, match="out of the workspace"):
        FILES.read(root, "out/secret", limit=10)
    with pytest.raises(ToolError, match="is a link"):
        FILES.replace(root, "out/secret", content=b"x")
    assert (root.parent / "secret").read_text() == "hush"


def test_a_circle_of_links_ends(root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    with pytest.raises(ToolError, match="circle"):
        FILES.read(root, "a", limit=10)


def test_what_is_no_plain_file_is_never_opened(root: Path) -> None:
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(os.path.relpath(root / "door"))
        for path in ("fifo", "door"):
            with pytest.raises(ToolError):
                FILES.read(root, path, limit=10)
            with pytest.raises(ToolError, match="not a plain file"):
                FILES.replace(root, path, content=b"x")
            assert FILES.digest(root, path) is None
    (root / "null").symlink_to("/dev/null")
    with pytest.raises(ToolError):
        FILES.read(root, "null", limit=10)


def test_writing_replaces_a_file_whole_and_keeps_its_mode(root: Path) -> None:
    script = root / "src" / "run"
    script.write_text("old")
    script.chmod(0o751)
    before = script.stat().st_ino
    FILES.replace(root, "src/run", content=b"new")
    assert (script.read_text(), script.stat().st_mode & 0o7777) == ("new", 0o751)
    assert script.stat().st_ino != before  # whoever has the old one open keeps the old one
    FILES.replace(root, "made/on the/way.txt", content=b"there")
    assert (root / "made" / "on the" / "way.txt").read_bytes() == b"there"
    assert not [path for path in root.rglob("*") if path.name.startswith(".kairos-")]


def test_a_hard_link_outside_keeps_its_content(root: Path) -> None:
    (root / "hard").hardlink_to(root.parent / "secret")
    FILES.replace(root, "hard", content=b"mine")
    assert (root.parent / "secret").read_text() == "hush"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(root: Path) -> None:
    with pytest.raises(ToolError, match="src is not a plain file"):
        FILES.replace(root, "src", content=b"x")
    with pytest.raises(ToolError, match="no folder"):
        FILES.replace(root, "src/main.py/below", content=b"x")
    assert sorted(path.name for path in root.rglob("*")) == ["main.py", "src"]


def test_a_digest_names_the_content(root: Path) -> None:
    assert FILES.digest(root, "src/main.py") == hashlib.sha256(b"print()\n").hexdigest()
    assert FILES.digest(root, "absent") is None
    assert FILES.digest(root, "src") is None


def test_a_walk_lists_plain_files_shallow_ones_first(root: Path) -> None:
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("x")
    (root / "a").mkdir()
    (root / "a" / "deep").mkdir()
    (root / "a" / "deep" / "file").write_text("12345")
    (root / "top").write_text("1")
    (root / "out").symlink_to(root.parent)
    (root / ".kairos-half.tmp").write_text("half")
    os.mkfifo(root / "fifo")
    found = list(FILES.walk(root, 100))
    assert [(path, size) for path, size, _ in found] == [("top", 1), ("src/main.py", 8), ("a/deep/file", 5)]
    assert found[0][2] == (root / "top").stat().st_mtime_ns
    assert [path for path, _, _ in FILES.walk(root, 2)] == ["top", "src/main.py"]


def test_names_of_any_bytes_are_kept(root: Path) -> None:
    name = os.fsdecode(b"odd \xff\n\xc3\xa4")
    FILES.replace(root, name, content=b"x")
    assert name in [path for path, _, _ in FILES.walk(root, 10)]
    assert FILES.read(root, name, limit=10) == b"x"
