"""What a referee may compare a run with: kept outside every sandbox, dropped when it is of no use, and never missed."""

from __future__ import annotations

import json
import shutil

import pytest
from conftest import Lab

from harness.models import Record

REFEREE = """\
import pathlib, re, sys
import numpy as np
from harness.models import Audit, Measurement, Request
from harness.referee import serve

def measure(request):
    value = abs(float(re.search(r"X = (.+?)  #|X = (.+)", (request.tree / "toy/solution.py").read_text())[0][4:].split()[0]) - 3)
    known = request.against.items
    notes = {"baseline": str(len(request.against.baseline))}
    notes["items"] = str(np.load(known).tolist()) if known else "none"
    np.save(request.items, np.full(3, value, dtype=np.float32))
    audit = Audit(passed=True, summary="audit passed, 12 cuts", figures={"largest": 0.012345, "mean": 0.00067})
    return Measurement(status="ok", value=value + 0.000123, notes=notes, audit=audit, hardware={"cpu": "abacus"})

if __name__ == "__main__":
    sys.exit(serve(measure, sys.argv[1:]))
"""


@pytest.fixture
def audited(lab: Lab) -> Lab:
    """The toy task with a referee of its own that leaves items and an audit."""
    (lab.path / "toy/referee.py").write_text(REFEREE)
    lab.edit("toy/task.yaml", "evaluate: [python, toy/evaluate.py]", "referee: [python, toy/referee.py]")
    lab.git("add", ".")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a referee that audits")
    return lab


def record(lab: Lab, number: int) -> Record:
    return Record.model_validate_json(lab.git("show", f"refs/experiments/t/{number:04d}:record.json"))


def kept(lab: Lab) -> list[str]:
    return sorted(path.name for path in (lab.state / "items/t").iterdir())


def test_a_run_is_compared_with_the_incumbent_and_the_baseline(audited: Lab) -> None:
    audited.harness("run", "--tag", "t", "--agent", "worse", "--agent", "better", "--experiments", "2")
    seen = [record(audited, number).measurements[0].notes for number in range(3)]
    assert [notes["items"] for notes in seen] == ["none", "[2.0, 2.0, 2.0]", "[2.0, 2.0, 2.0]"]
    assert [notes["baseline"] for notes in seen] == ["0", "1", "1"]
    assert kept(audited) == ["0002.npy"]
    shutil.rmtree(audited.state / "items")
    audited.harness("resume", "--tag", "t", "--agent", "better", "--experiments", "3")
    assert record(audited, 3).measurements[0].notes == {"items": "none", "baseline": "1"}
    assert kept(audited) == ["0003.npy"]
    audited.harness("gc")
    assert not (audited.state / "items/t").exists()


@pytest.mark.heavy
def test_more_runs_of_a_loser_leave_nothing(audited: Lab) -> None:
    audited.harness("run", "--tag", "t", "--agent", "worse", "--experiments", "1")
    audited.harness("replicate", "1", "--tag", "t")
    assert kept(audited) == ["0000.npy"]


def test_nobody_in_a_sandbox_reads_single_values(audited: Lab) -> None:
    look = f"find '{audited.env['XDG_STATE_HOME']}' -name '*.npy' 2>/dev/null | sed 's/^/found /' >> notes/NOTEBOOK.md; NOTE"
    audited.agent("spy", f"sed -i 's/^X = .*/X = 9.0/' toy/solution.py; {look}")
    audited.harness("run", "--tag", "t", "--agent", "spy", "--experiments", "1")
    proposal = record(audited, 1).proposal
    assert kept(audited) == ["0000.npy"]
    assert proposal is not None
    assert "found" not in proposal.notebook
    audited.harness("run", "--tag", "u", "--agent", "spy", "--experiments", "1", "--sandbox", "none")
    assert "found" in audited.git("show", "refs/experiments/u/0001:record.json")


@pytest.mark.heavy
def test_an_audit_is_told_in_the_merge_and_shown_with_its_figures(audited: Lab) -> None:
    audited.harness("run", "--tag", "t", "--agent", "better", "--experiments", "1")
    body = audited.git("log", "-1", "--format=%B", "autoresearch/t")
    assert "Runs: 1 (default profile, bubblewrap sandbox, audit passed, 12 cuts)" in body
    shown = audited.harness("show", "1").stdout
    assert "audit passed, 12 cuts: largest 0.01235, mean 0.00067" in shown
    assert "cpu abacus" in shown


def test_what_agents_read_holds_no_digit_beyond_the_resolution(audited: Lab) -> None:
    look = "cat notes/* lab/*.* lab/experiments/*/*.* > /tmp/all; git log >> /tmp/all; cat /tmp/all >> notes/NOTEBOOK.md; NOTE"
    audited.agent("reader", f"sed -i 's/^X = .*/X = 4.2/' toy/solution.py; {look}")
    agents = [part for name in ("better", "worse", "reader") for part in ("--agent", name)]
    audited.harness("run", "--tag", "t", *agents)
    proposal = record(audited, 3).proposal
    assert proposal is not None
    read = proposal.notebook + audited.git("show", "refs/experiments/t/0003:prompt.md")
    assert "distance 4.00 against 1.00" in read
    for secret in ("000123", "1.0001", "4.0001", "2.0001", "0.0123", "0.00067"):
        assert secret not in read, secret
    assert json.loads(audited.git("show", "refs/experiments/t/0001:record.json"))["measurements"][0]["value"] == 1.000123
