"""A toy task in a real repository: the engine's tests run on it, without torch and in milliseconds a run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

FILES = {
    "toy/task.yaml": """\
name: toy
program: program.md
editable: [toy/solution.py]
command: [python, toy/solution.py]
outputs: [toy/answer.txt]
evaluate: [python, toy/evaluate.py]
metric: {name: distance, direction: minimize, resolution: 0.01}
budget: {propose_s: 20, run_s: 5, evaluate_s: 10}
stop: {experiments: 4}
""",
    "toy/solution.py": """\
import os, pathlib
X = 5.0  # tune: 0..8
pathlib.Path("toy/answer.txt").write_text(str(X))
print("the answer is", X, os.environ["SEED"])
""",
    "toy/evaluate.py": """\
import json, pathlib, sys
x = float((pathlib.Path(sys.argv[1]) / "toy/answer.txt").read_text())
print(json.dumps({"value": abs(x - 3)}))
""",
    "program.md": "Bring the answer closer to the number nobody tells you.\n",
    "AGENTS.md": "instructions for people who work on this repository\n",
    ".gitignore": "__pycache__/\n",
}
NOTE = "printf '%s\\n\\nBecause it may help.\\n' \"$TITLE\" > notes/EXPERIMENT.md"


def heavy(*values: object) -> list[object]:
    """Parameters, tuples of them for several, of tests that take long and repeat what quicker ones show."""
    return [pytest.param(*(each if isinstance(each, tuple) else (each,)), marks=pytest.mark.heavy) for each in values]


@dataclass
class Lab:
    """A repository and the harness on it, as a user has them."""

    path: Path
    env: dict[str, str]

    def git(self, *args: str) -> str:
        done = subprocess.run(["git", *args], cwd=self.path, env=self.env, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def harness(self, *args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(self.command(*args), cwd=self.path, env=self.env, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *args: str) -> subprocess.Popen[bytes]:
        with (self.path.parent / "night.log").open("wb") as out:
            return subprocess.Popen(self.command(*args), cwd=self.path, env=self.env, stdout=out, stderr=out)

    @staticmethod
    def command(*args: str) -> list[str]:
        return [sys.executable, "-c", "from harness.cli import main; main()", *args]

    def agent(self, name: str, script: str, title: str = "") -> None:
        """Add an agent to agents.yaml that runs `script` with sh; {n} of a script is the experiment's seed."""
        with (self.path / "agents.yaml").open("a") as file:
            body = re.sub(r"\bNOTE\b", lambda _: NOTE, script).replace("\n", "\n      ")
            file.write(f"{name}:\n  argv:\n  - sh\n  - -c\n  - |\n      {body}\n  env: {{TITLE: '{title or name}'}}\n")

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.path / path).read_text()
        assert old in text
        (self.path / path).write_text(text.replace(old, new))

    def strays(self) -> list[str]:
        """Processes that still work for this lab, after a moment to be dead in."""
        end = time.monotonic() + 15
        while True:
            listing = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
            found = [line for line in listing.splitlines() if str(self.path.parent) in line and "ps -eo" not in line]
            if not found or time.monotonic() > end:
                return found
            time.sleep(0.05)

    @property
    def state(self) -> Path:
        """The machine's state folder of this repository."""
        return next((Path(self.env["XDG_STATE_HOME"]) / "harness").iterdir())

    def rows(self, tag: str = "t") -> list[list[str]]:
        """`harness log --tsv` without its header, split."""
        return [line.split("\t") for line in self.harness("log", "--tag", tag, "--tsv").stdout.splitlines()[1:]]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A fresh repository with the toy task and agents that make it better, worse, or misbehave."""
    return make_lab(tmp_path)


def make_lab(tmp_path: Path) -> Lab:
    """The lab of the fixture in a folder of one's choice."""
    keep = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    env = {**keep, "HOME": str(tmp_path / "home"), "XDG_STATE_HOME": str(tmp_path / "state")}
    env |= {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    made = Lab(tmp_path / "repo with spaces", env)
    for name, text in FILES.items():
        (made.path / name).parent.mkdir(parents=True, exist_ok=True)
        (made.path / name).write_text(text)
    made.agent("better", "sed -i 's/^X = 5.0/X = 4.0/; t; s/^X = 4.0/X = 3.5/' toy/solution.py; NOTE", "Move X towards three")
    made.agent("worse", "sed -i 's/^X = .*/X = 7.0/' toy/solution.py; NOTE")
    made.agent("crash", "echo 'raise ValueError(7)' >> toy/solution.py; NOTE")
    made.agent("idle", "true")
    made.git("init", "-q", "-b", "main")
    made.git("add", ".")
    made.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "the toy task")
    return made


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may enter, as pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="harness-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)
