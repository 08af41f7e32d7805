"""Between a lab and a forge: what waits goes there, what people did with it comes back. Nothing is forced, no work is lost.

The lab branch there and here are each ahead of the other at times: people merge there, nights merge here. What they merged is
decided about here first, by measuring where that is needed. Then the lab branch takes theirs in as a parent and keeps its own,
measured tree, so that a push is always a fast-forward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness import git, locks, refs, review, telling
from harness.commits import author, descends, fork, held_by, message
from harness.decisions import decide, pending
from harness.ledger import Ledger, checked_out, now
from harness.models import Decision, Record, UserError
from harness.proposal import printable
from harness.protocols import Answer, Forge, Offer
from harness.remote import Refused, Remote, tracked
from harness.stacks import Stacks
from harness.steps import Step, reached
from harness.threeway import on_top

MOST_CHARS = 300  # of what a forge says of people


@dataclass(frozen=True)
class Link:
    """A lab and the forge that it is shown on; `say` is told what is done."""

    ledger: Ledger
    forge: Forge
    remote: str
    say: Callable[[str], None]

    @property
    def repo(self) -> git.Repo:
        """The repository here."""
        return self.ledger.repo

    @property
    def branch(self) -> str:
        """The lab branch, here and there."""
        return self.ledger.lab.removeprefix("refs/heads/")

    def there(self) -> Remote:
        """The repository there."""
        return Remote(self.repo, self.forge.url, self.forge.token())

    def offer(self, record: Record) -> Offer:
        """What the forge is to show of a record."""
        return telling.offer(self.ledger, self.remote, self.branch, record)

    def offered(self) -> list[Record]:
        """The experiments whose branch is, or was, on the forge because of us."""
        found = refs.below(self.repo, tracked(f"exp/{self.ledger.tag}/"))
        return [record for record in self.ledger.records() if tracked(record.experiment.branch or "-") in found]


def publish(link: Link) -> None:
    """Push the lab branch and what waits, and have the forge show it. Harmless when it was done."""
    there = link.there()
    push_lab(link, there)
    decided = pending(link.repo, link.ledger.tag)
    for record in review.waiting(link.ledger):
        shown = link.offer(record)
        if record.id in decided:
            continue
        link.ledger.open_branch(record)
        push_candidate(link, there, shown)
        link.say(f"{record.id}: {link.forge.offer(shown)}")
    share_records(link, there)


def listen(link: Link) -> None:
    """Note what people did on the forge as their decisions; what follows is carried out as ever."""
    lab = link.there().fetch(link.branch)
    decided = pending(link.repo, link.ledger.tag)
    waiting = [record for record in link.offered() if record.status == "waiting" and record.id not in decided]
    answers = link.forge.answers([link.offer(record) for record in waiting]) if waiting else {}
    if lab is None and any(answer.kind == "reject" for answer in answers.values()):
        raise UserError(
            f"{link.branch} is gone at {link.remote}, and what was to be merged into it is closed there by that alone: "
            f"`git push {link.remote} {link.branch}` brings it back; reopen what is to wait on, and run `harness sync` again"
        )
    answers = with_stacks(link, answers, lab)
    for record in review.waiting(link.ledger):
        if (answer := answers.get(record.id)) and record.id not in decided:
            hear(link, record, answer, lab)


def with_stacks(link: Link, answers: dict[str, Answer], lab: str | None) -> dict[str, Answer]:
    """The answers, and that of whoever merged an experiment to those that it was built on: they came along."""
    stacks, found = Stacks(link.ledger), dict(answers)
    for name, answer in answers.items():
        for under in stacks.first(link.ledger.get(name)) if answer.kind == "accept" else []:
            if answers.get(under.id, answer).kind == "reject" or under.id not in answers:
                copy = held_by(link.repo, lab, under.judged) if lab and under.judged else None  # of its own, after a rebase
                found[under.id] = Answer("accept", answer.by, copy, f"merged with {name}, which was built on it")
    return found


def hear(link: Link, record: Record, answer: Answer, lab: str | None) -> None:
    """One person's answer as a decision; what cannot be merged here any more is rejected, with the reason."""
    merged = answer.merged if answer.merged and lab and _known(link.repo, answer.merged, lab) else None
    kind, reason, by = answer.kind, printable(answer.reason)[:MOST_CHARS], printable(answer.by)[:MOST_CHARS]
    under = Stacks(link.ledger).first(record)
    if kind == "accept" and not under and (files := review.conflicts(link.ledger, record)):
        reason = f"merged by {by}, but what was merged here before changed the same lines of {', '.join(files)}"
        kind, by, merged = "reject", review.US, None
    decide(link.repo, link.ledger.tag, record.id, Decision(kind=kind, reason=reason, by=by, at=now(), merged=merged))
    link.say(f"{record.id}: {kind}ed by {by}{': ' if reason else ''}{reason}")


def _known(repo: git.Repo, commit: str, lab: str) -> bool:
    return commit in repo and descends(repo, lab, commit)


