"""A bare repository without any service: whoever merges or deletes a branch there, from a clone, has decided."""

from __future__ import annotations

from harness import git
from harness.commits import author, held_by
from harness.protocols import Answer, Offer
from harness.remote import Remote


class Local:
    """Branches and records are pushed; a branch that is merged is accepted, one that is deleted is rejected."""

    name = "local"
    records = True

    def __init__(self, repo: git.Repo, url: str) -> None:
        """The repository at `url`, seen from `repo`."""
        self._repo, self.url = repo, url

    def token(self) -> str:
        """None is needed."""
        return ""

    def offer(self, offer: Offer) -> str:
        """The branch is all that there is to see."""
        return f"{offer.branch} at {self.url}"

    def update(self, offer: Offer) -> None:
        """A branch has no text."""

    def answers(self, offers: list[Offer]) -> dict[str, Answer]:
        """What the branches there say."""
        remote, answers = Remote(self._repo, self.url), {}
        found, labs = remote.refs("refs/heads/"), {into: remote.fetch(into) for into in {offer.into for offer in offers}}
        for offer in offers:
            lab = labs[offer.into]
            if lab and (merged := held_by(self._repo, lab, offer.commit)):
                fast = merged == offer.commit  # its author is the agent, and who moved the branch is not told
                who = f"somebody at {self.url}" if fast else author(self._repo, merged)
                answers[offer.experiment] = Answer("accept", who, merged)
            elif f"refs/heads/{offer.branch}" not in found:
                answers[offer.experiment] = Answer("reject", f"somebody at {self.url}", reason="its branch was deleted there")
        return answers
