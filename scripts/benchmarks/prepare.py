"""What it costs to prepare data: tokenizing and packing, each beside a peer, and the memory of the whole command.

    scripts/bench prepare [--megabytes 64] [--repeats 3] [--out docs/benchmarks]

Peers, in turn with ours in the same run. Tokenizing: tiktoken's own `encode_ordinary_batch`, of texts that are in memory
already, its threads as many as our processes; ours reads parquet files, hashes, splits, checks and writes. Packing: best fit
by looking at every document of the pool each time, over lists of ids, as loaders that pack while they train do it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import tiktoken

from harness import __version__
from nanochat_train import corpus, packing
from nanochat_train.pool import cpus, in_order
from nanochat_train.prepare import SHAPES
from nanochat_train.splitting import Split, by_hash
from nanochat_train.texts import digest, documents, pieces, spans
from nanochat_train.tokenizer import Tokenizer
from nanochat_train.tokenizing import Job, read, tokenize

SHAPE = SHAPES["gpu"]
NIGHT = 2.4e9  # tokens: 40 shards of climbmix
LENGTH = 3000  # characters of a document, on average; climbmix has about as many
SHARD = 16_000_000  # characters
PAGE_TEXT = """\
# Preparing

`scripts/bench prepare --megabytes {megabytes}` on {date}: {machine}.
{megabytes} MB of Python code and its documentation, in parquet files, for the gpu profile: vocabulary {vocab_size},
T = {seq_len}. Medians of {repeats}, in turn. On a busy machine the figures a CPU second say more than those a second.

| step | who | M tokens/s | M tokens a CPU second |
| --- | --- | ---: | ---: |
{rows}

| whole command, tokens | seconds | largest process, MB |
| ---: | ---: | ---: |
{commands}

