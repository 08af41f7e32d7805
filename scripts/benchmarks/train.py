"""What each idea of train.py is worth on a CPU, and how it and its starts compare with upstream's file.

    scripts/bench train [--seeds 3] [--tokens 131072] [--only NAME ...] [--out docs/benchmarks]
    scripts/bench train --upstream DIR [--seconds 20] [--seeds 5]     DIR: a clone of karpathy/autoresearch at 228791f
    scripts/bench train --upstream DIR --gpu --seconds 90 --seeds 2

One process, two threads, no sandbox; needs the prepared data of the cpu profile, or with --gpu of the gpu profile. Each result is
written at once: what is there of the same file is not measured again. The first form's budget is in tokens, so other load
changes nothing but its duration. Seconds are CPU seconds on a CPU, and of the clock on a GPU.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # as in the sandbox, before torch reads it

import torch
from trained import WITH, WITHOUT, edited, upstream
from trained.report import page
from trained.trial import Ground, trial

from harness import __version__

PACKAGE = Path(__file__).resolve().parents[2] / "nanochat_train"
SIZE = {"DEPTH": 4, "ASPECT_RATIO": 32, "HEAD_DIM": 64}  # in upstream's words what train.py has on a CPU
UPSTREAM_BATCHES = (1024, 2048)
Measure = Callable[[int], dict[str, Any]]


def main() -> None:
    """Measure what is missing and write both files."""
    parser = argparse.ArgumentParser(description="Measure the ideas of train.py.")
    parser.add_argument("--seeds", type=int, help="3, and 5 with --upstream")
    parser.add_argument("--tokens", type=int, default=131_072, help="of a run")
    parser.add_argument("--only", nargs="*", help="parts of the names of what to measure")
    parser.add_argument("--upstream", type=Path, metavar="DIR", help="compare with the train.py there")
    parser.add_argument("--gpu", action="store_true", help="compare on a GPU, in each file's own size")
    parser.add_argument("--seconds", type=float, default=20.0, help="of a run of the comparison")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    args = parser.parse_args()
    torch.set_num_threads(2)
    ground = Ground.gpu() if args.gpu else Ground.cpu()
    text = (PACKAGE / "train.py").read_text()
    section = ("gpu" if args.gpu else "upstream") if args.upstream else "ideas"
    facts = {"file": hashlib.sha256(text.encode()).hexdigest()[:12], "budget": args.seconds if args.upstream else args.tokens}
    path = args.out / "baseline.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    if {name: found.get(section, {}).get(name) for name in facts} != facts:
        found[section] = {**facts, "runs": {}}
    measures = comparison(text, ground, args.upstream, args.seconds) if args.upstream else ideas(text, ground, args.tokens)
    chosen = {name: each for name, each in measures.items() if not args.only or any(part in name for part in args.only)}
    for seed in range(1, (args.seeds or (5 if args.upstream else 3)) + 1):
        for name, measure in chosen.items():
            runs = found[section]["runs"].setdefault(name, [])
            if seed in [run["seed"] for run in runs]:
                continue
            runs.append(measure(seed))
            print(name, {key: round(value, 4) for key, value in runs[-1].items()}, flush=True)
            found[section] |= {"date": time.strftime("%Y-%m-%d"), "harness": __version__, "machine": machine()}
            args.out.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(found, indent=1) + "\n")
            (args.out / "baseline.md").write_text(page(found))


def ideas(text: str, ground: Ground, tokens: int) -> dict[str, Measure]:
    """train.py, the plain start, and train.py with one idea fewer or more."""
    texts = {"best": text, "plain": (PACKAGE / "starts/plain.py").read_text()}
    texts |= {f"without {name}": edited(text, edits) for name, edits in WITHOUT.items()}
    texts |= {f"with {name}": edited(text, edits) for name, edits in WITH.items()}
    return {name: partial(trial, each, ground, tokens=tokens) for name, each in texts.items()}


def comparison(text: str, ground: Ground, top: Path, seconds: float) -> dict[str, Measure]:
    """Upstream's file and ours for the same seconds; on a CPU in one size, and also without what ours has more parameters by."""
    texts = {"best": text, "plain": (PACKAGE / "starts/plain.py").read_text()}
    theirs: dict[str, dict[str, int]] = {"upstream": {}}
    if ground.device == "cpu":
        texts["best, no bigrams"] = edited(text, WITHOUT["hashed bigrams"])
        theirs = {
            f"upstream, batch {batch}": {**SIZE, "TOTAL_BATCH_SIZE": batch, "DEVICE_BATCH_SIZE": batch // ground.seq_len}
            for batch in UPSTREAM_BATCHES
        }
    found: dict[str, Measure] = {name: partial(upstreams, top, ground, seconds, sizes) for name, sizes in theirs.items()}
    return found | {name: partial(trial, each, ground, seconds=seconds) for name, each in texts.items()}


def upstreams(top: Path, ground: Ground, seconds: float, sizes: dict[str, int], seed: int) -> dict[str, Any]:
    """A run of upstream's file."""
    return upstream.trial(top, ground, seed, seconds, sizes)


def machine() -> str:
    """What it was measured on."""
    versions = f"Linux {platform.release()}, Python {platform.python_version()}, torch {torch.__version__}"
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    return f"{gpu}{os.cpu_count()} cores, {versions}, a load of {os.getloadavg()[1]:.1f}"


if __name__ == "__main__":
    main()
