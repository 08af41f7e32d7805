"""The commands of docs/tasks.md, pasted one after the other into a shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs/tasks.md"


def test_every_command_of_the_page_works(tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 5
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "harness").write_text(f"#!/bin/sh\nexec '{sys.executable}' -c 'from harness.cli import main; main()' \"$@\"\n")
    (tools / "harness").chmod(0o755)
    env = {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(tmp_path), "GIT_CONFIG_SYSTEM": "/dev/null"}
    env |= {f"GIT_{who}_{what}": "you@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(["bash", "-ec", "\n".join(blocks)], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed in " in done.stdout
    assert "error 0.342" in done.stdout
    assert len(re.findall(r"^000\d (keep|discard)", done.stdout, re.MULTILINE)) == 5