At this rate {night:g} G tokens, the default for a GPU (40 shards of climbmix), take {minutes:.0f} CPU minutes to tokenize and
pack, once, all but the packing divided among the cores. karpathy/autoresearch packs while it trains, on the training thread, at
0.9 to 1.4 M tokens a CPU second; a GPU that takes 1.65 M tokens a second waits for that. What a trainer gets here are rows
that are packed: [feed.md](feed.md).
"""
# Prints the most memory, KiB, that a command or a child of it held. A process of its own, as what the parent of a command
# holds when it starts it counts for the command.
PEAK = """import os, sys
pid = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ)
_, status, usage = os.wait4(pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))"""
Measure = dict[str, float]


def main() -> None:
    """Measure and write both files."""
    parser = argparse.ArgumentParser(description="Measure the preparing of data.")
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-prepare-") as scratch:
        folder = Path(scratch)
        source = write(folder / "text", args.megabytes * 10**6, seed=0)
        cases = tokenizing(folder, source, args.repeats)
        commands = [command(folder, write(folder / f"text{n}", n * args.megabytes * 250_000, seed=n)) for n in (1, 4)]
    busy = f"a load of {os.getloadavg()[1]:.1f}"
    machine = (
        f"{cpus()} cores, Linux {platform.release()}, Python {platform.python_version()}, tiktoken {tiktoken.__version__}, {busy}"
    )
    found = {"harness": __version__, "machine": machine, "date": time.strftime("%Y-%m-%d")}
    found |= {"megabytes": args.megabytes, "repeats": args.repeats, "cases": cases, "commands": commands}
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "prepare.json").write_text(json.dumps(found, indent=1) + "\n")
    (args.out / "prepare.md").write_text(page(found))
    print(page(found))


def write(folder: Path, size: int, seed: int) -> Path:
    """Parquet files of so many characters in sum: parts of the standard library, no document like another."""
    folder.mkdir()
    text = "\n".join(document.text for document in corpus.standard_library().train)
    rng, shards = random.Random(seed), max(1, size // SHARD)
    for shard in range(shards):
        texts, written = list[str](), 0
        while written < size // shards:
            start, count = rng.randrange(len(text)), int(rng.lognormvariate(np.log(LENGTH) - 0.5, 1)) + 20
            texts.append(f"{shard}.{written} {text[start : start + count]}")
            written += len(texts[-1])
        table = pyarrow.table({"text": texts})
        pyarrow.parquet.write_table(table, folder / f"{shard:04}.parquet", row_group_size=1024, compression="zstd")
    return folder


def tokenizing(folder: Path, source: Path, repeats: int) -> list[dict[str, Any]]:
    """The steps on their own, ours and the peers' in turn."""
    found = tuple(pieces(span for path in sorted(source.iterdir()) for span in spans(path)))
    split = by_hash(found, SHAPE.held_out_rows * SHAPE.seq_len, "text")
    texts = [text for piece in found for text in documents(piece) if split.part(digest(text)) == "train"]
    tokenizer = Tokenizer.train(texts[: len(texts) // 4], SHAPE.vocab_size)
    encoding = tiktoken.Encoding("peer", pat_str=tokenizer.pattern, mergeable_ranks=tokenizer.ranks, special_tokens={})
    work = Work(folder / "work", tokenizer, split)
    jobs = [Job(work.folder, "bench", number, piece) for number, piece in enumerate(found)]
    lists = encoding.encode_ordinary_batch(texts)
    few = lists[: max(4 * packing.POOL, len(lists) // 8)]
    steps: dict[tuple[str, str], Callable[[], int]] = {}
    for processes in sorted({1, cpus()}):
        steps["tokenize", f"tiktoken alone, threads: {processes}"] = lambda n=processes: sum(
            map(len, encoding.encode_ordinary_batch(texts, num_threads=n))
        )
        steps["tokenize", f"prepare, processes: {processes}"] = lambda n=processes: work.tokens(jobs, n)
    steps["pack, best fit", "every document of the pool, lists"] = lambda: linear(few, tokenizer.bos)
    for name, pack in packing.PACKINGS.items():
        steps[f"pack, {name.replace('-', ' ')}", "prepare"] = lambda pack=pack: sum(
            rows.size for rows in pack(read(jobs, "train"), tokenizer.bos, SHAPE.seq_len, None)
        )
    runs: dict[tuple[str, str], list[Measure]] = {step: [] for step in steps}
    for _ in range(repeats):
        for step, run in steps.items():
            runs[step].append(timed(run))
    return [
        {"step": s, "who": who, **{k: statistics.median(r[k] for r in each) for k in each[0]}} for (s, who), each in runs.items()
    ]


class Work:
    """A work folder as `prepare` has one."""

    def __init__(self, folder: Path, tokenizer: Tokenizer, split: Split) -> None:
        self.folder = folder
        folder.mkdir()
        tokenizer.save(folder / "tokenizer.json")
        split.save(folder)

    def tokens(self, jobs: list[Job], processes: int) -> int:
        """Tokenize all jobs anew; the tokens for training."""
        for job in jobs:
            job.receipt.unlink(missing_ok=True)
        return sum(receipt.tokens["train"] for receipt in in_order(tokenize, jobs, processes))


def linear(texts: list[list[int]], bos: int) -> int:
    """Best fit without an index; how many tokens were packed."""
    waiting, pool, packed = iter(texts), list[list[int]](), 0
    while True:
        row: list[int] = []
        while len(row) <= SHAPE.seq_len:
            while len(pool) < packing.POOL and (ids := next(waiting, None)) is not None:
                pool.append([bos, *ids])
            if not pool:
                return packed
            room = SHAPE.seq_len + 1 - len(row)
            best = max((n for n, ids in enumerate(pool) if len(ids) <= room), key=lambda n: len(pool[n]), default=-1)
            chosen = pool.pop(best if best >= 0 else min(range(len(pool)), key=lambda n: len(pool[n])))
            row += chosen[:room]
        packed += np.array(row, dtype=np.uint16).size


def timed(run: Callable[[], int]) -> Measure:
    """Tokens a second and a CPU second, those of child processes included."""
    began, cpu = time.monotonic(), cpu_s()
    tokens = run()
    return {"tokens_per_s": tokens / (time.monotonic() - began), "tokens_per_cpu_s": tokens / (cpu_s() - cpu)}


def cpu_s() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def command(folder: Path, source: Path) -> Measure:
    """The whole command on a folder of text."""
    cache, began = folder / "cache", time.monotonic()
    argv = [sys.executable, "-c", PEAK, "-m", "nanochat_train.prepare", "--profile", "gpu", "--source", str(source)]
    done = subprocess.run(argv, env={**os.environ, "XDG_CACHE_HOME": str(cache)}, stdout=subprocess.PIPE, text=True, check=True)
    seconds = time.monotonic() - began
    tokens = sum(np.load(path, mmap_mode="r").size for path in (cache / "nanochat_train/gpu").glob("*.npy"))
    shutil.rmtree(cache)
    return {"tokens": tokens, "seconds": seconds, "peak_mb": int(done.stdout.split()[-1]) / 1024}


def page(found: dict[str, Any]) -> str:
    """The figures for people."""
    rows = [
        f"| {c['step']} | {c['who']} | {c['tokens_per_s'] / 1e6:.1f} | {c['tokens_per_cpu_s'] / 1e6:.1f} |"
        for c in found["cases"]
    ]
    commands = [f"| {c['tokens'] / 1e6:.1f} M | {c['seconds']:.1f} | {c['peak_mb']:.0f} |" for c in found["commands"]]
    rate = {(c["step"], c["who"]): c["tokens_per_cpu_s"] for c in found["cases"]}
    seconds = NIGHT / rate["tokenize", f"prepare, processes: {cpus()}"] + NIGHT / rate["pack, best fit", "prepare"]
    return PAGE_TEXT.format(
        **{**found, "commands": "\n".join(commands)},
        vocab_size=SHAPE.vocab_size,
        seq_len=SHAPE.seq_len,
        rows="\n".join(rows),
        night=NIGHT / 1e9,
        minutes=seconds / 60,
    )


if __name__ == "__main__":
    main()
