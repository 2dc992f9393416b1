"""Ratings, and what they say of each trigger beside what it decided and took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, case, func, select
from sqlalchemy.dialects.sqlite import insert

from kairosd.core.decisions import ANSWERS, Verdict
from kairosd.core.journal import Note
from kairosd.core.json import Json
from kairosd.core.ratings import Calibration, Rating
from kairosd.store.database import Database, Unit
from kairosd.store.schema import decisions, events, model_calls, ratings

_NEW = insert(ratings)
_PUT = _NEW.on_conflict_do_update(
    index_elements=[ratings.c.subject],
    set_={"rating": _NEW.excluded.rating, "rated_at": _NEW.excluded.rated_at},
)
_DONE = decisions.c.verdict.in_((Verdict.ACT, Verdict.NOTIFY))


class RatingStore:
    """Implements `ports.Ratings`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, subject: str, rating: Rating, *, workspace: str, now: datetime) -> Rating | None:
        def work(unit: Unit) -> Rating | None:
            was = unit.connection.scalar(select(ratings.c.rating).where(ratings.c.subject == subject))
            unit.execute(_PUT, {"subject": subject, "rating": rating, "rated_at": now})
            data: dict[str, Json] = {"rating": rating.value, "was": was.value if was else None}
            unit.note(Note("rating.given", subject, workspace=workspace, data=data), now)
            return was

        return await self._database.write(work)

    async def calibrate(
        self, since: datetime, *, workspace: str | None = None, shadow: bool = False
    ) -> tuple[Calibration, ...]:
        wanted: list[ColumnElement[bool]] = [decisions.c.asked_at >= since]
        if workspace is not None:
            wanted.append(decisions.c.workspace == workspace)
        if shadow:
            wanted.append(decisions.c.shadow)

        def read(reader: Connection) -> tuple[Calibration, ...]:
            found = _of_decisions(reader, and_(*wanted), since=since)
            return _ordered(found if shadow else _with_events(reader, found, since=since))

        return await self._database.read(read)


def _sum(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def _rated(rating: Rating) -> ColumnElement[int]:
    return _sum(ratings.c.rating == rating)


def _of_decisions(reader: Connection, wanted: ColumnElement[bool], *, since: datetime) -> dict[str, Calibration]:
    # What a postponed decision took counts too, although it came to no verdict.
    unpriced = and_(model_calls.c.price.is_(None), model_calls.c.charged_tokens > 0)
    spent = (
        select(
            model_calls.c.cause,
            func.coalesce(func.sum(model_calls.c.price), 0).label("price"),
            func.sum(case((unpriced, 1), else_=0)).label("unpriced"),
        )
        .where(model_calls.c.reserved_at >= since, model_calls.c.outcome.is_not(None))
        .group_by(model_calls.c.cause)
    )
    on_deciding, on_acting = spent.subquery("on_deciding"), spent.subquery("on_acting")
    columns = {
        "decisions": _sum(decisions.c.verdict.in_(ANSWERS)),
        "acted": _sum(decisions.c.verdict == Verdict.ACT),
        "notified": _sum(decisions.c.verdict == Verdict.NOTIFY),
        "shadow": _sum(and_(_DONE, decisions.c.shadow)),
        **{rating.value: _rated(rating) for rating in Rating},
        "unrated": _sum(and_(_DONE, ratings.c.rating.is_(None))),
        "price": func.sum(func.coalesce(on_deciding.c.price, 0) + func.coalesce(on_acting.c.price, 0)),
        "unpriced_calls": func.sum(func.coalesce(on_deciding.c.unpriced, 0) + func.coalesce(on_acting.c.unpriced, 0)),
    }
    statement = (
        select(decisions.c.source.label("trigger"), *(column.label(name) for name, column in columns.items()))
        .select_from(
            decisions.outerjoin(ratings, ratings.c.subject == decisions.c.id)
            .outerjoin(on_deciding, on_deciding.c.cause == decisions.c.id)
            .outerjoin(on_acting, on_acting.c.cause == decisions.c.run)
        )
        .where(wanted)
        .group_by(decisions.c.source)
    )
    return {row["trigger"]: Calibration(**row) for row in reader.execute(statement).mappings()}


def _with_events(reader: Connection, found: Mapping[str, Calibration], *, since: datetime) -> dict[str, Calibration]:
    """Adds what the owner missed of events that no verdict was about."""
    statement = (
        select(events.c.source, func.count())
        .join(ratings, ratings.c.subject == events.c.id)
        .where(ratings.c.rating == Rating.MISSED, events.c.received_at >= since)
        .group_by(events.c.source)
    )
    together = dict(found)
    for source, missed in reader.execute(statement):
        known = together.get(source, Calibration(source, *[0] * 10))
        together[source] = replace(known, missed=known.missed + missed)
    return together


def _ordered(found: Mapping[str, Calibration]) -> tuple[Calibration, ...]:
    return tuple(sorted(found.values(), key=lambda one: (-one.decisions, one.trigger)))
