"""Who may go on when several experiments are under way. One thread, that of the event loop, does all that touches git, the
records and the judge, so none of these needs a lock; what waits for a process is done in a thread beside it.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any, Generic, Literal, TypeVar

from harness.protocols import Cancel

T = TypeVar("T")
Stage = Literal["proposing", "waiting", "running"]


class Pool(Generic[T]):
    """Named slots that are leased one at a time, to the most urgent who waits, the longest waiting of these."""

    def __init__(self, slots: Iterable[T]) -> None:
        """All of them are free; the first ones are leased first."""
        self.slots = list(slots)
        self._free = list(self.slots)
        self._waiting: list[tuple[int, int, asyncio.Future[T | None]]] = []
        self._turns = itertools.count()
        self._closed = False

    @asynccontextmanager
    async def lease(self, urgency: int = 0) -> AsyncIterator[T | None]:
        """A slot for as long as the context lasts, or None when the pool is closed; larger `urgency` goes first."""
        slot = await self._wait(urgency)
        try:
            yield slot
        finally:
            if slot is not None:
                self._give(slot)

    def retire(self, slot: T) -> None:
        """Lease a slot no more; whoever holds it may finish."""
        self.slots.remove(slot)

    def close(self) -> None:
        """Lease nothing any more: whoever waits, or comes, gets None."""
        self._closed = True
        for _, _, waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._waiting.clear()

    async def _wait(self, urgency: int) -> T | None:
        if self._closed:
            return None
        if self._free:
            return self._free.pop(0)
        waiter: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (-urgency, next(self._turns), waiter))
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and (slot := waiter.result()) is not None:  # it was given one at that very moment
                self._give(slot)
            raise

    def _give(self, slot: T) -> None:
        if slot not in self.slots:
            return
        while self._waiting:
            _, _, waiter = heapq.heappop(self._waiting)
            if not waiter.done():
                waiter.set_result(slot)
                return
        self._free = sorted([*self._free, slot], key=self.slots.index)


class Flight:
    """The experiments that are under way, and the stage of each; who waits for a change of that is woken up."""

    def __init__(self) -> None:
        """None is."""
        self._stages: dict[str, Stage] = {}
        self._changed = asyncio.Event()

    def enter(self, experiment: str, stage: Stage) -> None:
        """An experiment is at a stage now. One that has run once is `running` until its end, between its runs as well."""
        self._stages[experiment] = stage
        self._changed.set()

    def leave(self, experiment: str) -> None:
        """It has come to its end, or an interrupt has stopped it."""
        self._stages.pop(experiment, None)
        self._changed.set()

    def count(self, stage: Stage) -> int:
        """How many are at a stage."""
        return list(self._stages.values()).count(stage)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stages)

    def __len__(self) -> int:
        return len(self._stages)

    async def change(self, seconds: float) -> None:
        """Until something changes, or for some seconds."""
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # asyncio.wait_for loses a cancellation that comes together with the event
                await self._changed.wait()


async def aside(work: Callable[[Cancel], T]) -> T:
    """What blocking `work` returns, done in a thread. Cancelled, it is told so and waited for: no process is left behind."""
    stop = threading.Event()
    done = asyncio.ensure_future(asyncio.to_thread(work, stop.is_set))
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([done])
        done.exception()  # seen, and of no interest beside what the work was cancelled for
        raise


def conduct(story: Coroutine[Any, Any, T], threads: int) -> T:
    """Run a coroutine to its end, with so many threads for what is done aside. Of several errors the first one is raised."""

    async def told() -> T:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(threads))
        return await story

    try:
        return asyncio.run(told())
    except BaseExceptionGroup as several:
        raise first(several) from None


def first(several: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group that is none itself."""
    found = several.exceptions[0]
    return first(found) if isinstance(found, BaseExceptionGroup) else found
