"""The judge is pure: verdicts follow from the figures alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import judge
from harness.belief import LEAST, Incumbent, Prior
from harness.models import Budget, Experiment, Limits, Measurement, Metric, Proposal, Record, Task, Verdict
from harness.needs import cpu_limit
from harness.noise import Noise

TIP = "1" * 40


def record(
    identity: str,
    *values: float,
    status: str = "ok",
    cpu_s: float = 10.0,
    added: int = 0,
    metric: Metric | None = None,
    **fields: object,
) -> Record:
    runs = [
        Measurement.model_validate({"status": status, "value": value, "cpu_s": cpu_s, "reason": "why", "seed": seed, **fields})
        for seed, value in enumerate(values, 1)
    ]
    return Record(
        experiment=Experiment(id=identity, tag="t", agent="a", base=TIP),
        state="measuring",
        task="toy",
        metric=metric or Metric(name="m"),
        profile="cpu",
        sandbox="none",
        harness="0",
        program="",
        started="",
        updated="",
        proposal=Proposal(title="t", added=added) if identity != "0000" else None,
        measurements=runs,
    )


def task(noise: float = 0.01, direction: str = "minimize", rule: str = "bayes", **limits: float) -> Task:
    metric = Metric.model_validate({"name": "m", "noise": noise, "direction": direction})
    known = {"budget": Budget(cpu_factor=limits.pop("factor", None)), "limits": Limits.model_validate(limits)}
    return Task.model_validate({"name": "toy", "program": "p", "editable": ["f"], "metric": metric, "judge": rule, **known})


def baseline(of: Task, *values: float) -> Record:
    """A baseline that was kept after its first run and measured again since."""
    made = record("0000", values[0])
    kept = judge.judge_baseline(of, made)
    assert kept is not None
    for value in values[1:]:
        kept = judge.refined(kept, value)
    return record("0000", *values).model_copy(update={"verdict": kept})


def known(of: Task, first: Record, *others: Record) -> judge.Standing:
    found = judge.standing(of, first, TIP, [first, *others])
    assert found is not None
    return found


def decide(of: Task, candidate: Record, first: Record | None = None, *closed: Record) -> judge.Next:
    first = first or baseline(of, *[1.00, 1.01, 0.99] * 4)
    return judge.judge(of, judge.standing(of, first, TIP, [first, *closed, candidate]), first, first, candidate)


def verdict(of: Task, candidate: Record, first: Record | None = None) -> Verdict:
    found = decide(of, candidate, first)
    assert isinstance(found, Verdict), found
    return found


def test_a_large_gain_is_kept_after_two_runs_and_a_large_loss_discarded_after_one() -> None:
    assert decide(task(), record("0001", 0.5)) == "run"  # an erratic change can be lucky once by any amount
    better, worse = verdict(task(), record("0001", 0.93, 0.93)), verdict(task(), record("0001", 1.05))
    assert (better.status, worse.status) == ("keep", "discard")
    assert better.probability is not None
    assert better.probability > 0.99
    assert better.reason.endswith("over 2 seeds, real with a probability above 90 %")
    assert worse.reason.endswith("worse by 0.05 over 1 seed")


def test_a_loser_is_told_what_the_incumbent_scored_with_its_seeds() -> None:
    first = baseline(task(), 1.05, *[1.00, 1.01, 0.99] * 4)  # its first seed is a bad one
    assert "1.04 against 1.05: better by 0.01" in verdict(task(), record("0001", 1.04), first).reason
    unknown = record("0001", 1.10)
    other = unknown.model_copy(update={"measurements": [run.model_copy(update={"seed": 99}) for run in unknown.measurements]})
    assert "against 1.05" not in verdict(task(), other, first).reason
    both = record("0001", 1.10, 1.10)  # of the two seeds the incumbent knows one
    part = both.model_copy(update={"measurements": [both.measurements[0], other.measurements[0]]})
    assert "against 1.05" not in verdict(task(), part, first).reason


def test_a_close_call_runs_again_until_it_is_clear() -> None:
    assert decide(task(), record("0001", 0.975)) == "run"
    assert verdict(task(), record("0001", 0.975, 0.972, 0.974)).status == "keep"
    assert verdict(task(), record("0001", 0.985, 1.006, 1.004, 1.003)).status == "discard"


def test_after_six_runs_without_an_answer_it_is_discarded() -> None:
    unclear = [0.975, 0.99, 0.992, 0.990, 0.991, 0.9905]
    assert decide(task(), record("0001", *unclear[:5])) == "run"
    found = verdict(task(), record("0001", *unclear))
    assert (found.status, found.runs) == ("discard", 6)
    assert "still undecided after 6 runs" in found.reason


def test_a_little_known_incumbent_is_run_rather_than_the_candidate() -> None:
    of = task()
    assert decide(of, record("0001", 0.97, 0.975), baseline(of, 1.0)) == "control"
    assert decide(of, record("0001", 0.975), baseline(of, 1.0, 1.0, 1.0)) == "run"


def test_nothing_is_kept_before_the_noise_is_measured() -> None:
    """A guess of a tenth of the noise: by that, any lucky candidate would be kept at once."""
    of = task()
    assert decide(of, record("0001", 0.9, 0.9), baseline(of, 1.0)) == "control"
    assert verdict(of, record("0001", 0.9, 0.9), baseline(of, 1.0, 1.0)).status == "keep"
    found = known(task(noise=0.001), baseline(task(noise=0.001), 1.0, 1.01, 0.99, 1.0))
    assert found.noise.sigma == pytest.approx(0.0055, abs=0.001)
    assert found.incumbent.variance == pytest.approx(1 / 4)  # in units of the noise as it is known now


@pytest.mark.parametrize(("scale", "offset"), [(1e6, 3e7), (1e-6, 0.0), (1.0, -1.0), (-1.0, 0.0), (-1e3, 1.0)])
def test_the_metrics_unit_and_direction_change_nothing(scale: float, offset: float) -> None:
    of, other = task(), task(noise=0.01 * abs(scale), direction="maximize" if scale < 0 else "minimize")
    first, moved = (
        baseline(a, *[b + c * v for v in [1.00, 1.01, 0.99] * 4]) for a, b, c in ((of, 0.0, 1.0), (other, offset, scale))
    )
    for values in ((0.93, 0.94), (0.975,), (0.985, 1.006, 1.004, 1.003), (1.05,), (0.978, 0.977, 0.979)):
        found = decide(of, record("0001", *values), first)
        same = decide(other, record("0001", *[offset + scale * value for value in values]), moved)
        if isinstance(found, str):
            assert same == found
        else:
            assert isinstance(same, Verdict)
            assert (same.status, same.probability) == (found.status, pytest.approx(found.probability, abs=1e-6))
            assert same.gain == pytest.approx((found.gain or 0.0) * abs(scale), abs=1e-6 * abs(scale))


def test_a_reason_says_what_was_gained_though_it_is_less_than_is_shown() -> None:
    of = task()
    of = of.model_copy(update={"metric": of.metric.model_copy(update={"resolution": 0.1})})
    found = verdict(of, record("0001", 0.97, 0.972, 0.97, 0.97))
    assert found.reason == "m 1.0 against 1.0: better by less than 0.1 over 4 seeds, real with a probability above 90 %"
    plain = verdict(task(), record("0001", 0.97, 0.972, 0.97, 0.97))
    assert plain.value is not None
    assert plain.gain is not None
    assert f"against {plain.value + plain.gain:.6g}: better by {plain.gain:.6g} over" in plain.reason


def test_larger_is_better_when_the_task_says_so() -> None:
    assert verdict(task(direction="maximize"), record("0001", 1.07, 1.06)).status == "keep"
    assert verdict(task(direction="maximize"), record("0001", 0.95)).status == "discard"


def test_what_is_recorded_of_a_lucky_run_is_less_than_was_measured() -> None:
    found = verdict(task(), record("0001", 0.94, 0.96))
    assert found.status == "keep"
    assert found.value is not None
    assert 0.95 < found.value < 1.0
    assert found.gain == pytest.approx(1.0 - found.value, abs=0.006)


def test_a_metric_without_noise_needs_one_run_and_any_gain() -> None:
    exact = task(noise=0.0)
    first = baseline(exact, 1.0)
    assert verdict(exact, record("0001", 0.999999), first).status == "keep"
    assert verdict(exact, record("0002", 1.0), first).status == "discard"
    assert verdict(exact, record("0003", 1.0, added=-40), first).simpler


def test_greedy_keeps_what_scored_better() -> None:
    of = task(rule="greedy")
    first = baseline(of, 1.0)
    assert verdict(of, record("0001", 0.9999), first).status == "keep"
    assert not judge.control_due(of, first, TIP, [first, record("0001", 1.0)])


def test_less_code_is_kept_when_it_is_not_worse_and_labelled() -> None:
    runs = (1.0, 1.001, 0.999, 1.0, 1.0, 1.0)
    shorter, same = verdict(task(), record("0001", *runs, added=-60)), verdict(task(), record("0001", *runs))
    assert (shorter.status, shorter.simpler, same.status) == ("keep", True, "discard")
    assert "60 tokens of code less: simpler and not worse" in shorter.reason
    assert verdict(task(), record("0001", 1.04, 1.04, added=-60)).status == "discard"
    assert verdict(task(), record("0001", *runs, added=-29)).status == "discard"
    slightly = [run + 0.001 for run in runs]  # how much worse it may be is the price of the code, so many small steps lose little
    assert [verdict(task(), record("0001", *slightly, added=-less)).status for less in (60, 250)] == ["discard", "keep"]
    worse = [run + 0.009 for run in runs]
    assert verdict(task(), record("0001", *worse, added=-4000)).status == "discard"


def test_more_code_has_to_gain_more() -> None:
    runs = (0.978, 0.977, 0.979, 0.978)
    assert verdict(task(), record("0001", *runs)).status == "keep"
    assert decide(task(), record("0001", *runs, added=2000)) != "keep"
    found = verdict(task(), record("0001", *runs, 0.978, 0.978, added=2000))
    assert found.status == "discard"
    assert "2000 tokens of code more" in found.reason


def test_the_baseline_is_kept_after_one_run_and_its_other_seeds_follow() -> None:
    of = task()
    assert judge.judge_baseline(of, record("0000")) is None
    closed = record("0001", 1.2)
    closed = closed.model_copy(update={"verdict": verdict(of, closed, baseline(of, 1.0))})
    due = [judge.control_due(of, first, TIP, [first, closed]) for first in (baseline(of, *[1.0] * n) for n in (1, 2, 3))]
    assert due == [True, True, False]
    assert not judge.control_due(of, baseline(of, 1.0), TIP, [baseline(of, 1.0)])


def test_every_twenty_fifth_candidate_the_incumbent_runs_again() -> None:
    of = task()
    first = baseline(of, 1.0, 1.0, 1.0)
    closed = [record(f"{n:04d}", 1.2).model_copy(update={"verdict": Verdict(status="discard", reason="")}) for n in range(1, 80)]
    assert first.verdict is not None
    due = [n for n in (24, 25, 74, 75) if judge.control_due(of, first, TIP, [first, *closed[:n]])]
    assert due == [75]  # two runs of its own followed the verdict: enough for 74


def test_refining_the_incumbent_by_its_own_runs_gives_their_mean() -> None:
    first = baseline(task(), 1.00, 1.03, 0.97, 1.02)
    assert first.value == pytest.approx(1.005)


def test_more_compute_or_memory_than_allowed_is_refused_however_good() -> None:
    of = task(factor=1.25)
    assert verdict(of, record("0001", 0.5, 0.5, cpu_s=12.4)).status == "keep"
    assert verdict(of, record("0001", 0.5, cpu_s=12.6)).status == "invalid"
    of = task(peak_memory_factor=1.5)
    first = record("0000", 1.0, 1.0, peak_memory_mb=100.0).model_copy(update={"verdict": baseline(of, 1.0, 1.0).verdict})
    assert verdict(of, record("0001", 0.5, 0.5, peak_memory_mb=149.0), first).status == "keep"
    assert verdict(of, record("0001", 0.5, peak_memory_mb=151.0), first).status == "discard"


@pytest.mark.parametrize("status", ["crash", "invalid", "void"])
def test_a_failed_run_is_the_verdict(status: str) -> None:
    assert verdict(task(), record("0001", 0.5, status=status)).status == status
    later = record("0001", 0.5, 0.5)
    failed = later.measurements[1].model_copy(update={"status": status})
    later = later.model_copy(update={"measurements": [later.measurements[0], failed]})
    assert verdict(task(), later).status == status  # though the first was good


def test_what_failed_before_it_was_joined_is_not_held_against_the_join() -> None:
    made = record("0001", 0.5, 0.5)
    alone = made.measurements[0].model_copy(update={"commit": "a" * 40, "status": "void"})
    runs = [alone, *(run.model_copy(update={"commit": "b" * 40}) for run in made.measurements)]
    joined = made.experiment.model_copy(update={"commit": "a" * 40, "joined": "b" * 40})
    assert verdict(task(), made.model_copy(update={"measurements": runs, "experiment": joined})).status == "keep"


DOCS = Path(__file__).parent.parent / "docs" / "judging.md"


def test_what_people_are_told_of_the_rule_is_the_rule() -> None:
    told = DOCS.read_text()
    assert f"more than an eighth of the noise is above {judge.KEEP:.0%}".replace("%", " %") in told
    assert f"below {judge.DISCARD:.0%}".replace("%", " %") in told
    assert f"after {['', '', '', '', '', '', 'six', 'seven'][judge.MOST_RUNS]} runs without an answer" in told
    assert f"every {judge.CONTROL_EVERY} candidates" in told
    assert f"For {judge.TOKENS_A_SIGMA} tokens more" in told
    assert f"{judge.SIMPLER} tokens less" in told
    assert (judge.LEAST, judge.WORSE, judge.BASELINE_RUNS) == (1 / 8, 3 / 4, 3)  # an eighth, three quarters, three seeds


def test_a_verdict_follows_from_the_probability_alone() -> None:
    seen = set()
    for worse in range(80):
        tried = record("0001", *[0.93 + worse / 1000] * 3)
        found = decide(task(), tried)
        probability = known(task(), baseline(task(), *[1.00, 1.01, 0.99] * 4), tried).gain(tried).above(0.125)
        said = found.status if isinstance(found, Verdict) else "again"
        assert said == ("keep" if probability > 0.9 else "discard" if probability < 0.2 else "again")
        seen.add(said)
    assert seen == {"keep", "discard", "again"}


def closed(number: int, *values: float, on: str = TIP, status: str = "discard", reverts: str = "", first: Record) -> Record:
    """An experiment that was judged on an incumbent."""
    made = record(f"{number:04d}", *values)
    found = known(task(), first, made)
    gain = found.gain(made)
    sigma = found.noise.sigma
    told = Verdict(status=status, reason="", sigma=sigma, observed=gain.observed * sigma, error=gain.error * sigma)  # type: ignore[arg-type]
    experiment = made.experiment.model_copy(update={"base": on})
    return made.model_copy(update={"verdict": told, "experiment": experiment, "proposal": Proposal(title="t", reverts=reverts)})


def test_each_candidate_teaches_what_edits_are_like() -> None:
    first = baseline(task(), 1.00, 1.01, 0.99)
    good = [closed(n, 0.9, first=first, on="2" * 40) for n in range(1, 31)]
    bad = [closed(n, 1.2, first=first, on="2" * 40) for n in range(1, 31)]
    none = known(task(), first).prior
    assert known(task(), first, *good).prior.better > 0.5 > 0.05 > known(task(), first, *bad).prior.better
    assert known(task(), first, *good).prior.gain == pytest.approx(8, rel=0.2)  # standard deviations, not the metric's unit
    assert known(task(), first, *(closed(n, 0.9, first=first, reverts="0001") for n in range(1, 31))).prior == none
    many = [good[0]] * 200 + [bad[0]] * judge.REMEMBERED  # the oldest are forgotten
    assert known(task(), first, *many).prior.better == LEAST
    judged = first.model_copy(update={"verdict": good[0].verdict and good[0].verdict.model_copy(update={"value": 1.0})})
    assert known(task(), judged).prior == none  # what a baseline scored is no edit's gain


def test_discards_on_the_incumbent_teach_what_it_is_worth_and_no_others() -> None:
    first = baseline(task(), 1.00, 1.01, 0.99)
    alone = known(task(), first).incumbent
    taught = known(task(), first, *(closed(n, 1.01, first=first) for n in range(1, 9))).incumbent
    assert taught.variance < 0.9 * alone.variance
    assert taught.mean < alone.mean  # that all of eight ideas harm is less likely than that it was flattered
    for other in ({"on": "2" * 40}, {"status": "keep"}):
        found = known(task(), first, *(closed(n, 1.01, first=first, **other) for n in range(1, 9)))  # type: ignore[arg-type]
        assert (found.incumbent.mean, found.incumbent.variance) == (alone.mean, alone.variance)


def test_what_a_seed_adds_is_taken_off_and_the_rest_weighs_more() -> None:
    found = judge.Standing(Noise(0.01, {1: 0.05}, {1: 0.2}), Incumbent(-100.0, 0.1), Prior(), -1.0, 9)
    assert found.scaled(record("0001", 1.05, 1.00)) == pytest.approx([-100.0, -100.0])
    assert found.gain(record("0001", 1.05)).error == pytest.approx((0.1 + 0.2) ** 0.5)
    assert found.gain(record("0001", 1.05, 1.0)).error == pytest.approx((0.1 + 0.6 / 2) ** 0.5)
    assert [judge.seed(number) for number in range(3)] == [1, 2, 3]


def test_compute_is_compared_with_the_baselines_whatever_the_incumbent_needed() -> None:
    of, first = task(factor=1.25), baseline(task(), 1.0, 1.0, 1.0)
    greedier = first.model_copy(update={"measurements": [run.model_copy(update={"cpu_s": 12.4}) for run in first.measurements]})
    tried = record("0001", 0.5, 0.5, cpu_s=12.6)
    found = judge.judge(of, known(of, greedier, tried), greedier, first, tried)
    assert isinstance(found, Verdict)
    assert (found.status, found.reason) == ("invalid", "needed 12.6 CPU seconds, the limit is 1.25 x the baseline's 10.0")
    last = tried.model_copy(
        update={"measurements": [tried.measurements[0].model_copy(update={"cpu_s": 9.0}), tried.measurements[1]]}
    )
    assert judge.judge(of, known(of, first, last), first, first, last) == found
    assert cpu_limit(of, first) == pytest.approx(12.5)
    assert cpu_limit(task(), first) is None


def test_less_code_is_run_again_while_it_may_be_harmless_and_its_gain_is_not_called_real() -> None:
    assert decide(task(), record("0001", 1.0)) != "run"
    assert decide(task(), record("0001", 1.0, added=-300)) == "run"
    assert decide(task(), record("0001", 1.002, added=-300)) == "run"
    found = verdict(task(), record("0001", 1.0, 1.0, 1.0, 1.0, added=-300))
    assert (found.status, found.simpler) == ("keep", True)
    assert found.probability is not None
    assert found.probability < judge.KEEP
    exact = task(noise=0.0)
    assert verdict(exact, record("0001", 1.001, added=-300), baseline(exact, 1.0)).status == "discard"


def test_only_what_was_tried_on_the_incumbent_counts_for_its_next_run() -> None:
    first = baseline(task(), 1.0, 1.0, 1.0)
    elsewhere = [closed(n, 1.2, first=first, on="2" * 40) for n in range(1, 80)]
    here = [closed(n, 1.2, first=first) for n in range(1, 80)]
    assert judge.control_due(task(), first, TIP, [first, *here])
    assert not judge.control_due(task(), first, TIP, [first, *elsewhere])
    for other in (task(rule="greedy"), task(noise=0.0)):
        assert not judge.control_due(other, first, TIP, [first, *here])
