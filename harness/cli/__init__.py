"""The command line. Thin: it reads options, calls the engine, and is the only place that prints for people.

Exit codes: 0 success, 1 the user's error in one sentence, 2 usage, 3 our bug with a traceback in a file, 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from typing import Annotated

import typer

from harness import __version__
from harness.cli import (
    ablate,
    agents,
    certify,
    ending,
    export,
    history,
    imports,
    machine,
    nights,
    once,
    pick,
    report,
    review,
    serve,
    watch,
    wishes,
)
from harness.models import UserError

# What the machine, not the harness, is to blame for.
OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE)
SAID_BY_GIT = ("No space left on device", "Disk quota exceeded", "Permission denied", "Read-only file system")

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
for command in (
    *(nights.run, nights.resume, nights.baseline, nights.replicate),
    *(once.check, once.measure, certify.certify, ablate.ablate, export.export),
    *(review.review, review.accept, review.reject, review.sync, pick.pick),
    *(history.status, watch.watch, serve.serve, history.log, ending.summary, report.report),
    *(history.show, history.diff, history.revive),
    *(wishes.idea, wishes.submit),
    *(machine.doctor, machine.gc, machine.schema),
):
    app.command()(command)
app.command("import")(imports.bring)
app.add_typer(agents.app, name="agents")


def version(asked: bool) -> None:
    """Answer `harness --version`."""
    if asked:
        typer.echo(f"harness {__version__}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", is_eager=True, callback=version)
    ] = False,
) -> None:
    """Nights of measured experiments: coding agents propose, the harness measures, merges what is better and records all."""


def main() -> None:
    """The entry point: errors become exit codes here and nowhere else."""
    os.umask(0o022)  # what a sandbox may read has to be readable by its uid; the state folder itself is closed
    try:
        app()
    except UserError as error:
        fail(str(error))
    except Exception as error:
        if problem := of_the_machine(error):
            fail(f"{problem}; mend that and try again: nothing that was recorded is lost, and `harness resume` continues a night")
        try:
            with tempfile.NamedTemporaryFile("w", prefix="harness-bug-", suffix=".txt", delete=False) as file:
                traceback.print_exc(file=file)
            print(f"harness: this is a bug of ours; the traceback is in {file.name}", file=sys.stderr)
        except OSError:
            traceback.print_exc()
        sys.exit(3)


def fail(sentence: str) -> None:
    """One sentence on stderr, and exit code 1."""
    print(f"harness: {' '.join(sentence.split())}", file=sys.stderr)
    sys.exit(1)


def of_the_machine(error: Exception) -> str | None:
    """What is wrong with the machine, if that is what an exception says: a full disk, a folder that is not ours to write."""
    if isinstance(error, BrokenPipeError):
        sys.exit(0)  # the reader of our output went away, as `harness log | head` does
    if isinstance(error, OSError) and error.errno in OF_THE_MACHINE:
        return f"{error.filename or 'the disk'}: {error.strerror}"
    return next((f"git says: {error}" for words in SAID_BY_GIT if words in str(error)), None)
