"""A lab whose agents are the real CLIs of agents.yaml, with the scripted provider in the place of the real ones."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Lab
from provider import Provider

from harness.agents.programs import installed_here

ROOT = Path(__file__).parents[2]
SHIPPED: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "agents.yaml").read_text())
CLIS = [name for name, entry in SHIPPED.items() if "provider" in entry]
REAL_KEY = "sk-real-0123456789abcdef"


def need(name: str) -> None:
    """Skip the test where the CLI is not installed; claude is installed for it, if npm can."""
    if (installed_here() / "bin" / name).exists():
        return
    if name != "claude":
        pytest.skip(f"{name} is not installed: run `scripts/install-agents {name}`")
    if not shutil.which("npm"):
        pytest.skip("claude is not installed, and there is no npm to install it with")
    done = subprocess.run([ROOT / "scripts/install-agents", name], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"claude cannot be installed here: {done.stdout.strip()}")


def equip(lab: Lab, provider: Provider, *names: str, **fields: Any) -> None:
    """Let the shipped entries `names` ask the scripted provider, by a file of the user's own; `fields` change them further."""
    for name in names:
        need(name)
    own = {}
    for name in names:
        api = SHIPPED[name]["provider"]["api"]
        url = provider.url + ("/v1" if api.startswith("openai") else "")
        told = {"url": url, "key_env": "TEST_KEY"}
        own[name] = {"provider": told, "retry": {"times": 1, "wait_s": 0.5}, **fields}
    config = Path(lab.env["HOME"]) / ".config/harness"
    config.mkdir(parents=True, exist_ok=True)
    (config / "agents.yaml").write_text(yaml.safe_dump(own))
    shutil.copy(ROOT / "agents.yaml", lab.path / "agents.yaml")
    lab.env |= {"XDG_CACHE_HOME": str(installed_here().parents[1]), "TEST_KEY": REAL_KEY}
    lab.env.pop("XDG_CONFIG_HOME", None)


def record(lab: Lab, experiment: str = "0001") -> dict[str, Any]:
    """The record of an experiment."""
    found: dict[str, Any] = json.loads(lab.git("show", f"refs/experiments/t/{experiment}:record.json"))
    return found


def night(lab: Lab, *names: str, experiments: int = 1, **env: str) -> subprocess.CompletedProcess[str]:
    """A night of these agents; however it ends."""
    agents = [part for name in names for part in ("--agent", name)]
    return subprocess.run(
        lab.command("run", "--tag", "t", "--experiments", str(experiments), *agents),
        cwd=lab.path,
        env={**lab.env, **env},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
