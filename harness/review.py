"""People between a verdict and its merge: what waits for them, and what follows from what they say.

In review, a kept experiment stays on its branch. Accepting it merges it when the merge has the very tree that was measured.
When the lab branch went on meanwhile, the merge is a combination that nobody measured: then its tree becomes an experiment of
its own, on today's tip, and the judge decides about that. Either way only measured trees are merged. Where winners were built on
each other (stacks.py), they are accepted in that order; one that was built on a rejected one is measured again without it.
"""

from __future__ import annotations

from harness import candidate, git, refs
from harness.beginning import draft, tried_before, with_change
from harness.commits import descends
from harness.decisions import Pending, carried_out, pending
from harness.ledger import Ledger, checked_out, now
from harness.messages import merge_message
from harness.models import Decision, Record, Review, UserError
from harness.night import Night
from harness.stacks import Stacks, names
from harness.steps import Step, reached
from harness.threeway import Combined, on_top

US = "the harness"


def waiting(ledger: Ledger) -> list[Record]:
    """The experiments that wait for a person, oldest first, each after what it was built on."""
    return Stacks(ledger).waiting()


def check(ledger: Ledger, record: Record, kind: str) -> None:
    """A UserError when this decision cannot be carried out, or not any more; what is accepted before it is accepted first."""
    tag, review = ledger.tag, record.review
    if review is None or review.ruling is not None:
        why = "was not kept" if record.verdict and record.verdict.status != "keep" else "is not closed yet"
        if review and review.ruling:
            why = f"was {review.ruling.kind}ed by {review.ruling.by}" + (
                f" and measured as {review.again}" if review.again else ""
            )
        elif record.merged:
            why = "is merged already"
        raise UserError(
            f"experiment {record.id} does not wait for review, it {why}: `harness show {record.id} --tag {tag}` says more"
        )
    if kind == "accept" and not (stacks := Stacks(ledger)).first(record) and (files := conflicts(ledger, record)):
        gone = stacks.rejected(record)
        why = f"it was built on rejected {names(gone)} and" if gone else "what was merged since it began"
        raise UserError(
            f"experiment {record.id} cannot be merged: {why} changed the same lines of {', '.join(files)}; "
            f"reject it, or merge its branch {record.experiment.branch} by hand on one of your own"
        )
    if kind == "accept" and refs.checked_out(ledger.repo, ledger.lab):
        raise checked_out(tag)


def conflicts(ledger: Ledger, record: Record) -> list[str]:
    """The files in which an experiment and what was merged since it began changed the same lines."""
    commit, tip = record.experiment.commit, refs.resolve(ledger.repo, ledger.lab)
    if tip == record.ground:
        return []  # what takes the place of something changed its lines, too
    return on_top(ledger.repo, tip, commit, record.experiment.base).conflicts if commit and tip else []


def measured(ledger: Ledger, record: Record) -> bool:
    """Whether its merge into today's lab branch is the tree that was measured, or was made before."""
    experiment, tip = record.experiment, refs.resolve(ledger.repo, ledger.lab)
    assert experiment.commit is not None
    assert tip is not None
    if tip == record.ground or is_merged(ledger, experiment.commit):
        return True
    return on_top(ledger.repo, tip, experiment.commit, experiment.base).tree == ledger.tree(record)


def is_merged(ledger: Ledger, commit: str) -> bool:
    """Whether the lab branch holds a commit."""
    tip = refs.resolve(ledger.repo, ledger.lab)
    return tip is not None and (tip == commit or descends(ledger.repo, tip, commit))


def carry_out(ledger: Ledger) -> list[Pending]:
    """Carry out what people decided; what is left of it needs a measurement first. Only for the holder of the tag's lock."""
    left, decided = [], pending(ledger.repo, ledger.tag)
    if not decided:
        return []
    for record in Stacks(ledger).ordered(map(ledger.get, decided)):
        each = decided[record.id]
        ruling = Review(decisions=each.made).ruling
        if ruling and ruling.kind == "accept" and record.status == "waiting":
            if under := [other for other in Stacks(ledger).first(record) if other.id not in decided]:
                put_off(ledger, each, record, f"{names(under)}, which it was built on, still waits")
                continue
            if not measured(ledger, record):
                left.append(each)
                continue
        conclude(ledger, each, record)
    return left


def put_off(ledger: Ledger, accepted: Pending, record: Record, why: str) -> None:
    """Let an accepted experiment wait on, since it cannot be merged, with a comment that says why."""
    answer(ledger, accepted, record, Decision(kind="comment", reason=f"accepted, but not merged: {why}", by=US, at=now()))


def turn_down(ledger: Ledger, accepted: Pending, record: Record, why: str) -> None:
    """What was accepted and cannot be measured again waits on; what a forge merged cannot wait there, and is rejected."""
    ruling = Review(decisions=accepted.made).ruling
    if ruling is None or ruling.merged is None:
        return put_off(ledger, accepted, record, why)
    answer(ledger, accepted, record, Decision(kind="reject", reason=f"merged by {ruling.by}, but {why}", by=US, at=now()))


