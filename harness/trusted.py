"""What a measurement is made by, as a hash: numbers compare only where it is the same."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path

from harness import __version__, git
from harness.models import Measurement, Task
from harness.patterns import editable

TERMS = {"editable", "referee", "command", "outputs", "evaluate", "inputs", "python"}
PARTS = (
    "the files that no experiment may change",
    f"what task.yaml says of {', '.join(sorted(TERMS))}, the metric's name and direction, or the length of a run",
    "a referee, or another program that measures, which lies outside the repository",
)


def digest(repo: git.Repo, task: Task, start: str, folder: Path) -> str:
    """One hash for each of PARTS, of their content; `folder` holds the files of the commit `start`, `task` is as written."""
    files = {name: entry for name, entry in git.entries(repo, start).items() if not editable(task.editable, name)}
    terms = task.model_dump(include=TERMS) | task.metric.model_dump(include={"name", "direction"})
    terms |= task.budget.model_dump(include={"run_s", "run_tokens"}) | {"profile": task.profile}
    return ".".join(_hash(part) for part in (sorted(files.items()), terms, _outside(task, folder)))


def changed(now: str, baseline: Measurement) -> str | None:
    """What is not as it was when the baseline was measured, as the first half of a sentence; None when all is the same."""
    if baseline.harness != __version__:
        return f"its baseline was measured by harness {baseline.harness or 'of another version'}, and this is {__version__}"
    pairs = zip(PARTS, now.split("."), baseline.trusted.split("."), strict=False)
    if now == baseline.trusted:
        return None
    return f"{next((part for part, one, other in pairs if one != other), PARTS[0])} changed since its baseline was measured"


def _outside(task: Task, folder: Path) -> dict[str, str]:
    """The programs that measure and are no files of the repository: by path or as modules. The harness has its version."""
    found = {}
    for argv in (task.referee, task.evaluate, task.hidden):
        for before, part in zip(["", *argv], argv, strict=False):
            top = part.split(".")[0]
            if before == "-m" and top != "harness" and not (folder / top).exists() and not (folder / f"{top}.py").exists():
                found[part] = _module(top)
            elif Path(part).is_absolute() and Path(part).is_file():
                found[part] = hashlib.sha256(Path(part).read_bytes()).hexdigest()
    return found


def _module(name: str) -> str:
    """The source of an installed module or package; of one that only the task's own interpreter has, nothing."""
    spec = importlib.util.find_spec(name)
    folders = [Path(each) for each in (spec and spec.submodule_search_locations) or []]
    files = {each for folder in folders for each in folder.rglob("*.py")} or {Path((spec and spec.origin) or "")}
    return _hash([hashlib.sha256(each.read_bytes()).hexdigest() for each in sorted(files) if each.is_file()])


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
