"""How much two runs differ, from repeats: pooled, with the task's guess, and with what a seed does to all alike taken off."""

from __future__ import annotations

import random

import pytest
from test_judge import record

from harness.models import Metric, Record
from harness.noise import degrees, noise

METRIC = Metric(name="m", noise=0.05)


def repeats(common: float, count: int, runs: int, seed: int) -> list[Record]:
    """Experiments whose runs have a standard deviation of 1, of which the share `common` of the variance is the seed's."""
    rng = random.Random(seed)
    effects = [rng.gauss(0, common**0.5) for _ in range(runs)]
    made = []
    for number in range(count):
        truth = rng.gauss(0, 10)
        values = [truth + effect + rng.gauss(0, (1 - common) ** 0.5) for effect in effects]
        made.append(record(f"{number:04d}", *values))
    return made


def test_the_guess_counts_until_repeats_say_otherwise() -> None:
    assert noise([record("0001", 1.0)], METRIC).sigma == pytest.approx(0.05)
    few, many = ([record(f"{n:04d}", 1.0, 1.4) for n in range(count)] for count in (1, 200))
    assert 0.05 < noise(few, METRIC).sigma < 0.2
    assert noise(many, METRIC).sigma == pytest.approx(0.283, rel=0.02)


def test_a_guess_far_too_high_comes_down() -> None:
    assert noise(repeats(0.0, 60, 3, 1), Metric(name="m", noise=10.0)).sigma < 3


def test_only_runs_that_count_and_of_one_commit_are_repeats() -> None:
    made = record("0001", 1.0, 1.1, 5.0)
    runs = [made.measurements[0], made.measurements[1], made.measurements[2].model_copy(update={"status": "invalid"})]
    other = [run.model_copy(update={"commit": "b" * 40, "value": 9.0}) for run in runs[:1]]
    mixed = made.model_copy(update={"measurements": [*runs, *other]})
    assert noise([mixed], METRIC).sigma == noise([record("0001", 1.0, 1.1)], METRIC).sigma
    assert degrees([mixed]) == 1


def test_an_effect_of_a_seed_is_shrunken_the_more_the_fewer_runs_show_it() -> None:
    few, many = ([record(f"{n:04d}", 0.0, 1.0, -1.0) for n in range(1, count)] for count in (6, 60))
    less, more = (noise(records, Metric(name="m", noise=1.0)).effects[2] for records in (few, many))
    assert 0.3 < less < 1.405 < more < 2**0.5  # which is what the runs show, to the variance of one


def test_no_noise_is_none() -> None:
    assert noise(repeats(0.0, 3, 3, 1), Metric(name="m")).sigma == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_seeds_that_have_nothing_in_common_are_not_paired(seed: int) -> None:
    assert noise(repeats(0.0, 20, 3, seed), Metric(name="m", noise=1.0)).effects == {}


@pytest.mark.parametrize("seed", range(5))
def test_that_only_the_lucky_run_again_is_no_effect_of_the_first_seed(seed: int) -> None:
    """Candidates that do nothing run again if their first run was good; the control takes that for an effect of its seed."""
    rng = random.Random(seed)
    made = [[rng.gauss(0, 1) for _ in range(4)] for _ in range(300)]
    lucky = [record(f"{number:04d}", *(runs if runs[0] > 1.5 else runs[:1])) for number, runs in enumerate(made, 1)]
    assert noise(lucky, Metric(name="m", noise=1.0)).effects == {}
    unaware = [each.model_copy(update={"proposal": None}) for each in lucky]
    assert noise(unaware, Metric(name="m", noise=1.0)).effects[1] > 0.5


def test_what_a_seed_does_to_all_is_taken_off() -> None:
    records = repeats(0.8, 20, 6, 7)
    found = noise(records, Metric(name="m", noise=1.0))
    assert found.left(range(2, 7)) < 0.5
    assert found.left([1]) > found.left([2])  # which candidates ran twice because they were lucky with
    assert found.left([9]) == 1.0

    def spread(paired: bool) -> float:
        total = 0.0
        for known in records:
            values = [found.value(run) if paired else run.value or 0.0 for run in known.measurements]
            mean = sum(values) / len(values)
            total += sum((value - mean) ** 2 for value in values)
        return total

    assert spread(True) < 0.5 * spread(False)
