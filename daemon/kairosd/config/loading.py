"""Loading: one file in, one frozen `Config` out, or every problem at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from kairosd.config.budget import describe_caps, read_budget
from kairosd.config.checks import Checks
from kairosd.config.choice import choose
from kairosd.config.document import Document, KeyPath
from kairosd.config.environment import Environment, read_environment
from kairosd.config.folders import checkout_of, name_of, origin_of, refusal
from kairosd.config.reader import Reader
from kairosd.config.rules import policy_of
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
    QuietHoursSection,
    RetentionSection,
    RolesSection,
    ScheduleSection,
    Section,
    TickSection,
    WorkspaceSection,
)
from kairosd.config.times import address
from kairosd.core.budget import Caps, Purse
from kairosd.core.json import Json, JsonObject, digest, without_floats
from kairosd.core.notices import QuietHours
from kairosd.core.policy import Policy
from kairosd.core.workspaces import Workspace
from kairosd.errors import ConfigError
from kairosd.frozen import frozen
from kairosd.wire import Home, HomeError, socket_path

S = TypeVar("S", bound=Section)

TABLES = (
    "daemon", "models", "roles", "tick", "initiative", "workspaces", "schedules", "webhooks", "notifiers",
    "quiet_hours", "git", "retention", "budget", "limits", "policy",
    "dream",
)  # fmt: skip
NOTIFIERS: Mapping[str, type[Section]] = {"log": LogSection, "ntfy": NtfySection, "desktop": DesktopSection}
HIDDEN = "***"


@frozen
class Config:
    """The configuration in effect: defaults filled in, names resolved, paths absolute.

    `path` is the file, None without one; `digest` names what is in effect, secrets excluded; `warnings` are sentences
    for the owner about what is not as it should be and may come right by itself.
    """

    daemon: DaemonSection
    models: Mapping[str, ModelSection]
    roles: RolesSection
    tick: TickSection
    initiative: InitiativeSection
    workspaces: tuple[Workspace, ...]
    schedules: tuple[ScheduleSection, ...]
    github: GithubSection | None
    github_secrets: tuple[bytes, ...] = field(repr=False)
    notifiers: Mapping[str, Section]
    quiet_hours: QuietHours | None
    git: GitSection
    retention: RetentionSection
    budget: Mapping[Purse, Caps]
    limits: LimitsSection
    dream: DreamSection
    policy: Policy
    approval_expires_seconds: int
    path: Path | None
    digest: str = ""
    warnings: tuple[str, ...] = ()

    def demand_workspace(self) -> None:
        """Raises `ConfigError` when there is neither a file nor a current folder that can be watched."""
        if self.path is None and not self.workspaces:
            fix = "go to a repository, or write a configuration there with kairos init"
            raise ConfigError("\n".join(self.warnings), fix=fix)


def load(
    path: Path | None,
    *,
    folder: Path,
    place: Home,
    environment: Environment | Mapping[str, str] | None = None,
    detect: bool = False,
) -> Config:
    """The configuration in `path`, else in the home's file, else the defaults for `folder`.

    With `detect`, Ollama on loopback is looked for where no model is named. Raises `ConfigError` with every problem,
    one a line, as `FILE:LINE: [section] key: problem; did you mean "nearest"?`.
    """
    known = environment if isinstance(environment, Environment) else read_environment(environment)
    file = path.absolute() if path else place.config if place.config.is_file() else None
    document = Document.read(file)
    base = file.parent if file else folder.absolute()
    loading = _Loading(document, place, checks=Checks(document, place, folder=base, environment=known))
    config = loading.config(known, detect=detect)
    document.raise_problems()
    if file is None:
        config = _for_folder(config, folder, place=place)
    elif not config.workspaces:
        warning = f"there is no [[workspaces]] in {file}: nothing is watched and nothing can be done"
        config = dataclasses.replace(config, warnings=(*config.warnings, warning))
    return dataclasses.replace(config, digest=digest(without_floats(describe(config))))


def describe(config: Config) -> JsonObject:
    """What is in effect, in the file's own words; every secret as `***`."""
    models: dict[str, Json] = {}
    for name, section in config.models.items():
        hidden = {"api_key": HIDDEN} if section.api_key_env or section.api_key_file else {}
        models[name] = {**section.model_dump(mode="json"), **hidden}
    github = {"github": {**config.github.model_dump(mode="json"), "secret": HIDDEN}} if config.github else {}
    quiet = config.quiet_hours
    return {
        "daemon": config.daemon.model_dump(mode="json"),
        "models": models,
        "roles": config.roles.model_dump(mode="json"),
        "tick": config.tick.model_dump(mode="json"),
        "initiative": config.initiative.model_dump(mode="json"),
        "workspaces": [_describe_workspace(each) for each in config.workspaces],
        "schedules": [each.model_dump(mode="json") for each in config.schedules],
        "webhooks": github,
        "notifiers": {name: section.model_dump(mode="json") for name, section in config.notifiers.items()},
        "quiet_hours": {"start": f"{quiet.start:%H:%M}", "end": f"{quiet.end:%H:%M}"} if quiet else {},
        "git": config.git.model_dump(mode="json"),
        "retention": config.retention.model_dump(mode="json"),
        "budget": {purse.value: describe_caps(caps) for purse, caps in config.budget.items()},
        "limits": config.limits.model_dump(mode="json"),
        "dream": config.dream.model_dump(mode="json"),
        "policy": {
            **_describe_policy(config.policy),
            "approval_expires_seconds": config.approval_expires_seconds,
        },
    }


