"""The harness as a child to which something happens: it dies by SIGKILL, or a command runs, at a step of harness/steps.py.

python tests/mortal.py kill MERGED 1 run --tag t ...        dies the first time that the step is reached
python tests/mortal.py kill-after 17 run --tag t ...        dies at the 17th step, whichever it is
python tests/mortal.py kill-within 0.35 run --tag t ...     dies after 0.35 seconds, in the middle of anything
python tests/mortal.py sh MERGED 1 'COMMAND' run ...        runs a command there; ANY and 0 stand for every step
python tests/mortal.py clock run --tag t ...                at every step the time of day jumps by hours
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from harness.steps import EVENT


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at(step: str, nth: int, happen: Callable[[], object]) -> None:
    """Let it happen the nth time that a step is reached; 0 is every time."""
    seen = 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == EVENT and step in ("ANY", args[0].name):
            seen += 1
            if nth in (0, seen):
                happen()

    sys.addaudithook(hook)


def jump(offsets: Iterator[float], now: Callable[[], float] = time.time) -> None:
    """The time of day is another one."""
    offset = next(offsets)
    time.time = lambda: now() + offset


def arm(words: list[str]) -> list[str]:
    """Set the trap that the first words describe; the other words."""
    how, *rest = words
    if how == "kill-within":
        threading.Timer(float(rest[0]), die).start()
        return rest[1:]
    if how == "kill-after":
        at("ANY", int(rest[0]), die)
        return rest[1:]
    if how == "kill":
        at(rest[0], int(rest[1]), die)
        return rest[2:]
    if how == "clock":
        offsets = itertools.cycle([36000.0, -36000.0, 0.0])
        at("ANY", 0, lambda: jump(offsets))
        return rest
    at(rest[0], int(rest[1]), lambda: subprocess.run(["sh", "-ec", rest[2]], check=True, stdin=subprocess.DEVNULL))
    return rest[3:]


if __name__ == "__main__":
    sys.argv = ["harness", *arm(sys.argv[1:])]
    from harness.cli import main

    main()
