"""Patience: a run asks its model until it answers; while the model is down the run waits, and says so."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

from kairosd.core.budget import Payer
from kairosd.core.json import JsonObject
from kairosd.core.messages import Prompt, ToolUse, UseBroken
from kairosd.engine.asking import Asking, Reply
from kairosd.errors import ModelProtocolError, ModelUnavailableError
from kairosd.ports import Clock, Model

MODEL_PATIENCE = timedelta(hours=6)  # how long a run waits for its model before it fails
FIRST_RETRY, LAST_RETRY = 10, 600  # seconds between tries while the model is down
PROTOCOL_ERRORS_MAX = 3


class Publish(Protocol):
    """Tells whoever follows the run."""

    def __call__(self, kind: str, text: str, *, data: JsonObject) -> None: ...


class GaveUpError(Exception):
    """The run cannot go on; the text says why."""


class Patience:
    """Asks for one run. What a model says in a turn (`role` act) is published word by word."""

    def __init__(self, asking: Asking, clock: Clock, *, publish: Publish) -> None:
        self._asking = asking
        self._clock = clock
        self._publish = publish

    def text(self, words: str) -> None:
        self._publish("text", words, data={})

    def use(self, use: ToolUse | UseBroken) -> None:
        """Calls are made once the whole answer is there."""

    async def ask(self, model: Model, prompt: Prompt, *, payer: Payer, role: str) -> Reply:
        """The answer. Raises `GaveUpError`, `ModelRefusedError`, `NoRoom`, and `ModelProtocolError` outside a turn."""
        give_up_at = self._clock.now() + MODEL_PATIENCE
        failures = protocol_errors = 0
        while True:
            try:
                return await self._asking.ask(
                    model, prompt, payer=payer, role=role, listener=self if role == "act" else None
                )
            except ModelProtocolError as error:
                if role != "act":
                    raise
                protocol_errors += 1
                if protocol_errors >= PROTOCOL_ERRORS_MAX:
                    raise GaveUpError(f"the model's answers are not usable: {error}") from error
            except ModelUnavailableError as error:
                delay = error.retry_after or min(LAST_RETRY, FIRST_RETRY * 2**failures)
                failures += 1
                if self._clock.now() + timedelta(seconds=delay) > give_up_at:
                    raise GaveUpError(f"the model was away for too long: {error}") from error
                self._publish("waiting", str(error), data={"seconds": int(delay)})
                await self._clock.sleep(delay)
