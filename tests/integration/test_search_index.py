"""The search index on disk: what is found, what must not be, and what happens to it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Thread

import pytest

from kairosd.core.events import Tier
from kairosd.core.search import Layer, Passage, Question
from kairosd.core.spans import Span, span_in
from kairosd.errors import StoreError
from kairosd.store import matching, search
from kairosd.store.search import SearchIndex

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
TODAY = date(2026, 11, 21)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[SearchIndex]:
    index = SearchIndex(tmp_path / "search.db")
    yield index
    index.close()


def entry(source: str, text: str, **about: object) -> Passage:
    return Passage(**{"layer": Layer.MEMORY, "source": source, "text": text, "at": AT, "tier": Tier.LOCAL, **about})  # type: ignore[arg-type]


def sources(index: SearchIndex, question: str, **about: object) -> list[str]:
    return [found.passage.source for found in index.search(Question(question, **about), today=TODAY)]  # type: ignore[arg-type]


def test_finds_inflected_and_irregular_words(index: SearchIndex) -> None:
    index.put([entry("m:1", "We deployed the proxies to Hetzner"), entry("m:2", "Ann broke the build")], {})
    assert sources(index, "where are proxies deploying?") == ["m:1"]
    assert sources(index, "who breaks builds") == ["m:2"]
    assert sources(index, "deployment") == ["m:1"]  # by its beginning alone


def test_no_workspace_sees_another_ones(index: SearchIndex) -> None:
    index.put([entry("m:1", "the secret plan", scope="one"), entry("m:2", "the secret plan", scope="two")], {})
    index.put([entry("m:3", "the secret plan", scope="*")], {})
    assert sorted(sources(index, "secret plan", scopes=("one", "*"))) == ["m:1", "m:3"]
    assert sources(index, "secret plan") == ["m:3"]


def test_a_scope_is_found_among_many_of_others(index: SearchIndex) -> None:
    others = [entry(f"m:{number}", "proxy port proxy port", scope="two") for number in range(700)]
    index.put([*others, entry("m:mine", "somewhere a proxy", scope="one")], {})
    assert sources(index, "proxy port", scopes=("one",)) == ["m:mine"]


def test_filters(index: SearchIndex) -> None:
    index.put(
        [
            entry("m:1", "port is 9090", kind="project"),
            entry("j7", "port is 9090", layer=Layer.JOURNAL, tier=Tier.PUBLIC),
            entry("m:2", "port is 8080", kind="reference", at=AT - timedelta(days=30)),
        ],
        {},
    )
    assert sorted(sources(index, "port")) == ["j7", "m:1", "m:2"]
    assert sources(index, "port", kinds=("reference",)) == ["m:2"]
    assert sources(index, "port", layers=(Layer.JOURNAL,)) == ["j7"]
    assert sorted(sources(index, "port", tier=Tier.LOCAL)) == ["m:1", "m:2"]
    assert sources(index, "port", span=Span(None, TODAY - timedelta(days=10))) == ["m:2"]
    assert len(sources(index, "port", limit=1)) == 1


def test_a_turn_is_found_by_those_around_it_also_when_they_come_later(index: SearchIndex) -> None:
    turns = [
        entry(f"r#{number}", text, layer=Layer.TRANSCRIPT, thread="r", position=number)
        for number, text in enumerate(["Which port does the proxy use?", "9090", "and the database?", "5432"])
    ]
    for turn in turns:
        index.put([turn], {})
    assert sources(index, "which port does the proxy use")[0] == "r#1"
    whole = SearchIndex(None)
    whole.put(turns, {})
    for question in ("proxy port", "database", "9090"):
        assert sources(whole, question) == sources(index, question)


def test_what_is_dropped_leaves_no_word_behind(index: SearchIndex, tmp_path: Path) -> None:
    index.put(
        [
            entry(f"r#{number}", text, layer=Layer.TRANSCRIPT, thread="r", position=number)
            for number, text in enumerate(["hello", "the password is hunter2", "thanks"])
        ],
        {},
    )
    assert index.drop(["r#1"]) == 1
    assert sources(index, "hunter2 password") == []
    assert sources(index, "thanks")[0] == "r#2"
    assert sources(index, "hello")[0] == "r#0"


def test_the_same_source_again_takes_the_place_of_the_first(index: SearchIndex) -> None:
    index.put([entry("m:1", "port 9090")], {"generation": "1"})
    index.put([entry("m:1", "port 8080")], {"generation": "2"})
    assert sources(index, "9090") == []
    assert sources(index, "8080") == ["m:1"]
    assert index.marks() == {"generation": "2"}
    index.replace(Layer.MEMORY, [entry("m:2", "host hetzner")], marks={})
    assert index.counts() == {"memory": 1}
    assert sources(index, "8080") == []


def test_only_what_differs_of_a_layer_is_written(index: SearchIndex) -> None:
    known = [entry(f"m:{number}", f"port {number}") for number in range(300)]
    index.put([entry("j1", "port", layer=Layer.JOURNAL)], {})
    index.replace(Layer.MEMORY, known, marks={})
    connection = index._opened()
    before, numbers = connection.total_changes, dict(connection.execute("SELECT source, id FROM passages"))
    fresh = [entry("m:0", "host"), entry("m:new", "host"), entry("m:1", "port 1", stale=TODAY), *known[2:-1]]
    index.replace(Layer.MEMORY, fresh, marks={"memory": "2"})
    assert connection.total_changes - before < 100
    kept = dict(connection.execute("SELECT source, id FROM passages"))
    assert {source for source, number in numbers.items() if kept.get(source) != number} == {"m:0", "m:1", "m:299"}
    assert (index.counts(), index.marks()) == ({"memory": 300, "journal": 1}, {"memory": "2"})
    assert sorted(sources(index, "host")) == ["m:0", "m:new"]
    (stale,) = index.search(Question("port 1", limit=1), today=TODAY)
    assert (stale.passage.source, stale.passage.stale) == ("m:1", TODAY)
    whole = SearchIndex(None)
    whole.put([entry("j1", "port", layer=Layer.JOURNAL), *fresh], {})
    for question in ("port", "host", "port 298", "port 299"):
        found, anew = (each.search(Question(question, limit=500), today=TODAY) for each in (index, whole))
        assert sorted((one.passage.source, one.score) for one in found) == sorted(
            (one.passage.source, one.score) for one in anew
        ), "as an index that was made anew"


def test_a_group_that_fails_leaves_nothing(index: SearchIndex) -> None:
    index.put([entry("m:1", "port 9090")], {"cursor": "1"})
    with pytest.raises(StoreError):
        index.put([entry("m:2", "host"), entry("m:3", "host", kind=object())], {"cursor": "2"})
    assert index.marks() == {"cursor": "1"}
    assert sources(index, "port") == ["m:1"]


@pytest.mark.parametrize(
    "question", ['"', "AND OR NOT", "port NEAR(x)", "own:port", "*", "(((", "-port", "", "ports'; --", "\0"]
)
def test_no_question_is_a_command(index: SearchIndex, question: str) -> None:
    index.put([entry("m:1", "port 9090")], {})
    assert sources(index, question) in ([], ["m:1"])


def test_common_words_do_not_cost_what_they_weigh(index: SearchIndex) -> None:
    index.put([entry(f"m:{number}", f"common word {number}") for number in range(matching.WORK + 10)], {})
    index.put([entry("m:rare", "common heron")], {})
    assert sources(index, "the common heron")[0] == "m:rare"
    assert len(sources(index, "common word")) == 10


def test_a_word_that_nobody_says_takes_no_place(index: SearchIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "WORK", 5)
    index.put([entry(f"m:{number}", f"port {number}") for number in range(9)], {})
    assert len(sources(index, "quagga port")) == 9


def test_every_word_is_looked_for_where_it_is_said_before_any_is_around(
    index: SearchIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one word and its surroundings take all the work that a question may be, and the others count for nothing."""
    monkeypatch.setattr(matching, "WORK", 16)
    said = {"a": "the proxy", "b": "a port", "c": "the proxy", "d": "a port", "both": "the proxy and a port"}
    for number, (name, text) in enumerate(said.items()):
        turns = [entry(f"{name}#{at}", "so it was", thread=name, position=at) for at in range(5)]
        turns[2] = entry(name, text, thread=name, position=2, at=AT - timedelta(days=number))
        index.put([*turns, entry(f"m:{name}", "nothing of it")], {})
    assert sources(index, "proxy port")[0] == "both"
    assert sources(index, "which port?")[0] in ("b", "d", "both")
    assert {"b#1", "b#3"} <= set(sources(index, "which port?", limit=20)), "there was room for those around it"


