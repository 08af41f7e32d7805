"""`harness run --start NAME`: the first commit of a lab, what it is made of, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import Lab, make_lab

RUN = ("run", "--tag", "t", "--agent", "still", "--experiments", "0")
STARTS = """\
starts:
  usual: {}
  far: {toy/solution.py: toy/far.py}
  near: {toy/solution.py: toy/near.py}
"""


def begun(tmp_path: Path, starts: str = STARTS) -> Lab:
    """A lab with three starts, committed."""
    lab = make_lab(tmp_path)
    text = (lab.path / "toy/solution.py").read_text()
    (lab.path / "toy/far.py").write_text(text.replace("5.0", "9.0"))
    (lab.path / "toy/near.py").write_text(text.replace("5.0", "3.5"))
    with (lab.path / "toy/task.yaml").open("a") as file:
        file.write(starts)
    lab.agent("still", "true")
    lab.git("add", "-A")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "starts")
    return lab


def baseline(lab: Lab) -> float:
    record = json.loads(lab.git("show", "refs/experiments/t/0000:record.json"))
    return float(record["measurements"][0]["value"])


def says(lab: Lab, *args: str) -> str:
    said = lab.harness(*args, code=1).stderr.strip().splitlines()
    assert len(said) == 1, said
    return said[0].removeprefix("harness: ")


def test_a_start_is_a_commit_of_the_harness_on_head(tmp_path: Path) -> None:
    lab = begun(tmp_path)
    head, before = lab.git("rev-parse", "HEAD"), lab.git("status", "--porcelain")
    lab.harness(*RUN, "--start", "far")
    assert baseline(lab) == 6.0
    told = lab.git("log", "-1", "--format=%P|%an|%s|%b", "autoresearch/t").strip()
    wanted = f"{head}|harness|Start from far|For autoresearch/t, on top of {head[:10]}: toy/solution.py is toy/far.py."
    assert told == wanted
    assert lab.git("diff", "--name-only", head, "autoresearch/t") == "toy/solution.py"
    assert lab.git("rev-parse", "autoresearch/t:toy/solution.py") == lab.git("rev-parse", "HEAD:toy/far.py")
    assert (lab.git("rev-parse", "HEAD"), lab.git("status", "--porcelain")) == (head, before)  # the user's own stay as they are


@pytest.mark.parametrize("options", [(), ("--start", "usual")])
def test_without_a_start_or_with_an_empty_one_the_lab_begins_at_head(tmp_path: Path, options: tuple[str, ...]) -> None:
    lab = begun(tmp_path)
    lab.harness(*RUN, *options)
    assert baseline(lab) == 2.0
    assert lab.git("rev-parse", "autoresearch/t") == lab.git("rev-parse", "HEAD")


@pytest.mark.heavy
def test_a_night_goes_on_from_its_own_start_only(tmp_path: Path) -> None:
    lab = begun(tmp_path)
    lab.harness(*RUN, "--start", "near")
    tip = lab.git("rev-parse", "autoresearch/t")
    for again in (RUN, (*RUN, "--start", "near"), ("resume",)):
        lab.harness(*again)
        assert lab.git("rev-parse", "autoresearch/t") == tip
    ending = "leave --start out to continue it, or choose another --tag"
    for other in ("far", "usual"):
        assert says(lab, *RUN, "--start", other) == f"'t' was begun with --start near: {ending}"
    lab.harness(*("u" if each == "t" else each for each in RUN))
    said = says(lab, *("u" if each == "t" else each for each in RUN), "--start", "near")
    assert said == f"'u' was begun with the files as they were: {ending}"


def test_what_cannot_be_a_start_is_one_sentence(tmp_path: Path) -> None:
    starts = "starts:\n  gone: {toy/solution.py: toy/nowhere.py}\n  rude: {toy/evaluate.py: toy/far.py}\n"
    lab = begun(tmp_path, starts)
    assert says(lab, *RUN, "--start", "fare").endswith("toy/task.yaml has no start 'fare'; it has: gone, rude")
    gone, rude = (says(lab, *RUN, "--start", name) for name in ("gone", "rude"))
    assert re.search(r"toy/task.yaml, line \d+: toy/nowhere.py is not in commit [0-9a-f]{10}: commit it, or correct", gone)
    assert re.search(r"toy/task.yaml, line \d+: toy/evaluate.py is not an editable file of the task", rude)
    assert lab.git("for-each-ref", "refs/experiments", "refs/heads/autoresearch") == ""  # nothing was begun


def test_a_task_without_starts_says_so(tmp_path: Path) -> None:
    lab = begun(tmp_path, "")
    assert says(lab, *RUN, "--start", "plain").endswith("has no start 'plain'; it has none, so leave --start out")
