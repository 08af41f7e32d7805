"""train.py files that cheat, each in a real sandbox, with a control in which the trick, or what it needs, works."""

from __future__ import annotations

import numpy as np
import pytest
from course import HONEST, Course, bare, changed, course
from safetensors.numpy import load

__all__ = ["bare", "course"]


def test_a_ring_cannot_be_written(course: Course) -> None:
    tricks = """
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = libc.mprotect.argtypes = None
    libc.mmap.restype = ctypes.c_void_p
    def store(fd):
        mmap.mmap(fd, 4096)[:1] = b"x"
    def protect(fd):
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
        place = libc.mmap(None, 4096, 1, 1, fd, 0)
        if libc.mprotect(ctypes.c_void_p(place), ctypes.c_size_t(4096), 3):
            raise OSError("mprotect")
        ctypes.memset(place, 120, 1)
    def write(fd):
        os.pwrite(fd, b"x", 0)
    def reopen(fd):
        again = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
        os.pwrite(again, b"x", 0)
    def truncate(fd):
        os.ftruncate(fd, 0)
    def punch(fd):
        if libc.fallocate(fd, 3, ctypes.c_long(0), ctypes.c_long(4096)):
            raise OSError("fallocate")
    def force(fd):
        page = mmap.mmap(fd, 4096, prot=mmap.PROT_READ)
        place = np.frombuffer(page, dtype=np.uint8).ctypes.data
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(place)
            memory.write(b"x")
    def works(trick, fd):
        try:
            trick(fd)
            return trick.__name__
        except (OSError, ValueError):
            return ""
    own = os.memfd_create("own", os.MFD_ALLOW_SEALING)
    done = {"ring": [], "own": []}
    for trick in (store, protect, write, reopen, punch, force, truncate):
        os.truncate(own, 4096)
        done["ring"].append(works(trick, int(sys.argv[3])))
        done["own"].append(works(trick, own))
    for name, worked in done.items():
        run.note(name, " ".join(filter(None, worked)))
    run.start()
"""
    ran = course.train(changed(("    run.start()\n", tricks)))
    assert (ran.status, ran.reason) == ("ok", "")
    assert ran.notes["ring"] == ""
    assert ran.notes["own"] == "store protect write reopen punch truncate"


FORGERIES = [
    ("run._counter[0] -= 8", "set its row counter back from 16 to 8"),
    ("run._counter[0] = 10**6", "set its row counter to 1000000 when it had been given 48 rows"),
    ("run._counter[0] = 2**64 - 1", "set its row counter to 18446744073709551615 when it had been given 48 rows"),
    ("os.ftruncate(int(sys.argv[4]), 0)", "PermissionError: [Errno 1] Operation not permitted (nanochat_train/train.py line 20)"),
]


@pytest.mark.parametrize(("forgery", "reason"), FORGERIES)
def test_a_forged_row_counter_ends_the_run(course: Course, forgery: str, reason: str) -> None:
    settle = "feed.send(run._sock, {'do': 'taken'}); run._ask({'do': 'start'})"
    ran = course.train(
        changed(("        step += 1\n", f"        step += 1\n        if step == 2: {settle}; {forgery}; {settle}\n"))
    )
    assert ran.reason == reason
    assert ran.state == b""


def test_a_counter_moved_by_hand_is_an_honest_one_and_counts(course: Course) -> None:
    by_hand = """
    run._ask({"do": "rows", "n": 16})
    first = run._slots[:16].copy()
    run._counter[0] = 16
    feed.send(run._sock, {"do": "taken"})
    run._taken = 16
    while (rows"""
    ran = course.train(changed(("    while (rows", by_hand)))
    assert (ran.status, ran.reason) == ("ok", "")
    assert ran.trained.clock.tokens == 8192


def test_rows_are_shown_a_little_ahead_and_never_beyond_the_budget(course: Course) -> None:
    """A trainer that looks into the ring by itself, and one that never says what it took."""
    look = "run.note('shown', [int(run._words[0]), int((run._slots[:, 0] + run._slots[:, 9] > 0).sum())])"
    greedy = changed(
        ("    while (rows", f"    for _ in range(9): run._ask({{'do': 'rows', 'n': 4}})\n    {look}\n    while (rows")
    )
    ran = course.train(greedy, run_tokens=128 * 100)
    assert (ran.status, ran.notes["shown"]) == ("ok", "[16, 32]")  # each of the first slots has a mirror
    assert ran.trained.clock.tokens == 128 * 96
    most = changed(("    while (rows", f"    run._ask({{'do': 'rows', 'n': 9999}})\n    {look}\n    while (rows"))
    ran = course.train(most, run_tokens=128 * 100)
    assert (ran.status, ran.notes["shown"]) == ("ok", "[100, 200]")


def test_a_process_left_behind_trains_no_longer_and_saves_nothing(course: Course) -> None:
    leave = """
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(WAIT)
            hand_over(run, save({"table": np.log(counts)}))
            time.sleep(60)
        os._exit(0)
    time.sleep(STAY)
"""
    handing = '    hand_over(run, save({"table": np.log(counts)}))\n\ndef load'
    sources = [
        changed((handing, leave.replace("WAIT", wait).replace("STAY", stay) + "\n\ndef load"))
        for wait, stay in (("1", "0"), ("0", "2"))
    ]
    left, stayed = (course.train(source) for source in sources)
    assert left.reason == "ended without a state that was saved in time: train(run) has to call run.save()"
    assert (stayed.status, stayed.reason) == ("ok", "")


def bits(course: Course, state: bytes) -> float:
    """Bits of a validation token by a saved table."""
    table = load(state)["table"].astype(np.float64)
    chances = np.exp(table - np.logaddexp.reduce(table, axis=1, keepdims=True))
    rows = course.data.rows("val")
    return float(-np.log2(chances[rows[:, :-1], rows[:, 1:]]).mean())


def test_training_rows_cannot_be_had_before_the_clock_starts(course: Course) -> None:
    """What trains on every row of every epoch before the start has a better table; in the sandbox there is no row to find."""
    prepared = course.data.path / "train.npy"
    guess = f"""
    for place in ({str(prepared)!r}, {course.data.meta.source!r}):
        try:
            rows = np.load(place)
            np.add.at(counts, (rows[:, :-1], rows[:, 1:]), 1)
        except OSError as error:
            run.note(place[-9:], type(error).__name__)
    for number in range(201):
        try:
            rows = run.warmup_rows(1)
        except RuntimeError:
            run.note("capped", number)
    run.start()
"""
    confined, free = (course.train(changed(("    run.start()\n", guess)), sandbox=name) for name in ("bubblewrap", "none"))
    honest = course.train(HONEST)
    assert (confined.status, free.status) == ("ok", "ok")
    assert confined.notes["capped"] == "200"
    assert confined.notes["train.npy"] == "FileNotFoundError"
    assert confined.state == honest.state
    assert bits(course, free.state) < bits(course, honest.state) - 0.1


@pytest.mark.parametrize(
    "message",
    ['{"do": "scored"}', '{"do": "ready"}', '{"do": "claims"}', '{"started": true}', "[1]", "7", '{"do": ["save"]}', "[" * 4000],
)
def test_messages_of_another_conversation_end_the_run(course: Course, message: str) -> None:
    ran = course.train(
        changed(("    run.start()\n", f"    os.write(run._sock.fileno(), {message.encode()!r})\n    run.start()\n"))
    )
    assert (ran.status, ran.reason) == ("invalid", "sent a message that the referee does not understand")
