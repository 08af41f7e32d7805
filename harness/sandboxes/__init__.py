"""The sandboxes, in one table. `bubblewrap` is the default; the others are used only when asked for by name."""

from __future__ import annotations

from pathlib import Path

from harness.models import UserError
from harness.protocols import Sandbox
from harness.sandboxes.bubblewrap import Bubblewrap
from harness.sandboxes.none import NoSandbox
from harness.sandboxes.uid import Uid

SANDBOXES: dict[str, type[Sandbox]] = {"bubblewrap": Bubblewrap, "uid": Uid, "none": NoSandbox}

MEANING = {
    "bubblewrap": "namespaces, no network, everything read-only but what a command is given",
    "uid": "weaker, a user id of its own without sockets, which reads what every user here can read",
    "none": "agents and their code would have your rights on your files and network",
}


def get(name: str, secret: tuple[Path, ...] = ()) -> Sandbox:
    """The sandbox of that name, proven usable on this machine; a UserError says what is missing and what mends it.

    `secret` are folders that no command in it may read, beside the user's home.
    """
    if name not in SANDBOXES:
        raise UserError(f"there is no sandbox {name!r}; choose one of: {', '.join(SANDBOXES)}")
    sandbox = SANDBOXES[name]()
    prove(sandbox, secret)
    return sandbox


def prove(sandbox: Sandbox, secret: tuple[Path, ...] = ()) -> None:
    """UserError when a sandbox does not work on this machine.

    It costs about as much as a small run, so referees, which work in what a night has proven before, do it only where something
    has failed in it: then a sandbox that broke meanwhile is not taken for a candidate's fault.
    """
    if problem := sandbox.problem(secret):
        raise UserError(problem)
