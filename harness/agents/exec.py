"""The driver for CLIs that take a prompt, work, and exit: pipes, closed stdin, a deadline, a dead tree at the end."""

from __future__ import annotations

from pathlib import Path

from harness.agents.start import prepare
from harness.models import AgentSpec
from harness.process import run
from harness.protocols import Box, Cancel, Exit, Sandbox


class ExecAgent:
    """One entry of agents.yaml, run in a sandbox."""

    def __init__(self, spec: AgentSpec, sandbox: Sandbox) -> None:
        """Nothing is started yet."""
        self.spec, self.sandbox = spec, sandbox

    def propose(self, prompt: str, box: Box, log: Path, seed: int, deadline_s: float, cancel: Cancel, session: str = "") -> Exit:
        """Run the CLI once in `box`; what it changed is for the caller to read, its exit code proves nothing."""
        start = prepare(self.spec, prompt, box, seed, session)
        stdin = prompt.encode() if self.spec.prompt.via == "stdin" else b""
        with self.sandbox.wrap(start.argv, start.box) as launch:
            return run(launch, log, deadline_s, cancel, stdin)
