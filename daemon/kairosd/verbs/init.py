"""`kairosd init`: looks at this machine, writes a commented configuration, and says what it means."""

from __future__ import annotations

import argparse
import importlib
import json
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from kairosd.config import Environment, ModelSection, read_environment
from kairosd.config.choice import KEYS, LOCAL_BYTES, Choice, choose, embedded, find_ollama, hosted, ollama
from kairosd.config.folders import checkout_of, name_of, origin_of, refusal
from kairosd.core.json import JsonObject
from kairosd.core.messages import Usage
from kairosd.core.pricing import find_tariff, price
from kairosd.errors import KairosError, UsageError
from kairosd.frozen import frozen
from kairosd.models.prices import load_prices
from kairosd.wire import EXIT_OK, Home, check_private

MODELS = ("anthropic", "openai", "ollama", "local")
SECRET_NAME = "github-webhook.secret"
# About what one look sends and gets, and one small run: for an idea of the price, not for a bill.
LOOK = Usage(input=2_000, output=200, cache_read=0, cache_write=0)
RUN = Usage(input=60_000, output=4_000, cache_read=0, cache_write=0)


@frozen
class Plan:
    """What will be written. `secret` is the webhook secret's file, None without webhooks."""

    place: Home
    choice: Choice
    workspace: Path
    secret: Path | None

    @property
    def weights(self) -> Path | None:
        """The file of the embedded model, if that is the choice."""
        return Path(self.choice.models["local"].file) if self.choice.kind == "local" else None