class _Loading:
    """One loading. Where a section has problems its defaults stand in, so that the others are judged too."""

    def __init__(self, document: Document, place: Home, *, checks: Checks) -> None:
        self._document = document
        self._reader = Reader(document)
        self._place = place
        self._checks = checks

    def config(self, environment: Environment, *, detect: bool) -> Config:
        self._reader.unknown((), TABLES, what="section")
        self._reader.unknown(("webhooks",), ("github",), what="section")
        models, roles = self._models(environment, detect=detect)
        workspaces = self._workspaces()
        github, secrets = self._github()
        tick = self._one(TickSection, "tick")
        self._checks.tick(tick)
        policy = self._one(PolicySection, "policy")
        return Config(
            daemon=self._daemon(),
            models=MappingProxyType(models),
            roles=roles,
            tick=tick,
            initiative=self._one(InitiativeSection, "initiative"),
            workspaces=workspaces,
            schedules=self._schedules(workspaces),
            github=github,
            github_secrets=secrets,
            notifiers=MappingProxyType(self._notifiers()),
            quiet_hours=self._checks.quiet_hours(self._one(QuietHoursSection, "quiet_hours")),
            git=self._one(GitSection, "git"),
            retention=self._one(RetentionSection, "retention"),
            budget=MappingProxyType(read_budget(self._reader)),
            limits=self._one(LimitsSection, "limits"),
            dream=self._one(DreamSection, "dream"),
            policy=policy_of(policy, self._document),
            approval_expires_seconds=policy.approval_expires_seconds,
            path=self._document.file,
            warnings=tuple(self._checks.warnings),
        )

    def _one(self, kind: type[S], name: str) -> S:
        return self._reader.section(kind, (name,)) or kind()

    def _daemon(self) -> DaemonSection:
        section = self._one(DaemonSection, "daemon")
        try:
            address(section.hooks_listen)
        except ValueError as error:
            self._document.problem(("daemon", "hooks_listen"), str(error))
        try:
            socket_path(self._place, section.socket or None)
        except HomeError as error:
            self._document.problem(("daemon", "socket"), str(error))
        return section

    def _models(self, environment: Environment, *, detect: bool) -> tuple[dict[str, ModelSection], RolesSection]:
        names = list(self._reader.table(("models",)) or {})
        roles = self._one(RolesSection, "roles")
        if not names:
            choice = choose(environment, place=self._place, detect=detect)
            given = {role: name for role, name in roles.model_dump().items() if name}
            return dict(choice.models), self._checks.roles(choice.roles.model_copy(update=given), choice.models)
        read = {name: self._reader.section(ModelSection, ("models", name)) for name in names}
        models = {name: self._checks.model(name, section) for name, section in read.items() if section}
        if len(models) == len(names):  # else what points at a broken one would be called unknown
            self._checks.fallbacks(models)
            roles = self._checks.roles(roles, models)
        return models, roles

    def _workspaces(self) -> tuple[Workspace, ...]:
        found: dict[int, Workspace] = {}
        for at in range(self._reader.count("workspaces")):
            path: KeyPath = ("workspaces", at)
            section = self._reader.section(WorkspaceSection, path)
            if section and (workspace := self._checks.workspace(path, section)):
                found[at] = workspace
        self._checks.distinct(found)
        return tuple(found.values())

    def _schedules(self, workspaces: tuple[Workspace, ...]) -> tuple[ScheduleSection, ...]:
        whole = len(workspaces) == self._reader.count("workspaces")  # else a refused one would be called unknown
        names = [each.name for each in workspaces] if whole else None
        found: list[ScheduleSection] = []
        for at in range(self._reader.count("schedules")):
            section = self._reader.section(ScheduleSection, ("schedules", at))
            if section is None:
                continue
            if section.name in [each.name for each in found]:
                self._document.problem(("schedules", at, "name"), f'another schedule is called "{section.name}"')
            found.append(self._checks.schedule(("schedules", at), section, workspaces=names))
        return tuple(found)

    def _github(self) -> tuple[GithubSection | None, tuple[bytes, ...]]:
        if "github" not in (self._reader.table(("webhooks",)) or {}):
            return None, ()
        section = self._reader.section(GithubSection, ("webhooks", "github"))
        return self._checks.github(section) if section else (None, ())

    def _notifiers(self) -> dict[str, Section]:
        known: dict[str, type[Section]] = {**dict.fromkeys(_notifier_modules(), OpenSection), **NOTIFIERS}
        self._reader.unknown(("notifiers",), known, what="notifier")
        found: dict[str, Section] = {"log": LogSection()}
        for name in self._reader.table(("notifiers",)) or {}:
            section = self._reader.section(known[name], ("notifiers", name)) if name in known else None
            if section:
                found[name] = self._checks.ntfy(section) if isinstance(section, NtfySection) else section
        return found


