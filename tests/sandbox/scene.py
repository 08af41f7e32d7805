"""The product up to the moment when foreign code runs, in a throw-away repository; then a script of ours is that code.

    python tests/sandbox/scene.py < PLAN.json       prints what came of it as JSON

For `agent` it is a whole proposal by an agent whose command line the script is, for `train` a whole measurement whose
command it is: worktree, box and harvest, tree, box and referee are the product's own. For `top` the task and its files lie
at the root of the repository, and the proposal is measured. A program by itself, so that a test can be another user in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import Lab, make_lab

from harness import git
from harness.night import Interrupt, Night
from harness.opening import Settings, open_night
from harness.proposing import propose
from harness.research import begin
from harness.state import StateFolder
from harness.steps import EVENT, Step

# Folders in which the harness, or the agent rightly, writes meanwhile.
OURS = ("homes", "logs", "status", "settings", "outputs", "artefacts")
BEFORE, AFTER = (Step.WORKTREE_MADE, Step.RUN_STARTED), (Step.HARVESTED, Step.RUN_ENDED)


def main() -> None:
    plan = json.load(sys.stdin)
    folder = Path(plan["folder"])
    lab = make_lab(folder)
    os.environ["XDG_STATE_HOME"] = lab.env["XDG_STATE_HOME"]
    state = StateFolder(git.open_repo(lab.path))
    places = {"repo": lab.path, "home": folder / "home", "data": folder / "data", "mirror": state.mirror}
    places |= {"other": state.worktree("u", "0001"), "work": state.path / "runs/t/attack", "package": Path(git.__file__).parent}
    plant(places, plan["secret"])
    argv = [fill(part, {name: str(path) for name, path in places.items()}) for part in plan["argv"]]
    argv[0] = sys.executable if argv[0] == "python" else argv[0]
    if plan["where"] == "top":
        raise_up(lab)
    if plan["sandbox"] == "host":
        print(json.dumps({"output": on_the_host(lab.path, argv, plan["where"] == "top"), "changed": []}))
        return
    configure(lab, places["data"], argv, plan["where"])
    seen = watch(folder)
    agents = ["attacker"] if plan["where"] != "train" else []
    task = next(path for path in (lab.path / "task.yaml", lab.path / "toy/task.yaml") if path.exists())
    settings = Settings(task=str(task), tag="t", agents=agents, sandbox=plan["sandbox"])
    os.umask(0o022)
    with open_night(git.Repo(str(lab.path)), settings, Interrupt(), print, lambda status: None) as night:
        output = proposal(night, plan["where"] == "top") if agents else measurement(night, git.head(night.repo))
    before, after = seen
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    print(json.dumps({"output": output, "changed": changed}))


def fill(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    return text


def plant(places: dict[str, Path], secret: str) -> None:
    """Put the secret wherever nobody inside should find it."""
    for place in (places["home"] / ".ssh/id_rsa", places["repo"] / ".git/secret", places["data"] / "hidden.txt"):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(secret)
    places["other"].mkdir(parents=True)
    (places["other"] / "secret").write_text(secret)


CANDIDATE = """\
import colorsys, importlib.util, os, pathlib
import helper
found = importlib.util.find_spec("torch")
if found and str(found.origin).startswith(os.getcwd()):
    import torch
