"""No confinement: a clean environment and a tree that dies together. Only when asked for by name, and recorded as what it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from harness import gpus
from harness.limits import rlimits
from harness.protocols import Box, Launch

INIT = Path(__file__).with_name("init.py")


class NoSandbox:
    """Runs the command as the user, who then trusts the agent and everything it writes."""

    name = "none"
    network: Literal["own", "host", "none"] = "host"

    def problem(self, secret: tuple[Path, ...] = ()) -> str | None:
        """Nothing is needed."""
        return None

    @contextmanager
    def wrap(self, argv: list[str], box: Box) -> Iterator[Launch]:
        """`argv` under the init that ends the whole tree; of the box only cwd, env, home, fds and limits apply."""
        env = {**gpus.visible(box), **box.env, **({"HOME": str(box.home)} if box.home else {})}
        limits = rlimits(box.limits) if box.limits else []
        init = (sys.executable, "-I", "-S", str(INIT), "--subtree", *limits, "--")
        yield Launch((*init, *argv), env, box.cwd, box.fds, box.limits, box.places)