def _for_folder(config: Config, folder: Path, *, place: Home) -> Config:
    try:
        return dataclasses.replace(config, workspaces=(folder_workspace(folder, place=place),))
    except ConfigError as error:
        text = f"no configuration at {place.config}, and {error.message}"
        return dataclasses.replace(config, warnings=(*config.warnings, text))


def folder_workspace(folder: Path, *, place: Home) -> Workspace:
    """The workspace that `folder` is without a word from the owner: its git checkout, else itself.

    Raises `ConfigError` where it cannot be one.
    """
    path = checkout_of(folder) or folder.resolve()
    if why := refusal(path, place):
        raise ConfigError(f"the current folder {path} cannot be a workspace: {why}")
    return Workspace(name=name_of(path), path=path, repo=origin_of(path))


def _notifier_modules() -> list[str]:
    """A notifier is one file in the notifiers' folder; it is not imported here, since most would go unused."""
    return sorted(
        each.stem for each in (Path(__file__).parents[1] / "notifiers").glob("*.py") if not each.stem.startswith("_")
    )


def _describe_policy(policy: Policy) -> JsonObject:
    allow: JsonObject = {} if policy.allow is None else {"allow": [" ".join(prefix) for prefix in policy.allow]}
    return {
        **allow,
        "ask": [" ".join(prefix) for prefix in policy.ask],
        "deny": [" ".join(prefix) for prefix in policy.deny],
        "hosts": policy.hosts,
        "rules": [
            {
                "verdict": rule.ruling.label,
                "tool": rule.tool,
                "argv": " ".join(rule.argv),
                "path": rule.path,
                "host": rule.host,
            }
            for rule in policy.rules
        ],
        "secret_paths": policy.secret_paths,
        "protected_paths": policy.protected_paths,
    }


def _describe_workspace(one: Workspace) -> JsonObject:
    return {
        "name": one.name,
        "path": str(one.path),
        "repo": one.repo or "",
        "level": one.level.label,
        "trusted": one.trusted,
        "watch": one.watch,
        "bin": one.bin,
        "share": one.share,
        "landing": one.landing.value,
        "ignore": one.ignore,
    }
