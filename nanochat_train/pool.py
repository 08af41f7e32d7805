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
    try:
        waiting: deque[Future[B]] = deque()
        for piece in pieces:
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
        executor.shutdown(wait=False, cancel_futures=True)


def _begin() -> None:
    """Leave Ctrl-C to the parent and end with it, whatever ends it: a worker would wait for its next piece for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
