"""What needs the CPU beside runs: without a GPU it is done in a run slot, so that nobody else is on the clock on its cores."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from stage import Part, Scorer, Stage, check, home

from harness.bench import pinned
from harness.models import Measurement, Request
from harness.protocols import Cancel

__all__ = ["home"]
LOOK = """\
import os, pathlib, time
log = pathlib.Path({log!r})
with log.open("a") as file:
    file.write(f"begin check {{len(os.sched_getaffinity(0))}}\\n")
time.sleep(0.3)
with log.open("a") as file:
    file.write("end check\\n")
"""


class Slow(Scorer):
    """A runner whose runs take real time, and are written down."""

    def measure(self, request: Request, cancel: Cancel) -> Measurement | None:
        log = self.stage.path.parent / "log"
        with log.open("a") as file:
            file.write("begin run\n")
        time.sleep(0.6)
        found = super().measure(request, cancel)
        with log.open("a") as file:
            file.write("end run\n")
        return found


def events(home: Path, slots: int) -> list[str]:
    """What began and ended, in its order, in a night of two workers whose second proposal comes while the first one is run."""
    stage = Stage(home / "repo", [Part({"A": 4}), Part({"B": 4}), Part({"C": 4})])
    (stage.path / "toy/look.py").write_text(LOOK.format(log=str(home / "log")))
    with (stage.path / "toy/task.yaml").open("a") as file:
        file.write("check: [python, toy/look.py]\n")
    for words in (("add", "."), ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a check")):
        subprocess.run(["git", *words], cwd=stage.path, check=True)
    stage.runner = Slow
    stage.play(workers=2, slots=slots)
    check(stage)
    return (home / "log").read_text().splitlines()


def together(found: list[str]) -> int:
    """How many checks were at work at some moment at which a run was."""
    runs = checks = count = 0
    for event in found:
        what, name = event.split()[:2]
        change = 1 if what == "begin" else -1
        runs, checks = runs + change * (name == "run"), checks + change * (name == "check")
        count += bool(runs and checks and what == "begin")
    return count


def test_a_check_waits_for_the_run_that_has_the_cores(home: Path) -> None:
    found = events(home, slots=1)
    assert sum(event.startswith("begin check") for event in found) >= 4
    assert together(found) == 0


@pytest.mark.heavy
def test_with_two_slots_it_stays_on_the_cores_of_its_own(home: Path) -> None:
    """The control: there a check and a run are at work at the same time."""
    found = events(home, slots=2)
    assert together(found) > 0
    if pinned([0]):
        half = max(1, len(os.sched_getaffinity(0)) // 2)
        assert {event for event in found if event.startswith("begin check")} == {f"begin check {half}"}
