"""The composition root: the only place that names concrete classes. Start order is reading order, stop the reverse."""

from kairosd.app.daemon import run

__all__ = ["run"]
