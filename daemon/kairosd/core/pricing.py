"""The price of a model call, in whole micro-dollars, from a table of dollars per million tokens."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_UP, Decimal

from kairosd.core.messages import Usage
from kairosd.frozen import frozen


@frozen
class Tariff:
    """Micro-dollars per million tokens, as exact decimals of dollars per million."""

    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write: Decimal


def price(usage: Usage, tariff: Tariff | None) -> int | None:
    """Micro-dollars of `usage`, rounded up; None (unknown, never 0) without a tariff or the provider's count."""
    if tariff is None or usage.input is None or usage.output is None:
        return None
    total = (
        tariff.input * usage.input
        + tariff.output * usage.output
        + tariff.cache_read * usage.cache_read
        + tariff.cache_write * usage.cache_write
    )
    return int(total.to_integral_value(rounding=ROUND_UP))


def find_tariff(model: str, table: Mapping[str, Tariff]) -> Tariff | None:
    """The tariff of `model`: its own name, else the longest listed name it starts with (dated snapshots)."""
    names = [name for name in table if model == name or model.startswith(f"{name}-")]
    return table[max(names, key=len)] if names else None
