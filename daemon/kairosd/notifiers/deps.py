"""What a notifier is given besides its section."""

from __future__ import annotations

import logging
from dataclasses import field

from kairosd.frozen import frozen
from kairosd.ports import Clock
from kairosd.system.network import NetworkSettings


@frozen
class NotifierDeps:
    """`token` is the secret itself, empty where none is configured; `answers_token` goes into buttons.
    Clients are made by `system.http` on first need.

    `arrived` of a notifier raises `NotifierError` where it cannot be told: the notice is then sent again and says so.
    """

    clock: Clock
    token: str = ""
    answers_token: str = ""
    network: NetworkSettings = field(default_factory=NetworkSettings)
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("kairosd.notifiers"))
