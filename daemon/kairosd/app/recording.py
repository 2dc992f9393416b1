"""The seams at which a daemon puts on record what `kairos replay` will need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from kairosd.app.ground import Ground, Outside, Seams
from kairosd.core.exchanges import mark
from kairosd.core.json import JsonObject
from kairosd.engine.asking import Asking
from kairosd.engine.checkouts import Checkouts
from kairosd.engine.exchanges import MODEL_FACTS, Recorder
from kairosd.engine.hints import Hints
from kairosd.engine.witness import (
    SeenAsking,
    SeenCheckouts,
    SeenFiles,
    SeenHandover,
    SeenMemory,
    SeenTool,
    Witness,
    seen_place,
)
from kairosd.models.book import ModelBook
from kairosd.ports import Files, Model, Tool

if TYPE_CHECKING:  # loaded when the first run begins
    from kairosd.engine.checks import Sight
    from kairosd.engine.handover import Handover


class SeenModels(Witness[ModelBook]):
    """What is known of each model that is used."""

    def get(self, name: str) -> Model:
        model = self._real.get(name)
        self._recorder.saw("model", name, value={fact: getattr(model, fact) for fact in MODEL_FACTS})
        return model


def on_record(ground: Ground, recorder: Recorder) -> Ground:
    """`ground` with witnesses at every seam."""

    def outside(real: Outside) -> Outside:
        return replace(
            real,
            files=cast("Files", SeenFiles(real.files, recorder)),
            places={name: seen_place(place, recorder) for name, place in real.places.items()},
            checkouts=cast("Checkouts", SeenCheckouts(real.checkouts, recorder)),
            models=cast("ModelBook", SeenModels(real.models, recorder)),
        )

    async def evaluated(checks: Sequence[JsonObject], sight: Sight) -> tuple[JsonObject, ...]:
        found = await ground.seams.evaluate(checks, sight)
        recorder.saw("checked", str(sight.root), mark(list(checks)), value=list(found))
        return found

    seams = Seams(
        outside=outside,
        evaluate=evaluated,
        asking=lambda real: cast("Asking", SeenAsking(real, recorder, clock=ground.clock)),
        tool=lambda real: cast("Tool", SeenTool(real, recorder)),
        remembering=lambda real: cast("Hints", SeenMemory(real, recorder)),
        handover=lambda real: cast("Handover", SeenHandover(real, recorder)),
    )
    return replace(ground, seams=seams)