def test_kin_of_a_word_is_found_after_the_word_itself(index: SearchIndex) -> None:
    index.put([entry("m:1", "Ann paints on Sundays"), entry("m:2", "Ann has a new hobby"), entry("m:3", "lunch")], {})
    assert sources(index, "which hobbies has Bob") == ["m:2", "m:1"]
    assert sources(index, "which pastimes has Bob") == ["m:2"]  # kin of kin are none


def test_kin_is_worth_no_more_than_the_word_it_stands_for(index: SearchIndex) -> None:
    index.put([entry(f"m:said{number}", "music again") for number in range(40)], {})
    index.put([entry("m:kin", "guitar again"), entry("m:other", "nothing of it")], {})
    assert sources(index, "music", limit=41)[-1] == "m:kin"


def test_a_word_is_as_rare_as_those_who_say_it(index: SearchIndex) -> None:
    """However many stand around them: a thing said once in a talk is rarer than one that three lines tell."""
    said = [*["so it was"] * 8, "the heron came", *["well yes"] * 8]
    turns = [entry(f"r#{at}", text, layer=Layer.TRANSCRIPT, thread="r", position=at) for at, text in enumerate(said)]
    boats = [entry(f"m:{number}", f"boat {number} is one of those with a sail that lie here") for number in range(3)]
    index.put([*turns, *boats], {})
    assert sources(index, "boat heron")[0] == "r#8"


