"""Early stops: off until curves are known to tell, never for what could win, and honest about themselves."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stage import Part, Scorer, Stage, check, home

from harness import curves, measuring
from harness.ledger import Ledger
from harness.models import Budget, Measurement, Request
from harness.protocols import Cancel

__all__ = ["home"]


def history(count: int, noise: float, seed: int = 1) -> list[tuple[float, float]]:
    """Losses at the point where a run is looked at, and scores that follow from them but for the noise."""
    dice = random.Random(seed)
    losses = [dice.uniform(3, 4) for _ in range(count)]
    return [(loss, 0.5 * loss + dice.gauss(0, noise)) for loss in losses]


def test_the_rule_is_off_below_thirty_runs_and_where_curves_do_not_tell() -> None:
    assert curves.learn(history(29, 0.01)) is None
    assert curves.learn(history(30, 0.01)) is not None
    assert curves.learn(history(300, 5.0)) is None
    assert curves.learn([(3.0, 1.0)] * 40) is None


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_only_what_is_out_of_reach_is_hopeless(direction: str) -> None:
    sign = 1 if direction == "minimize" else -1
    rule = curves.learn([(loss, sign * score) for loss, score in history(40, 0.01)])
    assert rule is not None
    assert rule.spread == pytest.approx(0.01, rel=0.4)
    assert rule.hopeless(3.9, sign * 1.6, direction)  # type: ignore[arg-type]
    assert not rule.hopeless(3.2, sign * 1.6, direction)  # type: ignore[arg-type]
    assert not rule.hopeless(3.24, sign * 1.6, direction)  # type: ignore[arg-type]


def test_hardly_any_run_that_would_have_won_is_ended() -> None:
    """Two hundred worlds: of runs whose true score is better than the bar, fewer than one in a hundred."""
    ended = won = 0
    for seed in range(200):
        past = history(60, 0.05, seed)
        if (rule := curves.learn(past[:40])) is None:
            continue
        bar = min(score for _, score in past[:40])
        for loss, score in past[40:]:
            won += score < bar
            ended += score < bar and rule.hopeless(loss, bar, "minimize")
    assert won > 20
    assert ended <= won / 100


def test_a_curve_is_looked_at_by_the_time_that_it_has() -> None:
    watch = curves.Watch()
    for second in range(11):
        watch.add(100.0 + second, 10.0 - second, 5.0 - second / 10)
        assert (watch.early() is not None) == (second >= 4)
    assert watch.early() == pytest.approx(4.6)
    assert curves.whole([(step, 5.0 - step / 100) for step in range(0, 101, 2)]) == pytest.approx(4.62)
    assert curves.whole([(step, 5.0 - step / 100) for step in range(0, 101, 25)]) == pytest.approx(4.75)
    assert curves.whole([]) is None


class Trainer(Scorer):
    """A runner that publishes a curve as it goes; its loss tells the score from the beginning."""

    ended: list[str]

    def measure(self, request: Request, cancel: Cancel) -> Measurement | None:
        found = super().measure(request, cancel)
        text = (request.tree / "toy/solution.py").read_text()
        loss = self.stage.value(text, request.seed) if "F = 7" not in text else float("nan")
        for tenth in range(11):
            told = {"phase": "train", "left_s": 0.2 * (1 - tenth / 10), "loss": loss}
            request.progress.with_suffix(".partial").write_text(json.dumps(told))
            request.progress.with_suffix(".partial").replace(request.progress)
            time.sleep(0.02)
            if cancel():
                return None
        return found and found.model_copy(update={"curve": [(step, loss) for step in range(101)]})


def test_a_night_ends_hopeless_runs_and_no_others(home: Path) -> None:
    """A night that has seen forty whole runs already; the control is the same night before it had."""
    parts = [Part({"A": 60}), Part({"F": 7}), Part({"C": 4})]
    stage = Stage(home / "repo", parts)
    stage.runner, stage.known = Trainer, {f"past {n}": (10.0 + n, 10.0 + n) for n in range(40)}
    stage.play(workers=1, slots=1)
    check(stage)
    hopeless, broken, better = stage.records[1:]
    assert hopeless.verdict is not None
    assert hopeless.verdict.status == "discard"
    assert "stopped at 40% of the run: with a loss of 67 there" in hopeless.verdict.reason
    assert hopeless.measurements[0].status == "stopped"
    assert stage.beside(hopeless, "curve-1.tsv").count("\n") >= 2
    assert broken.verdict is not None
    assert (broken.verdict.status, broken.verdict.reason) == ("crash", "its loss is no number any more")
    assert better.verdict is not None
    assert better.verdict.status == "keep"
    assert hopeless.proposal is not None
    looked_at = SimpleNamespace(watcher=lambda *_: "somebody")
    night: Any = SimpleNamespace(history=looked_at, ledger=Ledger(stage.repo, "t"), task=SimpleNamespace(budget=Budget()))
    again = hopeless.model_copy(update={"measurements": []})
    taken_back = again.model_copy(update={"proposal": hopeless.proposal.model_copy(update={"reverts": "0003"})})
    assert measuring.watch(night, again)
    assert measuring.watch(night, taken_back) is None, "what a merge is worth is known from whole runs only"
    control = Stage(home / "control", parts[:1])
    control.runner = Trainer
    control.play(workers=1, slots=1)
    assert control.records[1].measurements[0].status == "ok"


@pytest.mark.heavy
def test_a_night_learns_that_curves_tell_and_spares_every_tenth(home: Path) -> None:
    parts = [Part({"A": 5 + n % 17, "B": 6 + n // 17}) for n in range(1, 34)] + [Part({"A": 80, "B": 81 + n}) for n in range(8)]
    stage = Stage(home / "repo", parts)
    stage.runner = Trainer
    stage.play(workers=2, slots=2)
    check(stage)
    runs = {int(record.id): record.measurements[0] for record in stage.records if record.measurements}
    assert all(run.status == "ok" for number, run in runs.items() if number <= 29)
    assert {number for number, run in runs.items() if run.status == "stopped"} >= {36, 37, 38, 39, 41}
    assert runs[40].status == "ok"
    assert runs[40].hidden_figures == {"spared": 1.0}
