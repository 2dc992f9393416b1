"""The journal's chain, its files, and the verb that checks them."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kairosd.core.journal import GENESIS, Note, file_name, journal_day, seal, unsealed, verify_line, waiting_line
from kairosd.core.json import Encoded, canonical
from kairosd.store.journal_files import journal_files, read_lines, verify
from kairosd.store.lines import Lines, link, moment_of
from kairosd.verbs.journal import main
from kairosd.wire import Home

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

texts = st.text(st.characters(codec="utf-8"), max_size=30) | st.sampled_from(['"prev":""', '","id":"', "\\", "\u2028"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=4,
)
short = st.dictionaries(texts, values, max_size=1)
notes = st.builds(
    Note,
    kind=texts,
    id=texts,
    cause=texts,
    workspace=texts,
    tier=texts,
    data=st.dictionaries(texts, values, max_size=3),
)


def chain(count: int, *, first: int = 1, previous: str = GENESIS) -> tuple[list[str], str]:
    lines = []
    for seq in range(first, first + count):
        line, previous = seal(unsealed(seq, NOW, note=Note("daemon.test", data={"n": seq})), previous)
        lines.append(line)
    return lines, previous


def write(folder: Path, day: str, lines: list[str]) -> Path:
    path = folder / day[:4] / day[5:7] / f"{day}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def place(folder: Path) -> Home:
    return Home(folder / "config.toml", folder, data=folder / "data", run=folder / "run", is_default=False)


@pytest.fixture
def three_days(tmp_path: Path) -> Path:
    """Ten lines over three files, the first of them compressed."""
    lines, _ = chain(10)
    for day, part in (("2026-03-01", lines[:3]), ("2026-03-02", lines[3:6]), ("2026-03-05", lines[6:])):
        write(tmp_path / "journal", day, part)
    first = journal_files(tmp_path / "journal")[0].path
    first.with_name(f"{first.name}.gz").write_bytes(gzip.compress(first.read_bytes()))
    first.unlink()
    return tmp_path


@given(notes, st.integers(1, 10**9))
@settings(deadline=None, max_examples=40)
def test_linking_text_makes_what_sealing_makes(note: Note, seq: int) -> None:
    plain = unsealed(seq, NOW, note=note)
    waiting = waiting_line(seq, NOW, note=note)
    assert waiting == canonical({**plain, "prev": ""})
    encoded = {name: Encoded(canonical(value)) for name, value in note.data.items()}
    assert waiting_line(seq, NOW, note=replace(note, data=encoded)) == waiting
    assert link(waiting, "a" * 64) == seal(plain, "a" * 64)
    assert moment_of(waiting) == NOW


@given(st.lists(st.builds(Note, kind=texts, data=short), min_size=2, max_size=5), st.data())
@settings(deadline=None, max_examples=40)
def test_any_change_of_any_line_is_found_at_that_line(told: list[Note], data: st.DataObject) -> None:
    lines, previous = [], GENESIS
    for seq, note in enumerate(told, start=1):
        line, previous = seal(unsealed(seq, NOW, note=note), previous)
        lines.append(line)
    assert first_bad(lines) is None
    victim = data.draw(st.integers(0, len(lines) - 1))
    encoded = bytearray(lines[victim].encode())
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    assert first_bad([*lines[:victim], encoded.decode(errors="replace"), *lines[victim + 1 :]]) == victim
    if victim:  # the last line may be cut off without a trace inside the file: that is what the mark is for
        assert first_bad([*lines[: victim - 1], *lines[victim:]]) == victim - 1
    assert first_bad([*lines[: victim + 1], *lines[victim:]]) == victim + 1


def first_bad(lines: list[str]) -> int | None:
    previous, expected = GENESIS, 1
    for index, line in enumerate(lines):
        checked = verify_line(line, previous, sequence=expected)
        if isinstance(checked, str):
            return index
        previous, expected = checked[0], checked[1] + 1
    return None


def test_numbers_have_no_gap_when_lines_are_taken_back() -> None:
    lines = Lines(7)
    lines.add(Note("a"), NOW)
    lines.add(Note("b"), NOW)
    lines.cut(1)
    with pytest.raises(ValueError, match="float"):
        lines.add(Note("c", data={"x": 0.5}), NOW)  # type: ignore[dict-item]
    lines.add(Note("d"), NOW)
    assert lines.last == 9
    lines.cut(0)
    assert lines.last == 7


def test_the_day_never_goes_back() -> None:
    day = journal_day(NOW, None)
    assert journal_day(NOW - timedelta(days=3), day) == day
    assert journal_day(NOW + timedelta(days=3), day) == day + timedelta(days=3)
    assert file_name(date(2026, 3, 2)) == "2026/03/2026-03-02.jsonl"


def test_lines_are_read_over_days_plain_and_packed(three_days: Path) -> None:
    folder = three_days / "journal"
    assert [line["seq"] for line in read_lines(folder)] == list(range(1, 11))
    assert [line["seq"] for line in read_lines(folder, date(2026, 3, 2), last=date(2026, 3, 4))] == [4, 5, 6]
    with journal_files(folder)[-1].path.open("ab") as file:
        file.write(b'{"half')
    assert len(list(read_lines(folder))) == 10


def test_the_verb_passes_a_whole_journal(three_days: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify"], place(three_days)) == 0
    out = capsys.readouterr().out
    assert "10 lines in 3 files verify" in out
    assert verify(three_days / "journal").head in out


def test_the_verb_passes_a_journal_that_has_not_begun(tmp_path: Path) -> None:
    assert main(["verify"], place(tmp_path)) == 0


@pytest.mark.parametrize(
    ("change", "line", "problem"),
    [
        (lambda lines: [lines[0], lines[1].replace('"n":5', '"n":6'), lines[2]], 2, "its hash does not match"),
        (lambda lines: [lines[0], lines[2]], 2, "does not follow the line before it"),
        (lambda lines: [lines[0], lines[0], *lines[1:]], 2, "does not follow the line before it"),
        (lambda lines: [*lines, "half a"], 4, "not JSON"),
        (lambda lines: [lines[0].replace(",", ", ", 1), *lines[1:]], 1, "not in canonical form"),
        (lambda lines: [], 1, "does not follow the line before it"),
    ],
)
def test_the_verb_names_file_line_and_problem(
    three_days: Path, capsys: pytest.CaptureFixture[str], change: object, line: int, problem: str
) -> None:
    path = journal_files(three_days / "journal")[1].path
    changed = change(path.read_text().splitlines())  # type: ignore[operator]
    write(three_days / "journal", "2026-03-02", changed)
    assert main(["verify", "--json"], place(three_days)) == 1
    answer = json.loads(capsys.readouterr().out)
    named = path if changed else journal_files(three_days / "journal")[2].path
    assert (answer["ok"], answer["file"], answer["line"]) == (False, str(named), line)
    assert problem in answer["problem"]
    assert main(["verify"], place(three_days)) == 1
    assert f"{named}:{line}: " in capsys.readouterr().out


def test_a_torn_end_and_a_broken_archive_are_named(three_days: Path) -> None:
    first, _, last = journal_files(three_days / "journal")
    last.path.write_bytes(last.path.read_bytes()[:-5])
    problem = verify(three_days / "journal").problem
    assert problem is not None
    assert (problem.file, problem.line) == (last.path, 4)
    first.path.write_bytes(first.path.read_bytes()[:-20])
    problem = verify(three_days / "journal").problem
    assert problem is not None
    assert problem.file == first.path


def test_a_gap_is_a_break_unless_the_repair_behind_it_declares_just_that(tmp_path: Path) -> None:
    lines, head = chain(3)
    declared, after = seal(unsealed(6, NOW, note=Note("repair", data={"lost": {"first": 4, "last": 5}})), head)
    write(tmp_path / "journal", "2026-03-01", [*lines, declared, *chain(1, first=7, previous=after)[0]])
    verified = verify(tmp_path / "journal")
    assert (verified.problem, verified.lost, verified.repairs, verified.last) == (None, 2, 1, 7)
    wrong, _ = seal(unsealed(6, NOW, note=Note("repair", data={"lost": {"first": 4, "last": 4}})), head)
    for bad in (wrong, chain(1, first=6, previous=head)[0][0]):
        write(tmp_path / "journal", "2026-03-01", [*lines, bad])
        problem = verify(tmp_path / "journal").problem
        assert problem is not None
        assert (problem.line, problem.problem) == (4, "number 6 where 4 was expected")
