"""The sandboxes, in one table. `bubblewrap` is the default; `none` is used only when it is asked for by name."""

from __future__ import annotations

from harness.models import UserError
from harness.protocols import Sandbox
from harness.sandboxes.bubblewrap import Bubblewrap
from harness.sandboxes.none import NoSandbox

SANDBOXES: dict[str, type[Sandbox]] = {"bubblewrap": Bubblewrap, "none": NoSandbox}


def get(name: str) -> Sandbox:
    """The sandbox of that name, proven usable on this machine; a UserError says what is missing and what mends it."""
    if name not in SANDBOXES:
        raise UserError(f"there is no sandbox {name!r}; choose one of: {', '.join(SANDBOXES)}")
    sandbox = SANDBOXES[name]()
    if problem := sandbox.problem():
        raise UserError(problem)
    return sandbox
