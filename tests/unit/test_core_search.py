"""What search understands: days that are named, words that count, questions and what answers them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kairosd.core.english import asking_words, based
from kairosd.core.ranking import Candidate, ordered
from kairosd.core.search import Layer, Passage, Question, columns_of, snippet
from kairosd.core.spans import Span, span_in, span_of
from kairosd.core.thesaurus import groups

TODAY = date(2026, 11, 21)  # a Saturday
AT = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("what broke on 2026-11-03?", "2026-11-03", "2026-11-03"),
        ("the deploy of 19 August, 2026", "2026-08-19", "2026-08-19"),
        ("the deploy of August 19th", "2026-08-19", "2026-08-19"),
        ("on 24 December", "2025-12-24", "2025-12-24"),  # the last one that has begun
        ("what did we do in May 2025?", "2025-05-01", "2025-05-31"),
        ("in May", "2026-05-01", "2026-05-31"),
        ("yesterday", "2026-11-20", "2026-11-20"),
        ("last week", "2026-11-09", "2026-11-15"),
        ("this week", "2026-11-16", "2026-11-22"),
        ("last month", "2026-10-01", "2026-10-31"),
        ("last year", "2025-01-01", "2025-12-31"),
        ("last monday", "2026-11-16", "2026-11-16"),
        ("on saturday", "2026-11-14", "2026-11-14"),
        ("3 days ago", "2026-11-18", "2026-11-18"),
        ("in the last 7 days", "2026-11-14", "2026-11-21"),
    ],
)
def test_days_that_are_named(text: str, first: str, last: str) -> None:
    assert span_in(text, TODAY) == Span(date.fromisoformat(first), date.fromisoformat(last))


@pytest.mark.parametrize("text", ["may I see it?", "march on", "2026-13-40", "31 February", "", "the second time"])
def test_what_names_no_day(text: str) -> None:
    assert span_in(text, TODAY) is None


def test_a_span_from_one_day_to_another() -> None:
    assert span_of("2026-11-01..yesterday", TODAY) == Span(date(2026, 11, 1), date(2026, 11, 20))
    assert span_of("..2026-11-01", TODAY) == Span(None, date(2026, 11, 1))
    assert span_of("last month..", TODAY) == Span(date(2026, 10, 1), TODAY)
    for wrong in ("soon", "today..2026-11-01", "whenever..today", ".."):
        with pytest.raises(ValueError, match="must be days"):
            span_of(wrong, TODAY)


@given(st.text(max_size=60), st.dates(min_value=date(1990, 1, 1), max_value=date(2100, 1, 1)))
def test_any_text_can_be_read(text: str, today: date) -> None:
    for said in (text, f"on 31 {text} 2026-02-30 last week {text}"):
        span = span_in(said, today)
        assert span is None or span.first is None or span.first <= span.last


def test_irregular_forms_come_from_one_word() -> None:
    assert based("They Went and broke it") == "They go and break it"
    assert asking_words("When did the children go where they went?") == ("child", "go")
    assert asking_words("Didn't Ann's father mention what the port said?") == ("ann", "father", "port")
    assert asking_words("Don’t we?") == ("don", "t", "we")
    assert asking_words("What is it?") == ("what", "is", "it")  # nothing but stop words is better than nothing


def test_the_answer_is_found_by_the_words_of_the_question() -> None:
    thread = [passage(0, "Which port does the proxy use?"), passage(1, "It is 9090. Fine?"), passage(2, "Thanks")]
    asked, answered, thanked = columns_of(thread)
    assert "proxy" in answered.asked
    assert not asked.asked
    assert "9090" in asked.around
    assert "proxy" in thanked.around
    assert asked.asks == 100
    assert 0 < answered.asks < 100
    assert thanked.asks == 0


def numbers(candidates: Sequence[Candidate], question: str, texts: Sequence[str] = ()) -> list[int]:
    found = ordered(candidates, Question(question), today=TODAY, text_of=lambda number: texts[number] if texts else "")
    return [one.number for one in found]


def test_what_only_asks_comes_after_what_says() -> None:
    assert numbers([candidate(1, 10, asks=100), candidate(2, 9)], "which port does the proxy use") == [2, 1]


def test_a_named_day_and_a_named_speaker_count() -> None:
    old = candidate(1, 10, at=AT - timedelta(days=60))
    new = candidate(2, 9, at=AT)
    assert numbers([old, new], "what broke yesterday?") == [2, 1]
    assert numbers([old, new], "what broke?") == [1, 2]
    ann, bob = candidate(1, 10, speaker="Ann"), candidate(2, 9.5, speaker="Bob")
    assert numbers([ann, bob], "what did Bob say?") == [2, 1]


def test_a_thread_that_holds_more_of_the_question_counts() -> None:
    """One passing word in a long run of something else is less than a talk about the thing."""
    held = ("proxy", "port")
    talk = [candidate(number, 9.5, thread="talk", length=9, held=held) for number in range(4)]
    passing = candidate(9, 10, thread="other", length=9, held=("port",))
    assert numbers([passing, *talk], "proxy port")[-1] == 9
    assert numbers([passing, talk[0]], "proxy port")[0] == 0
    alone = [Candidate(number, 10 - number, 0, "", AT) for number in range(3)]
    assert numbers(alone, "proxy port") == [0, 1, 2]


def test_a_long_thread_has_it_harder() -> None:
    long = [candidate(number, 10, thread="long", length=400, held=("port",)) for number in range(3)]
    short = [candidate(number, 10, thread="short", length=8, held=("port",)) for number in range(3, 6)]
    assert set(numbers([*long, *short], "port")[:3]) == {3, 4, 5}


def test_a_word_of_few_threads_tells_more_of_a_thread_than_one_of_all() -> None:
    """That every talk names the speaker is no reason to prefer the talk that names him twice."""
    talks = [candidate(number, 10, thread=f"talk {number}", length=9, held=("bob",)) for number in range(6)]
    again = candidate(6, 10, thread="talk 0", length=9, held=("bob",))
    about = candidate(7, 9.7, thread="talk 7", length=9, held=("port",))
    assert numbers([*talks, again, about], "bob port")[0] == 7


@pytest.mark.parametrize(
    ("question", "answer", "other"),
    [
        ("When did we move to Postgres?", "Postgres came last Friday, on a move.", "Moving to Postgres was hard work."),
        ("How long did the migration take?", "The migration ran since Monday.", "The migration took a long time."),
        ("How many workers does the queue have?", "The queue has four workers.", "The workers of the queue sleep."),
        ("Who broke the build?", "The build was broken by Marta.", "The build was broken again, Ann."),
        ("Which port does the proxy use?", "The proxy uses port 9090.", "The proxy uses another port now."),
        ("Where is the retry configured?", "The retry is configured in src/net.py.", "The retry is well configured."),
        ("What is the release called?", 'The release is called "Blue Heron".', "The release is called off."),
    ],
)
def test_what_holds_a_thing_of_the_kind_that_is_asked_for_counts(question: str, answer: str, other: str) -> None:
    found = [candidate(0, 10, speaker="Ann"), candidate(1, 9, speaker="Bob")]
    assert numbers(found, question, texts=[other, answer]) == [1, 0]
    assert numbers(found, "the same without a question word", texts=[other, answer]) == [0, 1]
    assert numbers([candidate(0, 20), found[1]], question, texts=[other, answer]) == [0, 1], "words come first"


def test_a_name_of_the_question_itself_is_no_answer_to_it() -> None:
    found = [candidate(0, 10), candidate(1, 9)]
    texts = ["So Hetzner and Postgres go together.", "They run at Linode."]
    assert numbers(found, "Where does Hetzner run Postgres?", texts=texts) == [1, 0]
    texts = ["Then Hetzner and I talked.", "They run it somewhere."]
    assert numbers(found, "Who is at Hetzner?", texts=texts) == [0, 1]


@pytest.mark.parametrize("answer", ["I moved the queue to Redis.", "Redis holds our queue", "Queues drove me to Redis"])
def test_who_tells_of_himself_comes_before_who_only_replies(answer: str) -> None:
    found = [candidate(0, 10), candidate(1, 9)]
    assert numbers(found, "queue in Redis", texts=["Great, a queue in Redis!", answer]) == [1, 0]
    assert numbers(found, "queue in Redis", texts=["Great, a queue in Redis!", "The US queue is in Redis."]) == [0, 1]
    assert numbers([candidate(0, 20), found[1]], "queue in Redis", texts=["A queue!", answer]) == [0, 1]


def test_the_thesaurus_is_of_words_that_a_search_asks_for() -> None:
    for head, *kin in groups():
        assert kin, head
        assert asking_words(" ".join((head, *kin))) == (head, *kin)  # no stop word, no irregular form, none twice


def test_a_snippet_shows_the_words_that_were_asked_for() -> None:
    text = f"{'before ' * 100}the proxy listens on 9090{' after' * 100}"
    shown = snippet(text, Question("proxy port"), length=80)
    assert "proxy listens on 9090" in shown
    assert len(shown) <= 82
    assert shown.startswith("…")
    assert shown.endswith("…")


def passage(position: int, text: str) -> Passage:
    return Passage(Layer.TRANSCRIPT, f"r#{position}", text, AT, thread="r", position=position)


def candidate(
    number: int, score: float, *, asks: int = 0, speaker: str = "", at: datetime = AT, **about: object
) -> Candidate:
    return Candidate(number, score, asks, speaker, at, **about)  # type: ignore[arg-type]


@pytest.mark.parametrize("day", ["9999-12-31", "0001-01-01"])
def test_a_day_at_the_calendars_end_is_no_day(day: str) -> None:
    """It has none beside it, and a search looks from midnight to midnight."""
    with pytest.raises(ValueError, match="must be days"):
        span_of(day, TODAY)
