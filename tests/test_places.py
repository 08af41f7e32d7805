"""Input data and interpreters outside git: found, shown read-only to agents and candidates, and nothing beside them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Lab

from harness import config
from harness.models import UserError
from harness.places import check_editable, settle

TASK = """\
name: toy
program: program.md
editable: [toy/solution.py]
metric: {name: distance}
outputs: [data/out.txt]
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where a repository could be, with a folder beside it for the harness's state."""
    for name in ("repo/.git/objects", "repo/data", "repo/corpus", "state", "outside"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "outside/link").symlink_to(tmp_path / "repo")
    (tmp_path / "broken").write_text("#!/bin/sh\necho no such library >&2\nexit 1\n")
    (tmp_path / "broken").chmod(0o755)
    return tmp_path / "repo"


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("inputs: [corpus, corpse]", "the input corpse does not exist (ROOT/corpse): did you mean ROOT/corpus?"),
        ("inputs: [/nowhere/at/all]", "the input /nowhere/at/all does not exist (/nowhere/at/all): create it"),
        ("inputs: ['~nobody-here/x']", "the input ~nobody-here/x does not exist"),
        ("inputs: [../outside]", "the input ../outside leaves the repository: write its absolute path"),
        ("inputs: [data]", "the output data/out.txt lies in an input"),
        ("inputs: [.]", ". would show the repository"),
        ("inputs: [/]", "/ would show the repository"),
        ("inputs: [.git/objects]", ".git/objects would show the repository"),
        ("inputs: [ROOT/../outside/link]", "leaves the repository"),
        ("inputs: [OUTSIDE/link]", "OUTSIDE/link would show the repository"),
        ("inputs: [STATE]", "STATE would show the repository or the harness's own files"),
        ("python: .venv/bin/python", "the interpreter .venv/bin/python is not there (ROOT/.venv/bin/python): make it with"),
        ("python: BROKEN", "the interpreter BROKEN does not start: no such library"),
        ("python: /usr/bin/true", "the interpreter /usr/bin/true does not start: it printed nothing"),
        ("python: /usr", "the interpreter /usr is not there"),
    ],
)
def test_places_that_are_refused(line: str, wanted: str, root: Path) -> None:
    names = {"ROOT": root, "OUTSIDE": root.parent / "outside", "STATE": root.parent / "state", "BROKEN": root.parent / "broken"}
    line, wanted = (re.sub("|".join(names), lambda found: str(names[found[0]]), text) for text in (line, wanted))
    file = root / "task.yaml"
    file.write_text(f"{TASK}{line}\n")
    with pytest.raises(UserError) as error:
        settle(config.load_task(file), file, root, root.parent / "state")
    number = 5 if "output" in wanted else 6
    assert str(error.value).startswith(f"{file}, line {number}: ")
    assert wanted in str(error.value)


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("toy/solutoin.py", "the editable file toy/solutoin.py is not in commit 0123456789: did you mean toy/solution.py?"),
        ("toy", "toy is a folder: write toy/** for everything in it"),
        ("toy/", "toy/ is a folder: write toy/** for everything in it"),
        ("tyo/*.py", "the editable file tyo/*.py is not in commit"),
        ("AGENTS.md", "AGENTS.md cannot be editable"),
        ("lab/*.md", "lab/*.md cannot be editable"),
        ("toy/*.txt", ""),
        ("**/*.py", ""),
    ],
)
def test_patterns_that_mean_nothing(pattern: str, wanted: str, tmp_path: Path) -> None:
    file = tmp_path / "task.yaml"
    file.write_text(f"{TASK}profiles: {{fast: {{\n  editable: ['{pattern}']}}}}\n")
    task, names = config.load_task(file), ["toy/solution.py", "AGENTS.md"]
    if not wanted:
        return check_editable(task, file, names, "0123456789abcdef")
    with pytest.raises(UserError) as error:
        check_editable(task, file, names, "0123456789abcdef")
    assert str(error.value).startswith(f"{file}, line 7: {wanted}")
    return None


def committed(lab: Lab, message: str) -> None:
    lab.git("add", ".")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", message)


LOOK = """
for place in ("toy/data", "{inside}", "{outside}"):
    numbers = pathlib.Path(place, "numbers.txt")
    print(place, "has", numbers.read_text(), "and", pathlib.Path(place, "secret.txt").read_text() or "no secret")
    try:
        print("wrote", numbers.write_text("mine"), "to", place)
    except OSError as error:
        print(place, error.strerror)
"""


