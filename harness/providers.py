"""Opens a night's gateway when an agent of it has an LLM provider, or says in a sentence why it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness import logins, sandboxes
from harness.gateway import prices
from harness.gateway.client import Gateway
from harness.models import AgentSpec, Record, Task, UserError
from harness.protocols import Sandbox
from harness.state import StateFolder


@contextmanager
def open_gateway(
    state: StateFolder, tag: str, task: Task, specs: list[AgentSpec], sandbox: Sandbox, records: list[Record]
) -> Iterator[Gateway | None]:
    """The gateway of a night, None when nobody needs one. `records` say what was spent before."""
    served = [spec for spec in specs if spec.outside]
    if not served:
        yield None
        return
    for spec in served:
        check_network(spec, sandbox)
        logins.check(spec)
    check_budget(task, served)
    known = {record.id: record.proposal.usage for record in records if record.proposal and record.proposal.usage}
    folder, log = state.path / "gateway" / tag, state.path / "logs" / tag / "gateway.log"
    with Gateway(folder, log, served, task.stop, task.budget, known, sandbox.network) as gateway:
        yield gateway


def weaker(spec: AgentSpec) -> str:
    """What an agent has in its sandbox that others have not, for people; empty for the others."""
    if spec.network == "gateway":
        return ""
    return f"weaker (network: provider): its login is in its sandbox, and it reaches {', '.join(spec.hosts)} past the gateway"


def check_network(spec: AgentSpec, sandbox: Sandbox) -> None:
    """A UserError when nothing in the sandbox could reach the gateway, or everything could be reached past a list of hosts."""
    if spec.network == "provider" and sandbox.network != "own":
        raise UserError(
            f"agent {spec.name!r} may reach a few hosts alone (`network: provider`), and the sandbox {sandbox.name} cannot "
            "hold it to them: use --sandbox bubblewrap"
        )
    if sandbox.network == "none":
        others = " or ".join(f"--sandbox {name}" for name, kind in sandboxes.SANDBOXES.items() if kind.network != "none")
        raise UserError(
            f"agent {spec.name!r} needs its LLM provider, and a command in the sandbox {sandbox.name} can reach nothing: "
            f"use {others}, or an agent without a provider"
        )


def check_budget(task: Task, served: list[AgentSpec]) -> None:
    """A UserError when a budget could not be kept to, in dollars or in a subscription's quota."""
    dollars = {"stop.cost_usd": task.stop.cost_usd, "budget.propose_usd": task.budget.propose_usd}
    limits = {**dollars, "stop.quota_share": task.stop.quota_share}
    asked = next((name for name, most in limits.items() if most is not None), None)
    if asked is None:
        return
    known = prices.load()
    for spec in served:
        if spec.network == "provider":
            raise UserError(
                f"{asked} cannot be kept to: agent {spec.name!r} goes past the gateway (`network: provider`), where nobody "
                f"counts; leave {asked} out, or use another agent"
            )
        if asked in dollars and spec.model and known.of(spec.model) is None:
            raise UserError(
                f"{asked} cannot be kept to: nobody knows what the model {spec.model!r} of agent {spec.name!r} costs; "
                f"add it to {prices.user_file()} as in {prices.SHIPPED}, or leave the budget out"
            )
