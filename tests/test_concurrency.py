"""Whatever the order in which agents and runs finish, crash and go stale, and wherever the harness is killed or interrupted:
the lab branch is always a measured tree, every merge meets its rule, every experiment ends once, and no run is made twice.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stage import NAMES, Part, Stage, Wanted, check, drain, taking_back

numbers = st.sampled_from([1, 2, 3, 4, 4, 4, 6, 8, 99])
changes = st.dictionaries(st.sampled_from(NAMES), numbers, min_size=1, max_size=2)
variants = st.just(()) | st.lists(changes, max_size=4).map(tuple)
parts = st.builds(Part, change=changes | st.just({}), takes=st.integers(1, 9), again=changes | st.just({}), variants=variants)
wanted = st.builds(Wanted, step=st.integers(5, 60), change=changes | st.just({}))
plays = st.fixed_dictionaries(
    {
        "parts": st.lists(parts, min_size=2, max_size=7),
        "runs": st.lists(st.integers(1, 6), min_size=1, max_size=4),
        "worse": st.sets(st.sampled_from(["AB", "CD", "AE"])),
        "fatal": st.sets(st.sampled_from(["BC", "DE"])),
        "wanted": st.lists(wanted, max_size=4),
        "noise": st.sampled_from([0.0, 0.0, 0.3]),
        "judge": st.sampled_from(["bayes", "bayes", "greedy"]),
        "asked": st.sampled_from([{}, {}, {"plateau": 2}]),
        "tidy": st.booleans(),
    }
)
disasters = st.lists(st.integers(1, 90), max_size=4)
ROUGH = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]


def night(play: dict[str, object], kills: list[int], interrupts: list[int], workers: int, slots: int) -> Stage:
    """A night and what holds for each; then what it left to be tried, and at last each merge is asked whether it is needed."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = f"{folder}/state"
        stage = Stage(Path(folder) / "repo", **play, kills=kills, interrupts=interrupts[::2], hasty=interrupts[1::2])  # type: ignore[arg-type]
        reason = stage.play(workers, slots)
        assert reason.partition(";")[0] in (
            f"{len(stage.parts)} experiments are done",
            "1 experiment is done",
            "the last 2 experiments had none to keep",
        )
        check(stage)
        assert len(stage.records) == len(stage.parts) + 1 or stage.asked
        stage.asked = {}
        drain(stage, workers, slots)
        stage.play(1, 1, story=taking_back)
        check(stage)
        several = max(workers, slots)  # those that were sent back, and after a kill those that were being run, are let in
        assert stage.most_waiting <= several + slots * (several > 1)
        repeated = len(stage.made) - len(set(stage.made))
        assert repeated <= (len(kills) + len(interrupts)) * slots, "more runs were made again than were cut off"
        return stage


@pytest.fixture(autouse=True)
def _own_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/nowhere")


@settings(max_examples=6, deadline=None, suppress_health_check=ROUGH, database=None)
@given(plays, disasters, disasters, st.integers(1, 4), st.integers(1, 3))
def test_any_order(play: dict[str, object], kills: list[int], interrupts: list[int], workers: int, slots: int) -> None:
    night(play, kills, interrupts, workers, slots)


@pytest.mark.heavy
@settings(max_examples=400, deadline=None, suppress_health_check=ROUGH, database=None)
@given(plays, disasters, disasters, st.integers(1, 4), st.integers(1, 4))
def test_any_order_at_length(play: dict[str, object], kills: list[int], interrupts: list[int], workers: int, slots: int) -> None:
    night(play, kills, interrupts, workers, slots)
