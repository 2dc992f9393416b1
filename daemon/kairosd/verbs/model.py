"""`kairosd model list | check | fetch`: which models are configured, whether they answer, and the local one's file."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from kairosd.config import Environment, ModelSection, api_key, load, read_environment
from kairosd.core.json import JsonObject
from kairosd.core.pricing import Tariff, find_tariff
from kairosd.errors import ConfigError, ModelError, UsageError
from kairosd.models.book import ModelBook
from kairosd.models.deps import ModelDeps
from kairosd.models.fetch import FetchDeps, fetch
from kairosd.models.partial import Progress
from kairosd.models.prices import FREE, load_prices
from kairosd.models.weights import Weights, weights_of
from kairosd.system.clock import SystemClock
from kairosd.system.network import NetworkSettings
from kairosd.wire import EXIT_FAILED, EXIT_OK, Home

BAR_CELLS = 30
ROLES = ("decide", "act", "dream", "escalate")


def main(arguments: Sequence[str], place: Home) -> int:
    """Carries out one of the verbs. Raises `KairosError` for what `kairosd.main` turns into an exit code."""
    chosen = _parser().parse_args(arguments)
    environment = read_environment()
    config = load(None, folder=Path.cwd(), place=place, environment=environment)
    network = network_of(environment)
    if chosen.verb == "fetch":
        return _fetch(_wanted(chosen.name, config.models, place=place), chosen, network=network)
    deps = ModelDeps(SystemClock(), "", place.data, network)
    book = ModelBook(config.models, lambda section: replace(deps, api_key=api_key(section, environment) or ""))
    if chosen.verb == "check":
        names = [chosen.name] if chosen.name else list(config.models)
        return asyncio.run(_check(book, names, as_json=chosen.json))
    roles = {role: getattr(config.roles, role) for role in ROLES}
    return _list(config.models, place, roles=roles, as_json=chosen.json)


def network_of(environment: Environment) -> NetworkSettings:
    """The environment's proxies and certificates as HTTP clients take them."""
    return NetworkSettings(
        https_proxy=environment.https_proxy,
        http_proxy=environment.http_proxy,
        no_proxy=environment.no_proxy,
        ca_file=environment.ssl_cert_file,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kairos model", description="The models that Kairos asks.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    listing = verbs.add_parser("list", help="the configured models, their roles and prices")
    checking = verbs.add_parser("check", help="ask every model, or one, whether it is there; costs nothing")
    fetching = verbs.add_parser("fetch", help="fetch the file of the local model; resumed where it stopped")
    checking.add_argument("name", nargs="?", help="NAME of [models.NAME]")
    fetching.add_argument("name", nargs="?", help="NAME of [models.NAME] (default: the one with provider local)")
    fetching.add_argument("--from", dest="source", metavar="URL|FILE", help="instead of the configured sources")
    fetching.add_argument("--yes", action="store_true", help="do not ask first")
    for each in (listing, checking, fetching):
        each.add_argument("--json", action="store_true", help="JSON on standard output")
    return parser


def _list(models: Mapping[str, ModelSection], place: Home, *, roles: Mapping[str, str], as_json: bool) -> int:
    rows = [_row(name, section, place=place, roles=roles) for name, section in models.items()]
    if as_json:
        return _say(json.dumps(rows))
    for row in rows:
        price, file = row["price"], row["file"]
        parts = [
            f"{row['name']:12} {row['provider']:10} {row['model']}",
            f"roles: {', '.join(role for role, name in roles.items() if name == row['name']) or 'none'}",
            "price: unknown" if price is None else f"price: {price}",
            *([f"file: {file} ({'there' if row['present'] else 'not there yet: kairos model fetch'})"] if file else []),
        ]
        _say("\n    ".join(parts))
    return EXIT_OK


def _row(name: str, section: ModelSection, *, place: Home, roles: Mapping[str, str]) -> JsonObject:
    weights = weights_of(name, section, data_folder=place.data) if section.provider == "local" else None
    return {
        "name": name,
        "provider": section.provider,
        "model": section.model or (weights.path.stem if weights else ""),
        "roles": [role for role, holder in roles.items() if holder == name],
        "price": _price(FREE if weights else find_tariff(section.model, load_prices())),
        "file": str(weights.path) if weights else None,
        "present": weights.present if weights else None,
    }


def _price(tariff: Tariff | None) -> str | None:
    if tariff is None:
        return None
    return "nothing" if tariff == FREE else f"${tariff.input} in, ${tariff.output} out per million tokens"


async def _check(book: ModelBook, names: Sequence[str], *, as_json: bool) -> int:
    rows: list[JsonObject] = []
    try:
        for name in names:
            try:
                rows.append({"name": name, "ok": True, "text": await book.get(name).check()})
            except (ModelError, ConfigError) as error:
                rows.append({"name": name, "ok": False, "text": str(error)})
    finally:
        await book.close()
    if as_json:
        _say(json.dumps(rows))
    for row in () if as_json else rows:
        _say(f"{'ok    ' if row['ok'] else 'FAILED'} {row['name']}: {row['text']}")
    return EXIT_OK if all(row["ok"] for row in rows) else EXIT_FAILED


def _wanted(name: str | None, models: Mapping[str, ModelSection], *, place: Home) -> Weights:
    local = {each: section for each, section in models.items() if section.provider == "local"}
    if name is None:
        name = next(iter(local), None)
    if name is None:
        return weights_of("local", ModelSection(provider="local"), data_folder=place.data)
    if name not in local:
        raise UsageError(f"[models.{name}] is not a local model", fix=f"local ones: {', '.join(local) or 'none'}")
    return weights_of(name, local[name], data_folder=place.data)


def _fetch(weights: Weights, chosen: argparse.Namespace, *, network: NetworkSettings) -> int:
    sources = (chosen.source,) if chosen.source else weights.sources
    if weights.present:
        return _fetched(weights, source="", as_json=chosen.json)
    size = f"{weights.size / 1e9:.1f} GB" if weights.size else "a file of unknown size"
    sys.stderr.write(f"{size} from {' or '.join(sources)}\n  into {weights.path}\n")
    if sys.stdin.isatty() and not chosen.yes and not _agreed():
        return EXIT_FAILED
    meter = Meter(sys.stderr, bar=sys.stderr.isatty())
    deps = FetchDeps(SystemClock(), meter.show, network)
    try:
        source = asyncio.run(fetch(sources, weights, deps=deps))
    finally:
        meter.end()
    return _fetched(weights, source=source, as_json=chosen.json)


def _agreed() -> bool:
    sys.stderr.write("Fetch it? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _fetched(weights: Weights, *, source: str, as_json: bool) -> int:
    size = weights.path.stat().st_size
    if as_json:
        row = {"file": str(weights.path), "bytes": size, "sha256": weights.sha256, "source": source or None}
        return _say(json.dumps(row))
    return _say(f"{weights.path} is {'fetched and checked' if source else 'there already'} ({size / 1e6:.0f} MB)")


class Meter:
    """Shows progress on `stream`: as a bar that is redrawn, or as a line every tenth."""

    def __init__(self, stream: TextIO, *, bar: bool) -> None:
        self._stream = stream
        self._bar = bar
        self._shown = -1

    def show(self, progress: Progress) -> None:
        """Draws when there is something new to see."""
        if not progress.total:
            return
        percent = progress.done * 100 // progress.total
        step = percent if self._bar else percent // 10 * 10
        if step <= self._shown:  # a source that begins again does not run backwards
            return
        self._shown = step
        amount = f"{step:3d} %  {progress.done / 1e6:.0f} of {progress.total / 1e6:.0f} MB"
        filled = "#" * (percent * BAR_CELLS // 100)
        self._stream.write(f"\r[{filled:{BAR_CELLS}}] {amount}" if self._bar else f"{amount}\n")
        self._stream.flush()

    def end(self) -> None:
        """Leaves the line of the bar."""
        if self._bar and self._shown >= 0:
            self._stream.write("\n")


def _say(line: str) -> int:
    sys.stdout.write(f"{line}\n")
    return EXIT_OK
