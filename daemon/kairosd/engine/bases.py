"""What ended runs may have left in the owners' repositories, taken away.

A module of its own: it is looked for every day, also where no run ever was.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from kairosd.core.runs import ENDED
from kairosd.core.workspaces import Workspace
from kairosd.engine.checkouts import Checkouts
from kairosd.errors import CheckoutError, ExecutorError, SandboxError
from kairosd.ports import Query, Stores

log = logging.getLogger("kairosd.ending")


async def drop_bases(workspaces: Iterable[Workspace], stores: Stores, *, checkouts: Checkouts) -> None:
    """Takes the names of bases of ended runs out of the owners' repositories: a kill may have left some there."""
    for workspace in workspaces:
        try:
            for kept in await checkouts.kept_bases(workspace):
                # A name that no run here has is another home's.
                for run in await stores.runs.find(Query(prefix=kept, limit=1)):
                    if run.id == kept and run.state in ENDED:
                        await checkouts.drop_base(run, workspace)
        except (CheckoutError, SandboxError, ExecutorError) as error:
            log.warning("refs/kairos/base of ended runs stays in %s: %s", workspace.name, error)
