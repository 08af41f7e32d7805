"""The judge is pure: verdicts follow from the figures alone."""

from __future__ import annotations

import pytest

from harness import judge
from harness.models import Budget, Experiment, Measurement, Metric, Record, Task


def record(identity: str, *values: float, status: str = "ok", cpu_s: float = 10.0, metric: Metric | None = None) -> Record:
    runs = [Measurement.model_validate({"status": status, "value": value, "cpu_s": cpu_s, "reason": "why"}) for value in values]
    return Record(
        experiment=Experiment(id=identity, tag="t", agent="a", base="0" * 40),
        state="measuring",
        task="toy",
        metric=metric or Metric(name="m"),
        profile="cpu",
        sandbox="none",
        harness="0",
        program="",
        started="",
        updated="",
        measurements=runs,
    )


def task(noise: float = 0.01, direction: str = "minimize", factor: float | None = None) -> Task:
    metric = Metric.model_validate({"name": "m", "noise": noise, "direction": direction})
    return Task(name="toy", program="p", editable=["f"], metric=metric, budget=Budget(cpu_factor=factor))


def verdict(value: float, of: Task, **options: float) -> str:
    baseline, candidate = record("0000", 1.00, 1.01, 0.99), record("0001", value, **options)  # type: ignore[arg-type]
    found = judge.judge(of, baseline, baseline, candidate, judge.sigma([baseline, candidate], of.metric))
    assert found is not None
    return found.status


@pytest.mark.parametrize(("value", "wanted"), [(0.97, "keep"), (0.985, "discard"), (1.0, "discard"), (1.5, "discard")])
def test_kept_only_beyond_two_standard_deviations(value: float, wanted: str) -> None:
    assert verdict(value, task()) == wanted


def test_larger_is_better_when_the_task_says_so() -> None:
    assert verdict(1.03, task(direction="maximize")) == "keep"
    assert verdict(0.97, task(direction="maximize")) == "discard"


def test_the_noise_is_pooled_and_never_below_the_prior() -> None:
    quiet, loud = record("0001", 1.0, 1.0), record("0002", 1.0, 1.4)
    metric = Metric(name="m", noise=0.05)
    assert judge.sigma([quiet], metric) == 0.05
    assert judge.sigma([quiet, loud, record("0003", 7.0)], metric) == pytest.approx(0.2)  # 0.08 over two degrees of freedom


def test_a_metric_without_noise_needs_one_run_and_any_gain() -> None:
    exact, one = task(noise=0.0), record("0000", 1.0)
    found = judge.judge_baseline(exact, one)
    assert found is not None
    assert found.status == "keep"
    better = judge.judge(exact, one, one, record("0001", 0.999999), 0.0)
    same = judge.judge(exact, one, one, record("0002", 1.0), 0.0)
    assert better is not None
    assert same is not None
    assert (better.status, same.status) == ("keep", "discard")


def test_a_noisy_baseline_asks_for_three_seeds() -> None:
    assert judge.judge_baseline(task(), record("0000", 1.0, 1.0)) is None
    assert judge.judge_baseline(task(), record("0000", 1.0, 1.0, 1.0)) is not None


def test_more_compute_than_allowed_is_invalid_however_good() -> None:
    limited = task(factor=1.25)
    assert verdict(0.5, limited, cpu_s=12.4) == "keep"
    assert verdict(0.5, limited, cpu_s=12.6) == "invalid"


@pytest.mark.parametrize("status", ["crash", "invalid", "void"])
def test_a_failed_run_is_the_verdict(status: str) -> None:
    assert verdict(0.5, task(), status=status) == status  # type: ignore[arg-type]


def test_seeds_are_fresh_for_each_experiment_and_repeatable() -> None:
    seeds = {judge.seed(f"{number:04d}", run) for number in range(50) for run in range(6)}
    assert len(seeds) == 300
    assert judge.seed("0007", 2) == judge.seed("0007", 2)