def test_what_is_found_is_let_in_also_where_most_is_not(index: SearchIndex) -> None:
    """Filters hold after the words were weighed: the answer may be the worst of all that fits."""
    old = [entry(f"m:{number}", "proxy port proxy port") for number in range(1200)]
    week = AT - timedelta(days=9)
    index.put([*old, entry("m:week", "a long line that has the proxy somewhere in it", at=week)], {})
    assert sources(index, "proxy port", span=span_in("last week", TODAY)) == ["m:week"]
    assert sources(index, "proxy port", kinds=("reference",)) == []


def test_a_write_of_another_process_is_seen(index: SearchIndex, tmp_path: Path) -> None:
    index.put([entry("m:1", "port 9090")], {})
    assert sources(index, "port") == ["m:1"]
    other = SearchIndex(tmp_path / "search.db")
    other.put([entry(f"m:{number}", "port 9090 proxy") for number in range(2, 40)], {})
    other.close()
    assert len(sources(index, "port", limit=50)) == 39


def test_text_that_utf_8_cannot_hold_is_kept_without_it(index: SearchIndex) -> None:
    index.put([entry("m:1", "a lonely \ud800 surrogate")], {})
    assert sources(index, "lonely \ud800 surrogate") == ["m:1"]


def test_an_index_of_another_form_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "search.db"
    index = SearchIndex(path)
    index.put([entry("m:1", "port")], {"cursor": "9"})
    index._opened().execute("PRAGMA user_version = 99")
    index.close()
    assert index.marks() == {}
    assert index.counts() == {}


def test_a_damaged_index_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "search.db"
    path.write_bytes(b"no database at all" * 500)
    index = SearchIndex(path)
    with pytest.raises(StoreError, match="begins anew"):
        index.marks()
    index.put([entry("m:1", "port 9090")], {})
    assert sources(index, "port") == ["m:1"]
    index.close()


def test_what_is_dropped_is_not_in_the_files_either(index: SearchIndex, tmp_path: Path) -> None:
    index.put([entry(f"m:{number}", f"filler number {number}") for number in range(300)], {})
    turns = [entry(f"r#{n}", "zanzibar", layer=Layer.TRANSCRIPT, thread="r", position=n) for n in range(3)]
    index.put([entry("m:x", "the quagga is here"), *turns], {})
    index.drop(["m:x"])
    assert not any(b"quagga" in path.read_bytes() for path in tmp_path.iterdir())
    index.drop_threads(["r"])
    assert not any(b"zanzibar" in path.read_bytes() for path in tmp_path.iterdir())
    assert sources(index, "zanzibar quagga") == []


