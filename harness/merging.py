"""The merge queue: what becomes of a candidate whose base is not the incumbent any more, because something else was merged.

It was screened on its own base. If it is promising there, it is joined with the incumbent of now by a three-way merge of their
texts, and its other runs are made on that: they test the combination, and only the tree that was measured is merged. Texts
that conflict, or a gain that does not survive the join, go back to the agent once, to make the idea anew on the incumbent of
now. What fails again is discarded as not additive. A restart, which was made on an earlier incumbent on purpose, may before that
turn out to be better than the incumbent of now as it is, and then takes the place of what was merged since.

Variants of one idea are made on one base, and the values of a grid conflict with each other. So where one of them was merged, or
is what the search goes on from, the next takes its place. If it is not better there no agent is asked: all were on the table.
"""

from __future__ import annotations

from harness import candidate, git, grid, judge, prompt, repairing, stuck
from harness.ledger import BASELINE
from harness.messages import powerless
from harness.models import Record, Verdict
from harness.night import Night
from harness.proposal import added
from harness.stacks import Stacks
from harness.steps import Step, reached
from harness.threeway import on_top

DIFF_CHARS = 20_000
REBASE = """
# Make your idea anew

You proposed a change for this experiment: {title}. It was better than the code that it was made on. Meanwhile another
change was merged into that, and yours could not be merged after it: {reason}

Your worktree holds the code of now, without your change. Make the same idea work there, beside what was merged; if that makes
no sense any more, leave the file as it is. This is your change, as data:

{idea}

This is what was merged since:

{meanwhile}

Write `notes/EXPERIMENT.md` again.
"""


def stale(night: Night, record: Record, verdict: judge.Next) -> bool:
    """Whether a candidate is promising, and the incumbent another one than it is compared with."""
    begun = bool(record.runs or record.experiment.joined)
    if not promising(verdict) or not begun or record.id == BASELINE or record.ground == (head := night.head(record)):
        return False
    return git.tree(night.repo, record.ground) != git.tree(night.repo, head)  # accepted, the same tree has another commit


def promising(verdict: judge.Next) -> bool:
    """Whether a candidate may yet be kept."""
    return not isinstance(verdict, Verdict) or verdict.status == "keep"


def join(night: Night, record: Record) -> Record | None:
    """The record with the merge of its candidate and the incumbent of now, which is to be measured next; None where the texts
    conflict, or make together what no candidate may be. It is closed where they make the incumbent itself.
    """
    experiment, tip = record.experiment, night.head(record)
    assert experiment.commit is not None
    tree = on_top(night.repo, tip, experiment.commit, experiment.base).tree or instead(night, record, tip)
    if not tree:
        return None
    if tree == git.tree(night.repo, tip):
        return night.close(record, Verdict(status="discard", reason="what was merged meanwhile has this change already"))
    if tree == experiment.tree:  # it has everything that was merged meanwhile, so its runs are what they would be
        return joined_by(night, record, None, tip)
    message = f"Join {record.id} with what was merged meanwhile: {powerless(prompt.title(record))}\n"
    joined = git.commit(night.repo, tree, [tip, experiment.commit], message)
    if candidate.problem(night.repo, night.task, night.start, joined):
        return None
    reached(Step.JOIN_WRITTEN)
    return joined_by(night, record, joined, tip)


def joined_by(night: Night, record: Record, joined: str | None, tip: str) -> Record:
    """The record of what is compared with `tip` from now on."""
    return night.ledger.save(compared(night, record, tip, joined), Step.JOINED)


