"""What sections must fulfil beyond their types: names that exist, secrets that are there, folders one may watch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from kairosd.config.choice import complete_local
from kairosd.config.document import Document, KeyPath, nearest
from kairosd.config.environment import Environment
from kairosd.config.folders import NAME, REPO, name_of, origin_of, refusal
from kairosd.config.secrets import read_secret, secret_path
from kairosd.config.sections import (
    GithubSection,
    ModelSection,
    NtfySection,
    QuietHoursSection,
    RolesSection,
    ScheduleSection,
    TickSection,
    WorkspaceSection,
)
from kairosd.config.times import check_cron, every_seconds, moment, wall_time
from kairosd.core.levels import Level
from kairosd.core.notices import QuietHours
from kairosd.core.workspaces import Landing, Workspace
from kairosd.errors import ConfigError
from kairosd.wire import Home

T = TypeVar("T")

SECRET_BYTES = 16  # design §6: a shorter webhook secret can be guessed
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SHA256 = re.compile(r"[0-9A-Fa-f]{64}")
TOPIC = re.compile(r"[A-Za-z0-9_-]{1,64}")  # ntfy's own rule
HOST_NAME = re.compile(r"[A-Za-z0-9._:\[\]*-]{1,253}")


class Checks:
    """Judges sections one by one; what is wrong becomes a problem of `document`.

    Relative paths are relative to `folder`, the configuration file's own.
    """

    def __init__(self, document: Document, place: Home, *, folder: Path, environment: Environment) -> None:
        self._problem = document.problem
        self._place = place
        self._folder = folder
        self._environment = environment
        self.warnings: list[str] = []

    def model(self, name: str, section: ModelSection) -> ModelSection:
        """A model with absolute secret file and, for `local`, its defaults."""
        path: KeyPath = ("models", name)
        if section.provider == "local":
            if section.sha256 and not SHA256.fullmatch(section.sha256):
                self._problem((*path, "sha256"), "must be 64 hex digits")
            return complete_local(section, self._place)
        if not section.model:
            self._problem((*path, "model"), f"provider {section.provider} needs the name of a model")
        self._web_address((*path, "base_url"), section.base_url)
        if section.api_key_env or section.api_key_file:
            self._secret(path, (section.api_key_file, section.api_key_env), prefix="api_key", least=1)
        elif not section.base_url:
            self._problem(path, "needs a key: set api_key_env or api_key_file")
        return section.model_copy(update={"api_key_file": self._absolute(section.api_key_file)})

    def fallbacks(self, models: Mapping[str, ModelSection]) -> None:
        """Each fallback exists, and following them ends."""
        for name, section in models.items():
            path = ("models", name, "fallback")
            if section.fallback and section.fallback not in models:
                self._problem(path, "there is no such model", nearest=nearest(section.fallback, models))
            seen = [name]
            while (following := models[seen[-1]].fallback) in models and following not in seen:
                seen.append(following)
            if following == name:
                self._problem(path, f"goes round in a circle: {' -> '.join([*seen, name])}")

    def roles(self, section: RolesSection, models: Mapping[str, ModelSection]) -> RolesSection:
        """Each role with the name of its model. With one model it does everything; `act` does what is left open."""
        for role, name in section.model_dump().items():
            if name and name not in models:
                self._problem(("roles", role), "there is no such model", nearest=nearest(name, models))
        only = next(iter(models)) if len(models) == 1 else ""
        for role in ("decide", "act"):
            if not getattr(section, role) and not only:
                self._problem(("roles", role), f"say which model does this: one of {', '.join(models)}")
        act = section.act or only
        dream, escalate = section.dream or act, section.escalate or act
        return RolesSection(decide=section.decide or only, act=act, dream=dream, escalate=escalate)

    def tick(self, section: TickSection) -> None:
        """The shortest pace is not longer than the longest."""
        if section.min_seconds > section.max_seconds:
            self._problem(("tick", "min_seconds"), f"is more than max_seconds ({section.max_seconds})")

    def workspace(self, path: KeyPath, section: WorkspaceSection) -> Workspace | None:
        """The workspace; None when it is refused. A folder that is not there now is a warning: it may come back."""
        if not section.path:
            self._problem((*path, "path"), "is empty")
            return None
        folder = Path(section.path).expanduser()
        folder = (folder if folder.is_absolute() else self._folder / folder).resolve()
        if why := refusal(folder, self._place):
            self._problem((*path, "path"), why)
            return None
        name = section.name or name_of(folder)
        if not NAME.fullmatch(name):
            self._problem((*path, "name"), "must be up to 64 letters, digits, and . _ - inside")
        if section.repo and not REPO.fullmatch(section.repo):
            self._problem((*path, "repo"), 'must be "owner/name"')
        for key in ("bin", "share"):
            if any(Path(each).is_absolute() or ".." in Path(each).parts for each in getattr(section, key)):
                self._problem((*path, key), "must name folders inside the workspace")
        if not folder.exists():
            self.warnings.append(f"workspace {name} is missing: {folder} is not there now")
        return Workspace(
            name=name,
            path=folder,
            repo=section.repo or origin_of(folder),
            level=Level.parse(section.level),
            trusted=section.trusted,
            watch=section.watch,
            bin=section.bin,
            share=section.share,
            landing=Landing(section.landing),
            ignore=section.ignore,
        )

    def distinct(self, workspaces: Mapping[int, Workspace]) -> None:
        """No two workspaces share a folder or a name. Keys are their places in the file."""
        for at, one in workspaces.items():
            for earlier in (workspaces[other] for other in workspaces if other < at):
                if one.path == earlier.path:
                    self._problem(("workspaces", at, "path"), f"is the folder of workspace {earlier.name} too")
                elif one.name == earlier.name:
                    self._problem(("workspaces", at, "name"), f'another workspace is called "{one.name}": set a name')

    def schedule(self, path: KeyPath, section: ScheduleSection, *, workspaces: list[str] | None) -> ScheduleSection:
        """The schedule with its workspace's name; `workspaces` None = not known, so not judged."""
        forms: Mapping[str, Callable[[str], object]] = {"cron": check_cron, "every": every_seconds, "at": moment}
        given = [key for key in forms if getattr(section, key)]
        if len(given) != 1:
            found = f", not {' and '.join(given)}" if given else ""
            self._problem(path, f"needs exactly one of cron, every and at{found}")
        for key in given:
            self._parsed((*path, key), getattr(section, key), form=forms[key])
        for key in ("name", "goal"):
            if not getattr(section, key).strip():
                self._problem((*path, key), "is empty")
        if workspaces is None:
            return section
        name = section.workspace or (workspaces[0] if len(workspaces) == 1 else "")
        if section.workspace and section.workspace not in workspaces:
            self._problem((*path, "workspace"), "there is no such workspace", nearest=nearest(name, workspaces))
        elif not name:
            listed = f"one of {', '.join(workspaces)}" if workspaces else "there is no [[workspaces]]"
            self._problem((*path, "workspace"), f"say where: {listed}")
        return section.model_copy(update={"workspace": name})

    def github(self, section: GithubSection) -> tuple[GithubSection, tuple[bytes, ...]]:
        """The section with an absolute file, and the secrets."""
        path: KeyPath = ("webhooks", "github")
        sources = (section.secret_file, section.secret_env)
        secrets = self._secret(path, sources, prefix="secret", least=SECRET_BYTES)
        for host in section.hosts:
            if not HOST_NAME.fullmatch(host):
                self._problem((*path, "hosts"), 'must hold host names such as "hooks.example.org"')
        return section.model_copy(update={"secret_file": self._absolute(section.secret_file)}), secrets

    def ntfy(self, section: NtfySection) -> NtfySection:
        """The section with an absolute file."""
        path: KeyPath = ("notifiers", "ntfy")
        self._web_address((*path, "url"), section.url)
        if not TOPIC.fullmatch(section.topic):
            self._problem((*path, "topic"), "must be 1 to 64 letters, digits, - or _")
        own: tuple[bytes, ...] = ()
        if section.token_file or section.token_env:
            own = self._secret(path, (section.token_file, section.token_env), prefix="token", least=1)
        if section.answers and (not TOPIC.fullmatch(section.answers) or section.answers == section.topic):
            self._problem((*path, "answers"), "must be another topic: 1 to 64 letters, digits, - or _")
        if section.answers_token_file or section.answers_token_env:
            sources = (section.answers_token_file, section.answers_token_env)
            if {*own} & {*self._secret(path, sources, prefix="answers_token", least=1)}:
                key = "answers_token_file" if section.answers_token_file else "answers_token_env"
                self._problem((*path, key), "must be another token than Kairos's own: every notice shows it")
        files = {name: self._absolute(getattr(section, name)) for name in ("token_file", "answers_token_file")}
        return section.model_copy(update=files)

    def quiet_hours(self, section: QuietHoursSection) -> QuietHours | None:
        """The span; None where there is none."""
        if not section.start and not section.end:
            return None
        start = self._parsed(("quiet_hours", "start"), section.start, form=wall_time)
        end = self._parsed(("quiet_hours", "end"), section.end, form=wall_time)
        if start is None or end is None:
            return None
        if start == end:
            self._problem(("quiet_hours", "end"), "is the same as start: leave both out to be never quiet")
        return QuietHours(start, end)

    def _parsed(self, path: KeyPath, text: str, *, form: Callable[[str], T]) -> T | None:
        try:
            return form(text)
        except ValueError as error:
            self._problem(path, str(error))
            return None

    def _web_address(self, path: KeyPath, text: str) -> None:
        try:
            parts = urlsplit(text)
            fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
            fine = fine and parts.username is None
        except ValueError:
            fine = False
        if text and not fine:
            self._problem(path, "must be an address that begins with https:// or http:// and holds no password")

    def _secret(self, path: KeyPath, sources: tuple[str, str], *, prefix: str, least: int) -> tuple[bytes, ...]:
        """The secrets of `PREFIX_file` and `PREFIX_env`, each of at least `least` bytes."""
        file, variable = sources
        key = (*path, f"{prefix}_file" if file else f"{prefix}_env")
        if variable and not VARIABLE.fullmatch(variable):
            self._problem((*path, f"{prefix}_env"), "must be the name of a variable, not the secret itself")
            return ()
        if bool(file) == bool(variable):
            self._problem(path, f"needs {'only ' if file else ''}one of {prefix}_file and {prefix}_env")
            return ()
        try:
            found = read_secret(file=file, variable=variable, folder=self._folder, environment=self._environment)
        except ConfigError as error:
            self._problem(key, str(error))
            return ()
        secrets = tuple(secret.encode() for secret in found)
        if any(len(secret) < least for secret in secrets):
            self._problem(key, f"the secret is shorter than {least} bytes: openssl rand -hex 32 makes a good one")
        return secrets

    def _absolute(self, file: str) -> str:
        return str(secret_path(file, self._folder, environment=self._environment).absolute()) if file else ""
