"""What people decide about experiments that wait for them; see review.py for what follows from it."""

from __future__ import annotations

from typing import Literal

from harness.value import Value


class Decision(Value):
    """What a person says of an experiment that waits, and why; a comment decides nothing.

    `merged` is the commit by which a forge already merged it there, so that its history can be taken over.
    """

    kind: Literal["accept", "reject", "comment"]
    reason: str = ""
    by: str
    at: str
    merged: str | None = None


class Review(Value):
    """What became of a kept experiment that a person was to look at first.

    `again` is the experiment that measures its change anew, because what was accepted no longer starts at the lab's tip.
    """

    decisions: list[Decision] = []
    again: str | None = None

    @property
    def ruling(self) -> Decision | None:
        """The decision that counts; None while the experiment waits."""
        return next((each for each in reversed(self.decisions) if each.kind != "comment"), None)

    @property
    def status(self) -> str:
        """In one word, as tables show it. What was accepted as it is reads like any other kept experiment."""
        if self.ruling is None:
            return "waiting"
        return "rejected" if self.ruling.kind == "reject" else "accepted" if self.again else "keep"

    def told(self) -> list[str]:
        """What people said, a line each, and where it stands."""
        lines = [f"{each.kind:<10}{each.by}, {each.at}{': ' if each.reason else ''}{each.reason}" for each in self.decisions]
        lines += [f"measured  again as {self.again}, on top of what was merged since"] if self.again else []
        return lines if self.ruling else [*lines, "waiting   for a person: `harness review`"]
