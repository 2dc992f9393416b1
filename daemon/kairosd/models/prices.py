"""The price table: read once from `prices.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from pathlib import Path
from types import MappingProxyType

from kairosd.core.pricing import Tariff, find_tariff
from kairosd.ports import Model

FREE = Tariff(Decimal(0), Decimal(0), Decimal(0), Decimal(0))


@cache
def load_prices() -> Mapping[str, Tariff]:
    """Every listed model's tariff. Raises `ValueError` when the file is broken, which a test rules out."""
    tables = tomllib.loads(Path(__file__).with_name("prices.toml").read_text(encoding="utf-8"))
    rows = {name: row for provider in tables.values() for name, row in provider.items()}
    return MappingProxyType({name: Tariff(**{key: Decimal(row[key]) for key in row}) for name, row in rows.items()})


def tariff_of(model: Model) -> Tariff | None:
    """What calls of `model` cost; known to be nothing for provider `local`; None = unknown."""
    return FREE if model.provider == "local" else _tariff_of(model.model)


@cache
def _tariff_of(name: str) -> Tariff | None:
    return find_tariff(name, load_prices())
