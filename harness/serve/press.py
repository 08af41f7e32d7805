"""Makes the page anew when the night has gone on and somebody looks: one edition at a time, in a thread, at leisure.

What the page is made from are refs, so a hash of these is its version; reading them takes milliseconds, making a page of ten
thousand experiments for the first time takes seconds. So that a night's own runs keep the processor, pages take a tenth of one
core at most. What belongs to one experiment alone is no part of a page: it is read when somebody opens that one.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from harness import git, refs
from harness.ledger import Ledger
from harness.live import Live
from harness.models import UserError
from harness.reader import Reader
from harness.report import bundle, detail
from harness.report.lineage import Lineage
from harness.report.page import Page

LOOK_S = 1.0
CERTIFICATES = "refs/certificates"
SHARE = 10  # after an edition that took a second of a core, nine more without one
PASSING = (UserError, git.GitError, KeyError)  # what may go wrong while somebody else repacks or moves what is being read

Result = TypeVar("Result")


@dataclass(frozen=True)
class Edition:
    """A page as it was made, and of which state of the refs."""

    version: str
    html: bytes
    lineage: Lineage


class Press:
    """The latest edition of one night's page, and what runs now. A bug while one is made goes to `bug`."""

    def __init__(self, repo: git.Repo, tag: str, bug: Callable[[BaseException], None]) -> None:
        """Nothing is read before somebody looks."""
        self.repo, self.tag, self.bug = git.open_repo(git.root(repo)), tag, bug  # one that no other thread uses
        self.reader = Reader(self.repo, tag)
        self._page = Page(self.reader.ledger)
        self._shelf, self._turn = git.open_repo(git.root(repo)), asyncio.Lock()
        self._glance = refs.Glance(
            self.repo, f"refs/experiments/{tag}", "refs/heads/autoresearch", CERTIFICATES, f"{CERTIFICATES}/*"
        )
        self._named = ""
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

    async def experiment(self, name: str) -> bytes:
        """One experiment with all its evidence, as JSON; one of PASSING where there is none."""
        line = self.edition.lineage if self.edition else Lineage({}, {})

        def read() -> bytes:
            ledger = Ledger(self._shelf, self.tag)
            return bundle.plain(detail.whole(ledger, ledger.get(name), line))

        async with self._turn:
            return await _beside(read)

    def _read(self) -> None:
        """What runs now; and the page where it is time for another."""
        if self._glance.moved():
            self._named = version(self.repo, self.tag)
            self._glance.settle()
        self.live = self.reader.look()
        if self.edition is None or (self._named != self.edition.version and time.monotonic() >= self._rested):
            began = time.thread_time()
            self.reader.ledger.follow()  # refs may have moved on since they were named: a page is never older than its version
            html = self._page.html(self._named).encode()
            self.edition = Edition(self._named, html, self._page.lineage)
            self._rested = time.monotonic() + (SHARE - 1) * (time.thread_time() - began)


def version(repo: git.Repo, tag: str) -> str:
    """A hash of all refs that a night's page is made from."""
    found = refs.below(repo, f"refs/experiments/{tag}/", f"refs/heads/autoresearch/{tag}", f"{CERTIFICATES}/")
    return hashlib.sha256("\n".join(f"{name} {target}" for name, target in found.items()).encode()).hexdigest()[:16]


async def _beside(work: Callable[[], Result]) -> Result:
    """Blocking `work` done in a thread that nobody waits for when the server ends."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def tell(say: Callable[[], None]) -> None:
        if not done.done():
            say()

    def run() -> None:
        try:
            found = work()
            say = partial(done.set_result, found)
        except BaseException as error:
            say = partial(done.set_exception, error)
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(tell, say)

    threading.Thread(target=run, daemon=True).start()
    return await done