def test_what_somebody_else_overtook_is_not_added(index: SearchIndex) -> None:
    """Else a reindex beside the daemon would leave out what the daemon had only just read past."""
    assert index.put([entry("m:1", "port")], {"journal": "5"}, over={"journal": ""})
    index.clear()
    assert not index.put([entry("m:2", "port")], {"journal": "9"}, over={"journal": "5"})
    assert (index.marks(), index.counts()) == ({}, {})


def test_what_was_taken_out_before_is_not_in_the_files_either(index: SearchIndex, tmp_path: Path) -> None:
    index.replace(Layer.MEMORY, [entry("m:1", "the quagga is here"), entry("m:2", "port 9090")], marks={})
    index.replace(Layer.MEMORY, [entry("m:2", "port 9090")], marks={})
    assert index.drop(["m:1"]) == 0
    index.purge()
    index.close()
    assert not any(b"quagga" in path.read_bytes() for path in tmp_path.iterdir())


def test_a_search_beside_a_writer_answers_from_one_state(tmp_path: Path) -> None:
    """Another process makes the index anew between what a search finds and what it reads."""
    mine, other = SearchIndex(tmp_path / "search.db"), SearchIndex(tmp_path / "search.db")
    mine.put([entry(f"m:{number}", f"port {number}") for number in range(20)], {})

    def write() -> None:
        for number in range(60):
            other.replace(Layer.MEMORY, [entry(f"m:{number}:{n}", "port") for n in range(20)], marks={})
            other.replace(Layer.JOURNAL, [entry(f"j{number}", "last", layer=Layer.JOURNAL)], marks={})

    writer = Thread(target=write)
    writer.start()
    while writer.is_alive():
        assert len(mine.search(Question("port", limit=20), today=TODAY)) == 20
    writer.join()
    mine.close()
    other.close()


def test_of_one_source_that_comes_twice_the_last_is_kept(index: SearchIndex) -> None:
    turns = [entry("r#0", text, layer=Layer.TRANSCRIPT, thread="r") for text in ("first heron", "second heron")]
    index.put([entry("m:1", "port 9090"), *turns, entry("m:1", "port 8080")], {})
    assert index.counts() == {"memory": 1, "transcript": 1}
    assert (sources(index, "9090 first"), sources(index, "8080")) == ([], ["m:1"])


def test_of_a_whole_thread_that_got_shorter_nothing_is_left(index: SearchIndex, tmp_path: Path) -> None:
    turns = [entry(f"r#{n}", f"quagga{n}", layer=Layer.TRANSCRIPT, thread="r", position=n) for n in range(6)]
    other = entry("s#0", "quagga", layer=Layer.TRANSCRIPT, thread="s")
    index.put([*turns, other], {})
    index.put(turns[:2], {}, whole=["r"])
    assert sources(index, "quagga5 quagga3 quagga2") == [], "not by what stood beside those that are left either"
    assert index.counts() == {"transcript": 3}
    index.put([], {}, whole=["r"])
    assert index.counts() == {"transcript": 1}


def test_every_passage_of_a_layer_is_looked_at(index: SearchIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "SLICE", 7)
    index.put([entry(f"j{number}", "heron", layer=Layer.JOURNAL, scope=f"w{number}") for number in range(300)], {})
    index.put([entry("m:1", "heron")], {})
    assert len(index.saying([Layer.JOURNAL], lambda passage: "heron" in passage.text)) == 300
    assert index.saying([Layer.JOURNAL], lambda passage: passage.scope == "w7") == ["j7"]


def test_a_search_need_not_wait_until_every_passage_is_looked_at(index: SearchIndex) -> None:
    index.put([entry("j1", "heron", layer=Layer.JOURNAL), entry("m:1", "heron")], {})
    answers: list[list[str]] = []

    def says(_: Passage) -> bool:
        search = Thread(target=lambda: answers.append(sources(index, "heron", layers=(Layer.MEMORY,))), daemon=True)
        search.start()
        search.join(5)
        return True

    assert index.saying([Layer.JOURNAL], says) == ["j1"]
    assert answers == [["m:1"]]


def test_what_is_dropped_is_not_searched_for_among_all(index: SearchIndex) -> None:
    index.put([entry(f"j{number}", "heron", layer=Layer.JOURNAL) for number in range(2000)], {})
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    index._opened().set_progress_handler(step, 1000)
    assert index.drop([f"j{number}" for number in range(100)]) == 100
    assert steps < 500, f"{steps} thousand steps of SQLite for 100 of 2000 passages"
