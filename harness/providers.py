"""Opens a night's gateway when an agent of it has an LLM provider, or says in a sentence why it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness import sandboxes
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
    served = [spec for spec in specs if spec.provider]
    if not served:
        yield None
        return
    check_network(served[0], sandbox)
    check_budget(task, served)
    known = {record.id: record.proposal.usage for record in records if record.proposal and record.proposal.usage}
    folder, log = state.path / "gateway" / tag, state.path / "logs" / tag / "gateway.log"
    with Gateway(folder, log, served, task.stop, task.budget, known, sandbox.network) as gateway:
        yield gateway


def check_network(spec: AgentSpec, sandbox: Sandbox) -> None:
    """A UserError when nothing in the sandbox could reach the gateway."""
    if sandbox.network == "none":
        others = " or ".join(f"--sandbox {name}" for name, kind in sandboxes.SANDBOXES.items() if kind.network != "none")
        raise UserError(
            f"agent {spec.name!r} needs its LLM provider, and a command in the sandbox {sandbox.name} can reach nothing: "
            f"use {others}, or an agent without a provider"
        )


def check_budget(task: Task, served: list[AgentSpec]) -> None:
    """A UserError when a budget in dollars could not be kept to."""
    limits = {"stop.cost_usd": task.stop.cost_usd, "budget.propose_usd": task.budget.propose_usd}
    asked = next((name for name, usd in limits.items() if usd is not None), None)
    if asked is None:
        return
    known = prices.load()
    for spec in served:
        if spec.model and known.of(spec.model) is None:
            raise UserError(
                f"{asked} cannot be kept to: nobody knows what the model {spec.model!r} of agent {spec.name!r} costs; "
                f"add it to {prices.user_file()} as in {prices.SHIPPED}, or leave the budget out"
            )
