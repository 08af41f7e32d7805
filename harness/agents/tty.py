"""The driver for CLIs that insist on a terminal: a pseudo-terminal, and what a person would type at each screen.

What the CLI shows is searched for the patterns of `expect` with colours and cursor movements taken out; the same text is
the transcript. It ends when the program does, or when its time is over: the file that it left counts either way.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import struct
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pexpect import EOF, TIMEOUT
from pexpect.fdpexpect import fdspawn

from harness.agents.start import fill, prepare
from harness.models import AgentSpec
from harness.process import LOG_BYTES, TAIL_BYTES, Process
from harness.protocols import Box, Cancel, Exit, Sandbox

ROWS, COLUMNS = 50, 200
LOOK_S = 0.25
MOST_SEEN = 20_000  # characters in which a pattern is looked for
MOVE = re.compile(r"\x1b\[\d*C")  # to the right, which some use for a space
DOWN = re.compile(r"\x1b\[\d*(?:;\d*)?[BEHf]|\r+\n?")
ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|[ -/]*[0-~])")
UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?|[PX^_][^\x1b]*\x1b?|[ -/]*)?\Z")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class TtyAgent:
    """One entry of agents.yaml, run in a sandbox at a terminal."""

    def __init__(self, spec: AgentSpec, sandbox: Sandbox) -> None:
        """Nothing is started yet."""
        self.spec, self.sandbox = spec, sandbox

    def propose(self, prompt: str, box: Box, log: Path, seed: int, deadline_s: float, cancel: Cancel, session: str = "") -> Exit:
        """Answer the screens of the CLI until it ends, is cancelled or `deadline_s` seconds are over; its tree is dead after."""
        env = {**box.env, "TERM": "xterm-256color", "LINES": str(ROWS), "COLUMNS": str(COLUMNS)}
        start = prepare(self.spec, prompt, replace(box, terminal=True, env=env), seed, session)
        log.parent.mkdir(parents=True, exist_ok=True)
        with self.sandbox.wrap(start.argv, start.box) as launch, terminal() as (ours, theirs), log.open("w") as transcript:
            with Process(launch, log, terminal=theirs) as process:
                os.close(theirs)
                screen = Screen(ours, transcript)
                left = [(each.pattern, fill(each.send, start.values), each.times) for each in self.spec.expect]
                while (ended := process.wait(0)) is None:
                    left = screen.answer(left)
                    timed_out = time.monotonic() - process.started > deadline_s
                    if timed_out or cancel():
                        ended = replace(process.kill(), timed_out=timed_out, cancelled=not timed_out)
                        break
                screen.answer([])
                return replace(ended, tail=screen.tail)


if TYPE_CHECKING:
    Spawned = fdspawn[str]
else:
    Spawned = fdspawn


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a pseudo-terminal with a size; whoever is given the second one closes it."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    try:
        yield ours, theirs
    finally:
        for end in (ours, theirs):
            with suppress(OSError):
                os.close(end)


class Screen(Spawned):
    """What a terminal shows as plain text, and a keyboard."""

    def __init__(self, handle: int, transcript: Any) -> None:
        """Read and write at a terminal's own end; the first megabytes of what it shows go to `transcript`."""
        super().__init__(handle, timeout=LOOK_S, maxread=65536, encoding="utf-8", codec_errors="replace")
        self.transcript, self.room, self.tail, self.unfinished = transcript, LOG_BYTES, "", ""

    def read_nonblocking(self, size: int = 1, timeout: float | None = -1) -> str:
        """What came meanwhile, without escape sequences; one that is cut in two waits for its other half."""
        try:
            raw = self.unfinished + super().read_nonblocking(size, timeout)
        except OSError as error:
            raise EOF(str(error)) if error.errno == errno.EIO else error from None
        cut = UNFINISHED.search(raw)
        keep = cut.start() if cut and len(raw) - cut.start() < MOST_SEEN else len(raw)
        self.unfinished = raw[keep:]
        text = plain(raw[:keep])
        self.transcript.write(text[: max(0, self.room)])
        self.room -= len(text)
        self.tail = (self.tail + text)[-TAIL_BYTES:]
        return text

    def answer(self, left: list[tuple[str, str, int]]) -> list[tuple[str, str, int]]:
        """Look for a moment; type the reply to what is shown. What of the (pattern, reply, times) is left."""
        try:
            found = self.expect([*(pattern for pattern, _, _ in left), TIMEOUT], timeout=LOOK_S)
        except EOF:
            time.sleep(0.05)  # nobody is at the other end any more: the program is about to be gone
            return left
        if len(self.buffer) > MOST_SEEN:
            self.buffer = self.buffer[-MOST_SEEN // 2 :]
        if found == len(left):
            return left
        pattern, reply, times = left[found]
        self.send(reply)
        return [*left[:found], *([(pattern, reply, times - 1)] if times > 1 else []), *left[found + 1 :]]


def plain(text: str) -> str:
    """What a terminal was sent as text: moves to the right are spaces, moves down are new lines, the rest is left out."""
    return CONTROL.sub("", ESCAPE.sub("", DOWN.sub("\n", MOVE.sub(" ", text))))
