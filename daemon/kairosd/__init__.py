"""Kairos: an always-on background agent for developers that you can leave alone."""

__version__ = "0.1.0"
