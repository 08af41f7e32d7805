"""What runs made: kept for the incumbent and what was merged, shown to nobody, and taken out by `harness export`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import long_night
import pytest
from conftest import Lab

from harness import artefacts, git, trees
from harness.ledger import Ledger
from harness.models import Decision, Record, Review
from harness.upkeep import old_models

BETTER = ("--agent", "better")
# Writes beside the answer what it finds of other runs' products: a trained model to begin with, say.
PEEK = "\nimport glob; print('found', sorted(glob.glob({place!r}, recursive=True)))\n"


def made(lab: Lab, experiment: str, tag: str = "t") -> dict[str, str]:
    return artefacts.hashes(lab.state / "artefacts" / tag / experiment)


def record(lab: Lab, experiment: str) -> Any:
    return json.loads(lab.git("show", f"refs/experiments/t/{experiment}:record.json"))


def test_what_kept_experiments_made_stays_and_the_record_has_its_hash(lab: Lab) -> None:
    lab.harness("run", "--tag", "t", *BETTER, "--agent", "worse", "--agent", "crash", "--experiments", "3")
    assert [row[3] for row in lab.rows()] == ["keep", "keep", "discard", "crash"]
    assert sorted(path.name for path in (lab.state / "artefacts/t").iterdir()) == ["0000", "0001"]
    for name in ("0000", "0001"):
        assert record(lab, name)["measurements"][-1]["artefacts"] == made(lab, name) != {}
    assert list(record(lab, "0002")["measurements"][0]["artefacts"]) == ["toy/answer.txt"]  # known, though it is gone


def test_export_makes_a_folder_of_product_and_code(lab: Lab) -> None:
    lab.harness("run", "--tag", "t", *BETTER, "--experiments", "1")
    assert lab.harness("export").stdout == f"t/0001 is in {lab.path / 't-0001'}\n"
    found = {str(path.relative_to(lab.path / "t-0001")) for path in (lab.path / "t-0001").rglob("*") if path.is_file()}
    assert found == {"toy/answer.txt", "toy/solution.py"}
    assert (lab.path / "t-0001/toy/answer.txt").read_text() == "4.0"
    assert "X = 4.0" in (lab.path / "t-0001/toy/solution.py").read_text()
    lab.harness("export", "0", "--to", "first")
    assert "X = 5.0" in (lab.path / "first/toy/solution.py").read_text()
    assert "t-0001 exists: name another folder with --to" in lab.harness("export", "1", code=1).stderr
    assert "has no `export` program" in lab.harness("export", "1", "--to", "x", "--sample", "a", code=1).stderr
    assert not list(lab.path.glob(".*.part")) + list(lab.path.glob(".x*"))
    assert not list(lab.state.glob("runs/.measure/*"))


@pytest.mark.heavy
def test_a_baseline_can_be_exported_too(lab: Lab) -> None:
    lab.harness("baseline", "--tag", "t")
    lab.harness("export", "--to", "out")
    assert (lab.path / "out/toy/answer.txt").read_text() == "5.0"


@pytest.mark.heavy
def test_what_is_missing_or_changed_is_named_with_the_command_that_makes_it_again(lab: Lab) -> None:
    lab.harness("run", "--tag", "t", *BETTER, "--agent", "worse", "--experiments", "2")
    said = lab.harness("export", "2", code=1).stderr
    assert "what experiment 0002 made is not on this machine any more: `harness replicate 0002 --tag t` makes it again" in said
    (lab.state / "artefacts/t/0001/toy/answer.txt").write_text("3.0")
    assert "what experiment 0001 made was changed since it was measured" in lab.harness("export", "1", code=1).stderr
    assert not (lab.path / "t-0001").exists()
    for name in ("1", "2"):
        lab.harness("replicate", name, "--tag", "t")
        lab.harness("export", name, "--tag", "t")
    assert (lab.path / "t-0002/toy/answer.txt").read_text() == "7.0"


@pytest.mark.heavy
def test_a_programs_folder_appears_only_when_it_is_whole(lab: Lab) -> None:
    program = """
import json, pathlib, sys
asked = json.loads(pathlib.Path(sys.argv[1]).read_text())
to = pathlib.Path(asked["to"])
(to / "half").write_text("x")
if asked["sample"] == "no":
    sys.exit("it has no words")
