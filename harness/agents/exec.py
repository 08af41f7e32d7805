"""The driver for CLIs that take a prompt, work, and exit: pipes, closed stdin, a deadline, a dead tree at the end."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from harness.models import AgentSpec
from harness.process import run
from harness.protocols import Box, Cancel, Exit, Sandbox


class ExecAgent:
    """One entry of agents.yaml, run in a sandbox."""

    def __init__(self, spec: AgentSpec, sandbox: Sandbox) -> None:
        """Nothing is started yet."""
        self.spec, self.sandbox = spec, sandbox

    def propose(self, prompt: str, box: Box, log: Path, seed: int, deadline_s: float, cancel: Cancel) -> Exit:
        """Run the CLI once in `box`; what it changed is for the caller to read, its exit code proves nothing."""
        assert box.home is not None
        values = {"python": sys.executable, "model": self.spec.model, "home": str(box.home), "seed": str(seed)}
        values |= {"prompt_file": str(box.home / "prompt.md"), "file": box.env.get("HARNESS_FILE", "")}
        values |= {"base_url": box.gateway.url, "key": box.gateway.key} if box.gateway else {}
        files = {name: fill(text, values) for name, text in self.spec.home_files.items()}
        for name, text in {**files, **({"prompt.md": prompt} if self.spec.prompt.via == "file" else {})}.items():
            (box.home / name).parent.mkdir(parents=True, exist_ok=True)
            (box.home / name).write_text(text, "utf-8")
        argv = [fill(part, values) for part in self.spec.argv]
        if self.spec.prompt.via == "arg":
            argv += [*([self.spec.prompt.flag] if self.spec.prompt.flag else []), prompt]
        env = {**box.env, **{name: fill(value, values) for name, value in self.spec.env.items()}}
        stdin = prompt.encode() if self.spec.prompt.via == "stdin" else b""
        with self.sandbox.wrap(argv, replace(box, env=env)) as launch:
            return run(launch, log, deadline_s, cancel, stdin)


def fill(text: str, values: dict[str, str]) -> str:
    """`text` with {name} replaced for the names we know; other braces stay, since agents' arguments may be JSON."""
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    return text
