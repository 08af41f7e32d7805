"""The same work on many pieces, in as many processes as there are CPUs, with the results in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from harness.models import UserError

A = TypeVar("A")
B = TypeVar("B")
AHEAD = 2  # pieces a process that are given out before the first result is taken


def cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def in_order(work: Callable[[A], B], pieces: Sequence[A], processes: int | None = None) -> Iterator[B]:
    """`work` of each piece, in the order of the pieces; no more than some are under way. A single piece is worked on here."""
    processes = min(processes or cpus(), len(pieces))
    if processes < 2:
        yield from map(work, pieces)
        return
    executor = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin)
    waiting: deque[Future[B]] = deque()
    try:
        for piece in pieces:
            with _uninterrupted():
                waiting.append(executor.submit(work, piece))
            if len(waiting) > AHEAD * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process was killed, most likely for want of memory: "
            "free some and run the same command again; it continues where it stopped"
        ) from None
    finally:
        for child in multiprocessing.active_children() if waiting else ():
            child.kill()  # nobody waits for the piece that it is at
        executor.shutdown(cancel_futures=True)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C is the parent's: processes that start in here never see it, and the parent does afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """End with the parent, whatever ends it: a worker would wait for its next piece for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
