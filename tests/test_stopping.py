"""When a night ends by itself: each condition ends it, and does not where it is not met."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from conftest import Lab

from harness import config
from harness.models import Stop, UserError
from harness.stopping import by_time, moment

# Values go down, then up for ever: two keeps, then none.
TWO_KEEPS = """\
i={seed}
case $i in 1) X=4.0;; 2) X=3.5;; *) X=7.$i;; esac
sed -i "s/^X = .*/X = $X/" toy/solution.py; NOTE"""


def stopped(lab: Lab, *words: str) -> str:
    """Why a night of the agent `steps` ended."""
    said = lab.harness("run", "--tag", "t", "--agent", "steps", *words).stderr
    return next(line for line in said.splitlines() if line.startswith("stopped: "))


@pytest.fixture
def steps(lab: Lab) -> Lab:
    lab.agent("steps", TWO_KEEPS)
    return lab


@pytest.mark.heavy
def test_a_plateau_counts_from_the_last_keep_and_a_longer_one_goes_on(steps: Lab) -> None:
    said = stopped(steps, "--experiments", "9", "--plateau", "2")
    assert said == "stopped: the last 2 experiments had none to keep; `harness resume --plateau 4` goes on"
    assert [row[3] for row in steps.rows()] == ["keep", "keep", "keep", "discard", "discard"]
    steps.harness("resume", "--plateau", "4")
    assert len(steps.rows()) == 7


@pytest.mark.heavy
def test_a_plateau_is_none_while_fewer_were_tried_or_what_failed_was_outside(steps: Lab) -> None:
    """The control: three experiments are no plateau of four, and a void experiment is no failure of an idea."""
    assert stopped(steps, "--experiments", "3", "--plateau", "4") == "stopped: 3 experiments are done"
    steps.agent("broken", "exit 3")
    said = steps.harness("run", "--tag", "v", "--agent", "broken", "--experiments", "9", "--plateau", "2").stderr
    assert "stopped: the last 3 experiments were void" in said


def test_a_target_ends_the_night_where_it_is_reached(steps: Lab) -> None:
    said = stopped(steps, "--target", "0.5")
    assert said == "stopped: the target is reached: distance 0.50, asked for was 0.5"
    assert len(steps.rows()) == 3
    said = steps.harness("run", "--tag", "u", "--agent", "steps", "--target", "0.49", "--experiments", "3").stderr
    assert "stopped: 3 experiments are done" in said


@pytest.mark.heavy
def test_a_target_of_a_metric_that_grows(steps: Lab) -> None:
    steps.edit("toy/task.yaml", "minimize", "maximize")
    steps.edit("toy/task.yaml", "{experiments: 4}", "{experiments: 4, target: 4.3}")
    assert stopped(steps) == "stopped: the target is reached: distance 4.30, asked for was 4.3"
    assert len(steps.rows()) == 4


@pytest.mark.heavy
def test_a_night_ends_when_the_clock_shows_a_time(steps: Lab) -> None:
    """The clock of this night's time zone shows a full minute in twenty seconds."""
    steps.env["TZ"] = f"T-00:00:{(40 - datetime.now().second) % 60:02}"
    steps.agent("slow", "sleep 2; sed -i 's/^X = .*/X = 8.{seed}/' toy/solution.py; NOTE")
    local = datetime.now(UTC) + timedelta(seconds=(40 - datetime.now().second) % 60)
    soon = (local + timedelta(seconds=30)).strftime("%H:%M")
    said = steps.harness("run", "--tag", "u", "--agent", "slow", "--experiments", "99", "--at", soon).stderr
    assert f"stopped: it is {soon}" in said
    assert f"ends after 99 experiments in all, on {local:%A} at {soon}" in said or soon == "00:00"


def test_time_is_up_at_the_moment_and_not_before() -> None:
    began = datetime(2026, 11, 21, 23, 30).astimezone()
    stop = Stop(at="07:30", hours=9)
    for hours, wanted in {7.99: None, 8.0: "it is 07:30", 9.1: "9 hours are over"}.items():
        assert by_time(stop, began, began + timedelta(hours=hours), hours) == wanted
    assert by_time(Stop(), began, began + timedelta(days=9), 216) is None


def test_the_next_moment() -> None:
    zone = ZoneInfo("Europe/Berlin")
    began = datetime(2026, 11, 21, 23, 30, tzinfo=zone)
    local = began.astimezone()
    assert moment(f"{local:%H:%M}", local) - local == timedelta(days=1)
    later = local + timedelta(minutes=90)
    assert moment(f"{later:%H:%M}", local) == later


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[ZoneInfo]:
    """The machine's clock is Berlin's, by its rules and not by a data base that may be missing."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield ZoneInfo("Europe/Berlin")
    time.tzset()


@pytest.mark.parametrize(
    ("began", "at", "hours"),
    [
        ("2026-11-21T23:30", "07:30", 8),
        ("2026-11-21T07:30", "07:30", 24),
        ("2026-03-28T23:00", "07:30", 7.5),  # an hour is left out
        ("2026-03-29T01:00", "02:30", 1.5),  # which is never shown: half an hour after it would be
        ("2026-03-29T04:00", "02:30", 22.5),
        ("2026-10-24T23:00", "07:30", 9.5),  # an hour comes twice
        ("2026-10-25T01:00", "02:30", 1.5),
        ("2026-10-25T02:40", "02:30", 5 / 6),  # shown once more
    ],
)
def test_the_clock_may_be_set_in_that_night(berlin: ZoneInfo, began: str, at: str, hours: float) -> None:
    start = datetime.fromisoformat(began).replace(tzinfo=berlin).astimezone()
    end = moment(at, start)
    assert (end.timestamp() - start.timestamp()) / 3600 == pytest.approx(hours)
    assert by_time(Stop(at=at), start, end - timedelta(seconds=1), hours) is None
    assert by_time(Stop(at=at), start, end, hours) == f"it is {at}"


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("at: 17:30", 'line 9: stop.at: write a time of day in quotes, hours and minutes, as in "07:30"'),
        ('at: "24:00"', 'line 9: stop.at: write a time of day in quotes, hours and minutes, as in "07:30"'),
        ("plateau: 0", "line 9: stop.plateau: Input should be greater than 0"),
        ("target: .nan", "line 9: stop.target: a finite number is expected, and not nan"),
        ("platau: 3", "line 9: unknown field 'stop.platau'; did you mean 'plateau'?"),
    ],
)
def test_a_mistake_is_named_with_its_line(lab: Lab, written: str, wanted: str) -> None:
    lab.edit("toy/task.yaml", "{experiments: 4}", f"{{{written}}}")
    with pytest.raises(UserError, match=wanted.replace("?", r"\?").replace('"', '"')):
        config.load_task(Path(lab.path / "toy/task.yaml"))


def test_a_wrong_time_on_the_command_line_is_usage(lab: Lab) -> None:
    assert "write hours and minutes, as in 07:30" in lab.harness("run", "--at", "half past", code=2).stderr


@pytest.mark.heavy
def test_the_conditions_are_remembered_for_resume(steps: Lab) -> None:
    stopped(steps, "--experiments", "1", "--plateau", "7", "--target", "0.1")
    kept = json.loads(next(steps.state.glob("settings/t.json")).read_text())
    assert (kept["plateau"], kept["target"], kept["at"]) == (7, 0.1, None)
