"""Every interface between the engine and the world.

An adapter package holds one implementation a file, each with `build(section, deps)`: `section` is its part of the
configuration, `deps` what it may use. `tests/fakes.py` has fakes that pass the same contract tests.
"""

from kairosd.ports.desk import Desk, Update
from kairosd.ports.memory import JournalLines, MemoryStore, Proposal, Recall
from kairosd.ports.processes import DOOR, Commands, Executor, Files, Git, Job, Launch, Mount, Outcome, Sandbox
from kairosd.ports.ratings import Ratings
from kairosd.ports.search import Index
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
    Tasks,
    Transcript,
    Used,
    Worlds,
)
from kairosd.ports.tools import (
    Background,
    Errand,
    Finish,
    RunMemory,
    Tool,
    ToolAnswer,
    ToolContext,
    ToolServices,
    Wish,
)
from kairosd.ports.world import Clock, Correspondent, Deps, Heard, Intake, Model, Notifier, Trigger

__all__ = [
    "DOOR",
    "Approvals",
    "Background",
    "Blobs",
    "Claim",
    "Clock",
    "Correspondent",
    "Commands",
    "Decisions",
    "Deps",
    "Desk",
    "Errand",
    "Events",
    "Executor",
    "Files",
    "Finish",
    "Git",
    "Heard",
    "Grants",
    "Index",
    "Intake",
    "Job",
    "JournalLines",
    "Launch",
    "MemoryStore",
    "Model",
    "ModelCalls",
    "Mount",
    "Notices",
    "Notifier",
    "Outcome",
    "Proposal",
    "Query",
    "Recall",
    "Ratings",
    "RunMemory",
    "Runs",
    "Sandbox",
    "Spending",
    "State",
    "Stores",
    "Tasks",
    "Tool",
    "ToolAnswer",
    "ToolContext",
    "ToolServices",
    "Transcript",
    "Trigger",
    "Update",
    "Used",
    "Wish",
    "Worlds",
]
