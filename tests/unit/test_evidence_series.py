"""What of the journal is evidence, and what is said so often that it is none."""

from __future__ import annotations

from tests.dreams import told

from kairosd.core.dream_support import orders, unsaid
from kairosd.core.events import Tier
from kairosd.core.evidence import Gathered, without_series


def test_of_a_series_the_newest_stays_and_of_the_owners_words_all() -> None:
    beats = [told(number, f"job {number} was queued on runner 4", tier=Tier.LOCAL) for number in range(1, 6)]
    twice = [told(number, f"the build took {number} minutes", tier=Tier.LOCAL) for number in (11, 12)]
    words = [told(number, f"service {number} is mine", tier=Tier.OWNER) for number in range(21, 26)]
    found = without_series(Gathered((*beats, *twice, *words), 30, {"noise": 2}))
    assert found.evidence == (beats[-1], *twice, *words)
    assert found.dropped == {"noise": 2, "series": 4}


def test_an_instruction_is_the_owners_own_words_in_their_order() -> None:
    said = "I never want force pushes to the branch release. Is it fine to merge without review?"
    assert unsaid("The owner never wants force pushes to the branch release.", [said]) == []
    assert unsaid("The owner wants force pushes to the branch main.", [said]) == ["main"]
    assert unsaid("The owner wants pushes without review.", [said]) == ["without", "review"], (
        "a question wishes nothing"
    )
    assert unsaid("Release the branch to force pushes.", [said]) != []


def test_what_only_states_is_no_order() -> None:
    for text in (
        "The build of branch release takes 12 minutes on the runner.",
        "Pull request 41 was merged into main.",
        "The policy engine lives in core/policy.py.",
        "Approvals are stored in the table approvals.",
        "The user table has 14 columns.",
        "The parser in src/parse.py was written in 2021.",
    ):
        assert orders(text) == ""
