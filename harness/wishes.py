"""What people ask of a night, <-> refs/ideas/<tag>/<number> and refs/submissions/<tag>/<number>.

An idea is a sentence that the next agent's prompt offers; a submission is a commit of theirs, measured like any other. Both wait
in git, so they can be left before a night begins and while it runs. Nothing marks them as taken but the record of the
experiment that took them: there is no second truth that a kill could leave behind. Each state is a commit, as with records; the
first one of a submission has the submitted commit as its parent, so that no collection of garbage takes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from itertools import count, takewhile

from pydantic import ValidationError

from harness import git, grid, refs
from harness.ledger import now
from harness.models import AgentSpec, Record, UserError, Wish, WishKind
from harness.proposal import printable

TRIES = 100  # of a number that somebody else was quicker to take
OFFERS = 3  # of an idea whose experiments were void: nobody got to try it
FILE = "wish.json"
MOST_CHARS = 4000
ASKED = """
# What the researcher asks for

The researcher, {by}, would like this to be tried next. In their words:

{words}

Make it your experiment, as small as it can be and still be a test of it. If it cannot be tried, or was tried before, say so in
`notes/EXPERIMENT.md` and do the nearest thing that was not.
"""


class Wishes:
    """The wishes of one kind for one tag. Anybody may add or drop, at any time: each change is one compare-and-swap."""

    def __init__(self, repo: git.Repo, tag: str, kind: WishKind) -> None:
        """A view on `tag`; nothing is written."""
        self.repo, self.tag, self.kind = repo, tag, kind
        self.prefix = f"refs/{kind}s/{tag}/"

    def all(self) -> list[Wish]:
        """All of them, oldest first; what this version cannot read is passed over."""
        found: list[Wish] = []
        for tip in takewhile(bool, map(self._tip, count(1))):
            with suppress(ValidationError, KeyError):
                found.append(Wish.model_validate_json(git.file(self.repo, tip or "", FILE) or b""))
        return found

    def add(self, by: str, text: str, commit: str | None = None) -> Wish:
        """Leave one more."""
        for _ in range(TRIES):
            number = next(each for each in count(1) if self._tip(each) is None)
            said, who = printable(text).strip()[:MOST_CHARS] or "(no words)", printable(by)[:300]
            wish = Wish(kind=self.kind, number=number, by=who, text=said, commit=commit, asked=now())
            with suppress(refs.RefMoved):
                self._save(wish, None)
                return wish
        raise UserError(f"{self.prefix} is busy: others leave {self.kind}s there at the same time; try again")

    def drop(self, number: int, records: Iterable[Record]) -> Wish:
        """Withdraw one that no experiment has taken."""
        ref = f"{self.prefix}{number}"
        wish = next((each for each in self.all() if each.number == number), None)
        if wish is None:
            raise UserError(f"there is no {self.kind} {number} for {self.tag!r}: `harness {COMMAND[self.kind]} --list` has them")
        if taken := takers(wish, records):
            raise UserError(
                f"{self.kind} {number} was taken already, by experiment {taken[-1].id}: `harness show {taken[-1].id}`"
            )
        dropped = wish.model_copy(update={"dropped": True})
        self._save(dropped, refs.resolve(self.repo, ref))
        return dropped

    def _tip(self, number: int) -> str | None:
        """What one's ref points at; to list all refs of a long history would take longer than everything else."""
        return refs.resolve(self.repo, f"{self.prefix}{number}")

    def _save(self, wish: Wish, before: str | None) -> None:
        text = (wish.model_dump_json(indent=1) + "\n").encode()
        parents = [each for each in (before or wish.commit,) if each]
        subject = f"{wish.kind} {wish.number}{' (dropped)' if wish.dropped else ''}: {title(wish)}"
        commit = git.commit(self.repo, git.tree_of(self.repo, {FILE: text}), parents, f"{subject}\n")
        refs.swap(self.repo, f"{self.prefix}{wish.number}", commit, before)


COMMAND: dict[WishKind, str] = {"idea": "idea", "submission": "submit"}


def waiting(wishes: Wishes, records: Iterable[Record]) -> list[Wish]:
    """Those that nobody dropped and no experiment has tried; one that only void experiments took waits again, a few times."""
    records = list(records)
    return [wish for wish in wishes.all() if not wish.dropped and _free(takers(wish, records))]


def idea_for(agent: AgentSpec, repo: git.Repo, records: list[Record]) -> Wish | None:
    """The idea that has waited longest, for an agent that reads words."""
    if agent.prompt.via == "none":
        return None
    return next(iter(waiting(Wishes(repo, records[0].experiment.tag, "idea"), records)), None)


def _free(taken: list[Record]) -> bool:
    offered = sum(map(grid.first, taken))  # an agent that was offered one may have left several variants
    return offered < OFFERS and all(record.verdict and record.verdict.status == "void" for record in taken)


def takers(wish: Wish, records: Iterable[Record]) -> list[Record]:
    """The experiments that took a wish."""
    return [record for record in records if record.wish and (record.wish.kind, record.wish.number) == (wish.kind, wish.number)]


def title(wish: Wish) -> str:
    """A wish on one line."""
    line = " ".join(printable(wish.text).split())
    return line if len(line) <= 100 else line[:99].rstrip() + "…"


def words(record: Record) -> str:
    """What the agent is told of an idea that its experiment has taken, beside the prompt; empty otherwise."""
    wish = record.wish
    if wish is None or wish.kind != "idea":
        return ""
    quoted = "\n".join(f"> {line}" for line in printable(wish.text).splitlines())
    return ASKED.format(by=name(wish), words=quoted)


def name(wish: Wish) -> str:
    """Who asked, without an address."""
    return " ".join(printable(wish.by).partition("<")[0].split()) or "a person"
