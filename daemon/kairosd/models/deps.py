"""What a provider is given besides its section."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import field
from pathlib import Path

from kairosd.config import ModelSection
from kairosd.frozen import frozen
from kairosd.ports import Clock
from kairosd.system.network import NetworkSettings


def full_jitter(seconds: float) -> float:
    """A random wait between 0 and `seconds`, so that many clients do not come back at once."""
    return random.uniform(0.0, seconds)


@frozen
class ModelDeps:
    """`api_key` is the key itself, empty where none is configured; `data_folder` the home's data folder."""

    clock: Clock
    api_key: str
    data_folder: Path
    network: NetworkSettings = field(default_factory=NetworkSettings)
    jitter: Callable[[float], float] = full_jitter


def key_fix(name: str, section: ModelSection) -> str:
    """The line that tells the owner where the key of `[models.NAME]` is looked for."""
    if section.api_key_file:
        return f"put a valid key into {section.api_key_file} (api_key_file of [models.{name}])"
    if section.api_key_env:
        return f"set {section.api_key_env} to a valid key (api_key_env of [models.{name}])"
    return f"set api_key_env or api_key_file in [models.{name}]"
