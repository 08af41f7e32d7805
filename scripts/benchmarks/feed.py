"""What it costs to feed a trainer: rows a second, the wait of one call, and the share of a core that the referee spends.

    scripts/bench feed [--seconds 3] [--out docs/benchmarks]

Peer, in turn with ours in the same run: a question and an answer for every call, its rows copied to one shared buffer.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harness import __version__
from harness.models import Budget
from nanochat_train import feed
from nanochat_train.channel import Channel, Memory
from nanochat_train.ring import PAGE, Writer, size
from nanochat_train.session import Session, Trained
from nanochat_train.supply import Clock, Order, Supply

RATE = 2e6  # tokens a second: an H100 with upstream's model takes 1.7 million
SHAPES = ((2048, 128), (2048, 16), (128, 16))  # T, rows of a call: the gpu profile's batch, a small one, the cpu profile's
VOCAB_SIZE = 8192
PAGE_TEXT = """\
# Feeding

`scripts/bench feed --seconds {seconds:g}` on {date}: {machine}.
A call takes {calls} rows of T tokens. Flat out the trainer does nothing else; at {rate:g} M tokens/s
it waits until the next call is due.

| design | T | rows | M tokens/s flat out | wait of a call at {rate:g} M tokens/s, us: median | 99 % | % of a core |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
{rows}

The budget is 100 M tokens/s, and 2 % of a core at {rate:g} M tokens/s with T = 2048. The figures are the referee's whole loop,
clock and messages included, and the trainer's whole call.
"""


def main() -> None:
    """Measure and write both files."""
    if sys.argv[1:2] == ["--consume"]:
        consume(sys.argv[2], [int(arg) for arg in sys.argv[3:7]], float(sys.argv[7]), float(sys.argv[8]))
        return
    parser = argparse.ArgumentParser(description="Measure the feeding of a trainer.")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    args = parser.parse_args()
    cases = [
        measure(design, seq_len, rows, rate, args.seconds)
        for seq_len, rows in SHAPES
        for rate in (0.0, RATE)
        for design in ("question", "ring")
    ]
    busy = f"a load of {os.getloadavg()[1]:.1f}"
    machine = f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, {busy}"
    facts = {"harness": __version__, "machine": machine, "date": time.strftime("%Y-%m-%d"), "seconds": args.seconds}
    found = {**facts, "cases": cases}
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "feed.json").write_text(json.dumps(found, indent=1) + "\n")
    (args.out / "feed.md").write_text(page(found))
    print(page(found))


def measure(design: str, seq_len: int, count: int, rate: float, seconds: float) -> dict[str, Any]:
    """One design at one shape; at `rate` tokens a second, or flat out with 0."""
    rows = np.random.default_rng(0).integers(0, VOCAB_SIZE, ((80 << 20) // (2 * seq_len), seq_len + 1), dtype=np.uint16)
    order, clock, width = Order(rows, 0), Clock(Budget(run_s=3600)), seq_len + 1
    with Channel() as channel, Memory(size(width), True) as memory, Memory(PAGE, False) as counter:
        supply = Supply(clock, order, Writer(memory.bytes, width), counter.bytes.view(np.uint64), seq_len)
        session = Session(Trained(clock, Path(os.devnull)), channel, supply)
        if design == "ring":
            welcome = {"seed": 0, "vocab_size": VOCAB_SIZE, "seq_len": seq_len, "scale": 1.0, "device": "cpu"}
            channel.send({**welcome, "budget": supply.budget()})
            serve = partial(session.drain, 0.05)
        else:
            serve = partial(answer, channel, order, memory.bytes[: 2 * count * width].view(np.uint16).reshape(count, width))
        fds = (channel.theirs.fileno(), memory.fd, counter.fd)
        argv = [sys.executable, __file__, "--consume", design, *map(str, (*fds, count)), str(rate), str(seconds)]
        with subprocess.Popen([*argv, str(seq_len)], pass_fds=fds, stdout=subprocess.PIPE, text=True) as process:
            channel.theirs.close()
            begun: tuple[float, float] | None = None
            while not channel.closed:
                serve()
                if begun is None and (clock.started or design == "question"):
                    begun = time.process_time(), time.monotonic()
            assert begun
            assert process.stdout
            core = (time.process_time() - begun[0]) / (time.monotonic() - begun[1])
            told = json.loads(process.stdout.read())
    return {"design": design, "seq_len": seq_len, "rows": count, "rate": rate, "core": core, **told}


def answer(channel: Channel, order: Order, buffer: Any) -> None:
    """The peer's referee: one question, one answer."""
    if channel.receive(0.05):
        order.fill(buffer)
        channel.send({"n": len(buffer)})


def consume(design: str, numbers: list[int], rate: float, seconds: float) -> None:
    """The trainer: calls for `seconds`, then what they cost as JSON."""
    handle, memory, counter, count = numbers
    sock, seq_len = socket.socket(fileno=handle), int(sys.argv[9])
    if design == "ring":
        call = partial(feed.Run(sock, memory, counter).next_rows, count)
    else:
        buffer = np.frombuffer(mmap.mmap(memory, 0, prot=mmap.PROT_READ), dtype=np.uint16)[: count * (seq_len + 1)]
        call = partial(ask, sock, count, buffer.reshape(count, seq_len + 1))
    call()
    waits = []
    started = now = time.perf_counter()
    while now < started + seconds:
        before = time.perf_counter()
        assert call()[-1, -1] < VOCAB_SIZE
        now = time.perf_counter()
        waits.append(now - before)
        if rate and (early := started + len(waits) * count * seq_len / rate - now) > 0:
            time.sleep(early)
            now = time.perf_counter()
    spread = [1e6 * wait for wait in (statistics.median(waits), statistics.quantiles(waits, n=100)[-1])]
    print(json.dumps({"tokens_per_s": len(waits) * count * seq_len / (now - started), "wait_us": spread, "calls": len(waits)}))


def ask(sock: socket.socket, count: int, buffer: Any) -> Any:
    """The peer's trainer: one question, one answer."""
    feed.send(sock, {"do": "rows", "n": count})
    feed.receive(sock)
    return buffer


def page(found: dict[str, Any]) -> str:
    """The figures for people."""
    cases = {(c["design"], c["seq_len"], c["rows"], bool(c["rate"])): c for c in found["cases"]}
    lines = []
    for seq_len, rows in SHAPES:
        for design, name in (("question", "a question for every call"), ("ring", "ring")):
            flat, paced = cases[design, seq_len, rows, False], cases[design, seq_len, rows, True]
            waits = " | ".join(f"{wait:.0f}" for wait in paced["wait_us"])
            core = f"{100 * paced['core']:.2f}"
            lines.append(f"| {name} | {seq_len} | {rows} | {flat['tokens_per_s'] / 1e6:.0f} | {waits} | {core} |")
    return PAGE_TEXT.format(**found, calls="16 or 128", rate=RATE / 1e6, rows="\n".join(lines))


if __name__ == "__main__":
    main()
