"""Pools and threads of the loop: who goes first, what is given back, and what a cancellation leaves behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from harness.scheduling import Pool, aside, conduct


def test_the_most_urgent_goes_first_and_then_who_waits_longest() -> None:
    order: list[str] = []

    async def one(pool: Pool[str], name: str, urgency: int) -> None:
        async with pool.lease(urgency) as slot:
            order.append(f"{name} {slot}")

    async def story() -> None:
        pool = Pool(["a"])
        async with asyncio.TaskGroup() as group, pool.lease():
            for name, urgency in (("screen", 0), ("another", 0), ("confirm", 1)):
                group.create_task(one(pool, name, urgency))
            await asyncio.sleep(0.01)
            assert order == []

    conduct(story(), 1)
    assert order == ["confirm a", "screen a", "another a"]


def test_a_closed_pool_leases_nothing_not_even_to_those_who_wait() -> None:
    async def story() -> list[str | None]:
        pool, got = Pool(["a", "b"]), []

        async def one() -> None:
            async with pool.lease() as slot:
                got.append(slot)
                await asyncio.sleep(0.02)

        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(one())
            await asyncio.sleep(0)
            pool.close()
        await one()
        return got

    assert conduct(story(), 1) == ["a", "b", None, None]


def test_a_slot_that_is_retired_is_leased_no_more_and_the_others_are() -> None:
    async def story() -> list[str | None]:
        pool, got = Pool(["a", "b"]), []
        async with pool.lease() as slot:
            assert slot == "a"
            pool.retire("a")
        for _ in range(3):
            async with pool.lease() as slot:
                got.append(slot)
        return got

    assert conduct(story(), 1) == ["b", "b", "b"]


def test_nobody_loses_a_slot_who_is_cancelled_while_it_is_handed_over() -> None:
    async def story() -> str | None:
        pool = Pool(["a"])

        async def one() -> None:
            async with pool.lease():
                await asyncio.sleep(10)

        async with pool.lease():
            task = asyncio.create_task(one())
            await asyncio.sleep(0)
        task.cancel()  # the slot is promised to it, and it has not run since
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5), pool.lease() as slot:
            return slot

    assert conduct(story(), 1) == "a"


def test_the_first_error_ends_the_work_of_all_others_before_it_is_raised() -> None:
    ended: list[str] = []

    def works(stop: Callable[[], bool]) -> None:
        while not stop():
            time.sleep(0.005)
        ended.append("told to stop")

    async def fails() -> None:
        await asyncio.sleep(0.05)
        raise ValueError("this one")

    async def story() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(aside(works))
            group.create_task(aside(works))
            group.create_task(fails())

    with pytest.raises(ValueError, match="this one"):
        conduct(story(), 2)
    assert ended == ["told to stop"] * 2
