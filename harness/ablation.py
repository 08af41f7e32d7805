"""Leave one out: what each merge of the lab branch is still worth, now that others came after it.

The tip is measured without each merge that a three-way merge can take out cleanly, and judged like any change: what makes nothing
worse by its absence, and the code shorter, is not needed any more. Each is an experiment with a record of its own, so nothing is
lost when it is interrupted, and nothing is run again while the tip is the same.
"""

from __future__ import annotations

from harness import git, grid, prompt
from harness.beginning import draft, with_change
from harness.guards import ONLY_MEASURED
from harness.merges import merges
from harness.models import Proposal, Record, Value, Verdict
from harness.night import Night
from harness.proposal import TITLE_CHARS
from harness.research import advance, carry
from harness.steps import Step
from harness.threeway import on_top

ABLATE = "ablate"  # in the place of an agent's name
NEGLIGIBLE = 0.1  # of the noise: a smaller difference is none


class Left(Value):
    """What the tip loses without one merge: `worth` in the metric's unit, positive where the merge still helps.

    `experiment` measured that; empty where the merge cannot be taken out alone. `taken_back`: it was, by this experiment.
    """

    id: str
    title: str
    experiment: str = ""
    status: str = ""
    worth: float | None = None
    worth_sd: float | None = None
    runs: int = 0
    tokens: int = 0
    taken_back: bool = False
    says: str


async def ablate(night: Night, keep: bool) -> list[Left]:
    """Every merge that is still in the tip, oldest first; with `keep`, what is not needed is taken back as a merge of its own."""
    for record in night.ledger.unsettled():
        if record.state == "closed":  # a harness that died was about to
            await advance(night, record)
    found = []
    for merged in standing_merges(night):
        if night.interrupt.soon:
            break
        found.append(await _without(night, *merged, keep))
    drop_stale(night)
    return found


def drop_stale(night: Night) -> None:
    """Close what was begun on an earlier tip, and interrupted: nobody asks any more what a merge was worth there."""
    for record in night.ledger.unsettled():
        reverts = record.state != "closed" and record.proposal and record.proposal.reverts
        if reverts and record.experiment.base != night.ledger.tip():
            why = "it was about an earlier tip of the lab branch"
            night.ledger.settle(night.close(record, Verdict(status="void", reason=why)))


def standing_merges(night: Night) -> list[tuple[str, Record]]:
    """The merges of the lab branch that were not taken back, with the records of what they merged, oldest first."""
    found = merges(night.ledger, night.ledger.tip())
    gone = {record.proposal.reverts for _, record in found if record.proposal}
    return [(merge, r) for merge, r in reversed(found) if r.id not in gone and not (r.proposal and r.proposal.reverts)]


async def _without(night: Night, merge: str, merged: Record, keep: bool) -> Left:
    """Measure the tip without one merge, unless that was done."""
    tip, title = night.ledger.tip(), prompt.title(merged)
    made = on_top(night.repo, tip, git.parents(night.repo, merge)[0], merge)
    if not made.changed:
        later = [r.id for r in grid.merged_siblings(night.ledger.records(), merged) if (r.merge or 0) > (merged.merge or 0)]
        why = "later merges build on it, so it cannot be taken out alone" if made.conflicts else "nothing of it is left"
        return Left(id=merged.id, title=title, says=f"{later[0]}, a variant of the same idea, took its place" if later else why)
    known = [r for r in night.ledger.records() if r.proposal and r.proposal.reverts == merged.id and r.experiment.base == tip]
    known = [r for r in known if not (r.verdict and r.verdict.status == "void")]
    record = known[-1] if known else _begin(night, merged, made.changed, keep)
    if record.proposal and record.proposal.only_measured == keep and (keep or record.state != "closed"):
        record = _asked_anew(night, record, keep)
    if record.state != "closed":
        await carry(night, record)
    return _left(merged, night.ledger.get(record.id))


def _begin(night: Night, merged: Record, files: dict[str, str | None], keep: bool) -> Record:
    """A new experiment: the tip without a merge."""
    record, text = draft(night, ABLATE, base=night.ledger.tip())
    proposal = Proposal(
        title=f"Take back {merged.id}: {prompt.title(merged)}"[:TITLE_CHARS],
        hypothesis=f"What came after {merged.id} may have made it needless.",
        reverts=merged.id,
        only_measured=not keep,
    )
    return with_change(night, record.model_copy(update={"proposal": proposal}), files, {"program.md": text})


def _asked_anew(night: Night, record: Record, keep: bool) -> Record:
    """Let the judge decide, by the runs that are there, over what was begun without `keep` and is asked for with it."""
    assert record.proposal is not None
    if record.verdict and record.verdict.status != "discard":
        return record
    proposal = record.proposal.model_copy(update={"only_measured": not keep})
    again = record.model_copy(update={"proposal": proposal, "state": "measuring", "verdict": None})
    return night.ledger.save(again, Step.PROPOSED)


def _left(merged: Record, record: Record) -> Left:
    verdict, proposal = record.verdict, record.proposal
    assert proposal is not None
    found = Left(
        id=merged.id,
        title=prompt.title(merged),
        experiment=record.id,
        status=record.status,
        worth=None if verdict is None or verdict.gain is None else -verdict.gain + 0.0,
        worth_sd=verdict.gain_sd if verdict else None,
        runs=len(record.values),
        tokens=-proposal.added,
        taken_back=record.merged,
        says="",
    )
    return found.model_copy(update={"says": _says(record, found)})


def _says(record: Record, found: Left) -> str:
    """What to make of it, in words."""
    verdict = record.verdict
    if verdict is None:
        return "not finished"
    if found.taken_back:
        return f"not needed: taken back by {record.id}"
    if record.status == "waiting":
        return f"not needed: whether it is taken back is for a person to decide, see `harness review {record.id}`"
    if verdict.status == "keep":  # what was accepted late is one more experiment, and may have been discarded
        again = record.review.again if record.review else None
        return f"not needed, but {f'{again} did not take it back' if again else 'a person did not want it taken back'}"
    if verdict.status in ("crash", "invalid"):
        return "needed: without it the code does not run"
    if verdict.status == "void" or found.worth is None:
        return f"unknown: {verdict.reason}"
    if verdict.reason.startswith(ONLY_MEASURED):
        return "not needed: `--keep` takes it back"
    if found.worth > NEGLIGIBLE * (verdict.sigma or 0.0):
        return "still helps" if found.worth > (found.worth_sd or 0.0) else "may still help: its worth is within the noise"
    return "no loss was found, and too little code to be simpler without it"
