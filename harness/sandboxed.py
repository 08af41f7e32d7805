"""For `evaluate` programs that have to execute what a candidate produced: in the sandbox of its run, never outside.

    python -m harness.sandboxed [--timeout S] [--writable FILE] -- COMMAND...      as a program; passes stdin and output on
    harness.sandboxed.run(["python", "answer.py"], stdin=b"question")              as a function

What runs sees the candidate's tree and the copies of its outputs, both read-only, under the limits of an evaluation. It has no
network, and nothing of it lives on afterwards. What comes back is the candidate's word: parse it like any other input.
"""

from __future__ import annotations

import argparse
import itertools
import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import limits, sandboxes
from harness.evaluation import REQUEST
from harness.models import Request, UserError
from harness.process import inner_env, python
from harness.process import run as run_process
from harness.protocols import Box

TIMED_OUT, EXCEEDED = 124, 137  # exit codes of the program


@dataclass(frozen=True)
class Ran:
    """How a command ended. `output` is the first megabytes of what it printed, errors among it; `exceeded` a limit, or empty."""

    code: int
    output: bytes
    seconds: float
    timed_out: bool
    exceeded: str


def run(argv: Sequence[str], stdin: bytes = b"", timeout_s: float | None = None, writable: Sequence[Path] = ()) -> Ran:
    """Run a command in the sandbox of the run that is evaluated; the time limit is that of the evaluation unless given.

    A leading `python` is the task's interpreter. `writable` are files that it may fill; they are made when they are missing
    and can be nothing but regular files afterwards. UserError outside an evaluation.
    """
    if not (asked := os.environ.get(REQUEST)):
        raise UserError("harness.sandboxed works in the `evaluate` of a task, which the harness starts: `harness measure` does")
    request = Request.model_validate_json(Path(asked).read_text())
    task, log = request.task, _log(request.work)
    for path in writable:
        _make(path)
    outputs = request.work / "outputs"
    box = Box(
        cwd=request.tree,
        readable=(request.tree, *([outputs] if outputs.exists() else []), *request.readable),
        writable=tuple(path.absolute() for path in writable),
        hidden=tuple(request.hidden),
        env=_env(request),
        limits=limits.settle(task.limits, "evaluate"),
    )
    with sandboxes.SANDBOXES[request.sandbox]().wrap(python(list(argv), task.python), box) as launch:
        ended = run_process(launch, log, timeout_s or task.budget.evaluate_s, stdin=stdin)
    return Ran(ended.code, log.read_bytes(), ended.seconds, ended.timed_out, ended.exceeded)


def _env(request: Request) -> dict[str, str]:
    env = inner_env(request.task.python, SEED=str(request.seed), PYTHONHASHSEED=str(request.seed))
    if request.task.python:
        del env["PYTHONPATH"]  # the harness and what it needs are nothing to another interpreter
    return env


def _log(work: Path) -> Path:
    """A file of this command's own."""
    return next(path for n in itertools.count() if not (path := work / f"sandboxed-{os.getpid()}-{n}.log").exists())


def _make(path: Path) -> None:
    """An empty regular file, or the one that is there: no link, no folder."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise UserError(f"{path} cannot be written by a sandboxed command: name a file")
    finally:
        os.close(handle)


def main(arguments: list[str]) -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m harness.sandboxed")
    parser.add_argument("--timeout", type=float, metavar="S")
    parser.add_argument("--writable", type=Path, action="append", default=[], metavar="FILE")
    parser.add_argument("command", nargs="+")
    asked = parser.parse_args(arguments)
    try:
        ran = run(asked.command, b"" if sys.stdin.isatty() else sys.stdin.buffer.read(), asked.timeout, asked.writable)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    sys.stdout.buffer.write(ran.output)
    if ran.timed_out or ran.exceeded:
        print(ran.exceeded or f"still running after {ran.seconds:.0f} s", file=sys.stderr)
        return EXCEEDED if ran.exceeded else TIMED_OUT
    return ran.code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
