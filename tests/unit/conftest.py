"""Unit tests are run after every change: where a property does not say how many examples it needs, it gets half."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unit", max_examples=50, deadline=None)
settings.load_profile("unit")
