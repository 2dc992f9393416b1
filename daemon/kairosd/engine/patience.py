"""Patience: a run asks its model until it answers; while the model is down the run waits, and says so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from kairosd.core.budget import Payer
from kairosd.core.json import JsonObject
from kairosd.core.messages import Prompt
from kairosd.engine.asking import Asking, Listener, Reply
from kairosd.engine.purses import NoRoom
from kairosd.errors import EndpointRefusedError, ModelError, ModelProtocolError, ModelUnavailableError
from kairosd.ports import Clock, Model

MODEL_PATIENCE = timedelta(hours=6)  # how long a run waits for its model before it fails
FIRST_RETRY, LAST_RETRY = 10, 600  # seconds between tries of this run, as long as no breaker says when
PROTOCOL_ERRORS_MAX = 3


class Publish(Protocol):
    """Tells whoever follows the run."""

    def __call__(self, kind: str, text: str, *, data: JsonObject) -> None: ...


class GaveUpError(Exception):
    """The run cannot go on; the text says why."""


class SwitchError(Exception):
    """Another model is to be asked now; the prompt has to be made for it."""


class CutAnswerError(Exception):
    """An answer broke off after it had asked for something, which has begun: it is not to be asked for again."""


class Hearer(Listener, Protocol):
    """Hears one turn. `begun` says whether it has heard a whole call, after which no answer may be tried again."""

    begun: bool

    def restart(self) -> None:
        """An answer begins, after one that came to nothing."""


class Patience:
    """Asks for one run. `model` says who is to be asked now: the run's own model, or its stand-in.

    `paid` is told the tokens and the price of what was asked in vain.
    """

    def __init__(
        self, asking: Asking, clock: Clock, *, publish: Publish, model: Callable[[], Model],
        paid: Callable[[int, int | None], None],
    ) -> None:  # fmt: skip
        self._asking = asking
        self._clock = clock
        self._publish = publish
        self._model = model
        self._paid = paid
        self._away_since: datetime | None = None
        self._failures = 0

    async def ask(
        self, model: Model, prompt: Prompt, *, payer: Payer, role: str, listener: Hearer | None = None
    ) -> Reply:
        """The answer; a turn's (`role` act) has a `listener`.

        Raises `SwitchError`, `GaveUpError`, `ModelRefusedError`, `NoRoom`; of a turn `CutAnswerError`, else
        `ModelProtocolError`.
        """
        try:
            return await self._ask(model, prompt, payer=payer, role=role, listener=listener)
        except ModelError as error:
            if listener is not None and listener.begun:
                raise CutAnswerError(str(error)) from error
            raise

    async def _ask(self, model: Model, prompt: Prompt, *, payer: Payer, role: str, listener: Hearer | None) -> Reply:
        protocol_errors = 0
        while True:
            if listener is not None:
                listener.restart()
            try:
                reply = await self._once(model, prompt, payer=payer, role=role, listener=listener)
            except ModelProtocolError as error:
                if listener is None or listener.begun:
                    raise
                self._switch(model)
                protocol_errors += 1
                if protocol_errors >= PROTOCOL_ERRORS_MAX:
                    raise GaveUpError(f"the model's answers are not usable: {error}") from error
            except EndpointRefusedError:
                self._switch(model)
                raise
            except ModelUnavailableError as error:
                if listener is not None and listener.begun:
                    raise
                await self._wait(model, error)
            else:
                self._away_since, self._failures = None, 0
                return reply

    async def _once(self, model: Model, prompt: Prompt, *, payer: Payer, role: str, listener: Hearer | None) -> Reply:
        try:
            return await self._asking.ask(model, prompt, payer=payer, role=role, listener=listener)
        except (ModelError, NoRoom) as error:
            if error.spent is not None:
                self._paid(*error.spent)
            raise

    async def _wait(self, model: Model, error: ModelUnavailableError) -> None:
        self._switch(model)
        now = self._clock.now()
        self._away_since = self._away_since or now
        delay = error.retry_after or min(LAST_RETRY, FIRST_RETRY * 2**self._failures)
        self._failures += 1
        if now + timedelta(seconds=delay) > self._away_since + MODEL_PATIENCE:
            raise GaveUpError(f"the model was away for too long: {error}") from error
        self._publish("waiting", str(error), data={"seconds": int(delay)})
        await self._asking.breakers.rest(delay)
        self._switch(model)

    def _switch(self, model: Model) -> None:
        if self._model().name != model.name:
            raise SwitchError
