"""What an answer says of tests."""

from __future__ import annotations

import pytest

from kairosd.core.proofs import tells_of_tests


@pytest.mark.parametrize(
    "answer",
    [
        "I added the line and the test passed.",
        "All tests pass now.",
        "The test suite is green.",
        "Done; 3 passing tests.",
        "The checks were run and succeeded.",
    ],
)
def test_that_tests_passed_is_told_in_many_words(answer: str) -> None:
    assert tells_of_tests(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "I wrote a test for the parser.",
        "The password is passed to the function under test_app.",
        "No test is there. The build passed.",
        "The greenhouse test was renamed.",
    ],
)
def test_other_words_do_not_say_so(answer: str) -> None:
    assert not tells_of_tests(answer)
