"""mini-swe-agent on one task, run by the Python that it is installed in; prints what became of it as JSON.

    python bench/peers/mini.py FOLDER URL KEY SECONDS < goal

Its own shipped configuration for models without native tool calls, unchanged but for the model's address.
"""

import contextlib
import io
import json
import logging
import os
import sys
from pathlib import Path

os.environ["MSWEA_SILENT_STARTUP"] = "1"
os.environ["MSWEA_COST_TRACKING"] = "ignore_errors"

import yaml
from minisweagent import package_dir
from minisweagent.agents.default import DefaultAgent
from minisweagent.environments.local import LocalEnvironment
from minisweagent.models.litellm_textbased_model import LitellmTextbasedModel


def main() -> None:
    folder, url, key, seconds = sys.argv[1:5]
    logging.disable(logging.CRITICAL)
    settings = yaml.safe_load((Path(package_dir) / "config" / "default.yaml").read_text())
    model_settings = settings["model"]
    model_settings["model_kwargs"] |= {"api_base": f"{url}/v1", "api_key": key, "temperature": 0}
    model = LitellmTextbasedModel(model_name="openai/local", cost_tracking="ignore_errors", **model_settings)
    agent = DefaultAgent(
        model,
        LocalEnvironment(cwd=folder, **settings["environment"]),
        **{**settings["agent"], "wall_time_limit_seconds": int(float(seconds))},
    )
    failed = ""
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            agent.run(sys.stdin.read())
        except Exception as error:  # noqa: BLE001 - a prompt that outgrows the window ends it so
            failed = type(error).__name__
    extra = agent.messages[-1].get("extra", {}) if agent.messages else {}
    usages = [_usage(message) for message in agent.messages if message.get("role") == "assistant"]
    said = [str(message.get("content")) for message in agent.messages if message.get("role") == "assistant"]
    print(
        json.dumps(
            {
                "state": failed or extra.get("exit_status", ""),
                "said_done": extra.get("exit_status") == "Submitted",
                "answer": "\n".join([*said[-1:], str(extra.get("submission", ""))]),
                "turns": agent.n_calls,
                "tokens": sum(sum(pair) for pair in usages),
                "first_prompt": usages[0][0] if usages else 0,
            }
        )
    )


def _usage(message: dict) -> tuple[int, int]:
    used = message.get("extra", {}).get("response", {}).get("usage") or {}
    return used.get("prompt_tokens") or 0, used.get("completion_tokens") or 0


if __name__ == "__main__":
    main()
