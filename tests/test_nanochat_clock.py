"""The clock of a run is the referee's: train.py files that hold it, move it or come late, and honest ones."""

from __future__ import annotations

import json

from course import HONEST, Course, bare, changed, course

__all__ = ["bare", "course"]
SAVE = '    hand_over(run, save({"table": np.log(counts)}))\n'
SMALL = '    hand_over(run, save({"table": np.zeros((2, 2), dtype=np.float32)}))\n'
LOOP = "        step += 1\n"
SLOW = f"{LOOP}        time.sleep(0.02)\n"
BEGIN = "    run.start()\n"


def test_a_budget_in_seconds_ends_the_rows_and_the_clock_is_read_not_asked(course: Course) -> None:
    note = "    run.note('shares', [shares[0], shares[-1], shares == sorted(shares), run.progress])\n"
    ran = course.train(
        changed(
            (LOOP, f"{SLOW}        shares = [*shares, run.progress] if step > 1 else [run.progress]\n"), (SAVE, note + SMALL)
        ),
        **{"run_s": 2, "run_tokens": None, "grace_s": 5},
    )
    assert (ran.status, ran.reason) == ("ok", "")
    first, last, rises, end = json.loads(ran.notes["shares"].lower())
    assert 0 <= first < 0.5
    assert 0.5 < last <= 0.75
    assert rises
    assert end == 1.0


def test_a_budget_in_tokens_counts_its_share(course: Course) -> None:
    ran = course.train(changed((LOOP, LOOP + "        run.note(step, run.progress)\n")))
    assert {name: float(value) for name, value in ran.notes.items() if name != "seen"} == {str(n + 1): n / 8 for n in range(8)}
    assert ran.trained.clock.tokens == 8192


def test_a_run_that_never_ends_is_killed(course: Course) -> None:
    ran = course.train(changed((SAVE, f"{SAVE}    time.sleep(60)\n")), limit_s=3)
    assert (ran.status, ran.reason) == ("invalid", "still running 1 s after its deadline")
    assert ran.trained.curve


def test_a_run_ends_with_train_whatever_would_be_tidied_up_behind_it(course: Course) -> None:
    thread = "    threading.Thread(target=time.sleep, args=(300,)).start()\n"
    behind = f"    import atexit, threading\n    atexit.register(time.sleep, 300)\n{thread}"
    ran = course.train(changed((SAVE, behind + SAVE)), grace_s=200)
    assert (ran.status, ran.reason) == ("ok", "")
    assert ran.trained.exit is not None
    assert ran.trained.exit.seconds < 150


def test_a_run_that_never_starts_is_killed(course: Course) -> None:
    ran = course.train(changed((BEGIN, "    time.sleep(60)\n")), startup_s=2)
    assert (ran.status, ran.reason) == ("invalid", "did not start within 2 s")


def test_a_run_that_stops_itself_does_not_stop_the_clock(course: Course) -> None:
    ran = course.train(changed((SAVE, f"    os.kill(os.getpid(), 19)\n{SAVE}")), limit_s=2)
    assert (ran.status, ran.reason) == ("invalid", "still running 1 s after its deadline")
    assert ran.trained.exit is not None
    assert ran.trained.exit.seconds < 30


def test_starting_again_does_not_turn_the_clock_back(course: Course) -> None:
    again = changed((LOOP, f"{SLOW}        run._started = False\n        run.start()\n"), (SAVE, SMALL))
    ran = course.train(again, run_s=2, run_tokens=None, grace_s=5)
    assert (ran.status, ran.reason) == ("ok", "")
    assert ran.trained.exit is not None
    assert ran.trained.clock.tokens < 1024 * 100  # of 20 ms and more each


def test_a_patched_clock_deceives_only_its_owner(course: Course) -> None:
    patch = f"{BEGIN}    now = time.monotonic()\n    time.time = time.monotonic = time.perf_counter = lambda: now\n"
    note = "    run.note('passed', time.monotonic() - now)\n    run.note('share', share)\n"
    frozen = changed((BEGIN, patch), (LOOP, f"{SLOW}        share = run.progress\n"), (SAVE, note + SMALL))
    ran = course.train(frozen, run_s=2, run_tokens=None, grace_s=5)
    assert (ran.status, ran.reason) == ("ok", "")
    assert (ran.notes["passed"], float(ran.notes["share"]) < 0.2) == ("0.0", True)
    assert ran.trained.clock.tokens < 1024 * 100
    late = course.train(frozen.replace(SMALL, f"    time.sleep(1.5)\n{SMALL}"), run_s=2, run_tokens=None, grace_s=5)
    assert late.status == "invalid"
    assert late.reason.startswith("saved its state ")
    assert late.reason.endswith(" s after the deadline")


def test_the_last_state_in_time_counts(course: Course) -> None:
    def saves(value: int) -> str:
        return f'    hand_over(run, save({{"table": np.full((2, 2), {value}, dtype=np.float32)}}))\n'

    wait = "    time.sleep(2.2 - run._clock())\n"
    in_time = course.train(changed((SAVE, saves(1) + saves(2))))
    one_late = course.train(changed((SAVE, saves(1) + saves(2) + wait + saves(3))), limit_s=2, grace_s=9)
    before = course.train(changed((BEGIN, saves(1) + BEGIN), (SAVE, "")))
    assert in_time.state
    assert in_time.state == one_late.state
    assert (one_late.status, before.status) == ("ok", "invalid")
    assert before.reason == "ended without a state that was saved in time: train(run) has to call run.save()"


def test_the_same_seed_gives_the_same_state(course: Course) -> None:
    first, again, other = (course.train(HONEST, seed=seed, run_tokens=2048).state for seed in (7, 7, 8))
    assert first
    assert first == again
    assert first != other
