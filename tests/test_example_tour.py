"""examples/tour as a user runs it: a night of the tuner, the same result every time, and tours that are none."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Lab

from harness import referee
from harness.config import load_task
from harness.models import Measurement, Request

ROOT = Path(__file__).parents[1]
TOUR = "examples/tour/tour.txt"


@pytest.fixture
def tour(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A repository with the example and the agents of this one; the trusted evaluation runs in its root."""
    shutil.copytree(ROOT / "examples/tour", lab.path / "examples/tour", ignore=shutil.ignore_patterns("tour.txt", "__pycache__"))
    shutil.copy(ROOT / "agents.yaml", lab.path)
    lab.git("add", ".")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "the tour")
    monkeypatch.chdir(lab.path)
    return lab


def independent_length(cities: Path, lines: list[str]) -> float:
    """What the tour measures, by other means than evaluate.py's: complex numbers, and a check of its own."""
    points = [complex(*map(float, row.split(","))) for row in cities.read_text().splitlines()[1:]]
    order = [int(line) for line in lines]
    assert sorted(order) == list(range(len(points)))
    return sum(abs(points[one] - points[other]) for one, other in zip(order, order[1:] + order[:1], strict=True))


def measure(lab: Lab, seed: int) -> Measurement:
    """One measurement of the work tree; `work` beside it keeps what the candidate wrote."""
    task = load_task(lab.path / "examples/tour/task.yaml")
    head = lab.git("rev-parse", "HEAD")
    work = lab.path.parent / "work"
    return referee.measure(Request(task=task, tree=lab.path, work=work, commit=head, seed=seed, sandbox="bubblewrap"))


def test_a_night_of_the_tuner_and_the_same_value_for_another_seed(tour: Lab) -> None:
    tour.harness("run", "examples/tour", "--tag", "t", "--agent", "tuner", "--experiments", "2")
    rows = tour.rows()
    assert len(rows) == 3
    assert {row[3] for row in rows} <= {"keep", "discard"}
    assert rows[2][3] == "keep"
    assert float(rows[2][1]) < float(rows[0][1])

    (baseline,) = json.loads(tour.git("show", "refs/experiments/t/0000:record.json"))["measurements"]
    again = measure(tour, baseline["seed"] + 1)
    assert (again.status, again.value) == ("ok", baseline["value"])
    lines = (tour.path.parent / "work/artefacts" / TOUR).read_text().splitlines()
    assert again.value == pytest.approx(independent_length(tour.path / "examples/tour/cities.csv", lines), rel=1e-12)


def test_a_candidate_that_forges_its_tour_is_invalid(tour: Lab) -> None:
    forged = "open('examples/tour/tour.txt', 'w').write('0\\n' * 500)\nprint('{\"value\": 1}')\n"
    (tour.path / "examples/tour/solve.py").write_text(forged)
    measured = measure(tour, seed=1)
    assert (measured.status, measured.value) == ("invalid", None)
    assert "line # visits city # a second time" in measured.reason  # agents read this: its numbers are masked
    assert "line 2 visits city 0 a second time" in measured.referee_tail


def evaluate(folder: Path, data: bytes | None) -> subprocess.CompletedProcess[str]:
    """evaluate.py as the referee calls it."""
    if data is not None:
        (folder / TOUR).parent.mkdir(parents=True)
        (folder / TOUR).write_bytes(data)
    argv = [sys.executable, "examples/tour/evaluate.py", str(folder)]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


HONEST = [b"%d" % city for city in range(500)]


def test_an_honest_tour_passes_wherever_it_begins_and_whichever_way_it_goes(tmp_path: Path) -> None:
    values = []
    for name, lines in (("a", HONEST), ("b", HONEST[7:] + HONEST[:7]), ("c", HONEST[::-1])):
        ended = evaluate(tmp_path / name, b"\n".join(lines) + b"\n")
        assert (ended.returncode, ended.stderr) == (0, "")
        values.append(json.loads(ended.stdout.splitlines()[-1])["value"])
    expected = independent_length(ROOT / "examples/tour/cities.csv", [str(city) for city in range(500)])
    assert values[0] == pytest.approx(expected, rel=1e-12)
    assert values == values[:1] * 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda lines: [*lines[:-1], b"0"], "line 500 visits city 0 a second time"),
        (lambda lines: [*lines, b"0"], "line 501 visits city 0 a second time"),
        (lambda lines: lines[:-1], "visits 499 of 500 cities"),
        (lambda lines: [], "visits 0 of 500 cities"),
        (lambda lines: [b"9" * 5000, *lines[1:]], "line 1 is not"),
        (lambda lines: [b"9" * (8 << 20)], "larger than 64 KiB"),
        (lambda lines: [*lines[:-1], b"500"], "line 500 is not"),
        (lambda lines: [b"-1", *lines[1:]], "line 1 is not"),
        (lambda lines: [b"0.0", *lines[1:]], "line 1 is not"),
        (lambda lines: [b"nan", *lines[1:]], "line 1 is not"),
        (lambda lines: [b"00", *lines[1:]], "line 1 is not"),
        (lambda lines: [b"1_0" if line == b"10" else line for line in lines], "line 11 is not"),
        (lambda lines: [b"\xd9\xa0", *lines[1:]], "line 1 is not"),  # a zero in Arabic
        (lambda lines: [b"\xff\x00", *lines[1:]], "line 1 is not"),
        (lambda lines: [b" ".join(lines)], "line 1 is not"),
        (lambda lines: [b'{"value": 0}'], "line 1 is not"),
        (lambda lines: [*lines, b"", b'{"value": 0}'], "line 501 is not"),
    ],
)
def test_what_is_not_a_tour_is_refused_in_a_sentence(
    tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], reason: str
) -> None:
    ended = evaluate(tmp_path, b"\n".join(change(HONEST)))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("This is not a tour: ")
    assert ended.stderr.count("\n") == 1
    assert reason in ended.stderr


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    ended = evaluate(tmp_path, None)
    assert (ended.returncode, ended.stderr) == (1, "This is not a tour: there is no tour.txt.\n")
