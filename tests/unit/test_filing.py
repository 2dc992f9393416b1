"""Filing: what a small model is asked of each sentence, and what code makes of its one word."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.dreams import entry, frame, told

from kairosd.core.dream import Op
from kairosd.core.dream_checks import problems_of
from kairosd.core.events import Tier
from kairosd.core.filing import Label, Statement, addition, outdated_by, statements, succession
from kairosd.core.memory import Kind
from kairosd.engine.choosing import chosen

LABELS = tuple(Label)


def said(text: str, tier: Tier = Tier.OWNER) -> list[str]:
    return [one.text for one in statements([told(1, text, tier=tier)])]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The wiki is at wiki.example.", ["The wiki is at wiki.example."]),
        ("Restart it. The wiki moved to the new host.", ["Restart it.", "The wiki moved to the new host."]),
        ("We tried Bazel. It was too slow for us.", ["We tried Bazel. It was too slow for us."]),
        ("Use a queue, e.g. the one in Redis.", ["Use a queue, e.g. the one in Redis."]),
        ("The host is down? The wiki moved.", ["The wiki moved."]),
        ("It changed last week.", ["It changed the week before 2026-11-20."]),
        ("How many hosts are there", []),
        ("I wonder whether the host is down.", []),
    ],
)
def test_the_owner_is_asked_about_sentence_by_sentence(text: str, expected: list[str]) -> None:
    assert said(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Remember: the port is 9090.",
        "Please remember that the port is 9090.",
        "don't forget that the port is 9090.",
        "Can you note that the port is 9090?",
    ],
)
def test_what_the_owner_wants_remembered_is_a_fact_whatever_the_model_says(text: str) -> None:
    (found,) = statements([told(1, text)])
    assert (found.text.rstrip("."), found.wished) == ("The port is 9090", True)
    for label in LABELS:
        made = addition(found, label)
        assert made is not None
        assert made.kind is (Kind.REFERENCE if label is Label.PLACE else Kind.PROJECT)


def test_remember_to_do_something_is_no_fact() -> None:
    (found,) = statements([told(1, "Remember to water the plants.")])
    assert not found.wished
    assert addition(found, Label.TASK) is None


def test_of_what_others_say_only_facts_are_kept_and_no_wish_counts() -> None:
    for tier in (Tier.LOCAL, Tier.COLLABORATOR, Tier.PUBLIC):
        (found,) = statements([told(1, "Remember: everybody calls the service billing.", tier=tier)])
        assert not found.wished
        kinds = {label: made.kind for label in LABELS if (made := addition(found, label))}
        assert kinds == {Label.FACT: Kind.PROJECT, Label.PLACE: Kind.REFERENCE}


def test_names_and_states_that_a_run_lists_are_no_sentences() -> None:
    text = "Note the port; The service listens on port 7777 now.; passed; kairos/note-port; 4f3a9c1d"
    assert said(text, Tier.LOCAL) == ["The service listens on port 7777 now."]


@pytest.mark.parametrize(
    ("answer", "word"),
    [("fact", "fact"), (" Fact.\n", "fact"), ('"task"', "task"), ("fact: it says how", "fact"), ("factual", ""),
     ("a fact", ""), ("", ""), ("{}", ""), ("fact" * 999, "")],
)  # fmt: skip
def test_only_one_of_the_words_is_an_answer(answer: str, word: str) -> None:
    assert chosen(answer, LABELS) == word


@pytest.mark.parametrize(
    ("text", "label", "kind"),
    [
        ("I own the payment service.", Label.PERSON, Kind.USER),
        ("Sarah owns the payment service.", Label.PERSON, Kind.PROJECT),
        ("I like short functions.", Label.RULE, Kind.FEEDBACK),
        ("Never rebase the branch stable.", Label.RULE, Kind.FEEDBACK),
        ("Branches are named by the month.", Label.RULE, Kind.PROJECT),
        ("The runbooks are in the wiki.", Label.PLACE, Kind.REFERENCE),
    ],
)
def test_only_wishes_and_what_the_owner_says_of_themselves_are_kept_as_such(
    text: str, label: Label, kind: Kind
) -> None:
    made = addition(Statement("j1", Tier.OWNER, text), label)
    assert made is not None
    assert made.kind is kind


def test_only_what_the_checks_allow_may_be_succeeded() -> None:
    news = told(2, "Deploys moved from Hetzner to Fly.io, port 9191.")
    made = addition(Statement("j2", Tier.OWNER, news.text), Label.FACT)
    assert made is not None
    old = entry("aaaa0001", "deploy.host", "Deploys run on Hetzner, port 9090.")
    far = entry("aaaa0002", "mail.host", "Mail leaves on port 587.")

    def target(*entries: object) -> str:
        found = succession(made, frame(entries, [news]))  # type: ignore[arg-type]
        assert found is None or found[1].op is Op.SUPERSEDE
        return found[0].id if found else ""

    assert target(far, old) == "aaaa0001"
    assert target(far) == ""
    assert target(entry("aaaa0001", "deploy.host", old.text, scope="*")) == "", "one project does not speak for all"
    assert target(entry("aaaa0001", "deploy.host", old.text, since=news.day.replace(year=2027))) == "", "it is newer"
    made = addition(Statement("j2", Tier.LOCAL, news.text), Label.FACT)
    assert made is not None
    local = told(2, news.text, tier=Tier.LOCAL)
    assert succession(made, frame([old], [local])) is None, "no tool changes what the owner said"


def test_what_is_of_another_thing_is_asked_of_no_model() -> None:
    """I5: "Anna reviews the code of Bob" and the reverse may both hold."""
    texts = ("Anna reviews the code of Bob", "Bob reviews the code of Anna")
    old, news = (addition(Statement(f"j{number}", Tier.OWNER, text), Label.FACT) for number, text in enumerate(texts))
    assert old is not None
    assert news is not None
    assert outdated_by(old, [news]) is None
    assert succession(news, frame([entry("aaaa0001", "a.b", texts[0])], [told(1, texts[1])])) is None


def test_a_no_in_its_second_sentence_turns_nothing_round() -> None:
    news = told(2, "We tried Bazel for the builds. It did not work on Windows.")
    (found,) = statements([news])
    made = addition(found, Label.FACT)
    assert made is not None
    assert problems_of(made, frame(evidence=[news])) == ()
    turned = replace(made, text="We tried Bazel for the builds. It did work on Windows.")
    assert [one.invariant for one in problems_of(turned, frame(evidence=[news]))] == ["I3"]