def compared(night: Night, record: Record, onto: str | None, joined: str | None = None) -> Record:
    """The record as what is judged against `onto`, None for its own base: the merge `joined`, or else the candidate as it is.

    How much code it adds is counted against that, too.
    """
    experiment, proposal = record.experiment.model_copy(update={"onto": onto, "joined": joined}), record.proposal
    found = record.model_copy(update={"experiment": experiment})
    assert proposal is not None
    assert found.judged is not None
    before, after = (git.files(night.repo, commit) for commit in (found.ground, found.judged))
    changed = {name: after.get(name) for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    proposal = proposal.model_copy(update={"added": added(night.repo, before, changed)})
    return found.model_copy(update={"proposal": proposal})


def instead(night: Night, record: Record, tip: str) -> str:
    """The tree of `tip` with a variant in the place of its sibling that was merged; empty where that cannot be."""
    commit = record.experiment.commit
    assert commit is not None
    bases = [each.experiment.commit for each in siblings_in(night, record) if each.experiment.base == record.experiment.base]
    return next((tree for base in bases if base and (tree := on_top(night.repo, tip, commit, base).tree)), "")


def siblings_in(night: Night, record: Record) -> list[Record]:
    """The siblings that the incumbent of now holds, the latest first: those that wait for a person, where the search goes on from
    winners, and those that were merged.
    """
    records, head = night.ledger.records(), night.ledger.incumbent(night.head(record))
    stack = [*Stacks(night.ledger).below(head), head] if head.status == "waiting" else []
    family = {each.id for each in grid.family(records, record)} - {record.id}
    return [*(each for each in reversed(stack) if each.id in family), *grid.merged_siblings(records, record)]


def named(record: Record, verdict: Verdict) -> Verdict:
    """The verdict over a restart with what it was compared with, which is not always the incumbent of now."""
    experiment = record.experiment
    if not stuck.restarted(record) or record.nudge is None or experiment.joined or verdict.status not in ("keep", "discard"):
        return verdict
    since = "in place of what was merged since" if experiment.onto else "compared with its base,"
    return verdict.model_copy(update={"reason": f"{since} {record.nudge.of[0]}: {verdict.reason}"})


def conclude(night: Night, record: Record, verdict: Verdict, alone: judge.Next, texts: dict[str, str] | None = None) -> Record:
    """Carry a verdict over a candidate that was compared with a later incumbent into its record. `alone` is what the judge says
    of it on its own base.
    """
    if verdict.status in ("keep", "void"):
        return night.close(record, verdict, texts)
    beaten = siblings_in(night, record)  # by a variant that its agent had made beside it
    if isinstance(alone, Verdict) and alone.status == "keep" and not beaten:
        why = f"joined with it, {verdict.reason}" if record.experiment.joined else verdict.reason
        return send_back(night, record, why, verdict, texts)
    if verdict.status != "discard":
        verdict = Verdict(status="discard", reason=f"joined with what was merged meanwhile, it fails: {verdict.reason}")
    return night.close(record, verdict, texts)


def send_back(
    night: Night, record: Record, why: str, verdict: Verdict | None = None, texts: dict[str, str] | None = None
) -> Record:
    """Have the idea made anew on the incumbent of now, or discard it when that was done already."""
    update = {"status": "discard", "reason": f"not additive: {why}"}
    discarded = verdict.model_copy(update=update) if verdict else Verdict.model_validate(update)
    if rebased(record) or not record.of_an_agent or not night.agents:
        return night.close(record, discarded, texts)
    return night.ledger.save(repairing.send_back(record, discarded, night.head(record)), Step.SENT_BACK, texts)


def rebased(record: Record) -> bool:
    """Whether an experiment's agent was asked already to make its idea anew on a later incumbent."""
    return any(each.base != record.experiment.base for each in repairing.failures(record))


def words(night: Night, record: Record) -> str:
    """What the agent is told beside the prompt when it is to make its idea anew; empty otherwise."""
    last = next(reversed(repairing.failures(record)), None)
    base = record.experiment.base
    if last is None or last.base is None or last.base == base or last.commit is None:
        return ""
    idea, meanwhile = git.diff(night.repo, last.base, last.commit), git.diff(night.repo, last.base, base)
    reason = prompt.reason(last.verdict) if last.verdict else ""
    return REBASE.format(title=prompt.title(record), reason=reason, idea=quoted(idea), meanwhile=quoted(meanwhile))


def quoted(diff: str) -> str:
    """A diff as data, bounded."""
    shown = diff if len(diff) <= DIFF_CHARS else diff[:DIFF_CHARS] + "\n(the rest is left out)"
    return "\n".join(f"    {line}" for line in shown.splitlines())
