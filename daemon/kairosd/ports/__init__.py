"""Every interface between the engine and the world.

An adapter package holds one implementation a file, each with `build(section, deps)`: `section` is its part of the
configuration, `deps` what it may use. `tests/fakes.py` has fakes that pass the same contract tests.
"""

from kairosd.ports.desk import Desk, Update
from kairosd.ports.processes import Commands, Executor, Files, Git, Job, Launch, Mount, Outcome, Sandbox
from kairosd.ports.stores import (
    Approvals,
    Blobs,
    Claim,
    Decisions,
    Events,
    Grants,
    ModelCalls,
    Notices,
    Query,
    Runs,
    Spending,
    State,
    Stores,
    Transcript,
    Used,
    Worlds,
)
from kairosd.ports.tools import Finish, Tool, ToolAnswer, ToolContext, ToolServices
from kairosd.ports.world import Clock, Deps, Intake, Model, Notifier, Trigger

__all__ = [
    "Approvals",
    "Blobs",
    "Claim",
    "Clock",
    "Commands",
    "Decisions",
    "Deps",
    "Desk",
    "Events",
    "Executor",
    "Files",
    "Finish",
    "Git",
    "Grants",
    "Intake",
    "Job",
    "Launch",
    "Model",
    "ModelCalls",
    "Mount",
    "Notices",
    "Notifier",
    "Outcome",
    "Query",
    "Runs",
    "Sandbox",
    "Spending",
    "State",
    "Stores",
    "Tool",
    "ToolAnswer",
    "ToolContext",
    "ToolServices",
    "Transcript",
    "Trigger",
    "Update",
    "Used",
    "Worlds",
]
