"""Makes the page anew when the night has gone on and somebody looks: one edition at a time, in a thread, at leisure.

What the page is made from are refs, so a hash of these is its version; reading them takes milliseconds, making a page of ten
thousand experiments takes seconds. So that a night's own runs keep the processor, pages take a tenth of one core at most.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from harness import git, refs
from harness.live import Live
from harness.models import UserError
from harness.reader import Reader
from harness.report.page import page

LOOK_S = 1.0
SHARE = 10  # after an edition that took a second of a core, nine more without one
PASSING = (UserError, git.GitError, KeyError)  # what may go wrong while somebody else repacks or moves what is being read


@dataclass(frozen=True)
class Edition:
    """A page as it was made, and of which state of the refs."""

    version: str
    html: bytes


class Press:
    """The latest edition of one night's page, and what runs now. A bug while one is made goes to `bug`."""

    def __init__(self, repo: git.Repo, tag: str, bug: Callable[[BaseException], None]) -> None:
        """Nothing is read before somebody looks."""
        self.repo, self.tag, self.bug = git.open_repo(git.root(repo)), tag, bug  # one that no other thread uses
        self.reader = Reader(self.repo, tag)
        self.live: Live | None = None
        self.edition: Edition | None = None
        self.problem = ""
        self._work: asyncio.Task[None] | None = None
        self._rested = self._looked = -LOOK_S

    async def look(self, patience_s: float) -> None:
        """See to it that `live` and `edition` are of now, but wait no longer than that where there are earlier ones."""
        if self._work is None and time.monotonic() - self._looked >= LOOK_S:
            self._work = asyncio.get_running_loop().create_task(self._print())
        if self._work is not None:
            await asyncio.wait([self._work], timeout=patience_s if self.edition else None)

    async def _print(self) -> None:
        try:
            await _beside(self._read)
            self.problem = ""
        except PASSING as error:
            self.problem = str(error)
        except Exception as error:
            self.bug(error)
        self._looked, self._work = time.monotonic(), None

    def _read(self) -> None:
        """What runs now; and the page where it is time for another."""
        named = version(self.repo, self.tag)
        self.live = self.reader.look()
        if self.edition is None or (named != self.edition.version and time.monotonic() >= self._rested):
            began = time.thread_time()
            self.reader.ledger.follow()  # refs may have moved on since they were named: a page is never older than its version
            self.edition = Edition(named, page(self.reader.ledger, named).encode())
            self._rested = time.monotonic() + (SHARE - 1) * (time.thread_time() - began)


def version(repo: git.Repo, tag: str) -> str:
    """A hash of all refs that a night's page is made from."""
    found = hashlib.sha256()
    for prefix in (f"refs/experiments/{tag}/", f"refs/heads/autoresearch/{tag}", "refs/certificates/"):
        for name, target in refs.below(repo, prefix).items():
            found.update(f"{name} {target}\n".encode())
    return found.hexdigest()[:16]


async def _beside(work: Callable[[], None]) -> None:
    """Blocking `work` done in a thread that nobody waits for when the server ends."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def tell(error: BaseException | None) -> None:
        if done.done():
            return
        if error:
            done.set_exception(error)
        else:
            done.set_result(None)

    def run() -> None:
        found: BaseException | None = None
        try:
            work()
        except BaseException as error:
            found = error
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(tell, found)

    threading.Thread(target=run, daemon=True).start()
    await done