def converge(link: Link) -> None:
    """Push the lab branch, taking in what is only there, and delete branches there that were decided about."""
    if pending(link.repo, link.ledger.tag):
        link.say("some decisions are not carried out yet: run `harness sync` again later")
        return
    there = link.there()
    take_in(link, there.fetch(link.branch))
    push_lab(link, there)
    listed = there.refs("refs/heads/exp/")
    for record in link.offered():
        if unfinished(link.ledger, record):
            continue
        link.forge.update(link.offer(record))
        if record.status != "waiting":
            drop(link, there, record, listed)
    share_records(link, there)
    many = sum(record.status == "waiting" for record in link.offered())
    link.say(f"{link.branch} at {link.remote} is up to date" + (f", {many} wait{'s' if many == 1 else ''} there" if many else ""))


def unfinished(ledger: Ledger, record: Record) -> bool:
    """Whether it is still being measured again, and nothing can be told of that yet."""
    again = record.review.again if record.review else None
    return again is not None and ledger.get(again).state != "closed"


def take_in(link: Link, theirs: str | None) -> None:
    """Make their lab branch a parent of ours, whose tree stays as it was measured. Their own commits are refused."""
    ours = refs.resolve(link.repo, link.ledger.lab)
    assert ours is not None
    if theirs is None or descends(link.repo, ours, theirs):
        return
    if found := strange(link, ours, theirs):
        raise UserError(
            f"{link.branch} at {link.remote} has the commit {found[:10]} by {author(link.repo, found)}, which is "
            f"no merged experiment: move it to a branch of its own there, and measure it with `harness submit`"
        )
    with locks.hold(link.repo, link.ledger.tag):
        if refs.checked_out(link.repo, link.ledger.lab):
            raise checked_out(link.ledger.tag)
        subject = (
            f"Take in what was merged at {link.remote}\n\nThe tree is as it was: only what was measured here is part of it.\n"
        )
        merge = git.commit(link.repo, git.tree(link.repo, ours), [ours, theirs], subject)
        reached(Step.MERGE_WRITTEN)
        refs.swap(link.repo, link.ledger.lab, merge, ours)
        reached(Step.MERGED)


def strange(link: Link, ours: str, theirs: str) -> str | None:
    """A commit that is only there and comes of no experiment; None when there is none."""
    records = link.ledger.records()
    known = {commit for record in records for commit in (record.experiment.commit, record.judged)}
    decided = [record for record in records if record.review and record.review.ruling]
    copies = {message(link.repo, record.experiment.commit or "") for record in decided}  # what a rebase makes
    known |= {each.merged for record in records if record.review for each in record.review.decisions}
    waiting, seen = [theirs], set[str]()
    while waiting:
        commit = waiting.pop()
        if commit in seen or descends(link.repo, ours, commit):
            continue
        seen.add(commit)
        parents = git.parents(link.repo, commit)
        ours_again = commit in known or known & set(parents[1:]) or message(link.repo, commit) in copies
        if not ours_again and not automatic(link.repo, commit, parents):
            return commit
        waiting += parents
    return None


def automatic(repo: git.Repo, commit: str, parents: list[str]) -> bool:
    """Whether a commit is the merge of two others as git makes it by itself, such as that of the button "Update branch"."""
    base = fork(repo, *parents) if len(parents) == 2 else None
    return base is not None and on_top(repo, parents[1], parents[0], base).tree == git.tree(repo, commit)


def push_lab(link: Link, there: Remote) -> None:
    """Push the lab branch, which has to be a fast-forward."""
    ours = refs.resolve(link.repo, link.ledger.lab)
    assert ours is not None
    push(link, there, link.branch, ours)


def push(link: Link, there: Remote, branch: str, commit: str) -> None:
    """Bring a branch there to where it is here, and note that it is there because of us."""
    ref, known = f"refs/heads/{branch}", refs.resolve(link.repo, tracked(branch))
    if there.refs(ref).get(ref) != commit:
        there.push([f"{commit}:{ref}"])
    if known != commit:
        refs.swap(link.repo, tracked(branch), commit, known)


def push_candidate(link: Link, there: Remote, shown: Offer) -> None:
    """Push what was judged; a branch there that somebody added to stays as it is."""
    known = refs.resolve(link.repo, tracked(shown.branch))
    try:
        push(link, there, shown.branch, shown.commit)
    except Refused:
        theirs = there.fetch(shown.branch)
        if theirs is None:
            raise
        if not descends(link.repo, theirs, shown.commit):
            if known is None:  # it was never ours, so that its end decides nothing
                refs.delete(link.repo, tracked(shown.branch))
            raise UserError(
                f"{shown.branch} at {link.remote} is not of this night: `git push {link.remote} :{shown.branch}` deletes it there"
            ) from None
        link.say(f"{shown.branch} at {link.remote} was added to by somebody: what they added is not measured, and stays there")


def drop(link: Link, there: Remote, record: Record, listed: dict[str, str]) -> None:
    """Delete a decided experiment's branch there, unless somebody added to it."""
    branch, commit = record.experiment.branch or "", record.judged
    found = listed.get(f"refs/heads/{branch}")
    if found and found != commit:
        link.say(f"{branch} at {link.remote} was added to by somebody, so it stays there")
    elif found:
        there.push([f":refs/heads/{branch}"])
    refs.delete(link.repo, tracked(branch))


def share_records(link: Link, there: Remote) -> None:
    """Push the records, where the forge is for that."""
    if not link.forge.records:
        return
    prefix = link.ledger.ref("")
    listed = there.refs(prefix)
    new = [ref for ref, commit in refs.below(link.repo, prefix).items() if listed.get(ref) != commit]
    there.push([f"{ref}:{ref}" for ref in new])