(to / "whole").write_text((pathlib.Path(asked["artefacts"]) / "toy/answer.txt").read_text())
print("goes on:", asked["sample"], (pathlib.Path(asked["request"]["tree"]) / "toy/solution.py").read_text().count("4.0"))
"""
    (lab.path / "toy/export.py").write_text(program)
    lab.edit("toy/task.yaml", "outputs:", "export: [python, toy/export.py]\noutputs:")
    lab.git("add", ".")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "an export program")
    lab.harness("run", "--tag", "t", *BETTER, "--experiments", "1")
    assert "nothing was exported: it has no words" in lab.harness("export", "--sample", "no", "--to", "out", code=1).stderr
    assert not (lab.path / "out").exists()
    assert lab.harness("export", "--sample", "yes", "--to", "out").stdout.startswith("goes on: yes 1\n")
    assert {path.name: path.read_text() for path in (lab.path / "out").iterdir()} == {"half": "x", "whole": "4.0"}
    lab.edit("toy/task.yaml", "[toy/solution.py]", "[toy/solution.py, 'toy/export.*']")
    assert "toy/export.py measures the candidates" in lab.harness("measure", code=1).stderr


def test_no_run_sees_what_another_made(lab: Lab) -> None:
    """A run that begins with a trained model would be ahead of its time. Without the sandbox it finds one."""
    place = f"{lab.env['XDG_STATE_HOME']}/**/artefacts/**/answer.txt"
    lab.harness("run", "--tag", "t", *BETTER, "--experiments", "1")
    with (lab.path / "toy/solution.py").open("a") as file:
        file.write(PEEK.format(place=place))
    lab.agent("peek", f"cat >> toy/solution.py <<'END'{PEEK.format(place=place)}END\nNOTE")
    for tag, sandbox in (("closed", "bubblewrap"), ("open", "none")):
        lab.harness("run", "--tag", tag, "--agent", "peek", "--experiments", "1", "--sandbox", sandbox)
    seen = {tag: lab.git("show", f"refs/experiments/{tag}/0001:train-1.log") for tag in ("closed", "open")}
    assert "found []" in seen["closed"]
    assert "artefacts/t/0001/toy/answer.txt" in seen["open"]


@pytest.mark.heavy
def test_gc_keeps_what_the_last_merges_made(lab: Lab) -> None:
    lab.harness("run", "--tag", "t", *BETTER, "--agent", "worse", "--experiments", "3")
    assert [row[3] for row in lab.rows()] == ["keep", "keep", "discard", "keep"]
    lab.harness("replicate", "2", "--tag", "t")
    (lab.state / "artefacts/other/0001").mkdir(parents=True)
    left = lambda: sorted(str(path.relative_to(lab.state / "artefacts")) for path in lab.state.glob("artefacts/*/*"))  # noqa: E731
    assert left() == ["other/0001", "t/0000", "t/0001", "t/0002", "t/0003"]
    lab.harness("gc", "--keep-checkpoints", "2")
    assert left() == ["t/0001", "t/0003"]
    lab.harness("gc", "--keep-checkpoints", "1")
    assert left() == ["t/0003"]
    lab.harness("export")


def test_a_night_keeps_to_its_room_and_never_drops_the_incumbents(tmp_path: Path) -> None:
    for number, name in enumerate(("0000", "0003", "0007")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model").write_bytes(b"x" * 1000)
        os.utime(tmp_path / name, (number, number))
    artefacts.trim(tmp_path, "0000", 2000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0000", "0007"]
    artefacts.trim(tmp_path, "0000", 0)
    assert [path.name for path in tmp_path.iterdir()] == ["0000"]
    assert trees.size(tmp_path) == 1000


def test_what_a_person_rejected_takes_no_merged_ones_place(tmp_path: Path) -> None:
    def decided(record: Record) -> Record:
        said = [Decision(kind="reject", by="Ada", at="")] if record.id == "0007" else []
        return record.model_copy(update={"review": Review(decisions=said)}) if record.id in ("0001", "0007") else record

    long_night.make(tmp_path / "lab", 12, 4, decided)
    repo, made = git.open_repo(tmp_path / "lab"), tmp_path / "t"
    statuses = {record.id: record.status for record in Ledger(repo, "t").records()}
    assert {name: statuses[name] for name in ("0001", "0003", "0007")} == {"0001": "waiting", "0003": "keep", "0007": "rejected"}
    for name in statuses:
        (made / name).mkdir(parents=True)
    assert statuses.keys() - {path.name for path in old_models(repo, made, 1)} == {"0001", "0003"}
