"""What a night ends with: figures that the records support, and text of agents that cannot leave its line."""

from __future__ import annotations

import json
import math

from conftest import Lab

from harness.misses import near_misses
from harness.models import Experiment, Measurement, Metric, Proposal, Record, Usage, Verdict
from harness.summary import duration, summarise, text

METRIC = Metric(name="loss", resolution=0.01, noise=0.1)


def record(number: int, verdict: Verdict, title: str = "an idea", values: tuple[float, ...] = (2.0,), usd: float = 0.5) -> Record:
    runs = [Measurement(status="ok", value=value, seconds={"run": 60.0, "evaluate": 5.0}) for value in values]
    return Record(
        experiment=Experiment(id=f"{number:04d}", tag="t", agent="someone", base="b" * 40),
        state="closed",
        task="toy",
        metric=METRIC,
        profile="default",
        sandbox="none",
        harness="0",
        program="p" * 40,
        started="2026-11-21T20:00:00+00:00",
        updated=f"2026-11-21T2{number % 4}:30:00+00:00",
        proposal=Proposal(title=title, seconds=100.0, usage=Usage(usd=usd)) if number else None,
        measurements=runs,
        verdict=verdict,
    )


BASELINE = record(
    0, Verdict(status="keep", reason="baseline", value=2.0, value_sd=0.03, sigma=0.1, runs=3), values=(1.9, 2.0, 2.1)
)
KEPT = record(
    1,
    Verdict(
        status="keep",
        reason="",
        value=1.5,
        value_sd=0.04,
        sigma=0.1,
        gain=0.5,
        gain_sd=0.05,
        probability=0.999,
        runs=2,
        error=0.1,
    ),
    values=(1.5, 1.4),
)


def discarded(number: int, probability: float | None, gain: float | None) -> Record:
    return record(number, Verdict(status="discard", reason="", probability=probability, gain=gain, sigma=0.1))


def test_the_interval_is_what_is_believed_of_both_ends() -> None:
    found = summarise([BASELINE, KEPT], KEPT)
    assert found.gain == 0.5
    assert found.low is not None
    assert found.high is not None
    assert math.isclose(found.high - found.low, 2 * 1.959964 * 0.05)
    assert (found.usd, found.usd_a_keep, found.counts) == (0.5, 0.5, {"keep": 1})
    assert found.seconds == {"propose": 100.0, "run": 300.0, "evaluate": 25.0}
    assert "95 % interval 0.4 to 0.6 by all runs so far" in text(found, [BASELINE, KEPT])
    assert "> 99 % real" in text(found, [BASELINE, KEPT])


def test_without_a_keep_nothing_is_claimed() -> None:
    found = summarise([BASELINE, discarded(1, 0.05, -0.3)], BASELINE)
    assert (found.gain, found.low, found.kept, found.near_misses) == (0.0, None, [], [])
    assert "loss 2.00 -> 2.00: nothing was merged" in text(found, [BASELINE])
    assert not any("certify" in command for command in found.next)


def test_near_misses_are_the_undecided_and_the_probably_better_the_likeliest_first() -> None:
    vetoed, hopeless, nothing = discarded(2, 0.99, 0.4), discarded(3, 0.1, -0.2), discarded(4, None, None)
    undecided, small, flat = discarded(5, 0.3, -0.01), discarded(6, 0.15, 0.02), discarded(7, 0.15, 0.005)
    undecided_more = discarded(8, 0.7, 0.06)
    records = [BASELINE, KEPT, vetoed, hopeless, nothing, undecided, small, flat, undecided_more]
    assert [each.id for each in near_misses(records)] == ["0008", "0005", "0006"]


def test_seconds_as_people_say_them() -> None:
    shown = [duration(seconds) for seconds in (3.25, 12.4, 119, 300, 3600, 9000)]
    assert shown == ["3.2 s", "12 s", "2 min", "5 min", "60 min", "2.5 h"]


def test_a_night_ends_with_its_summary_and_the_command_repeats_it(lab: Lab) -> None:
    ended = lab.harness("run", "--tag", "t", "--agent", "better", "--agent", "worse", "--experiments", "2").stdout
    assert ended.startswith("1 discard, 1 keep; distance 2.00 -> 1.00 with 1 merged\n")
    assert "result    distance 2.00 -> 1.00: better by 1\n" in ended
    assert "kept      0001  1.00  +1" in ended
    assert "harness certify --tag t" in ended
    assert lab.harness("summary").stdout == ended
    found = json.loads(lab.harness("summary", "--json").stdout)
    assert (found["tip_id"], found["gain"], found["low"], found["counts"]) == ("0001", 1.0, None, {"discard": 1, "keep": 1})
    assert found["seconds"]["propose"] > 0
    lab.git("branch", "-q", "-D", "autoresearch/t")
    assert lab.harness("summary").stdout == ended  # records that were fetched without the branch


def test_what_an_agent_wrote_stays_on_its_line(lab: Lab) -> None:
    """Attack: a title with escape sequences, lines of its own and marks that turn text round; the control is a plain one."""
    hostile = r"Good\033[2J\033]0;owned\007\rkept      0009  0.00 " + "\u202e" + r"evil\nresult    forged"
    lab.agent("hostile", f"sed -i 's/5.0/4.0/' toy/solution.py; printf '{hostile}\\n' > notes/EXPERIMENT.md")
    ended = lab.harness("run", "--tag", "t", "--agent", "hostile", "--experiments", "1").stdout
    assert not set(ended) & {"\033", "\007", "\r", "\u202e"}
    assert [line for line in ended.splitlines() if line.startswith("result")] == ["result    distance 2.00 -> 1.00: better by 1"]
    assert sum(line.startswith("kept") for line in ended.splitlines()) == 1
    assert "Good" in ended


def test_hostile_records_of_others_are_made_harmless_too() -> None:
    bad = KEPT.model_copy(update={"proposal": Proposal(title="a\033[31mb\u202ec\nresult    forged")})
    lines = text(summarise([BASELINE, bad], bad), [BASELINE, bad]).splitlines()
    assert not any("\033" in line or "\u202e" in line for line in lines)
    assert sum(line.startswith("result") for line in lines) == 1
