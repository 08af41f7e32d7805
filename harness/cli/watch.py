"""The live view of a night in the terminal: harness watch."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness import git
from harness.cli.options import TagOption, current
from harness.reader import Reader

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

EVERY_S = 0.5
PIPED = (100, 40)  # columns and lines of a frame that goes to no terminal
KEYS = "q quits"


def watch(
    tag: TagOption = None,
    once: Annotated[bool, typer.Option("--once", help="Print how it stands now, and end; as without a terminal.")] = False,
) -> None:
    """A night, live in the terminal: what runs, how far, its loss against the incumbent's, verdicts, money, time left.

    It only reads, so it may come and go while the night works, and shows one that ended or was killed as well. q or Ctrl-C quits.

    harness watch                        the night at work, or the latest one

    harness watch --tag nov21

    harness watch --once | mail you      one frame, for a pipe or a log; NO_COLOR=1 leaves out colours
    """
    from rich.console import Console  # which takes longer to load than most commands run

    repo = git.open_repo(Path.cwd())
    reader = Reader(repo, current(repo, tag))
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    if once or not sys.stdout.isatty() or console.is_dumb_terminal:
        if not once:
            print("no terminal that could be drawn anew: this is how it stands now", file=sys.stderr)
        console.size = shutil.get_terminal_size(PIPED)
        for line in lines(reader, console):
            console.print(line, no_wrap=True, overflow="crop", crop=True)
        return
    if code := follow(reader, console):
        raise typer.Exit(code)


def lines(reader: Reader, console: Console, foot: str = "") -> list[Text]:
    """The frame of this moment, in the size of the console."""
    from harness.frame import frame

    width, height = console.size
    return frame(reader.look(), width, height, foot, "utf" not in console.encoding.lower())


class Watched:
    """What the person at the terminal wants: to quit, to suspend, or another size; whatever it is wakes up who waits."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.suspended = False

    def signalled(self, number: int, _frame: object) -> None:
        """A signal came: Ctrl-C is 130, and what else ends us is 128 and its number."""
        if number == signal.SIGTSTP:
            self.suspended = True
        elif number != signal.SIGWINCH:
            self.code = 128 + number

    def typed(self) -> bool:
        """Take what was typed; False when nobody types any more."""
        with suppress(OSError):
            keys = os.read(sys.stdin.fileno(), 1024)
            if b"q" in keys.lower():
                self.code = 0
            return bool(keys)
        return False


def follow(reader: Reader, console: Console) -> int:
    """Draw the night twice a second, and at once in a new size, until somebody quits; the exit code."""
    from rich.live import Live
    from rich.text import Text

    watched, woken, wake = Watched(), *os.pipe()
    listening = [woken, *([sys.stdin.fileno()] if sys.stdin.isatty() else [])]
    with os.fdopen(woken, "rb", 0), os.fdopen(wake, "wb", 0), heeding(watched, wake):
        while watched.code is None:
            watched.suspended = False
            with keys(), Live(console=console, screen=True, auto_refresh=False) as shown:
                while watched.code is None and not watched.suspended:
                    console.size = size()
                    shown.update(Text("\n", no_wrap=True, overflow="crop").join(lines(reader, console, KEYS)), refresh=True)
                    ready = select.select(listening, [], [], EVERY_S)[0]
                    if woken in ready:
                        os.read(woken, 1024)
                    if len(listening) > 1 and listening[1] in ready and not watched.typed():
                        del listening[1]
            if watched.suspended:
                os.kill(os.getpid(), signal.SIGSTOP)
    return watched.code


def size() -> tuple[int, int]:
    """Columns and lines of the terminal as it is now, whatever the environment says it was; of a nameless one the usual."""
    columns, rows = os.get_terminal_size(sys.stdout.fileno())
    return columns or 80, rows or 24


@contextmanager
def heeding(watched: Watched, wake: int) -> Iterator[None]:
    """Signals go to `watched`, and a byte for each to `wake`."""
    os.set_blocking(wake, False)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP, signal.SIGWINCH)
    before = {number: signal.signal(number, watched.signalled) for number in numbers}
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def keys() -> Iterator[None]:
    """Keys arrive one by one and unseen, where there is a keyboard."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
