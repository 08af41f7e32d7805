"""The default referee: runs the task's `command` in a sandbox, then its trusted `evaluate` over the declared outputs.

    python -m harness.referee REQUEST.json          measure once
    python -m harness.referee --ready PROFILE       exit 0, or 1 with a sentence about what has to be prepared first

A task with a referee of its own calls `serve` with its own `measure` and `ready`. A referee always writes one Measurement;
nothing that candidate code prints is ever parsed.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from harness import caches, gpus, limits, sandboxes, trees
from harness.evaluation import Refused, evaluate
from harness.models import Measurement, Request, UserError
from harness.places import Interpreter, interpreter
from harness.process import UNKILLABLE, Process, Unkillable, inner_env, python
from harness.protocols import Box, Exit, Launch

LOOK_S = 0.25  # how often it is asked whether a run is overdue


def serve(
    measure: Callable[[Request], Measurement], arguments: list[str], ready: Callable[[str], object] = lambda _profile: None
) -> int:
    """The body of a referee program: a request file in, a measurement file out, written in one step.

    `ready` is given a profile and raises UserError when something has to be prepared before the first measurement.
    """
    if arguments[0] == "--ready":
        try:
            ready(arguments[1])
        except UserError as error:
            print(error)
            return 1
        return 0
    # Ended from outside: unwind, so that every sandbox is dead before this process is.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    os.umask(0o022)
    request = Request.model_validate_json(Path(arguments[0]).read_text())
    if request.place.cpus:
        os.sched_setaffinity(0, request.place.cpus)  # and so for all that is started here
    try:
        measurement = measure(request)
    except UserError as error:
        print(error)
        return UNKILLABLE if isinstance(error, Unkillable) else 1
    partial = request.result.with_suffix(".partial")
    partial.write_text(measurement.model_dump_json())
    partial.replace(request.result)
    return 0


def measure(request: Request) -> Measurement:
    """One run of a candidate. `seconds` holds run and evaluate."""
    compiled = caches.private(request, "run")
    box = _box(request, compiled)
    sandbox = sandboxes.SANDBOXES[request.sandbox]()
    with sandbox.wrap(python(request.task.command, request.task.python), box) as launch:
        ended, spent = _timed(launch, request)
    if ended.code:
        sandboxes.prove(sandbox)
    facts = Measurement(
        status="ok",
        seed=request.seed,
        split=request.split,
        profile=request.task.profile,
        sandbox=request.sandbox,
        limits=ended.limits,
        seconds={"run": ended.seconds},
        cpu_s=ended.cpu_s,
        peak_memory_mb=ended.peak_memory_mb,
        log_tail=ended.tail[-4096:],
        versions={"python": _version(request)},
    )
    if failed := {"status": "invalid", "reason": spent} if spent else _failure(ended):
        return facts.model_copy(update=failed)
    started = time.monotonic()
    try:
        told = evaluate(request)
        result: dict[str, object] = {"value": told.value, "hidden_figures": told.figures}
        caches.take(request, compiled)
        if request.task.outputs:
            trees.remove(request.artefacts)
            (request.work / "outputs").rename(request.artefacts)
    except Refused as refused:
        result = {"status": refused.status, "reason": refused.reason, "referee_tail": refused.tail}
    return facts.model_copy(update={**result, "seconds": {"run": ended.seconds, "evaluate": time.monotonic() - started}})


def _timed(launch: Launch, request: Request) -> tuple[Exit, str]:
    """Run the command to its end or to its deadline; with a reason to where it has needed more than a run may."""
    limit_s = request.task.budget.run_s or request.task.budget.limit_s
    with Process(launch, request.work / "run.log") as process:
        while (ended := process.wait(LOOK_S)) is None:
            late = time.monotonic() - process.started > limit_s
            spent = "" if late else overspent(request, process)
            if late or spent:
                return replace(process.kill(), timed_out=late), spent
        return ended, ""


def overspent(request: Request, process: Process) -> str:
    """Why a run may be ended before its time: it has needed so much that it cannot count; empty while it has not."""
    if request.cpu_s is None or process.tree.cpu_s() <= request.cpu_s:
        return ""
    return f"ended when it had needed {request.cpu_s:.1f} CPU seconds, the limit by the baseline's runs"


def _box(request: Request, compiled: caches.Private) -> Box:
    """The tree read-only but for the declared outputs, which are made beforehand and bound one by one, and its caches."""
    outputs = tuple(request.tree / name for name in request.task.outputs)
    for path in outputs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    env = inner_env(request.task.python, SEED=str(request.seed), PYTHONHASHSEED=str(request.seed))
    if request.task.python:
        del env["PYTHONPATH"]  # the harness and what it needs are nothing to another interpreter
    readable = (request.tree, *request.readable)
    bounds = limits.settle(request.task.limits, "train")
    return Box(
        cwd=request.tree,
        readable=readable,
        writable=(*outputs, *compiled.writable),
        hidden=tuple(request.hidden),
        env={**env, **compiled.env},
        gpu=gpus.wanted(request.task),
        limits=bounds,
        role="train",
    )


def _version(request: Request) -> str:
    """The version of the Python that the task runs with."""
    if not request.task.python:
        return sys.version.split()[0]
    asked = interpreter(Path(request.task.python), request.work)
    return asked.version if isinstance(asked, Interpreter) else ""


def _failure(ended: Exit) -> dict[str, object] | None:
    """What the end of the command says about the candidate, if it says anything bad."""
    if ended.exceeded:
        return {"status": "crash", "reason": ended.exceeded}
    if ended.timed_out:
        return {"status": "invalid", "reason": f"still running after {ended.seconds:.0f} s"}
    if ended.code:
        last = next((line for line in reversed(ended.tail.splitlines()) if line.strip()), "no output")
        return {"status": "crash", "reason": f"exit code {ended.code}: {last.strip()[:300]}"}
    return None


if __name__ == "__main__":
    sys.exit(serve(measure, sys.argv[1:]))
