"""Sections of the configuration, as frozen models. Defaults and units here are what config.example.toml documents."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from kairosd.core.budget import DOLLAR


def _not_open(level: object) -> object:
    if level == "open":
        text = "open is set for the daemon's life: kairos workspace set-level NAME open"
        raise PydanticCustomError("open_level", text)
    return level


def _micro_dollars(dollars: object) -> object:
    """Dollars as whole micro-dollars: the decimals as they were written, not what a float makes of them."""
    try:
        exact = Decimal(str(dollars)) * DOLLAR
    except InvalidOperation:
        raise PydanticCustomError("dollars", "must be a number of dollars") from None
    if not exact.is_finite() or exact < 0 or exact > DOLLARS_MAX * DOLLAR:
        raise PydanticCustomError("dollars", "must be between 0 and a million dollars")
    if exact != exact.to_integral_value():
        raise PydanticCustomError("dollars", "must have at most six decimals")
    return int(exact)


DOLLARS_MAX = 1_000_000
Dollars = Annotated[int, BeforeValidator(_micro_dollars)]
Tokens = Annotated[int, Field(ge=0, le=10**12)]
Seconds = Annotated[int, Field(ge=1, le=7 * 86400)]


class Section(BaseModel):
    """A section: unknown keys are errors, values are never coerced, nothing changes after loading."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DaemonSection(Section):
    """`[daemon]`. `hooks_listen` is `host:port`; `socket` a path, empty = in the home's run folder."""

    hooks_listen: str = "127.0.0.1:8787"
    socket: str = ""


class ModelSection(Section):
    """`[models.NAME]`. `timeout_seconds` is silence on the wire; `context` and `max_tokens` are in tokens.

    `url`, `file`, `sha256` and `threads` belong to provider `local`, which also has its own `context` and `tool_style`.
    """

    provider: Literal["anthropic", "openai", "local"]
    model: str = ""
    base_url: str = ""
    api_key_env: str = ""
    api_key_file: str = ""
    tool_style: Literal["native", "schema"] = "native"
    fallback: str = ""
    context: Annotated[int, Field(ge=1024)] = 128_000
    max_tokens: Annotated[int, Field(ge=64)] = 4096
    timeout_seconds: Seconds = 120
    url: tuple[str, ...] = ()
    file: str = ""
    sha256: str = ""
    threads: Annotated[int, Field(ge=0, le=256)] = 0


class RolesSection(Section):
    """`[roles]`: which `[models.NAME]` does what. `escalate` goes on with a run whose checks failed; empty = `act`."""

    decide: str = ""
    act: str = ""
    dream: str = ""
    escalate: str = ""


class TickSection(Section):
    """`[tick]`, in seconds."""

    enabled: bool = True
    min_seconds: Seconds = 300
    max_seconds: Seconds = 3600


class TriggersSection(Section):
    """`[initiative.triggers]`: the mode of each trigger whose events are decided about; empty = `[initiative] mode`."""

    tick: Literal["", "on", "shadow"] = ""
    files: Literal["", "on", "shadow"] = ""
    webhook: Literal["", "on", "shadow"] = ""
    schedule: Literal["", "on", "shadow"] = ""
    task: Literal["", "on", "shadow"] = ""


class InitiativeSection(Section):
    """`[initiative]`. `mode = "shadow"` decides and journals, and does nothing. `escalate_below` is in percent."""

    spacing_seconds: Annotated[int, Field(ge=0, le=3600)] = 5
    mode: Literal["on", "shadow", "off"] = "on"
    # Below even odds the cheap model itself holds its answer for the less likely one.
    escalate_below: Annotated[int, Field(ge=0, le=100)] = 50
    triggers: TriggersSection = TriggersSection()


class WorkspaceSection(Section):
    """`[[workspaces]]`."""

    name: str = ""
    path: str
    repo: str = ""
    level: Annotated[Literal["observe", "suggest", "sandboxed", "project"], BeforeValidator(_not_open)] = "suggest"
    trusted: bool = False
    watch: bool = True
    bin: tuple[str, ...] = (".venv/bin", "node_modules/.bin")
    share: tuple[str, ...] = (".venv", "node_modules")
    landing: Literal["branch", "patch", "direct"] = "branch"
    ignore: tuple[str, ...] = ()


