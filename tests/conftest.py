"""Fixtures every test may use."""

from __future__ import annotations

import gc

import pytest


def pytest_collection_finish() -> None:
    """What importing and collecting made stays to the end: without this every full collection walks it all again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
