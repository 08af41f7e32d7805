"""What people ask of a night, see wishes.py, and decide about experiments that wait for them, see review.py."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from harness.value import Value

WishKind = Literal["idea", "submission"]


class Wish(Value):
    """What a person asked of a night: an idea in words, or a `commit` that is to be measured, with its subject as the text.

    `by` is "Name <address>": who asked, or who wrote the commit. Numbers count within a tag and a kind.
    """

    kind: WishKind
    number: int
    by: Annotated[str, Field(max_length=300)]
    text: Annotated[str, Field(min_length=1, max_length=4000)]
    commit: str | None = None
    asked: str
    dropped: bool = False


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
