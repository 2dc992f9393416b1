"""What only a run needs of the engine, wired: loaded when the first run begins, or one has to be ended."""

from __future__ import annotations

from datetime import timedelta

from kairosd.app.ground import Ground, Outside
from kairosd.core.secrets import Scrubber
from kairosd.engine.ending import Ending, EndingDeps
from kairosd.engine.gate import Gate
from kairosd.engine.guarding import Guard
from kairosd.engine.handover import Handover
from kairosd.engine.ledger import Ledger, Questions
from kairosd.engine.limits import Limits
from kairosd.engine.news import News
from kairosd.engine.outlets import Outlets
from kairosd.engine.prefixes import PrefixWatch
from kairosd.engine.signals import Feed
from kairosd.engine.terms import Terms
from kairosd.frozen import frozen


@frozen
class Running:
    """Each is a part of the tooling of that name."""

    ending: Ending
    ledger: Ledger
    limits: Limits
    news: News
    outlets: Outlets
    prefixes: PrefixWatch


def build_running(ground: Ground, outside: Outside, *, terms: Terms, feed: Feed, scrub: Scrubber) -> Running:
    """Wires the ledger, the end of a run and what lies between."""
    stores, clock, config, outbox = ground.stores, ground.clock, ground.config, outside.outbox
    gate = Gate(config.policy, terms=terms)
    questions = Questions(outbox.address, expires := timedelta(seconds=config.approval_expires_seconds))
    ending = EndingDeps(
        stores=stores, clock=clock, checkouts=outside.checkouts, feed=feed, address=outbox.address, expires=expires,
        workspaces={one.name: one for one in config.workspaces},
        evaluate=ground.seams.evaluate,
        handover=ground.seams.handover(
            Handover(
                stores, clock, outside.checkouts, files=outside.files, terms=terms, author=outside.author,
                guard=Guard(stores, clock, outside.checkouts, terms, questions, scrub),
            )
        ),
    )  # fmt: skip
    return Running(
        ending=Ending(ending),
        ledger=Ledger(stores, gate, clock=clock, questions=questions, scrub=scrub),
        limits=Limits(config.limits.run_turns, config.limits.run_tokens, config.limits.run_seconds),
        news=News(stores, clock), outlets=Outlets(gate, stores, clock=clock), prefixes=PrefixWatch(stores, clock),
    )  # fmt: skip
