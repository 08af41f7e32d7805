"""Runs measurements on this machine: the task's referee as a process of its own, from trusted files."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from harness import gpus
from harness.models import Measurement, Request
from harness.process import PACKAGE, UNKILLABLE, clean_env, python, run
from harness.protocols import Cancel, Launch

SLACK_S = 120.0


class LocalRunner:
    """Runs are made in their requests' places. `trusted` holds the files of the lab's first commit, the referee among them."""

    def __init__(self, trusted: Path) -> None:
        """Nothing is started yet."""
        self.trusted = trusted

    def measure(self, request: Request, cancel: Cancel) -> Measurement | None:
        """One timed run; a referee that fails is void, never the candidate's fault. None when cancelled."""
        budget = request.task.budget
        limit = budget.startup_s + (budget.run_s or budget.limit_s) + budget.grace_s + 2 * budget.evaluate_s + SLACK_S
        asked = request.work / "request.json"
        asked.write_text(request.model_dump_json())
        argv = (*python(request.task.referee), str(asked))
        with gpus.lease(request.task, request.place.gpus) as lease:
            launch = Launch(argv, clean_env(PYTHONPATH=str(PACKAGE.parent), **lease.env), self.trusted)
            ended = run(launch, request.work / "referee.log", limit, cancel)
            if ended.code == UNKILLABLE:
                lease.spoiled(_last(ended.tail))
        if ended.cancelled:
            return None
        try:
            found = Measurement.model_validate_json(request.result.read_text())
        except (OSError, ValidationError):
            why = f"the referee took longer than {limit:.0f} s" if ended.timed_out else f"the referee failed: {_last(ended.tail)}"
            found = Measurement(status="void", reason=why, referee_tail=ended.tail[-4096:])
        told = {"dirty": lease.found, "shared": lease.shared}
        hardware = {**found.hardware, **{name: "; ".join(lines) for name, lines in told.items() if lines}}
        return found.model_copy(update={"seed": request.seed, "hardware": hardware})


def _last(text: str) -> str:
    """The last line of some output: the one that names the error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it printed nothing"