class ScheduleSection(Section):
    """`[[schedules]]`: exactly one of `cron` (five fields), `every` (such as `90m`) and `at` (an ISO local time)."""

    name: str
    cron: str = ""
    every: str = ""
    at: str = ""
    goal: str
    workspace: str = ""
    misfire: Literal["skip", "once"] = "once"
    max_late_seconds: Seconds = 86400


class GithubSection(Section):
    """`[webhooks.github]`: `secret_file` or `secret_env`; `max_body` in bytes; `hosts` empty = any Host header."""

    secret_file: str = ""
    secret_env: str = ""
    hosts: tuple[str, ...] = ()
    max_body: Annotated[int, Field(ge=1024, le=25_000_000)] = 1_000_000


class NtfySection(Section):
    """`[notifiers.ntfy]`."""

    url: str = "https://ntfy.sh"
    topic: str
    token_env: str = ""
    token_file: str = ""
    answers: str = ""
    answers_token_env: str = ""
    answers_token_file: str = ""
    min_severity: Literal["low", "normal", "high", "urgent"] = "normal"


class OpenSection(Section):
    """`[notifiers.NAME]` of a notifier that has no section here: its own module judges the keys."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)


class DesktopSection(Section):
    """`[notifiers.desktop]`."""

    min_severity: Literal["low", "normal", "high", "urgent"] = "normal"


class LogSection(Section):
    """`[notifiers.log]`: notices in the daemon's log; on by default."""

    min_severity: Literal["low", "normal", "high", "urgent"] = "low"


class QuietHoursSection(Section):
    """`[quiet_hours]`: local wall-clock times `HH:MM`; both empty = never quiet."""

    start: str = ""
    end: str = ""


class GitSection(Section):
    """`[git]`: the author of Kairos's commits; empty = the owner's git identity, read at start."""

    name: str = ""
    email: str = ""


class RetentionSection(Section):
    """`[retention]`."""

    transcripts_days: Annotated[int, Field(ge=1)] = 90
    checkouts_days: Annotated[int, Field(ge=1)] = 7
    journal_compress_days: Annotated[int, Field(ge=1)] = 30


class DreamSection(Section):
    """`[dream]`, in seconds; `entries` is how much that is new makes one due at once, `tokens` what one may take."""

    enabled: bool = True
    idle_seconds: Annotated[int, Field(ge=60, le=7 * 86400)] = 1800
    every_seconds: Annotated[int, Field(ge=600, le=30 * 86400)] = 86_400
    entries: Annotated[int, Field(ge=1, le=100_000)] = 200
    tokens: Annotated[int, Field(ge=1000, le=10**9)] = 400_000


class LimitsSection(Section):
    """`[limits]`: turns of one run, tokens that its model calls take together, and seconds that it works."""

    run_turns: Annotated[int, Field(ge=1, le=100_000)] = 40
    run_tokens: Annotated[int, Field(ge=1000, le=10**12)] = 5_000_000
    run_seconds: Seconds = 28_800


class PurseSection(Section):
    """`[budget.PURSE]`: dollars are read as whole micro-dollars; what is left out is the purse's own default."""

    dollars_per_hour: Dollars | None = None
    dollars_per_day: Dollars | None = None
    tokens_per_hour: Tokens | None = None
    tokens_per_day: Tokens | None = None


class RuleSection(Section):
    """`[[policy.rules]]`: globs on tool and path, `argv` the beginning of a command, a `host`; deny > ask > allow."""

    verdict: Literal["allow", "ask", "deny"]
    tool: str = ""
    argv: str = ""
    path: str = ""
    host: str = ""


class PolicySection(Section):
    """`[policy]`. `allow`, `ask` and `deny` hold beginnings of commands; `allow` None = what Kairos knows by itself.

    `secret_paths` and `protected_paths` add to the built-in ones. `hosts` are what commands of level `project` reach.
    """

    rules: tuple[RuleSection, ...] = ()
    allow: tuple[str, ...] | None = None
    ask: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    secret_paths: tuple[str, ...] = ()
    protected_paths: tuple[str, ...] = ()
    approval_expires_seconds: Seconds = 86400