def answer(ledger: Ledger, accepted: Pending, record: Record, instead: Decision) -> None:
    """Another decision in the place of an accepting one; what people said beside that stays."""
    made = [each for each in accepted.made if each.kind == "comment"]
    conclude(ledger, Pending(record.id, [*made, instead], accepted.commit), record)


def conclude(ledger: Ledger, done: Pending, record: Record, again: str | None = None) -> None:
    """Write decisions into the record, then do what they say. Harmless when it was done, so a kill at any step is no matter."""
    review = record.review or Review()
    new = [] if review.ruling else [each for each in done.made if each not in review.decisions]
    if new:
        review = review.model_copy(update={"decisions": [*review.decisions, *new], "again": again})
        record = ledger.save(record.model_copy(update={"review": review}), Step.DECIDED)
    ruling = record.review.ruling if record.review else None
    if ruling and ruling.kind == "accept" and not (record.review and record.review.again):
        merge(ledger, record, ruling)
    ledger.settle(record)
    carried_out(ledger.repo, ledger.tag, done)


def merge(ledger: Ledger, record: Record, ruling: Decision) -> None:
    """Move the lab branch to a merge with the measured tree: to a forge's own merge where that has this tree."""
    repo, experiment, tip = ledger.repo, record.experiment, refs.resolve(ledger.repo, ledger.lab)
    assert record.verdict is not None
    assert experiment.commit is not None
    tree = ledger.tree(record)
    assert tree is not None
    if tip is None or is_merged(ledger, experiment.commit) or (ruling.merged and is_merged(ledger, ruling.merged)):
        return
    if refs.checked_out(repo, ledger.lab):
        raise checked_out(ledger.tag)
    theirs = ruling.merged
    if not (theirs and descends(repo, theirs, tip) and git.tree(repo, theirs) == tree):
        message = merge_message(record, record.verdict)
        theirs = git.commit(repo, tree, [tip, experiment.commit], f"{message}Accepted: {signed(ruling)}\n")
        reached(Step.MERGE_WRITTEN)
    refs.swap(repo, ledger.lab, theirs, tip)
    reached(Step.MERGED)


def signed(decision: Decision) -> str:
    """Who decided, and why, on one line."""
    return " ".join(f"{decision.by}{': ' if decision.reason else ''}{decision.reason}".split())


def take_up(night: Night) -> Record | None:
    """Carry out what people decided; the experiment that was opened for it and has to be measured, or None."""
    for each in carry_out(night.ledger):
        if not held_up(night.ledger, night.ledger.get(each.experiment)) and (record := again(night, each)):
            return record
    carry_out(night.ledger)  # what was put off just now may hold up others
    return None


def held_up(ledger: Ledger, record: Record) -> bool:
    """Whether what an experiment was built on is about to be merged, or being measured for that."""
    for under in Stacks(ledger).below(record):
        again = under.review.again if under.review else None
        if under.status == "waiting" or (again and ledger.get(again).state != "closed"):
            return True
    return False


def again(night: Night, accepted: Pending) -> Record | None:
    """The accepted change as an experiment of its own, on today's tip; None when that says at once why it cannot be."""
    ledger, old = night.ledger, night.ledger.get(accepted.experiment)
    tip, commit = refs.resolve(night.repo, ledger.lab), old.experiment.commit
    assert tip is not None
    assert commit is not None
    record = next((each for each in ledger.records() if each.again_of == old.id), None)  # a kill came before the last step
    if record is None:
        made = on_top(night.repo, tip, commit, old.experiment.base)
        if refused := obstacle(night, old, made):
            turn_down(ledger, accepted, old, refused)
            return None
        record = reopened(night, old, made.changed)
    conclude(ledger, accepted, old, record.id)
    return record if record.state != "closed" and record.id not in night.flight else None  # a resumed night is at it already


def obstacle(night: Night, old: Record, made: Combined) -> str:
    """Why a change cannot be measured on top of the tip; empty when it can."""
    assert old.experiment.commit is not None
    if made.conflicts:
        return f"what was merged since it began changed the same lines of {', '.join(made.conflicts)}"
    if (twin := tried_before(night, made.tree)) and twin != old.id:  # that one was judged together with what it was built on
        return f"together with what was merged since it began it is what was tried as {twin}"
    merged = git.commit(night.repo, made.tree, [old.experiment.commit], "a merge to look at\n")
    return candidate.problem(night.repo, night.task, night.start, merged) or ""


def reopened(night: Night, old: Record, changed: dict[str, str | None]) -> Record:
    """A new experiment with the old one's change on the tip."""
    assert old.proposal is not None
    story = f"{old.proposal.hypothesis}\n\nExperiment {old.id}, which a person accepted, on top of what was merged since.".strip()
    told: dict[str, object] = {"hypothesis": story, "usage": None, "tries": [], "notebook": "", "seconds": 0.0}
    record, text = draft(night, old.experiment.agent, base=night.ledger.tip())
    record = record.model_copy(update={"proposal": old.proposal.model_copy(update=told), "again_of": old.id})
    return with_change(night, record, changed, {"program.md": text})
