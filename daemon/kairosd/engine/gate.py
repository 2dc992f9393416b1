"""The gate: the one place every tool call passes. The verdict is the worst of all opinions (design §9)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from kairosd.core.json import JsonObject
from kairosd.core.policy import (
    Level,
    Opinion,
    Policy,
    Ruling,
    judge_level,
    judge_path,
    judge_rules,
    judge_taint,
    worst,
)
from kairosd.core.runs import Run
from kairosd.errors import ToolError
from kairosd.ports import Tool

Follow: TypeAlias = Callable[[str], str]


class Gate:
    """Judges calls by level, taint, paths and the owner's rules."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def judge(self, tool: Tool, arguments: JsonObject, *, run: Run, follow: Follow = str) -> Opinion:
        """What may become of this call, and the rule that decided.

        `follow` tells where a path leads: a plain name that is a link to a secret is judged as both.
        Raises `ToolError` for arguments that name no possible path; any other fault is a refusal.
        """
        try:
            named = tool.paths(arguments)
            paths = tuple(dict.fromkeys((*named, *map(follow, named))))
            return worst(
                [
                    judge_level(Level(run.level), tool.permission),
                    judge_taint(run.taint, tool.permission),
                    *(judge_path(self.policy, tool.permission, path=path) for path in paths),
                    judge_rules(self.policy, tool.spec.name, paths=paths),
                ]
            )
        except ToolError:
            raise
        except Exception as error:  # noqa: BLE001 - a gate that breaks must stay shut
            return Opinion(Ruling.DENY, f"the gate could not judge this call: {type(error).__name__}")
