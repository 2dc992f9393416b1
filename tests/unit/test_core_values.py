"""Ids, canonical JSON, prices and quiet hours."""

from __future__ import annotations

import json
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kairosd.core.ids import encode, is_id, mint
from kairosd.core.json import canonical, digest, without_floats
from kairosd.core.messages import Usage
from kairosd.core.notices import QuietHours, retry_seconds
from kairosd.core.pricing import Tariff, find_tariff, price
from kairosd.core.runs import call_hash

quick = settings(max_examples=40, deadline=None)
moments = st.integers(50 * 365 * 86400, 200 * 365 * 86400).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
numbers = st.integers(0, 2**128 - 1)
texts = st.text(st.characters(codec="utf-8"))
leaves = st.none() | st.booleans() | st.integers() | texts


def trees(leaf: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.recursive(
        leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
    )


BERLIN = ZoneInfo("Europe/Berlin")


@quick
@given(numbers, numbers)
def test_ids_sort_like_what_they_stand_for(one: int, other: int) -> None:
    assert (encode(one) < encode(other)) == (one < other)
    assert len(encode(one)) == 26


def test_every_millisecond_has_ids_of_its_own() -> None:
    start = datetime(2026, 3, 2, 9, tzinfo=UTC)
    made = [mint("e", start + timedelta(milliseconds=number)) for number in range(1000)]
    assert len({each[:12] for each in made}) == 1000
    assert made == sorted(made)


@quick
@given(moments, st.integers(1, 10**6), st.sampled_from("edrcan"))
def test_a_later_id_is_greater(moment: datetime, later: int, kind: str) -> None:
    first, second = mint(kind, moment), mint(kind, moment + timedelta(milliseconds=later))
    assert first < second
    for length in range(2, len(first) + 1):
        assert is_id(first[:length], kind)


@pytest.mark.parametrize(
    "text", ["", "r", "x_01", "r_" + "0" * 27, "r_../../etc", "r_ILOU", "r_01KJ", "rr_01", "r-01", "r_01\n"]
)
def test_what_is_no_id(text: str) -> None:
    assert not is_id(text, "r")


@quick
@given(trees(leaves))
def test_canonical_json_says_the_same_in_one_form(value: object) -> None:
    text = canonical(value)  # type: ignore[arg-type]
    assert json.loads(text) == value
    assert canonical(json.loads(text)) == text
    assert digest(json.loads(text)) == digest(value)  # type: ignore[arg-type]


@quick
@given(st.dictionaries(texts, leaves, min_size=2, max_size=4))
def test_the_order_of_keys_is_no_difference(value: dict[str, object]) -> None:
    turned = dict(reversed(value.items()))
    assert canonical(turned) == canonical(value)  # type: ignore[arg-type]
    assert call_hash("t", turned) == call_hash("t", value)  # type: ignore[arg-type]
    assert call_hash("t", value) != call_hash("u", value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0.5, [1.0], {"a": [{"b": float("nan")}]}, (1, 2.5)])
def test_a_float_has_no_canonical_form(value: object) -> None:
    with pytest.raises(ValueError, match="float"):
        canonical(value)  # type: ignore[arg-type]
    canonical(without_floats([value]))  # type: ignore[arg-type, list-item]


@quick
@given(trees(leaves | st.floats(allow_nan=False, allow_infinity=False)))
def test_a_strangers_json_can_be_stored(value: object) -> None:
    canonical(without_floats(value))


TARIFF = Tariff(Decimal("3"), Decimal("15"), Decimal("0.30"), Decimal("3.75"))


def test_a_price_is_exact_and_rounded_up() -> None:
    assert price(Usage(1_000_000, 0), TARIFF) == 3_000_000
    assert price(Usage(100, 10), TARIFF) == 450
    assert price(Usage(0, 0, cache_read=1), TARIFF) == 1
    assert price(Usage(1, 1, 10, 10), TARIFF) == 59  # 3 + 15 + 3 + 37.5


@quick
@given(st.none() | st.integers(0, 10**7), st.none() | st.integers(0, 10**7), st.booleans())
def test_what_is_unknown_is_never_nothing(given_in: int | None, given_out: int | None, listed: bool) -> None:
    found = price(Usage(given_in, given_out), TARIFF if listed else None)
    assert (found is None) == (not listed or given_in is None or given_out is None)


def test_a_dated_snapshot_is_found_by_its_name_and_a_longer_name_wins() -> None:
    other = Tariff(*(Decimal(9),) * 4)
    table = {"gpt-5": TARIFF, "gpt-5-mini": other}
    assert find_tariff("gpt-5", table) is TARIFF
    assert find_tariff("gpt-5-2026-08-07", table) is TARIFF
    assert find_tariff("gpt-5-mini-2026-08-07", table) is other
    assert find_tariff("gpt-50", table) is None
    assert find_tariff("unheard-of", table) is None


minutes = st.times().map(lambda each: each.replace(second=0, microsecond=0))


@quick
@given(minutes, minutes, moments, st.sampled_from([UTC, BERLIN, ZoneInfo("Asia/Kolkata")]))
def test_quiet_hours_end_at_their_end_within_a_day(start: time, end: time, now: datetime, zone: ZoneInfo) -> None:
    quiet = QuietHours(start, end)
    until = quiet.ends_after(now, zone)
    clock = now.astimezone(zone).time()
    inside = start <= clock < end if start <= end else clock >= start or clock < end
    assert (until is not None) == (inside and start != end)
    if until is not None:
        assert now < until <= now + timedelta(hours=25)


def test_quiet_hours_over_midnight_and_over_a_change_of_the_clock() -> None:
    quiet = QuietHours(time(22), time(7))
    assert quiet.ends_after(datetime(2026, 3, 2, 21, 59, tzinfo=UTC), UTC) is None
    assert quiet.ends_after(datetime(2026, 3, 2, 22, 0, tzinfo=UTC), UTC) == datetime(2026, 3, 3, 7, tzinfo=UTC)
    assert quiet.ends_after(datetime(2026, 3, 3, 7, 0, tzinfo=UTC), UTC) is None
    # In Berlin the clock goes from 2 to 3 on 29 March: 7 o'clock is 5 UTC then, and was 6 UTC the day before.
    assert quiet.ends_after(datetime(2026, 3, 28, 23, 0, tzinfo=UTC), BERLIN) == datetime(2026, 3, 29, 5, tzinfo=UTC)
    assert quiet.ends_after(datetime(2026, 3, 27, 23, 0, tzinfo=UTC), BERLIN) == datetime(2026, 3, 28, 6, tzinfo=UTC)


def test_a_failed_notice_waits_ever_longer() -> None:
    assert [retry_seconds(tries) for tries in range(1, 7)] == [30, 120, 480, 1920, 7200, 7200]
