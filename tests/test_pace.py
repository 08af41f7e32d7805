"""Slow runs: ended when the night shows that slowness loses, or when they cannot count any more; never for being slow alone."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import ClassVar

import pytest
from conftest import Lab
from course import HONEST, Course, bare, changed, course
from stage import Part, Scorer, Stage, check, home
from test_referee import asked

from harness import pace
from harness.early import Watcher
from harness.models import PROGRESS, Measurement, Metric, Request
from harness.protocols import Cancel
from harness.referee import measure
from nanochat_train import referee

__all__ = ["bare", "course", "home"]
USUAL, SLOW = [(1.0, -0.5), (0.9, 0.2)] * 15, [(0.4, -5.0), (0.3, -6.0), (0.45, -4.5), (0.2, -7.0), (0.1, -8.0)]


def test_the_rule_is_off_until_slow_runs_are_known_to_lose() -> None:
    assert pace.learn(USUAL + SLOW) == pace.Rule(5)
    assert pace.learn(USUAL[:24] + SLOW) is None  # fewer than thirty
    assert pace.learn(USUAL + SLOW[1:]) is None  # fewer than five slow ones
    assert pace.learn([*USUAL, *SLOW, (0.3, 0.1)]) is None  # one of them won
    assert pace.learn([*USUAL, *SLOW[1:], (0.4, -0.1)]) is None  # or was near it
    assert pace.learn([*USUAL, *SLOW, (0.6, 3.0)]) == pace.Rule(5)  # which is not slow


def world(dice: random.Random, cost: float) -> tuple[float, float]:
    """A run's share of the incumbent's data, and its gain in standard deviations of a run: most ideas do nothing or harm."""
    share = dice.uniform(0.05, pace.SLOW) if dice.random() < 0.2 else 1.0
    kind = dice.random()
    gain = dice.expovariate(1 / 3) if kind < 0.1 else 0.0 if kind < 0.5 else -dice.expovariate(1 / 5)
    return share, gain + dice.gauss(0, 1) - (cost if share < pace.SLOW else 0.0)


@pytest.mark.parametrize(("cost", "least", "most"), [(0.0, 0, 1), (6.0, 5, 60), (25.0, 80, 100)])
def test_it_stays_off_where_slowness_costs_nothing_and_ends_hardly_a_winner_elsewhere(cost: float, least: int, most: int) -> None:
    """A hundred nights of sixty runs, after each of which two hundred further runs are looked at."""
    on = ended = won = 0
    for seed in range(100):
        dice = random.Random(seed)
        if pace.learn([world(dice, cost) for _ in range(60)]) is None:
            continue
        on += 1
        later = [gain for share, gain in (world(dice, cost) for _ in range(200)) if share < pace.FLOOR]
        ended, won = ended + len(later), won + sum(gain > 0 for gain in later)
    assert least <= on <= most
    assert won <= ended / 50


def test_what_a_run_will_see_is_told_by_the_speed_that_it_has() -> None:
    even, late = pace.Watch(100.0), pace.Watch(100.0)
    for second in range(25):
        even.add(100.0 - second, 10.0 * second)
        late.add(100.0 - second, 0.0 if second < 20 else 100.0 * (second - 19))
        assert even.expected() is None
    even.add(75.0, 250.0)
    late.add(75.0, 600.0)
    assert even.expected() == pytest.approx(1000)
    assert late.expected() == pytest.approx(8100, rel=0.1)  # what it lost by compiling on the clock is not held against its rest


def looked(folder: Path, speed: float, spared: bool = False, known: bool = True, incumbent: float | None = 1000.0) -> Watcher:
    """A watcher that has seen a run of 100 seconds with so many units of data a second, as far as it let that go."""
    rule = pace.learn(USUAL + SLOW) if known else None
    watcher = Watcher(Metric(name="m"), None, rule, 1.0, incumbent, spared, seen=pace.Watch(100.0))
    for second in range(101):
        (folder / PROGRESS).write_text(json.dumps({"phase": "train", "left_s": 100.0 - second, "tokens": speed * second}))
        if watcher.look(folder):
            break
    return watcher


def test_only_a_run_that_will_see_less_than_a_quarter_is_ended_and_a_spared_one_is_noted(tmp_path: Path) -> None:
    request = Request.model_construct(seed=1, sandbox="none", task=Request.model_fields["task"].annotation.model_construct())  # type: ignore[union-attr]
    slow = looked(tmp_path, 1.0)
    assert slow.reason == (
        "stopped at 25% of the run: at its speed it would have seen 10% of the incumbent's data, "
        "and all 5 runs that saw less than 50% were clearly worse"
    )
    ended = slow.result(request, None)
    assert ended is not None
    assert (ended.status, ended.figures) == ("stopped", {"tokens": 25.0})
    assert looked(tmp_path, 2.6).reason == ""
    assert looked(tmp_path, 1.0, known=False).reason == ""
    assert looked(tmp_path, 1.0, incumbent=None).reason == ""
    spared = looked(tmp_path, 1.0, spared=True)
    assert spared.reason == ""
    whole = spared.result(request, Measurement(status="ok", value=1.0))
    assert whole is not None
    assert whole.hidden_figures == {"spared_slow": 1.0}
    assert looked(tmp_path, 2.6, spared=True).result(request, Measurement(status="ok", value=1.0)).hidden_figures == {}  # type: ignore[union-attr]


class Reader(Scorer):
    """A runner whose runs of 300 seconds see as much data as F says, and publish that as they go; each needs 10 CPU seconds."""

    allowed: ClassVar[list[float | None]] = []

    def measure(self, request: Request, cancel: Cancel) -> Measurement | None:
        found = super().measure(request, cancel)
        self.allowed.append(request.cpu_s)
        data = int(re.findall(r"^F = (\d+)", (request.tree / "toy/solution.py").read_text(), re.MULTILINE)[0])
        for second in range(0, 101, 5):
            told = {"phase": "train", "left_s": 3.0 * (100 - second), "tokens": data * second}
            request.progress.with_suffix(".partial").write_text(json.dumps(told))
            request.progress.with_suffix(".partial").replace(request.progress)
            if cancel():
                return None
        return found and found.model_copy(update={"figures": {"tokens": 100.0 * data}, "cpu_s": 10.0})


def test_a_night_that_knows_ends_slow_runs_and_one_that_does_not_learns(home: Path) -> None:
    """The first of both had thirty-five runs before; F = 1 sees a fifth of the baseline's data, F = 2 two fifths.

    In the control the same slow run wins: only what the night knows may end it, and every tenth goes on to tell.
    """
    parts = [Part({"F": 1, "A": 4}), Part({"F": 2, "A": 4}), Part({"B": 4})]
    stage, control = Stage(home / "repo", parts), Stage(home / "control", parts[:2])
    stage.paces = {f"past {n}": each for n, each in enumerate(USUAL + SLOW)}
    stage.runner = control.runner = Reader
    with (stage.path / "toy/task.yaml").open("a") as file:
        file.write("budget: {cpu_factor: 2}\n")
    Reader.allowed.clear()
    stage.play(workers=1, slots=1)
    check(stage)
    assert [record.measurements[0].status for record in stage.records] == ["ok", "stopped", "ok", "ok"]
    assert [record.status for record in stage.records] == ["keep", "discard", "keep", "keep"]
    assert Reader.allowed == [None, 20.0, 20.0, 20.0]  # CPU seconds: the baseline's own run has no limit
    assert stage.records[1].verdict is not None
    assert "it would have seen 20% of the incumbent's data" in stage.records[1].verdict.reason
    assert stage.records[1].measurements[0].figures == {"tokens": 25.0}
    control.play(workers=1, slots=1)
    assert [record.measurements[0].status for record in control.records] == ["ok", "ok", "ok"]
    assert control.records[1].status == "keep"


BURN = "while time.process_time() < 20: pass"


def test_the_default_referee_ends_a_run_that_needs_too_much(tmp_path: Path) -> None:
    """Nearly all is needed by a child, as a run does that hides it; the control has no limit."""
    burn = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time\\n' + CODE])"
    solve = burn.replace("CODE", "'while time.process_time() < 1.5: pass'")
    found = measure(asked(tmp_path / "limited", burn.replace("CODE", f"'{BURN}'")).model_copy(update={"cpu_s": 0.5}))
    assert (found.status, found.reason) == (
        "invalid",
        "ended when it had needed 0.5 CPU seconds, the limit by the baseline's runs",
    )
    assert 0.5 < found.cpu_s < 15
    control = measure(asked(tmp_path / "control", solve))
    assert "CPU seconds" not in control.reason
    assert control.cpu_s > 1.4


def test_nanochats_referee_ends_a_run_that_needs_too_much_and_keeps_its_curve(course: Course) -> None:
    slow = changed(("        step += 1\n", f"        step += 1\n        run.log(step, 5.0)\n        {BURN}\n"))
    found = referee.measure(course.request(slow).model_copy(update={"cpu_s": 2.0}))
    reason = "ended when it had needed 2.0 CPU seconds, the limit by the baseline's runs"
    assert (found.status, found.reason) == ("invalid", reason)
    assert 2.0 < found.cpu_s < 15
    assert found.curve
    assert found.figures["tokens"] > 0


@pytest.mark.heavy
def test_nanochats_referee_leaves_a_run_below_the_limit_alone(course: Course) -> None:
    assert referee.measure(course.request(HONEST).model_copy(update={"cpu_s": 60.0})).status == "ok"


@pytest.mark.heavy
def test_in_a_night_the_limit_is_the_baselines_and_the_candidates_alone(lab: Lab) -> None:
    lab.edit("toy/task.yaml", "budget: {", "budget: {limit_s: 40, cpu_factor: 12, ")
    lab.edit("toy/task.yaml", "run_s: 5", "run_s: null")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "a limit")
    lab.agent("slow", f"sed -i 's/^X = .*/X = 3.0; import time\\n{BURN}/' toy/solution.py; NOTE")
    lab.harness("run", "--tag", "t", "--agent", "slow", "--agent", "better", "--experiments", "2")
    assert [row[3] for row in lab.rows()] == ["keep", "invalid", "keep"]
    told = json.loads(lab.git("show", "refs/experiments/t/0001:record.json"))
    assert re.fullmatch(
        r"ended when it had needed \d+\.\d CPU seconds, the limit by the baseline's runs", told["verdict"]["reason"]
    )
    assert 0 < told["measurements"][0]["cpu_s"] < 20
