"""Agents: how a coding-agent CLI is driven. One small file a driver, one table."""

from __future__ import annotations

import shutil

from harness.agents.exec import ExecAgent
from harness.models import AgentSpec, UserError
from harness.protocols import Agent, Sandbox

DRIVERS = {"exec": ExecAgent}


def get(spec: AgentSpec, sandbox: Sandbox) -> Agent:
    """The agent of an entry; a UserError when its program is not on this machine."""
    program = spec.argv[0]
    if program != "{python}" and not shutil.which(program):
        how = f": install it with `{spec.install}`" if spec.install else ": install it, or choose another agent"
        raise UserError(f"agent {spec.name!r} needs the program {program!r}, which is not on your PATH{how}")
    return DRIVERS[spec.driver](spec, sandbox)
