"""Budgets, pure: whose purse pays, what a call may take, when there is room again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kairosd.core.budget import (
    DAY,
    DEFAULT_CAPS,
    HOUR,
    Amount,
    Booking,
    Breach,
    Cap,
    Order,
    Purse,
    allowance_for,
    allowance_in,
    asked_of,
    breach_of,
    caps,
    fits,
    money,
    purse_of,
    refill_of,
    total,
    worst_case,
)
from kairosd.core.messages import Form, Message, Prompt, ToolResult, ToolSpec, ToolUse
from kairosd.core.pricing import Tariff

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
TARIFF = Tariff(Decimal(1), Decimal(5), Decimal("0.1"), Decimal("1.25"))
amounts = st.builds(Amount, st.none() | st.integers(0, 50), st.integers(0, 50))


@pytest.mark.parametrize(
    ("source", "purse"),
    [("owner", Purse.OWNER), ("files", Purse.FILE), ("webhook", Purse.WEBHOOK), ("schedule", Purse.SCHEDULE),
     ("tick", Purse.TICK), ("dream", Purse.DREAM), ("boot", Purse.TICK), ("a-trigger-of-mine", Purse.TICK)],
)  # fmt: skip
def test_each_source_has_its_purse(source: str, purse: Purse) -> None:
    assert purse_of(source) is purse


def test_the_owners_purse_is_the_widest() -> None:
    for purse, found in DEFAULT_CAPS.items():
        for own, other in zip(DEFAULT_CAPS[Purse.OWNER], found, strict=True):
            assert purse is Purse.OWNER or (own.price > other.price and own.tokens > other.tokens)
        hour, day = found
        assert (hour.span, day.span) == (HOUR, DAY)
        assert day.price >= hour.price


def test_the_worst_case_has_all_that_is_sent_and_the_longest_answer() -> None:
    plain = Prompt("", (Message("user", "word " * 4000),), max_tokens=1000)
    worst = worst_case(plain, TARIFF)
    assert 20_000 / 4 < worst.tokens - 1000 < 20_000 / 2
    assert worst.price == round((worst.tokens - 1000) * 1.25 + 0.49) + 5000  # written to the cache, all of it
    assert worst_case(plain, None) == Amount(None, worst.tokens)
    assert worst_case(replace(plain, thinking=8192), None).tokens == worst.tokens + 8192
    use = ToolUse("1", "t", {"a": "word " * 100})
    tool = ToolSpec("t", "word " * 100, {"type": "object"})
    for more in (
        replace(plain, system="word " * 100), replace(plain, tools=(tool,)),
        replace(plain, form=Form("f", "word " * 100, {})),
        replace(plain, messages=(*plain.messages, Message("user", results=(ToolResult("1", "word " * 100),)))),
        replace(plain, messages=(Message("assistant", uses=(use,)), *plain.messages)),
    ):  # fmt: skip
        assert worst_case(more, TARIFF).tokens > worst.tokens + 125


@given(st.lists(st.tuples(amounts, st.integers(0, 7200)), max_size=8), amounts, st.integers(0, 80), st.integers(0, 80))
def test_there_is_room_when_it_was_said_and_not_before(
    spent: list[tuple[Amount, int]], need: Amount, price: int, tokens: int
) -> None:
    cap = Cap(HOUR, price, tokens)
    every = sorted((Booking(NOW - timedelta(seconds=ago), amount) for amount, ago in spent), key=lambda each: each.at)

    def books(at: datetime) -> list[Booking]:
        return [each for each in every if each.at > at - HOUR]

    order = Order("r", "act", "m", "tick", worst=need)
    found = breach_of(order, {cap: books(NOW)})
    if found is None:
        assert fits(total(each.amount for each in books(NOW)), need, cap=cap)
    elif found.frees_at is None:
        assert not fits(Amount(0, 0), need, cap=cap)
    else:
        assert breach_of(order, {cap: books(found.frees_at)}) is None
        before = found.frees_at - timedelta(microseconds=1)
        assert before < NOW or breach_of(order, {cap: books(before)}) is not None


def test_of_two_caps_the_one_that_stands_longer_is_told() -> None:
    both = caps((10, 100), (15, 100))
    spent = [Booking(NOW - timedelta(minutes=30), Amount(10, 1))]
    order = Order("r", "act", "m", "tick", worst=Amount(6, 1))
    found = breach_of(order, dict.fromkeys(both, spent))
    assert found is not None
    assert (found.cap, found.frees_at) == (both[1], NOW - timedelta(minutes=30) + DAY)


def test_a_breach_is_told_in_dollars_or_in_tokens() -> None:
    cap = Cap(HOUR, 1_000_000, 5000)
    text = Breach("tick", cap, Amount(980_000, 10), Amount(41_250, 10), NOW).text()
    assert "$1.00 in any hour, $0.98 of it" in text
    assert "up to $0.04125" in text
    assert "5,000 tokens in any hour" in Breach("tick", cap, Amount(0, 4000), Amount(None, 2000), NOW).text()


def test_what_is_asked_for_comes_back_from_the_question() -> None:
    hour = Cap(HOUR, 1_000_000, 400_000)
    breach = Breach("tick", hour, Amount(0, 0), Amount(100_000, 3000), NOW)
    wished = allowance_for(breach, hour)
    assert wished == Cap(None, 400_000, 100_000)
    found = allowance_in("a_1", asked_of(wished, breach.need))
    assert found is not None
    assert (found.approval, found.cap, found.need) == ("a_1", wished, breach.need)
    assert allowance_in("a_1", "r_01kaq7t2zjhd") is None
    assert refill_of(found, (hour,)) == Amount(400_000, 100_000)
    assert refill_of(found, (Cap(HOUR, 200_000, 400_000),)) == Amount(200_000, 100_000)
    assert refill_of(found, (Cap(HOUR, 99_999, 400_000),)) is None


@pytest.mark.parametrize(
    ("micro", "text"), [(0, "$0.00"), (1, "$0.000001"), (20_000, "$0.02"), (2_500_000, "$2.50"), (40_000_000, "$40.00")]
)
def test_money_loses_no_digit(micro: int, text: str) -> None:
    assert money(micro) == text
