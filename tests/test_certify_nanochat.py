"""A certificate of the first task, on its cpu profile: real training, real sandboxes, the sealed rows."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab

from nanochat_train import corpus

ROOT = Path(__file__).resolve().parents[1]


def prepared(folder: Path) -> Lab:
    """The files of the task in a repository of their own, on a small part of its corpus, with a budget of a few seconds."""
    lab = Lab(folder / "repo", {"PATH": "/usr/bin:/bin", "HOME": str(folder), "XDG_STATE_HOME": str(folder / "state")})
    lab.env |= {"XDG_CACHE_HOME": str(folder / "cache"), "GIT_CONFIG_GLOBAL": "/dev/null"}
    for name in ("nanochat_train", "examples/demo"):
        shutil.copytree(ROOT / name, lab.path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("program.md", "agents.yaml"):
        shutil.copy(ROOT / name, lab.path / name)
    lab.edit("nanochat_train/task.yaml", "run_tokens: 131072", "run_tokens: 65536")
    texts = folder / "texts"
    texts.mkdir()
    for number, document in enumerate(corpus.standard_library().train[:60]):
        (texts / f"{number}.txt").write_text(document.text, encoding="utf-8")
    command = [sys.executable, "-m", "nanochat_train.prepare", "--source", str(texts)]
    subprocess.run(command, cwd=lab.path, env=lab.env, check=True, timeout=300, capture_output=True)
    lab.git("init", "-q", "-b", "main")
    lab.git("add", ".")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "the task")
    return lab


def night(lab: Lab, *args: str) -> str:
    """A command that takes minutes; its output."""
    done = subprocess.run(lab.command(*args), cwd=lab.path, env=lab.env, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.heavy
def test_the_gain_of_a_prepared_patch_is_certified_on_the_sealed_rows(tmp_path: Path) -> None:
    lab = prepared(tmp_path)
    night(lab, "run", "--tag", "t", "--start", "plain", "--agent", "scripted", "--experiments", "1", "--profile", "cpu")
    said = night(lab, "certify", "--tag", "t", "--seeds", "2")
    print(said)
    found: dict[str, Any] = json.loads(night(lab, "show", "c1", "--json"))
    baseline, tip = found["measurements"]["baseline"], found["measurements"]["tip"]
    assert [(run["status"], run["split"], run["profile"]) for run in baseline + tip] == [("ok", "test", "cpu")] * 4
    assert found["result"]["gain"] > 0
    assert "sealed test split" in said
    # Rows of its own: the same training scores something else there than on the validation rows.
    again = json.loads(
        night(
            lab,
            "measure",
            lab.git("rev-parse", "autoresearch/t^1"),
            "--profile",
            "cpu",
            "--seed",
            str(found["seeds"][0]),
            "--json",
        )
    )
    assert again["split"] == "validation"
    assert again["curve"][:3]
    assert abs(again["value"] - baseline[0]["value"]) > 1e-4
