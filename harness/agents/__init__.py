"""Agents: how a coding-agent CLI is driven. One small file a driver, one table."""

from __future__ import annotations

from harness.agents import programs
from harness.agents.acp import AcpAgent
from harness.agents.exec import ExecAgent
from harness.agents.start import missing
from harness.agents.tty import TtyAgent
from harness.models import AgentSpec
from harness.protocols import Agent, Sandbox

DRIVERS: dict[str, type[ExecAgent | TtyAgent | AcpAgent]] = {"exec": ExecAgent, "tty": TtyAgent, "acp": AcpAgent}


def get(spec: AgentSpec, sandbox: Sandbox) -> Agent:
    """The agent of an entry; a UserError when its program is not on this machine."""
    if not installed(spec):
        raise missing(spec)
    return DRIVERS[spec.driver](spec, sandbox)


def installed(spec: AgentSpec) -> bool:
    """Whether the agent's program is on this machine."""
    return spec.argv[0].startswith("{") or programs.find(spec.argv[0]) is not None