X = 5.0
pathlib.Path("answer.txt").write_text(str(X))
"""


def raise_up(lab: Lab) -> None:
    """The task and its files at the root of the repository, the editable one among them."""
    for path in sorted((lab.path / "toy").iterdir()):
        path.rename(lab.path / path.name)
    for name in ("task.yaml", "evaluate.py"):
        (lab.path / name).write_text((lab.path / name).read_text().replace("toy/", ""))
    (lab.path / "solution.py").write_text(CANDIDATE)
    (lab.path / "helper.py").write_text("# a module that is not the agent's, of some length\n")


def on_the_host(folder: Path, argv: list[str], runs_then: bool) -> str:
    """What comes of the script without the product, and of the candidate that it leaves."""
    then = [[sys.executable, "solution.py"]] if runs_then else []
    env = {**os.environ, "PYTHONPATH": "."} if runs_then else None
    how: dict[str, Any] = {"cwd": folder, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "timeout": 60, "env": env}
    return "\n".join(subprocess.run(words, **how).stdout.decode(errors="replace") for words in [argv, *then])


def configure(lab: Lab, data: Path, argv: list[str], where: str) -> None:
    task = "task.yaml" if where == "top" else "toy/task.yaml"
    lab.edit(task, "outputs:", f"inputs: ['{data}']\nhidden: [echo, '{data}/hidden.txt']\noutputs:")
    lab.edit(task, "propose_s: 20", "propose_s: 120")
    lab.edit(task, "run_s: 5", "run_s: 120")
    if where != "train":
        with (lab.path / "agents.yaml").open("a") as file:
            file.write(f"attacker: {json.dumps({'argv': argv})}\n")
    else:
        lab.edit("toy/task.yaml", "command: [python, toy/solution.py]", f"command: {json.dumps(argv)}")
    lab.git("add", ".")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "the attack")


def proposal(night: Night, measured: bool) -> str:
    """All that the agent said, and all that would be kept of it: its record and the files that were taken. If it is to be
    `measured`, also what that says, and the names of all files that are not those of the commit it began with.
    """
    record = night.conduct(propose(night, begin(night), worker=1))
    files = [blob for blob in (record.proposal.files if record.proposal else {}).values() if blob]
    taken = [bytes(night.repo[blob].data).decode(errors="replace") for blob in files]
    kept = [record.model_dump_json(), night.ledger.text(record, "proposal.md"), *taken]
    if measured and record.experiment.commit:
        before, after = (set(git.files(night.repo, each)) for each in (record.experiment.base, record.experiment.commit))
        kept += [f"MORE {before ^ after}" if before != after else "measured", measurement(night, record.experiment.commit)]
    return "\n".join([night.state.log("t", record.id).read_text(errors="replace"), *kept])


def measurement(night: Night, commit: str) -> str:
    measured = night.run(commit, 1, night.state.run("t", "attack"), lambda: False)
    return measured.model_dump_json() + "\n" + measured.log_tail if measured else ""


def watch(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """What every file is just before and just after the script runs, filled in at the product's own steps."""
    seen: tuple[dict[str, str], dict[str, str]] = ({}, {})

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == EVENT and args[0] in (*BEFORE, *AFTER):
            seen[args[0] in AFTER].update({str(p): state for p in folder.rglob("*") if (state := fingerprint(p, folder))})

    sys.addaudithook(hook)
    return seen


def fingerprint(path: Path, folder: Path) -> str:
    """What a file is; nothing for what the harness writes, and for what the script may."""
    parts, facts = path.relative_to(folder).parts, path.lstat()
    inside = parts[5:] if parts[0] == "state" else ()  # state/harness/<repository>/worktrees/t/0001/...
    kept = ("evaluate.py", "task.yaml", "solution.py", "helper.py", "program.md", ".git", "lab")
    at_top = (folder / "repo with spaces/solution.py").exists()
    free = "notes" in inside or (inside[-2:-1] == ("toy",) and inside[-1] not in kept)
    if "worktrees" in parts[3:4]:
        free = free or inside[-2:] == ("toy", "solution.py") or (at_top and inside[1:2] not in [(each,) for each in kept])
        free = free or inside[1:] == ("solution.py",)
    ours = (
        path.name in ("request.json", "measurement.json", "progress.json", "evaluate.json", "answer.txt") or path.suffix == ".log"
    )
    if free or ours or any(name in OURS for name in parts[3:]):
        return ""
    if stat.S_ISLNK(facts.st_mode):
        return f"link {path.readlink()}"
    return hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(facts.st_mode) else str(stat.S_IFMT(facts.st_mode))


if __name__ == "__main__":
    main()
