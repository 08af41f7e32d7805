"""Sandboxes of a harness that was killed in the wrong moment do not outlive its next start."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Lab

from harness import orphans

SLEEP = "import time; time.sleep(600)"
started: list[subprocess.Popen[bytes]] = []


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    yield
    while started:
        child = started.pop()
        child.kill()
        child.communicate()


def box(folder: Path) -> subprocess.Popen[bytes]:
    """A sandbox that shows a folder and that no harness waits for, as one is left where bubblewrap died too early."""
    folder.mkdir(parents=True, exist_ok=True)
    show = ["--unshare-pid", "--die-with-parent", "--ro-bind", "/", "/", "--bind", str(folder), str(folder), "--dev", "/dev"]
    return start(["bwrap", *show, sys.executable, "-c", f"print(flush=True); {SLEEP}"])


def start(argv: list[str]) -> subprocess.Popen[bytes]:
    started.append(child := subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True))
    assert child.stdout
    child.stdout.readline()
    return child


def test_only_sandboxes_that_show_something_below_the_folders_are_ended(tmp_path: Path) -> None:
    left, itself, beside = box(tmp_path / "t/0001"), box(tmp_path / "t"), box(tmp_path / "t2/0001")
    reader = start([sys.executable, "-c", f"print(flush=True); {SLEEP}", str(tmp_path / "t/0001")])
    assert {left.pid, itself.pid} <= set(orphans.end([tmp_path / "t"]))
    assert (left.wait(10), itself.wait(10)) == (-9, -9)
    assert (beside.poll(), reader.poll()) == (None, None)


def test_a_night_ends_what_an_earlier_one_of_its_tag_left(lab: Lab) -> None:
    lab.harness("run", "--tag", "t", "--agent", "idle", "--experiments", "1")
    left, other = box(lab.state / "runs/t/0001-0/tree"), box(lab.state / "runs/u/0001-0/tree")
    lab.harness("resume", "--tag", "t", "--experiments", "1")
    assert left.wait(10) == -9
    assert other.poll() is None
