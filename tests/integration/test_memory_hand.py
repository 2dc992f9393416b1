"""What the owner's hand does to a line: nothing of it is lost, and nothing that it did not do is taken for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.dreams import entry
from tests.fakes import ManualClock
from tests.integration.test_generations import DAY, FILES, HOST, commit, file_of, texts

from kairosd.core.events import Tier
from kairosd.core.expiry import EXPIRED
from kairosd.core.memory import HAND, Past
from kairosd.store.memory import MemoryFolder


@pytest.fixture
def store(tmp_path: Path) -> MemoryFolder:
    return MemoryFolder(tmp_path / "memory", ManualClock())


@pytest.mark.parametrize(
    ("field", "before", "after"),
    [
        ("pinned", " -->", " pin:yes -->"),
        ("kind", "k:deploy.host", "k:deploy.host kind:reference"),
        ("check", " -->", " check:port=9090 -->"),
        ("scope", "ws:app", "ws:*"),
        ("key", "k:deploy.host", "k:deploy.machine"),
        ("text", "port 9090", "port 9191"),
    ],
)
def test_what_the_owner_says_of_a_line_that_has_expired_meanwhile_is_not_lost(
    store: MemoryFolder, field: str, before: str, after: str
) -> None:
    """I2, I20: whatever of it the hand has changed."""
    commit(store, HOST, DAY)
    name = FILES[1]
    opened = file_of(store, name).read_text()
    commit(store, DAY, history=(Past(HOST.id, HOST, HOST.seen, EXPIRED),))
    file_of(store, name).write_text(opened)
    assert texts(store) == [DAY.text]
    file_of(store, name).write_text(
        "".join(line.replace(before, after) if HOST.id in line else line for line in opened.splitlines(keepends=True))
    )
    (mine,) = [one for one in store.load().entries if one.id != DAY.id]
    assert getattr(mine, field) != getattr(HOST, field)
    like = replace(HOST, id=mine.id, since=mine.since, seen=mine.seen, sources=(HAND,), trust=Tier.OWNER)
    assert mine == replace(like, **{field: getattr(mine, field)})
    commit(store, *store.load().entries)
    assert mine in store.load().entries


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("copies", [1, 2])
def test_a_line_copied_and_changed_takes_no_other_ones_place(store: MemoryFolder, name: str, copies: int) -> None:
    """I2: above the line that it is a copy of, or below."""
    commit(store, HOST, DAY)
    lines = file_of(store, name).read_text().splitlines(keepends=True)
    (at,) = [number for number, line in enumerate(lines) if HOST.id in line]
    made = [lines[at].replace("port 9090", f"port {9100 + number}") for number in range(copies)]
    new = [f"Deploys run on Hetzner, port {9100 + number}." for number in range(copies)]
    for place in (at, at + 1):
        file_of(store, name).write_text("".join([*lines[:place], *made, *lines[place:]]))
        assert texts(store) == sorted([HOST.text, DAY.text, *new])
        assert store.load().get(HOST.id) == HOST
        assert {one.scope for one in store.load().entries} == {"app"}


@pytest.mark.parametrize("name", FILES)
def test_a_newer_line_in_an_old_copy_stays_in_its_workspace(store: MemoryFolder, name: str) -> None:
    """I22: copied from the file as it is now, then changed."""
    odd = replace(HOST, id="dddd0001", key="odd.x", text=f"[x] {'Ports … are many. ' * 12}At … the end.")
    commit(store, DAY)
    opened = file_of(store, name).read_text()
    commit(store, DAY, HOST, replace(odd, key="deploy.odd"))
    lines = [one for one in file_of(store, name).read_text().splitlines() if HOST.id in one or odd.id in one]
    file_of(store, name).write_text(opened + "\n".join(lines))
    assert texts(store) == sorted([DAY.text, HOST.text, odd.text])
    file_of(store, name).write_text(opened + "\n".join(lines).replace("9090", "25").replace("are many", "are few", 1))
    new = ["Deploys run on Hetzner, port 25.", odd.text.replace("are many", "are few", 1)]
    assert texts(store) == sorted([DAY.text, HOST.text, odd.text, *new])
    assert {one.scope for one in store.load().entries} == {"app"}


def test_a_line_copied_into_another_topic_and_changed_is_one_more(store: MemoryFolder) -> None:
    other = entry("cccc0001", "mail.port", "Mail leaves through port 587.")
    commit(store, HOST, other)
    (line,) = [one for one in file_of(store, FILES[1]).read_text().splitlines() if HOST.id in one]
    file = file_of(store, "topics/ws-app.mail.md")
    file.write_text(file.read_text() + line.replace("9090", "25") + "\n")
    assert texts(store) == sorted([HOST.text, other.text, "Deploys run on Hetzner, port 25."])
    file_of(store, FILES[1]).write_text(file_of(store, FILES[1]).read_text().replace(f"{line}\n", ""))
    assert texts(store) == sorted([other.text, "Deploys run on Hetzner, port 25."]), "moved, not copied"


@pytest.mark.parametrize("scope", ["app", "*"])
def test_a_word_changed_in_a_line_that_the_index_cuts_leaves_the_rest_of_it(store: MemoryFolder, scope: str) -> None:
    long = replace(HOST, scope=scope, text=f"Deploys run on {'Hetzner &lt; Fly & others ' * 12}with a tail.")
    commit(store, long)
    opened = file_of(store, FILES[0]).read_text()
    assert "tail" not in opened
    file_of(store, FILES[0]).write_text(opened.replace("Deploys run", "Deploys always run"))
    assert texts(store) == [long.text.replace("Deploys run", "Deploys always run")]
    file_of(store, FILES[0]).write_text(opened.replace("…", "… And more"))
    assert texts(store) == [f"{long.text} And more"]
    (shown,) = [line for line in opened.splitlines() if HOST.id in line]
    file_of(store, FILES[0]).write_text(opened.replace(shown, f"- Short now. <!-- m:{HOST.id} -->"))
    assert texts(store) == ["Short now."]


@pytest.mark.parametrize("name", FILES)
def test_blanks_around_a_line_are_no_edit_of_it(store: MemoryFolder, name: str) -> None:
    commit(store, HOST, DAY)
    file = file_of(store, name)
    file.write_text("".join(f"{line} \n" for line in file.read_text().splitlines()))
    assert store.load().entries == (HOST, DAY)
