"""Run slots: each has cores or a GPU of its own, and one whose GPU breaks leaves the others at work."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from conftest import Lab
from graphics import missing
from test_gpus import Graphics, graphics, spoil

from harness import gpus, slots
from harness.models import Metric, Place, Task, UserError

__all__ = ["graphics"]
TWO = ("--workers", "2", "--slots", "2", "--profile", "gpu")
CARDS = """\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-2)
GPU 2: NVIDIA T4 (UUID: GPU-3)
"""
PARTS = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-1)
  MIG 3g.20gb     Device  0: (UUID: MIG-1)
  MIG 3g.20gb     Device  1: (UUID: MIG-2)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-2)
"""


def task(count: int, profile: str) -> Task:
    return Task(name="t", program="p", editable=["a"], metric=Metric(name="m"), slots=count, profile=profile)


def smi(folder: Path, monkeypatch: pytest.MonkeyPatch, cards: str) -> None:
    """An nvidia-smi that lists these cards, as the true one does."""
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\ncat <<'EOF'\n{cards}EOF\n")
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    monkeypatch.delenv(gpus.VISIBLE, raising=False)


def test_cores_are_shared_out_evenly_and_by_one_slot_not_at_all() -> None:
    assert slots.places(task(1, "cpu")) == [Place()]
    assert slots.shares(2, [0, 1, 2, 3, 4]) == [Place(cpus=[0, 1]), Place(cpus=[2, 3])]
    assert slots.shares(3, [5]) == [Place()] * 3


def test_a_slot_has_a_gpu_of_the_most_frequent_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(tmp_path, monkeypatch, CARDS)
    assert slots.cards(2) == [Place(gpus=["GPU-1"]), Place(gpus=["GPU-2"])]
    with pytest.raises(UserError, match="there are 3 run slots and 2 usable GPUs of one model: use --slots 2"):
        slots.cards(3)
    monkeypatch.setenv(gpus.VISIBLE, "1,GPU-3")
    assert slots.cards(1) == [Place(gpus=["GPU-2"])]
    with pytest.raises(UserError, match="1 usable"):
        slots.cards(2)


def test_a_gpu_out_of_use_is_no_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(tmp_path, monkeypatch, CARDS)
    gpus.mark("GPU-1", "it is broken")
    assert slots.cards(1) == [Place(gpus=["GPU-2"])]
    with pytest.raises(UserError, match="1 usable"):
        slots.cards(2)


def test_the_parts_of_a_split_gpu_are_slots_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(tmp_path, monkeypatch, PARTS)
    assert slots.cards(2) == [Place(gpus=["MIG-1"]), Place(gpus=["MIG-2"])]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core")
def test_two_runs_at_a_time_have_cores_of_their_own(lab: Lab) -> None:
    lab.edit("toy/solution.py", 'os.environ["SEED"])', "sorted(os.sched_getaffinity(0)))")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "tell")
    lab.harness("run", "--tag", "t", "--agent", "worse", "--experiments", "1", "--workers", "2", "--slots", "2")
    logs = [lab.git("show", f"refs/experiments/t/000{n}:train-1.log") for n in range(2)]
    half = len(os.sched_getaffinity(0)) // 2
    assert [len(json.loads(log.splitlines()[0][log.index("[") :])) for log in logs] == [half, half]


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_a_gpu_that_breaks_is_used_no_more_and_the_others_go_on(graphics: Graphics) -> None:
    (graphics.smi / "gpus").write_text("GPU-1\nGPU-2\n")
    (graphics.smi / "cards").write_text(CARDS)
    (graphics.path / "toy/referee.py").write_text(
        "import os, sys\nfrom harness.process import UNKILLABLE\nfrom harness.referee import measure, serve\n"
        "if sys.argv[1] != '--ready' and os.environ['CUDA_VISIBLE_DEVICES'] == 'GPU-1':\n"
        "    print('process 5 cannot be killed')\n    sys.exit(UNKILLABLE)\n"
        "sys.exit(serve(measure, sys.argv[1:]))\n"
    )
    graphics.edit("toy/task.yaml", "outputs:", "referee: [python, toy/referee.py]\noutputs:")
    graphics.git("add", ".")
    graphics.commit()
    said = graphics.said("run", "--tag", "t", *TWO, "--agent", "better", "--agent", "worse", "--experiments", "2")
    assert "GPU-1 is out of use, because process 5 cannot be killed" in said
    assert sorted(row[3] for row in graphics.rows()) == ["discard", "keep", "keep"]
    spoil(graphics, "GPU-2")
    said = graphics.said("resume", "--tag", "t", "--experiments", "3", code=1)
    assert "there are 2 run slots and 0 usable GPUs" in said or "no GPU is left to run on" in said


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_somebody_elses_process_on_the_gpu_of_a_run_is_noted_in_its_record(graphics: Graphics) -> None:
    (graphics.smi / "apps").write_text(f"{os.getpid()}, GPU-1\n")
    run = json.loads(graphics.harness("measure", "--json").stdout)
    assert run["hardware"]["shared"].startswith(f"GPU-1 with process {os.getpid()} (")
