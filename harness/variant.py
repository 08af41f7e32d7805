"""Several variants of one idea, as an agent left them in one proposal, and which of them an experiment is."""

from __future__ import annotations

from harness.value import Value


class Variant(Value):
    """What an agent left in the folder `variants/<folder>/`; with an empty name, in the editable files themselves.

    `commit` is its change on the incumbent that the agent began from; no branch names it. `files` are those that it changes, as
    in Proposal. `dropped` says why it is not tried; one without waits, until an experiment says that it is this variant.
    """

    folder: str
    title: str = ""
    hypothesis: str = ""
    files: dict[str, str | None] = {}
    commit: str | None = None
    dropped: str = ""


class Sibling(Value):
    """Which of `k` variants an experiment tries, counted from 1; `of` is the experiment whose agent left them all."""

    of: str
    n: int
    k: int

    @property
    def told(self) -> str:
        """As tables and trailers say it."""
        return f"{self.n}/{self.k} of {self.of}"