def main(arguments: Sequence[str], place: Home) -> int:
    """Writes the home's configuration. Raises `KairosError` where one is already, `UsageError` without a folder."""
    chosen = _parser().parse_args(arguments)
    if place.config.exists() and not chosen.force:
        raise KairosError(f"{place.config} exists: nothing was written", fix="--force writes anew and keeps a backup")
    workspace = _workspace(chosen.workspace, place)
    choice = _choice(chosen.model, place, environment=read_environment())
    plan = Plan(place, choice, workspace, place.config.with_name(SECRET_NAME) if chosen.webhooks else None)
    backup = _write(plan)
    if chosen.json:
        sys.stdout.write(f"{json.dumps(_summary(plan, backup))}\n")
    else:
        sys.stdout.write(_report(plan, backup))
    return _fetch(plan, yes=chosen.yes, quiet=chosen.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kairos init", description="Writes a configuration for this machine.")
    parser.add_argument("--workspace", type=Path, metavar="PATH", help="the folder to watch (default: this checkout)")
    parser.add_argument("--model", choices=MODELS, help="instead of the first that is there, in this order")
    parser.add_argument("--webhooks", action="store_true", help="receive GitHub's webhooks; makes a secret")
    parser.add_argument("--force", action="store_true", help="replace a configuration; it is kept as a backup")
    parser.add_argument("--yes", action="store_true", help="download the local model (1.1 GB) without asking")
    parser.add_argument("--json", action="store_true", help="print the choice as JSON, and ask nothing")
    return parser


def _workspace(given: Path | None, place: Home) -> Path:
    path = given.expanduser().resolve() if given else checkout_of(Path.cwd())
    if path is None:
        raise UsageError("the current folder is not in a git checkout", fix="name one: kairos init --workspace PATH")
    if not path.is_dir():
        raise UsageError(f"there is no folder {path}")
    if why := refusal(path, place):
        raise UsageError(f"{path}: {why}", fix="name another: kairos init --workspace PATH")
    return path


def _choice(wanted: str | None, place: Home, *, environment: Environment) -> Choice:
    match wanted:
        case "anthropic" | "openai":
            if not environment.variables.get(KEYS[wanted]):
                raise KairosError(f"{KEYS[wanted]} is not set", fix=f"export {KEYS[wanted]}=… and run this again")
            return hosted(wanted, "you asked for it")
        case "ollama":
            models = find_ollama()
            if not models:
                raise KairosError(
                    "Ollama has no model" if models is not None else "no Ollama answers on this machine",
                    fix="ollama pull qwen2.5-coder" if models is not None else "ollama serve",
                )
            return ollama(models)
        case "local":
            return embedded(place, "you asked for it")
        case _:
            return choose(environment, place=place, detect=True)


def _write(plan: Plan) -> Path | None:
    """Writes secret and configuration, for nobody else to read. Returns the backup of what was there."""
    config = plan.place.config
    config.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_private(config.parent)
    if plan.secret is not None and not plan.secret.exists():
        _private_file(plan.secret, f"{secrets.token_hex(32)}\n")
    backup = None
    if config.exists():
        number = next(at for at in range(1, 10_000) if not config.with_name(f"config.toml.backup-{at}").exists())
        backup = config.rename(config.with_name(f"config.toml.backup-{number}"))
    _private_file(config, _toml(plan))
    return backup


def _private_file(path: Path, text: str) -> None:
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(text, encoding="utf-8")


def _toml(plan: Plan) -> str:
    models = "\n".join(_model(name, section) for name, section in plan.choice.models.items())
    roles = plan.choice.roles
    repo = origin_of(plan.workspace)
    hooks = _HOOKS.format(secret=json.dumps(str(plan.secret))) if plan.secret else _NO_HOOKS
    return _CONFIG.format(
        why=plan.choice.why,
        models=models,
        decide=roles.decide,
        act=roles.act,
        name=json.dumps(name_of(plan.workspace)),
        path=json.dumps(str(plan.workspace), ensure_ascii=False),
        repo=f"repo = {json.dumps(repo)}" if repo else '# repo = "owner/name"  # default: the remote origin',
        hooks=hooks,
    )


def _model(name: str, section: ModelSection) -> str:
    if section.provider == "local":  # its defaults are the model that Kairos knows
        keys: Mapping[str, object] = {"provider": "local"}
    else:
        keys = section.model_dump(include=section.model_fields_set)
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    return f"[models.{name}]\n{lines}"


def _summary(plan: Plan, backup: Path | None) -> JsonObject:
    choice = plan.choice
    return {
        "config": str(plan.place.config),
        "backup": str(backup) if backup else None,
        "workspace": {"name": name_of(plan.workspace), "path": str(plan.workspace)},
        "model": {
            "kind": choice.kind,
            "why": choice.why,
            "decide": choice.models[choice.roles.decide].model,
            "act": choice.models[choice.roles.act].model,
            "fetched": plan.weights.is_file() if plan.weights else None,
        },
        "webhook_secret_file": str(plan.secret) if plan.secret else None,
    }


def _report(plan: Plan, backup: Path | None) -> str:
    place, choice = plan.place, plan.choice
    kept = f" (the old one is {backup})" if backup else ""
    hooks = f"\nWebhooks of GitHub: give it the secret in {plan.secret}." if plan.secret else ""
    decide, act = choice.models[choice.roles.decide], choice.models[choice.roles.act]
    who = decide.model if decide is act else f"{decide.model} decides, {act.model} acts"
    return _FIRST_HOUR.format(
        config=place.config,
        kept=kept,
        workspace=plan.workspace,
        model=f"{choice.kind}{f', {who}' if who else ''}",
        why=choice.why,
        hooks=hooks,
        cost=_cost(choice),
        where=_where(choice, place),
        state=place.state,
        data=place.data,
        folder=place.config.parent,
    )


def _cost(choice: Choice) -> str:
    if choice.kind in ("ollama", "local"):
        return "No money: the model runs on this machine, and takes its processor while it thinks."
    table = load_prices()
    look = price(LOOK, find_tariff(choice.models[choice.roles.decide].model, table))
    run = price(RUN, find_tariff(choice.models[choice.roles.act].model, table))
    if look is None or run is None:
        return "The price of these models is not known to Kairos; your provider's console shows what they cost."
    return (
        f"About ${look / 1e6:.4f} for a look and ${run / 1e6:.2f} for a small run, at list price. A world that has\n"
        "  not changed costs nothing. kairos why ID shows what was spent; set a limit at your provider as well."
    )


def _where(choice: Choice, place: Home) -> str:
    if choice.kind in ("ollama", "local"):
        return "To the model on this machine. Notices go to the notifiers you configure. Nothing goes elsewhere."
    key = KEYS[choice.kind]
    provider = "Anthropic" if choice.kind == "anthropic" else "OpenAI"
    return (
        f"To {provider}: what changed, the files and diffs that a run reads, your messages, titles and bodies of\n"
        "  webhooks. Paths that may hold secrets (.env, *.pem, …) are read only after you said yes. Notices go to the\n"
        "  notifiers you configure. Nothing goes elsewhere.\n"
        f"  The key stays in {key}. A service does not see your shell's variables. Give it a file:\n"
        f"    (umask 077; printenv {key} > {place.config.parent}/{choice.kind}.key)\n"
        f'  and replace api_key_env by api_key_file = "{choice.kind}.key".'
    )


def _fetch(plan: Plan, *, yes: bool, quiet: bool) -> int:
    if plan.weights is None or plan.weights.is_file():
        return EXIT_OK
    size = f"{LOCAL_BYTES / 1e9:.1f} GB"
    if not yes:
        asked = not quiet and sys.stdin.isatty()
        if not asked or not _agreed(f"\nDownload the model now ({size})? [y/N] "):
            if not quiet:
                sys.stdout.write(f"\nThe model ({size}) is not here yet. When you are ready: kairos model fetch\n")
            return EXIT_OK
    # Loaded only now: fetching needs an HTTP client, and most inits fetch nothing.
    return int(importlib.import_module("kairosd.verbs.model").main(["fetch", "--yes"], plan.place))


def _agreed(question: str) -> bool:
    sys.stdout.write(question)
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


_CONFIG = """\
# Kairos. Every other key, with its default and unit, is in config.example.toml and docs/configuration.md.
# After a change: kairos config check && kairos reload

# Chosen because {why}.
{models}
[roles]
decide = "{decide}"  # looks at what happened and says whether to act: cheap and often
act = "{act}"  # does the work: better and seldom

[[workspaces]]
name = {name}
path = {path}
{repo}
level = "suggest"  # edits in a private copy, lands as a branch kairos/…; "observe" = reads and tells only
trusted = false  # true = KAIROS.md and AGENTS.md in it may instruct Kairos (kairos workspace trust)

[tick]
enabled = true  # also look without being woken, every min to max seconds; costs nothing while nothing changed
min_seconds = 300
max_seconds = 3600

{hooks}
# A phone: choose a topic that nobody can guess.
# [notifiers.ntfy]
# url = "https://ntfy.sh"
# topic = ""

# [notifiers.desktop]

# [quiet_hours]  # local time; notices wait, urgent ones do not
# start = "22:00"
# end = "07:00"

# [[schedules]]
# name = "morning"
# cron = "0 8 * * 1-5"
# goal = "Summarise what changed since yesterday morning."
"""

_HOOKS = """\
[webhooks.github]  # POST /hooks/github on [daemon] hooks_listen, 127.0.0.1:8787
secret_file = {secret}
"""

_NO_HOOKS = """\
# GitHub's webhooks (kairos init --webhooks makes the secret). Without this nothing listens.
# [webhooks.github]
# secret_file = "github-webhook.secret"
"""

_FIRST_HOUR = """\
Wrote {config}{kept}.
Watches {workspace}.
Model: {model}, because {why}.{hooks}

What Kairos may do here
  Read this folder, and tell you. When it decides to act it works in a private copy, without network and without
  running commands of yours, and lands a branch kairos/… for you to merge. It never touches your working tree or your
  branches, never pushes, and asks before it changes CI files, hooks or instructions. level = "observe" takes the
  editing away; kairos approvals lists what waits for you.

What it can cost
  {cost}

Which text goes where
  {where}

How to stop it
  kairos pause (no initiative), kairos stop (also ends what runs); Ctrl-C or systemctl --user stop kairosd (ends
  the daemon).

What uninstalling leaves
  {folder} (configuration)
  {state} (database, journal, transcripts)
  {data} (models)
  and in your repositories the branches kairos/… that you did not merge. Delete them, and nothing is left.

Next: kairosd (in the foreground) or kairos service install; then kairos status, kairos tell "what changed last?"
"""
