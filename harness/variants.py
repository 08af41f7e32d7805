"""Several variants of one idea, each an experiment of its own on the incumbent that their agent began from.

The first that is new becomes the experiment that the agent was asked for. Its record names the others, which wait there until
one more change may wait to be run; then each becomes an experiment. What is not tried is named with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from harness import git, repairing
from harness.beginning import draft, tried_before, with_change
from harness.leavings import Left
from harness.models import Proposal, Record, Sibling, Variant, Verdict
from harness.night import Night
from harness.patterns import VARIANTS
from harness.proposal import TITLE_CHARS, printable, titled
from harness.stopping import remaining


@dataclass(frozen=True)
class Change:
    """One of the changes that an agent left, by the folder that it is from, which is empty for the editable files themselves.

    `files`: what it changes, as blobs, None for deleted ones. `dropped`: why it is not to be tried; `refused`: nor can be.
    """

    folder: str = ""
    files: dict[str, str | None] = field(default_factory=dict)
    note: str = ""
    dropped: str = ""
    refused: bool = False


def most(night: Night, record: Record) -> int:
    """How many variants an agent may leave now: none where it is to mend a change, or the repository has such a folder."""
    asked_again = bool(repairing.failures(record)) or record.variant is not None
    return 0 if asked_again or night.task.variants < 2 or own(night, record) else night.task.variants


def own(night: Night, record: Record) -> bool:
    """Whether a folder of that name is part of the repository, or of the inputs that are shown in it."""
    place = git.root(night.repo) / VARIANTS
    names = git.files(night.repo, record.experiment.base)
    return any(f"{name}/".startswith(f"{VARIANTS}/") for name in names) or any(
        Path(each).is_relative_to(place) for each in night.task.inputs
    )


def sort_out(night: Night, record: Record, main: Change | None, left: list[Left]) -> list[Change]:
    """The changes that an agent left, first the one that is to be tried now: an empty one where there is none.

    `main` is the one in the editable files. What was tried before is only first where nothing is new.
    """
    base = record.experiment.base
    blobs, found = git.files(night.repo, base), [main] if main else []
    for each in left:
        written = {name: git.write(night.repo, data) for name, data in each.files.items()}
        files: dict[str, str | None] = {name: blob for name, blob in written.items() if blobs.get(name) != blob}
        why = each.refused or ("" if files else "it leaves the editable files as they are")
        found.append(Change(each.folder, files, each.note, printable(why), bool(each.refused)))
    seen: dict[str, str] = {}
    for index, change in enumerate(found):
        if change.dropped:
            continue
        tree = git.tree_with(night.repo, base, change.files)
        twin, same = tried_before(night, tree), seen.get(tree)
        why = f"it is the same as {same}" if same else f"the same change was tried as {twin}" if twin else ""
        found[index] = replace(change, dropped=why)
        seen.setdefault(tree, f"{VARIANTS}/{change.folder}" if change.folder else "the change itself")
    new = [change for change in found if not change.dropped]
    usable = new or [change for change in found if change.files and not change.refused] or [Change()]
    return [usable[0], *(change for change in found if change is not usable[0])]


def words(change: Change, proposal: Proposal) -> tuple[str, str]:
    """Title and hypothesis of a variant: its own, or else those of the proposal that it belongs to."""
    title, hypothesis = titled(change.note)
    if not change.folder or title:
        return title or proposal.title, hypothesis or proposal.hypothesis
    end = f" (variant {change.folder})"
    return proposal.title[: TITLE_CHARS - len(end)] + end, hypothesis or proposal.hypothesis


def note(night: Night, record: Record, proposal: Proposal, others: list[Change]) -> Record:
    """The record of the experiment that tries the first variant, with the others: what waits, and what is dropped and why.

    A night that ends before all were tried leaves the rest for `harness resume`.
    """
    base, kept = record.experiment.base, list[Variant]()
    for change in others:
        title, hypothesis = words(change, proposal)
        found = Variant(folder=change.folder, title=title, hypothesis=hypothesis, files=change.files, dropped=change.dropped)
        if not change.dropped:
            commit = git.commit(night.repo, git.tree_with(night.repo, base, found.files), [base], f"{title}\n")
            found = found.model_copy(update={"commit": commit})
        kept.append(found)
    many = 1 + sum(not each.dropped for each in kept)
    sibling = Sibling(of=record.id, n=1, k=many) if many > 1 else record.variant
    return record.model_copy(update={"variants": [*record.variants, *kept], "variant": sibling})


def begin(night: Night) -> Record | None:
    """The variant that has waited longest, as an experiment; closed at once when somebody else has tried the same meanwhile."""
    found = next(iter(night.ledger.tally.waiting()), None)
    if found is None or not remaining(night):
        return None
    first, n, variant = found
    assert first.variant is not None
    assert first.proposal is not None
    assert variant.commit is not None
    record, _ = draft(night, first.experiment.agent)
    experiment = record.experiment.model_copy(update={"base": git.parents(night.repo, variant.commit)[0]})
    told = first.proposal
    proposal = Proposal(
        title=variant.title, hypothesis=variant.hypothesis, agent_version=told.agent_version, network=told.network
    )
    mine = {"experiment": experiment, "program": first.program, "proposal": proposal, "wish": first.wish, "nudge": first.nudge}
    sibling = Sibling(of=first.id, n=n, k=first.variant.k)
    record = record.model_copy(update={**mine, "variant": sibling})
    texts = {"program.md": night.ledger.text(first, "program.md")}
    if twin := tried_before(night, git.tree(night.repo, variant.commit), waiting=False):
        return night.close(record, Verdict(status="invalid", reason=f"the same change was tried as {twin}"), texts)
    return with_change(night, record, variant.files, texts)
