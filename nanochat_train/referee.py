"""Measure one tree once: train it in a sandbox, score what it saved in another, write one measurement.

    python -m nanochat_train.referee REQUEST.json

The request is a `harness.models.Request`; the answer, a `harness.models.Measurement`, is always written.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from harness import sandboxes
from harness.models import Measurement, Request, UserError
from harness.referee import serve
from nanochat_train import data, machine
from nanochat_train.channel import Fault, Report, device
from nanochat_train.data import Data
from nanochat_train.evaluate import Evaluated, evaluate
from nanochat_train.session import Trained, train
from nanochat_train.supply import Clock

PROGRESS_EVERY_S = 0.5
MODEL = "model.safetensors"  # the trained state of a run that counts, for `harness export`


def measure(request: Request) -> Measurement:
    """Train and score; every failure of the candidate is a measurement, every failure of ours a void one."""
    started = time.monotonic()
    report = reporter(request.progress)
    blank = Measurement(
        status="void", seed=request.seed, split=request.split, profile=request.task.profile, sandbox=request.sandbox
    )
    try:
        prepared = ready(request.task.profile)
    except UserError as error:
        return blank.model_copy(update={"reason": str(error)})
    trained = Trained(Clock(request.task.budget), request.work / "checkpoint.safetensors")
    ended: Fault | None = None
    evaluated: Evaluated | None = None
    hardware: dict[str, str] = {}
    try:
        train(request, prepared, trained, report)
        with ThreadPoolExecutor(1) as aside:  # at once: clocks and temperature are those of training
            told = aside.submit(machine.hardware, request.work)
            try:
                evaluated = evaluate(request, prepared, trained.state, report)
            finally:
                hardware = told.result()
    except Fault as fault:
        ended = broken(request) or fault
    except UserError as error:
        ended = Fault("void", str(error))
    except Exception as error:
        traceback.print_exc()
        ended = Fault("void", f"the referee failed: {type(error).__name__}: {error}")
    seconds = {**(evaluated.seconds if evaluated else {}), "total": time.monotonic() - started}
    result = blank.model_copy(
        update={**evidence(trained, prepared, seconds), "hardware": hardware or machine.hardware(request.work)}
    )
    if ended or evaluated is None or not evaluated.audit.passed:
        trained.state.unlink(missing_ok=True)
    if ended or evaluated is None:
        return result.model_copy(update={"status": ended.status if ended else "void", "reason": ended.reason if ended else ""})
    result = result.model_copy(update={"audit": evaluated.audit, "checkpoint": evaluated.checkpoint})
    if not evaluated.audit.passed:
        return result.model_copy(update={"status": "invalid", "reason": evaluated.audit.summary})
    np.save(request.items, evaluated.nll.reshape(-1), allow_pickle=False)
    request.artefacts.mkdir()
    trained.state.replace(request.artefacts / MODEL)
    return result.model_copy(update={"status": "ok", "value": evaluated.score.bits_per_byte})


def broken(request: Request) -> Fault | None:
    """What is wrong with the sandbox itself, which worked when the night began: then the candidate is not to blame."""
    try:
        sandboxes.prove(sandboxes.SANDBOXES[request.sandbox]())
    except UserError as error:
        return Fault("void", str(error))
    return None


def ready(profile: str) -> Data:
    """The prepared data of a profile; a UserError says what is missing and how to get it."""
    if device(profile) == "cuda" and not list(Path("/dev").glob("nvidia[0-9]*")):
        raise UserError("the gpu profile needs an NVIDIA GPU: use `--profile cpu`")
    return data.load(profile)


def evidence(trained: Trained, prepared: Data, seconds: dict[str, float]) -> dict[str, object]:
    """What is known of a run besides its score, as fields of a Measurement."""
    clock, ended = trained.clock, trained.exit
    seconds = {**phases(trained), **seconds}
    figures = {"tokens": float(clock.tokens), "steps": float(trained.last_step)}
    if seconds["train"] > 0:
        figures["tokens_per_s"] = round(clock.tokens / seconds["train"], 1)
    if trained.compiled:
        figures["compiled_files"] = float(trained.compiled)
    if trained.compiled_late > 0:
        figures["compiled_on_the_clock"] = float(trained.compiled_late)
    if trained.parameters:
        figures["parameters"] = float(trained.parameters)
    return {
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "cpu_s": round(ended.cpu_s, 3) if ended else 0.0,
        "peak_memory_mb": round(ended.peak_memory_mb, 1) if ended else 0.0,
        "figures": figures,
        "notes": trained.notes,
        "curve": trained.curve,
        "log_tail": ended.tail if ended else "",
        "limits": ended.limits if ended else "",
        "versions": {**machine.versions(), "corpus": prepared.meta.corpus, "tokenizer": prepared.meta.tokenizer},
    }


def phases(trained: Trained) -> dict[str, float]:
    """Seconds of training, and of parts of it after a dot; what was not reached is missing."""
    clock, reached = trained.clock, trained.reached
    dead = reached.get("dead", time.monotonic())
    begun = clock.started or dead
    found = {"startup": begun - clock.created, "train": dead - begun}
    if "imported" in reached:
        found["startup.import"] = reached["imported"] - clock.created
    if "saving" in reached and "saved" in reached:
        found |= {"train.save": reached["saved"] - reached["saving"], "train.exit": dead - reached["saved"]}
    return {name: max(0.0, value) for name, value in found.items()}


def reporter(path: Path) -> Report:
    """A function that tells what is going on by replacing the file at `path`, at most twice a second."""
    last = 0.0

    def report(phase: str, left_s: float, loss: float | None, tokens: int | None = None) -> None:
        nonlocal last
        if time.monotonic() - last < PROGRESS_EVERY_S:
            return
        last = time.monotonic()
        known = {"loss": loss, "tokens": tokens}
        state = {"phase": phase, "left_s": round(left_s, 1), **{name: each for name, each in known.items() if each is not None}}
        part = path.with_suffix(".partial")
        part.write_text(json.dumps(state))
        part.replace(path)

    return report


if __name__ == "__main__":
    sys.exit(serve(measure, sys.argv[1:], ready))
