"""mini-swe-agent doing nothing so many times, run by the Python that it is installed in.

python bench/peers/mini_loop.py FOLDER URL TURNS
"""

import contextlib
import io
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
    folder, url, turns = sys.argv[1:4]
    logging.disable(logging.CRITICAL)
    settings = yaml.safe_load((Path(package_dir) / "config" / "default.yaml").read_text())
    model_settings = settings["model"]
    model_settings["model_kwargs"] |= {"api_base": f"{url}/v1", "api_key": "none"}
    model = LitellmTextbasedModel(model_name="openai/test-model", cost_tracking="ignore_errors", **model_settings)
    agent = DefaultAgent(
        model,
        LocalEnvironment(cwd=folder, **settings["environment"]),
        **{**settings["agent"], "step_limit": int(turns), "cost_limit": 0.0},
    )
    with contextlib.redirect_stdout(io.StringIO()):
        agent.run("Do nothing, again and again.")


if __name__ == "__main__":
    main()
