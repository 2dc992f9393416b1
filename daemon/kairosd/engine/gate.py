"""The gate: the one place every tool call passes. The verdict is the worst of all opinions (design §9)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from kairosd.core.hosts import Reach
from kairosd.core.json import JsonObject
from kairosd.core.levels import Level, Opinion, Permission, Ruling, judge_level, judge_taint
from kairosd.core.policy import Policy, judge_path, judge_rules, worst
from kairosd.core.runs import Run
from kairosd.core.shell.plans import Command, Plan
from kairosd.core.shell.programs import Program, ProgramClass, Use, read_use
from kairosd.core.shell.verdicts import (
    Place,
    advice,
    allowed_by_owner,
    judge_command,
    judge_reach,
    permission_of,
    reach_of,
)
from kairosd.engine.terms import Terms
from kairosd.errors import ToolError
from kairosd.frozen import frozen
from kairosd.ports import Tool
from kairosd.programs import load_programs

Follow: TypeAlias = Callable[[str], str]

CHANGE_FOLDER = "cd"  # no program: where it leads is judged, and what runs there


@frozen
class Judged:
    """What the gate says of one command of a plan. `reach` is what it may connect to; None = it has no network."""

    command: Command
    cwd: str
    permission: Permission
    opinions: tuple[Opinion, ...]
    reach: Reach | None = None


@frozen
class Explained:
    """What the gate says of a shell line. `plan` is None, and `fix` what to write instead, where it is not plain."""

    verdict: Opinion
    plan: Plan | None = None
    commands: tuple[Judged, ...] = ()
    fix: str = ""


class Gate:
    """Judges calls by level, taint, paths and the owner's rules, and each command that a call would run.

    `programs` are those that commands may name; None = all that Kairos knows. `terms` is what the workspaces of runs
    are granted; without it every workspace has `policy` and its run's level.
    """

    def __init__(
        self, policy: Policy, programs: Mapping[str, Program] | None = None, *, terms: Terms | None = None
    ) -> None:
        self.terms = terms or Terms(policy)
        self._programs = programs

    def judge(self, tool: Tool, arguments: JsonObject, *, run: Run, root: Path, follow: Follow = str) -> Opinion:
        """What may become of this call, and the rule that decided.

        `root` is where the files lie that the call will see; `follow` tells where a path below it leads: a plain name
        that is a link to a secret is judged as both. Raises `ToolError` for arguments that name no possible path, and
        for a shell line that is not plain; any other fault is a refusal.
        """
        try:
            return worst(self.opinions(tool, arguments, run=run, root=root, follow=follow))
        except ToolError:
            raise
        except Exception as error:  # noqa: BLE001 - a gate that breaks must stay shut
            return _broken(error)

    def opinions(
        self, tool: Tool, arguments: JsonObject, *, run: Run, root: Path, follow: Follow = str
    ) -> list[Opinion]:
        """Everything the gate has to say of this call. Raises as the tool does."""
        policy = self.terms.policy(run.workspace)
        plan = tool.commands(arguments)
        named = tool.paths(arguments)
        paths = tuple(dict.fromkeys((*named, *map(follow, named))))
        if plan is None:
            first = [judge_level(self.terms.ceiling(run), tool.permission), judge_taint(run.taint, tool.permission)]
        else:
            judged = self.judge_plan(plan, run=run, root=root, follow=follow)
            first = [opinion for each in judged for opinion in each.opinions]
        return [
            *first,
            *(judge_path(policy, path=path, writes=tool.permission is not Permission.READ) for path in paths),
            judge_rules(policy, tool.spec.name, paths=paths),
        ]

    def judge_plan(self, plan: Plan, *, run: Run, root: Path, follow: Follow = str) -> tuple[Judged, ...]:
        """Each command of a plan with everything the gate has to say of it. Raises what `follow` raises."""
        policy, level = self.terms.policy(run.workspace), self.terms.ceiling(run)
        seen = str(self.terms.root(run.workspace, otherwise=root))
        judged: list[Judged] = []
        for command, cwd in plan.commands:
            use, permission = self._read(policy, command, workspace=run.workspace)
            widest = level is Level.OPEN or command.argv[0] == CHANGE_FOLDER
            lists, listed = _off_lists(policy, command, use=use) if widest else (policy, use)
            opinions = judge_command(lists, command, use=listed, place=Place(seen, cwd, follow))
            opinions += [Opinion(Ruling.ASK, policy.doubt)] if policy.doubt else []
            reach = self.reach(command, run=run)
            opinions += judge_reach(policy, command, use=use) if reach else []
            limits = [judge_level(level, permission), judge_taint(run.taint, permission)]
            limits = [replace(one, fix=advice(use)) for one in limits]
            # The first of equals is the reason that is told: what grants it, or what is wrong with this very command.
            granted = all(one.ruling is Ruling.ALLOW for one in limits)
            found = (*limits, *opinions) if granted else (*opinions, *limits)
            judged.append(Judged(command, cwd, permission, found, reach))
        return tuple(judged)

    def reach(self, command: Command, *, run: Run) -> Reach | None:
        """What a command of the run may connect to; None where it has no network: what only reads needs none."""
        policy = self.terms.policy(run.workspace)
        use, permission = self._read(policy, command, workspace=run.workspace)
        limits = (
            judge_level(self.terms.ceiling(run), Permission.NETWORK), judge_taint(run.taint, Permission.NETWORK)
        )  # fmt: skip
        if permission is Permission.READER or worst(limits).ruling is not Ruling.ALLOW:
            return None
        reach = reach_of(policy, command, use=use)
        return reach if reach.allow else None

    def classify(self, tool: Tool, arguments: JsonObject, *, run: Run) -> frozenset[Permission]:
        """What kinds of things this call does: the tool's own, or those of its commands. Raises as the tool does."""
        plan = tool.commands(arguments)
        if plan is None:
            return frozenset({tool.permission})
        policy = self.terms.policy(run.workspace)
        return frozenset(self._read(policy, command, workspace=run.workspace)[1] for command, _ in plan.commands)

    def explain(self, read: Callable[[], Plan], *, run: Run, root: Path, follow: Follow = str) -> Explained:
        """What the gate would say of the plan that `read` yields, and why. Raises nothing; what breaks is refused."""
        try:
            plan = read()
            judged = self.judge_plan(plan, run=run, root=root, follow=follow)
            return Explained(worst(opinion for each in judged for opinion in each.opinions), plan, judged)
        except ToolError as error:
            return Explained(Opinion(Ruling.DENY, error.message), fix=error.fix or "")
        except Exception as error:  # noqa: BLE001 - a gate that breaks must stay shut
            return Explained(_broken(error))

    def _read(self, policy: Policy, command: Command, *, workspace: str) -> tuple[Use | None, Permission]:
        if command.argv[0] == CHANGE_FOLDER:
            return Use(CHANGE_FOLDER, ProgramClass.READER, reads=command.argv[1:]), Permission.READER
        programs = load_programs() if self._programs is None else self._programs
        use = read_use(command, programs, bins=self.terms.bins(workspace))
        return use, permission_of(use, allowed_by_owner(policy, command, use=use))


def _off_lists(policy: Policy, command: Command, *, use: Use | None) -> tuple[Policy, Use | None]:
    """Policy and use as level `open` has them, where no list of programs or options asks; `cd` is on none anywhere.

    What starts whatever its arguments say still asks: nobody could tell whether it starts what is denied.
    """
    known = replace(policy, allow=(*(policy.allow or ()), command.argv[:1]))
    if use is None or use.opaque or use.fix:
        return known, use
    return known, replace(use, problem="")


def _broken(error: Exception) -> Opinion:
    return Opinion(Ruling.DENY, f"the gate could not judge this call: {type(error).__name__}")
