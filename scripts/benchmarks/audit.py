"""What the causality audit says of honest models and of cheats, and what it costs, on the cpu profile.

    scripts/bench audit [--audits 200] [--models 2] [--tokens 131072] [--out docs/benchmarks]

Models are trained by the real train.py. Each honest variant of each is audited many times with fresh cuts and freshly loaded
weights in one process, and once by real processes in the sandbox; each cheat once by real processes. Needs prepared data.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from audited import CHEATS, PEEK, VARIANTS
from audited.report import page

from harness import __version__
from harness.models import Budget, Metric, Request, Task
from nanochat_train import audit, data
from nanochat_train.answers import BATCH_ROWS
from nanochat_train.channel import CPU_THREADS, Fault
from nanochat_train.data import Data, Rows
from nanochat_train.evaluate import comparison, evaluate
from nanochat_train.score import nats
from nanochat_train.session import Trained, train
from nanochat_train.supply import Clock

TRAIN = Path(__file__).resolve().parents[2] / "nanochat_train/train.py"


def main() -> None:
    """Measure and write both files."""
    parser = argparse.ArgumentParser(description="Audit honest models and cheats.")
    parser.add_argument("--audits", type=int, default=200)
    parser.add_argument("--models", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=131_072)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    args = parser.parse_args()
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # as in the sandbox: threads that wait for each other do not spin
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp(prefix="harness-bench-")
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o755)
        found = measure(Bench(Path(scratch), args.tokens), args.audits, args.models)
    shutil.rmtree(os.environ["TORCHINDUCTOR_CACHE_DIR"], ignore_errors=True)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "audit.json").write_text(json.dumps(found, indent=1) + "\n")
    (args.out / "audit.md").write_text(page(found))
    print(page(found))


class Bench:
    """Prepared data and trained models."""

    def __init__(self, scratch: Path, tokens: int) -> None:
        """Nothing is trained yet."""
        self.scratch, self.tokens = scratch, tokens
        self.data: Data = data.load("cpu")
        self.made = 0

    def request(self, source: str, seed: int = 1) -> Request:
        """A measurement of a train.py, in a folder of its own."""
        self.made += 1
        work = self.scratch / str(self.made)
        shutil.copytree(TRAIN.parent, work / "tree/nanochat_train", ignore=shutil.ignore_patterns("__pycache__"))
        (work / "tree/nanochat_train/train.py").write_text(source)
        limits = Budget(run_s=None, run_tokens=self.tokens, limit_s=600, evaluate_s=600)
        task = Task(name="bench", program="p", editable=["f"], metric=Metric(name="m"), budget=limits, profile="cpu")
        return Request(task=task, tree=work / "tree", work=work, commit="0" * 40, seed=seed, sandbox="bubblewrap")

    def train(self, seed: int) -> Path:
        """The state of a trained model."""
        request = self.request(TRAIN.read_text(), seed)
        trained = Trained(Clock(request.task.budget), request.work / "checkpoint.safetensors")
        train(request, self.data, trained, lambda *_: None)
        return trained.state

    def real(self, source: str, state: Path, claims: bool = False) -> dict[str, Any]:
        """One evaluation by two sandboxed processes."""
        try:
            found = evaluate(self.request(TRAIN.read_text() + source), self.data, state, lambda *_: None, claims)
        except Fault as fault:
            return {"verdict": f"{fault.status}: {fault.reason}"}
        return {
            "claimed": found.score.bits_per_byte,
            "verdict": found.audit.summary,
            "passed": found.audit.passed,
            "seconds": found.seconds,
            "nll": found.nll,
            **found.audit.figures,
        }


def measure(bench: Bench, audits: int, models: int) -> dict[str, Any]:
    """Everything, as it goes into the JSON file."""
    states = []
    for seed in range(1, models + 1):
        states.append(bench.train(seed))
        tell(f"trained model {seed}")
    each = -(-audits // (len(VARIANTS) * models))
    honest: dict[str, Any] = {}
    real: list[dict[str, Any]] = []
    for name, source in VARIANTS.items():
        largest: list[float] = []
        rejected = 0
        for state in states:
            for found in repeated(bench, source, state, each):
                largest.append(found.figures["largest"])
                rejected += not found.passed
        once = {"claimed": None, "largest": None}
        if name != "compiled":  # a minute in a sandbox, where nothing is kept; the tests do it
            once = bench.real(f"\n{source}\n", states[0])
            real.append(once)
            rejected += not once["passed"]
        honest[name] = {"rejected": rejected, "largest": largest, "real": {key: once[key] for key in ("claimed", "largest")}}
        tell(f"{name}: {rejected} of {len(largest)} rejected, largest {max(largest):.6f}")
    base = real[0]["nll"]
    hard = [float(np.quantile(base, 1 - share)) for share in (0.005, 0.0005)]
    cheats = {}
    for name, source in CHEATS.items():
        found = bench.real(f"\nHARD = {hard}\n{PEEK}\n{source}\n", states[0], claims="states" in name)
        cheats[name] = {key: found.get(key) for key in ("claimed", "certified", "largest", "verdict")}
        real.append(found)
        tell(f"{name}: {cheats[name]}")
    seconds = [found["seconds"] for found in real if "seconds" in found]
    machine = (
        f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, load {os.getloadavg()[2]:.1f}"
    )
    return {
        **{"harness": __version__, "machine": machine, "date": time.strftime("%Y-%m-%d")},
        **{"audits": audits, "models": models, "tokens": bench.tokens, "true": real[0]["claimed"]},
        **{"rows": bench.data.meta.rows["val"], "seq_len": bench.data.meta.seq_len},
        **{"honest": honest, "cheats": cheats, "seconds": seconds},
    }


def repeated(bench: Bench, source: str, state: Path, times: int) -> list[Any]:
    """Audits with fresh cuts of one model, in this process: scored once, repeated with new weights and other batches."""
    rows, rng = bench.data.rows("val"), np.random.default_rng()
    request, counted = bench.request(""), bench.data.token_bytes()[bench.data.rows("val")[:, 1:]] > 0
    against = comparison(request, bench.data, rows)
    with ThreadPoolExecutor(CPU_THREADS) as threads:
        answer = answerer(TRAIN.read_text() + f"\n{source}\n", bench, state)
        nll = audit.first_pass(lambda chosen: nats(answer(chosen[:, :-1]), chosen[:, 1:], threads), rows, BATCH_ROWS, rng)
        found = []
        for _ in range(times):
            again = answer if "torch.compile" in source else answerer(TRAIN.read_text() + f"\n{source}\n", bench, state)

            def ask(inputs: Rows, targets: Rows, starts: Any, again: Any = again) -> Any:
                parts = [row[start : start + audit.BACK] for row, start in zip(again(inputs), starts, strict=True)]
                return nats(np.stack(parts), targets, threads)

            cuts = audit.choose(against - nll, counted, audit.PLANS["cpu"], rng)
            repeat = audit.second_pass(ask, rows, bench.data.rows("train"), cuts, BATCH_ROWS, rng)
            found.append(audit.judge(audit.differences(nll, cuts, repeat), cuts, audit.TOLERANCE))
    return found


def answerer(source: str, bench: Bench, state: Path) -> Callable[[Rows], Any]:
    """A loaded model as a function of tokens [B, T]: logits [B, T, V]."""
    import torch

    torch.set_num_threads(CPU_THREADS)
    module = imported(source, bench.scratch)
    model = module.load(str(state))

    def answer(tokens: Rows) -> Any:
        with torch.no_grad():
            return module.logits(model, torch.from_numpy(tokens.astype(np.int64))).float().numpy()

    return answer


def imported(source: str, scratch: Path) -> ModuleType:
    """A train.py as a module of its own."""
    path = scratch / "variant.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("variant", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["variant"] = module
    spec.loader.exec_module(module)
    return module


def tell(text: str) -> None:
    """Progress, for whoever waits."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        main()