@pytest.mark.parametrize("sandbox", ["bubblewrap", "none"])
def test_inputs_can_be_read_by_either_path_and_not_be_written(lab: Lab, sandbox: str, tmp_path: Path) -> None:
    """The relative one is itself a link to a folder elsewhere, which holds a secret: what is hidden stays hidden there too."""
    real, other, inside = tmp_path / "real", tmp_path / "other", lab.path / "toy/data"
    for folder in (real, other):
        folder.mkdir(mode=0o777)
        for name in ("numbers.txt", "secret.txt"):
            (folder / name).write_text(f"{folder.name} {name[:6]}")
            (folder / name).chmod(0o666)
    inside.symlink_to(real)
    lab.edit(".gitignore", "__pycache__/", "__pycache__/\ndata")
    lab.edit(
        "toy/task.yaml", "outputs:", f"inputs: [toy/data, '{other}']\nhidden: [sh, -c, 'ls {tmp_path}/*/secret.txt']\noutputs:"
    )
    with (lab.path / "toy/solution.py").open("a") as file:
        file.write(LOOK.format(inside=inside, outside=other))
    committed(lab, "inputs")
    lab.agent(
        "reader",
        f"cat toy/data/numbers.txt '{other}/numbers.txt'; echo x > toy/data/numbers.txt; sed -i s/5.0/4.0/ toy/solution.py",
    )
    lab.harness("run", "--tag", "t", "--agent", "reader", "--experiments", "1", "--sandbox", sandbox)
    seen = lab.git("show", "refs/experiments/t/0000:train-1.log")
    confined = sandbox == "bubblewrap"
    for place, folder in (("toy/data", "real"), (str(inside), "real"), (str(other), "other")):
        text = f"{folder} number" if confined or place != str(inside) else "mine"
        assert f"{place} has {text} and {'no secret' if confined else f'{folder} secret'}\n" in seen
        assert (f"{place} Read-only file system" if confined else f"wrote 4 to {place}") in seen
    assert (real / "numbers.txt").read_text() == (other / "numbers.txt").read_text().replace("other", "real")
    assert ((real / "numbers.txt").read_text() == "real number") == confined
    assert lab.git("show", "refs/experiments/t/0001:transcript.txt").startswith("real numberother number" if confined else "mine")
    record = json.loads(lab.git("show", "refs/experiments/t/0001:record.json"))
    assert (record["verdict"]["status"], record["proposal"]["dropped"]) == ("keep", [])
    assert f"`{other}`: input data, read-only" in lab.git("show", "refs/experiments/t/0001:prompt.md")


@pytest.mark.parametrize("sandbox", ["bubblewrap", "none"])
def test_a_task_with_an_environment_of_its_own(lab: Lab, sandbox: str) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", lab.path / ".venv"], check=True)
    (packages,) = (lab.path / ".venv/lib").glob("python3*/site-packages")
    (packages / "tiny.py").write_text("VALUE = 4.0\n")
    lab.edit(".gitignore", "__pycache__/", "__pycache__/\n.venv/")
    lab.edit("toy/task.yaml", "outputs:", "python: .venv/bin/python\noutputs:")
    lab.edit("toy/solution.py", "import os,", "import tiny, sys, subprocess, os,")
    lab.edit("toy/solution.py", "X = 5.0", "X = tiny.VALUE + 1.0")
    lab.edit("toy/evaluate.py", "import json,", "import tiny, json,")
    with (lab.path / "toy/solution.py").open("a") as file:
        file.write(
            "print(sys.prefix, os.environ.get('PYTHONPATH'))\nsubprocess.run(['python', '-c', 'import tiny; print(tiny)'])\n"
        )
    committed(lab, "an environment")
    lab.agent("user", "python -c 'import tiny; print(tiny.VALUE)'; sed -i 's/1.0/0.5/' toy/solution.py")
    lab.harness("run", "--tag", "t", "--agent", "user", "--experiments", "1", "--sandbox", sandbox)
    assert [row[3] for row in lab.rows()] == ["keep", "keep"]
    assert lab.git("show", "refs/experiments/t/0001:transcript.txt") == "4.0"
    seen = lab.git("show", "refs/experiments/t/0000:train-1.log")
    assert f"{lab.path}/.venv None\n" in seen
    assert "<module 'tiny' from" in seen
