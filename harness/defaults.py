"""What a user writes in config.yaml, as a model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from harness.value import Positive, Written


class Defaults(Written):
    """What `harness run` uses when its options are left out."""

    agents: list[str] = []
    """Entries of agents.yaml that take turns."""
    sandbox: Literal["bubblewrap", "uid", "none"] | None = None
    """bubblewrap; uid, weaker, for containers as root; or none, which gives agents and their code all your rights."""
    profile: str | None = None
    """The profile, for tasks that have it."""
    experiments: Annotated[int, Field(ge=0)] | None = None
    """Stop a night after this many experiments in all."""
    hours: Positive | None = None
    """Stop a night after this many hours."""
    cost_usd: Positive | None = None
    """Stop a night when its agents have spent this many US dollars at their LLM providers, by list prices."""
