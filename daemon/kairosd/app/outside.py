"""Programs, models and screens: made here, and each library imported only when it is first needed."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import cast

from kairosd.app.ground import Ground, Outside
from kairosd.config import Environment, NtfySection, access_token, answers_token, api_key
from kairosd.core.notices import Severity
from kairosd.engine.authorship import Authorship
from kairosd.engine.checkouts import Checkouts
from kairosd.engine.notices import Channel, Outbox
from kairosd.engine.privacy import Privacy
from kairosd.engine.repository import Place, Repository
from kairosd.executor.client import ProcessExecutor
from kairosd.models.book import ModelBook
from kairosd.models.deps import ModelDeps
from kairosd.models.partial import Progress
from kairosd.models.weights import Weights, weights_of
from kairosd.notifiers.deps import NotifierDeps
from kairosd.ports import Correspondent, Executor, Heard, Notifier, Sandbox
from kairosd.system.files import LocalFiles
from kairosd.system.network import NetworkSettings
from kairosd.wire import Home

log = logging.getLogger("kairosd")

NO_TOKEN = "it has no token, so whoever knows its topic can do what you can"


def open_sandbox(place: Home, stack: AsyncExitStack) -> tuple[Sandbox, Executor]:
    """The sandbox of this platform, and the executor below it."""
    executor = ProcessExecutor()
    stack.push_async_callback(executor.close)
    confinement = importlib.import_module(f"kairosd.sandbox.{'bubblewrap' if sys.platform == 'linux' else 'none'}")
    sandbox: Sandbox = confinement.build(executor, folder=place.state, forbidden=place.own_folders())
    return sandbox, executor


def open_outside(ground: Ground, confined: tuple[Sandbox, Executor], *, stack: AsyncExitStack) -> Outside:
    """Programs, models and screens. No model or notifier is built, nor its library imported, before its first use."""
    place, config, environment = ground.place, ground.config, ground.environment
    sandbox, executor = confined
    files = LocalFiles()
    places = {one.name: Place(one, Repository(sandbox, files, workspace=one)) for one in config.workspaces}
    network = network_of(environment)
    models = ModelBook(
        config.models,
        lambda section: ModelDeps(ground.clock, api_key(section, environment) or "", place.data, network),
    )
    stack.push_async_callback(models.close)
    channels = [open_channel(ground, name, network=network) for name in config.notifiers]
    outbox = Outbox(
        ground.stores.notices, ground.stores.approvals, clock=ground.clock, channels=channels, quiet=config.quiet_hours
    )
    stack.push_async_callback(outbox.close)
    ground.condition.ask(outbox.problems)
    checkouts = Checkouts(sandbox, files, folder=place.checkouts, patches=place.patches, clock=ground.clock)
    author = Authorship(config.git.name, config.git.email, repositories=[place.repository for place in places.values()])
    privacy = Privacy(channels, ground.clock)
    return Outside(files, executor, sandbox, places, checkouts, models, outbox, author, privacy)


def open_channel(ground: Ground, name: str, *, network: NetworkSettings) -> Channel:
    """A channel whose notifier is made at its first notice."""
    section = ground.config.notifiers[name]

    def build() -> Notifier:
        token = answering = None
        if isinstance(section, NtfySection):
            token, answering = access_token(section, ground.environment), answers_token(section, ground.environment)
        module = importlib.import_module(f"kairosd.notifiers.{name}")
        notifier: Notifier = module.build(section, NotifierDeps(ground.clock, token or "", answering or "", network))
        return notifier

    async def answers(since: str) -> AsyncGenerator[Heard, None]:
        notifier = cast("Correspondent", build())
        try:
            async for heard in notifier.answers(since):
                yield heard
        finally:
            await notifier.close()

    async def strangers() -> str:
        """Without a token there is nothing to try, and no client to load."""
        if not isinstance(section, NtfySection) or not access_token(section, ground.environment):
            return NO_TOKEN
        notifier = build()
        try:
            found: str = await notifier.strangers()  # type: ignore[attr-defined]
        finally:
            await notifier.close()
        return found

    least = Severity[str(getattr(section, "min_severity", "normal")).upper()]
    phone = isinstance(section, NtfySection)
    listen = answers if isinstance(section, NtfySection) and section.answers else None
    look = strangers if phone else None
    place = f"{section.url} {section.topic} {section.answers}" if isinstance(section, NtfySection) else ""
    return Channel(name, least, build, silent=name == "log", strangers=look, answers=listen, place=place)


async def fetch_missing_model(ground: Ground) -> None:
    """With the embedded defaults and no key, the local model is fetched in the background; events wait for it."""
    names = {ground.config.roles.decide, ground.config.roles.act}
    wanted = [name for name in names if ground.config.models[name].provider == "local"]
    for name in wanted:
        weights = weights_of(name, ground.config.models[name], data_folder=ground.place.data)
        if not weights.present:
            await _fetch(ground, weights)


async def _fetch(ground: Ground, weights: Weights) -> None:
    fetching = importlib.import_module("kairosd.models.fetch")
    size = f"{weights.size / 1e9:.1f} GB" if weights.size else "size unknown"
    log.info("the local model is being fetched (%s) from %s; events wait for it", size, " or ".join(weights.sources))
    shown = 0

    def progress(now: Progress) -> None:
        nonlocal shown
        percent = now.done * 100 // now.total if now.total else 0
        text = f"the local model is being fetched: {percent} % of {size}"
        ground.condition.set("model_fetch", text, fix="wait, or see `kairos model fetch --help`", degrades=False)
        if percent // 10 > shown:
            shown = percent // 10
            log.info("%s", text)

    progress(Progress(0, weights.size))
    network = network_of(ground.environment)
    source = await fetching.fetch(weights.sources, weights, deps=fetching.FetchDeps(ground.clock, progress, network))
    ground.condition.clear("model_fetch")
    log.info("the local model is here, from %s", source)


def network_of(environment: Environment) -> NetworkSettings:
    """The environment's proxies and certificates as HTTP clients take them."""
    return NetworkSettings(
        https_proxy=environment.https_proxy,
        http_proxy=environment.http_proxy,
        no_proxy=environment.no_proxy,
        ca_file=environment.ssl_cert_file,
    )
