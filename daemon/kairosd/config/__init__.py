"""The configuration: the only reader of its TOML file and, with `wire`, of the environment.

`load` yields a frozen `Config`; every problem of a file is told at once, with line and nearest key.
"""

from __future__ import annotations

from kairosd.config.environment import Environment, read_environment
from kairosd.config.loading import Config, describe, folder_workspace, load
from kairosd.config.secrets import access_token, answers_token, api_key, read_secret
from kairosd.config.sections import (
    DaemonSection,
    DesktopSection,
    DreamSection,
    GithubSection,
    GitSection,
    InitiativeSection,
    LimitsSection,
    LogSection,
    ModelSection,
    NtfySection,
    OpenSection,
    PolicySection,
    PurseSection,
    QuietHoursSection,
    RetentionSection,
    RolesSection,
    RuleSection,
    ScheduleSection,
    Seconds,
    Section,
    TickSection,
    WorkspaceSection,
)
from kairosd.config.times import address, every_seconds

__all__ = [
    "Config",
    "DaemonSection",
    "DesktopSection",
    "DreamSection",
    "Environment",
    "GitSection",
    "GithubSection",
    "InitiativeSection",
    "LimitsSection",
    "LogSection",
    "ModelSection",
    "NtfySection",
    "OpenSection",
    "PolicySection",
    "PurseSection",
    "QuietHoursSection",
    "RetentionSection",
    "RolesSection",
    "RuleSection",
    "ScheduleSection",
    "Seconds",
    "Section",
    "TickSection",
    "WorkspaceSection",
    "access_token",
    "answers_token",
    "address",
    "api_key",
    "describe",
    "every_seconds",
    "folder_workspace",
    "load",
    "read_environment",
    "read_secret",
]
