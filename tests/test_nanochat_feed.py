"""The ring of rows between two ends: every row in order, in one piece, read-only, valid until the next call."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest

from harness.models import Budget
from nanochat_train import ring
from nanochat_train.channel import Channel, Fault, Memory
from nanochat_train.feed import Run
from nanochat_train.session import Session, Trained
from nanochat_train.supply import AHEAD, Clock, Order, Supply

SEQ_LEN = 9_999  # so long that a ring of few rows goes round often
MOST = ring.most_rows(SEQ_LEN + 1)
ROWS = np.random.default_rng(0).integers(0, 50_000, (157, SEQ_LEN + 1), dtype=np.uint16)


@dataclass
class Ends:
    """Both ends of a feed, the referee's in a thread."""

    run: Run
    supply: Supply
    faults: list[Fault] = field(default_factory=list)


@contextmanager
def feed(seed: int = 0, **budget: float | None) -> Iterator[Ends]:
    clock = Clock(Budget.model_validate({"run_s": 60, **budget}))
    with Channel() as channel, Memory(ring.size(SEQ_LEN + 1), True) as memory, Memory(ring.PAGE, False) as counter:
        supply = Supply(clock, Order(ROWS, seed), ring.Writer(memory.bytes, SEQ_LEN + 1), counter.bytes.view(np.uint64), SEQ_LEN)
        channel.send(
            {"seed": seed, "vocab_size": 50_000, "seq_len": SEQ_LEN, "scale": 1.0, "device": "cpu", "budget": supply.budget()}
        )
        ends = Ends(Run(channel.theirs, memory.fd, counter.fd), supply)
        session = Session(Trained(clock, __file__), channel, supply)  # type: ignore[arg-type]

        def serve() -> None:
            try:
                while not channel.closed:
                    session.drain(0.05)
            except Fault as fault:
                ends.faults.append(fault)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield ends
        finally:
            channel.theirs.close()
            thread.join(20)
        assert not thread.is_alive()


def expected(seed: int, count: int) -> np.ndarray:
    """The first rows of a seed: a permutation for each epoch."""
    epochs = [np.random.default_rng([seed, epoch]).permutation(len(ROWS)) for epoch in range(count // len(ROWS) + 1)]
    return ROWS[np.concatenate(epochs)[:count]]


@pytest.mark.parametrize("seed", [0, 5])
def test_rows_come_in_order_round_and_round_in_batches_of_any_size(seed: int) -> None:
    sizes = [1, MOST, 3, MOST - 1, *np.random.default_rng(seed).integers(1, MOST + 1, 30).tolist()]
    order, first = expected(seed, sum(sizes)), 0
    assert sum(sizes) > 5 * 2 * MOST
    with feed(seed) as ends:
        for size in sizes:
            rows = ends.run.next_rows(size)
            assert rows is not None
            assert np.array_equal(rows, order[first : first + size])
            first += size
    assert not ends.faults


def test_rows_are_valid_until_the_next_call_and_cannot_be_written() -> None:
    order = expected(0, 8 * MOST)
    with feed() as ends:
        for number in range(8):
            rows = ends.run.next_rows(MOST)
            assert rows is not None
            deadline = threading.Event()
            while ends.supply.ring.published < (number + 2) * MOST and not deadline.wait(0.001):
                pass  # until as much as may be is shown beyond them
            assert np.array_equal(rows, order[number * MOST : (number + 1) * MOST])
            with pytest.raises(ValueError, match="read-only"):
                rows[0, 0] = 1
            with pytest.raises(ValueError, match="cannot set WRITEABLE"):
                rows.flags.writeable = True
    assert not ends.faults


def test_no_more_rows_are_had_at_once_than_fit() -> None:
    with feed() as ends:
        for count in (0, -1, MOST + 1):
            with pytest.raises(ValueError, match=f"between 1 and {MOST} rows"):
                ends.run.next_rows(count)


def test_a_budget_in_tokens_is_never_exceeded() -> None:
    with feed(run_s=None, run_tokens=10 * SEQ_LEN + 7) as ends:
        shares = [ends.run.progress for _ in range(3) if ends.run.next_rows(3) is not None]
        assert shares == [n * 3 * SEQ_LEN / (10 * SEQ_LEN + 7) for n in range(3)]
        assert ends.run.next_rows(3) is None
        assert ends.run.next_rows(1) is None
        assert ends.run.progress == 1.0
    assert ends.supply.ring.published == 10
    assert ends.supply.clock.tokens == 9 * SEQ_LEN


def test_rows_are_shown_some_calls_ahead() -> None:
    with feed() as ends:
        for _ in range(5):
            ends.run.next_rows(2)
        ends.run.start()
    assert ends.supply.ring.published - ends.supply.taken <= AHEAD * 2


def test_warm_up_is_random_and_ends_with_the_start() -> None:
    with feed() as ends:
        rows = ends.run.warmup_rows(3)
        assert (rows.shape, rows.dtype) == ((3, SEQ_LEN + 1), np.uint16)
        assert not (ends.run._slots > 0).any()
        ends.run.start()
        with pytest.raises(RuntimeError, match="before start"):
            ends.run.warmup_rows(1)
        assert ends.run._started
    assert ends.supply.clock.started


def test_a_memory_of_rows_cannot_be_mapped_for_writing() -> None:
    import mmap

    with Memory(4096, True) as ours, Memory(4096, False) as theirs:
        with pytest.raises(PermissionError):
            mmap.mmap(ours.fd, 4096)
        mmap.mmap(theirs.fd, 4096)[:1] = b"x"
        assert theirs.bytes[0] == ord("x")
