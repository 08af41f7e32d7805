"""The task's trusted `evaluate`: run outside the sandbox over copies of a run's outputs, and believed only as far as this goes.

It is given the folder of the copies as its last argument and prints one JSON object on its last line (docs/tasks.md):
{"value": number, "name"?: str, "figures"?: {name: number}, "items"?: [number]}. In its environment are SEED, HARNESS_SPLIT
("validation" or "test"), and what sandboxed.py needs to execute something that the candidate produced.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from pathlib import Path
from typing import Literal

from harness.harvest import Unusable, read_file
from harness.models import Request, Value
from harness.process import LOG_BYTES, clean_env, python, run
from harness.protocols import Exit, Launch

MAX_OUTPUT_BYTES = 64 << 20
FIGURES, ITEMS = 100, 1_000_000
REQUEST = "HARNESS_REQUEST"
FIELDS = ("value", "name", "figures", "items")


class Refused(Exception):
    """What became of an evaluation instead of a value: `invalid` is the candidate's fault, `void` is evaluate's.

    Agents see the reason of an invalid one, so it tells no number; `tail` is what evaluate printed, for people.
    """

    def __init__(self, status: Literal["invalid", "void"], reason: str, tail: str = "") -> None:
        super().__init__(reason)
        self.status, self.reason, self.tail = status, reason, tail


class Told(Value):
    """What evaluate said: the metric, further figures, and the metric's value of each item."""

    value: float
    figures: dict[str, float] = {}
    items: list[float] = []


def evaluate(request: Request) -> Told:
    """Copy the outputs, run evaluate over them, write `request.items` if it told any; Refused when there is no value."""
    folder = request.work / "outputs"
    for name in request.task.outputs:
        try:
            data = read_file(request.tree, name, MAX_OUTPUT_BYTES, text=False)
        except Unusable as refused:
            raise Refused("invalid", f"output refused: {refused}") from None
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    told = parse(_run(request, folder), request.task.metric.name)
    if told.items:
        _write_items(request.items, told.items)
    return told


def _run(request: Request, folder: Path) -> str:
    """The last line that evaluate printed."""
    task, log, asked = request.task, request.work / "evaluate.log", request.work / "evaluate.json"
    asked.write_text(request.model_dump_json())
    env = {"SEED": str(request.seed), "HARNESS_SPLIT": request.split, "HARNESS_PYTHON": sys.executable, REQUEST: str(asked)}
    if task.python:
        env["PATH"] = os.pathsep.join([str(Path(task.python).parent), os.environ.get("PATH", os.defpath)])
    else:
        env["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
    launch = Launch((*python(task.evaluate, task.python), str(folder)), clean_env(**env), Path.cwd())
    ended = run(launch, log, task.budget.evaluate_s)
    if ended.timed_out:
        raise Refused("invalid", f"the evaluation took longer than {task.budget.evaluate_s:g} s")
    if ended.code:
        raise Refused("invalid", f"evaluation failed: {_how(ended)}", ended.tail[-4096:])
    if log.stat().st_size >= LOG_BYTES:
        raise Refused("void", f"evaluate printed more than {LOG_BYTES >> 20} MB")
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else ""


def _how(ended: Exit) -> str:
    """How evaluate failed, as agents may know it: an exception's name, or its own sentence without the numbers."""
    last = ended.tail.strip().rpartition("\n")[2].strip()
    name = re.match(r"[A-Za-z_][\w.]{0,60}(?:Error|Exception|Exit|Interrupt)(?=:|$)", last)
    return name[0] if name else re.sub(r"[+-]?\d[\d.,]*(?:[eE][+-]?\d+)?", "#", last)[:200] or f"exit code {ended.code}"


def parse(line: str, metric: str) -> Told:
    """The value of evaluate's last line; Refused, with a plain reason, for anything that is not one."""
    shown = line[:300] or "nothing"
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        raise Refused("void", f"evaluate printed no JSON on its last line: {shown}") from None
    if not isinstance(told, dict) or "value" not in told:
        raise Refused("void", f'evaluate printed no {{"value": ...}} on its last line: {shown}')
    if unknown := [name for name in told if name not in FIELDS]:
        raise Refused("void", f"evaluate printed the field {unknown[0][:60]!r}: it may print {', '.join(FIELDS)}")
    if told.get("name", metric) != metric:
        raise Refused("void", f"evaluate measured {str(told['name'])[:60]!r}, the task's metric is {metric!r}")
    value = _number(told["value"], "value")
    if not math.isfinite(value):
        raise Refused("invalid", f"the metric is {value}")
    figures, items = told.get("figures", {}), told.get("items", [])
    if not isinstance(figures, dict) or len(figures) > FIGURES or any(len(name) > 64 for name in figures):
        raise Refused("void", f"evaluate's figures are not a mapping of at most {FIGURES} short names to numbers")
    if not isinstance(items, list) or len(items) > ITEMS:
        raise Refused("void", f"evaluate's items are not a list of at most {ITEMS:,} numbers")
    return Told(
        value=value,
        figures={name: _finite(number, f"figure {name!r}") for name, number in figures.items()},
        items=[_finite(number, "items") for number in items],
    )


def _number(found: object, what: str) -> float:
    """A JSON number as a float; strings and booleans are none."""
    if isinstance(found, int | float) and not isinstance(found, bool):
        try:
            return float(found)
        except OverflowError:
            pass
    raise Refused("void", f"evaluate's {what} is not a number: {str(found)[:60] if not isinstance(found, int) else 'too large'}")


def _finite(found: object, what: str) -> float:
    number = _number(found, what)
    if not math.isfinite(number) or abs(number) > 3e38:  # of a float32
        raise Refused("void", f"evaluate's {what} is not finite: {number}")
    return number


def _write_items(path: Path, items: list[float]) -> None:
    import numpy as np  # only for tasks that have items: it takes as long to load as a small task takes to run

    with path.open("wb") as file:
        np.save(file, np.array(items, dtype=np.float32), allow_pickle=False)
