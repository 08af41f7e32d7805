"""The first half of an experiment: an agent works in a worktree, and what it left becomes a commit or a verdict."""

from __future__ import annotations

from dataclasses import replace

from harness import git, judge, limits, mirror, prompt
from harness.harvest import Harvest, snapshot
from harness.ledger import BASELINE, author
from harness.models import Record, Verdict
from harness.night import Night
from harness.patterns import editable_files
from harness.proposal import describe, nothing_changed, slug, take
from harness.protocols import Agent, Exit
from harness.steps import Step, reached
from harness.workspace import agent_box, link_inputs, worktree


def propose(night: Night, record: Record) -> Record:
    """Let the agent work in a worktree and take what it left; unchanged when the user interrupted it."""
    agent = next((agent for agent in night.agents if agent.spec.name == record.experiment.agent), night.agents[0])
    record = record.model_copy(update={"experiment": record.experiment.model_copy(update={"agent": agent.spec.name})})
    text, blob = night.program()
    base, tag = record.experiment.base, night.ledger.tag
    mirror.reflect(night.mirror, night.repo, night.ledger.lab, night.ledger.get(BASELINE).experiment.base)
    records = [known for known in night.ledger.records() if known.id != record.id]
    asked = prompt.render(night.task, text, records, night.ledger.incumbent(), record.id)
    patterns, files = night.task.editable, editable_files(night.task.editable, git.files(night.repo, base))
    with worktree(night.mirror, f"{tag}-{record.id}", night.state.worktree(tag, record.id), base) as folder:
        prompt.write_lab(folder, night.task, night.ledger, records)
        link_inputs(folder, night.task.inputs, git.root(night.repo))
        home, env = night.state.home(tag, agent.spec.name), {"HARNESS_FILE": next(iter(files), "")}
        readable = (night.state.mirror, *night.readable)
        box = agent_box(folder, patterns, home, readable, night.hidden, env, night.task.python)
        box = replace(box, limits=limits.settle(night.task.limits, "agent"))
        before = snapshot(folder, patterns)
        reached(Step.WORKTREE_MADE)
        cancel, log = night.watch(record, "propose"), night.state.log(tag, record.id)
        seed, seconds = judge.seed(record.id, 0), night.task.budget.propose_s
        with night.line(record) as line:
            box = replace(box, gateway=line)
            ended = agent.propose(asked, box, log, seed, seconds, lambda: cancel() or night.interrupt.soon)
        if ended.cancelled:
            return record
        if not folder.is_dir():
            return night.close(record, Verdict(status="void", reason="the worktree was deleted while the agent worked in it"))
        found, refused = take(folder, patterns, before, prompt.notebook(records))
        reached(Step.HARVESTED)
    reached(Step.WORKTREE_GONE)
    record = record.model_copy(update={"program": blob})
    return accept(night, record, agent, ended, found, refused, {"program.md": text, "prompt.md": asked})


def accept(
    night: Night, record: Record, agent: Agent, ended: Exit, found: Harvest | None, refused: str, texts: dict[str, str]
) -> Record:
    """Turn a harvest into a commit on a branch of its own, or into a verdict that says why there is none."""
    proposal = describe(ended, found, refused, night.versions.get(agent.spec.name, ""), agent.spec.ok_exit_codes)
    blobs = git.files(night.repo, record.experiment.base)
    files: dict[str, str | None] = {name: git.write(night.repo, data) for name, data in (found.files if found else {}).items()}
    files |= dict.fromkeys(found.deleted if found else [])
    changed = {name: blob for name, blob in files.items() if blobs.get(name) != blob}
    usage = night.gateway.usage(record.id) if night.gateway else None
    record = record.model_copy(update={"proposal": proposal.model_copy(update={"files": changed, "usage": usage})})
    texts = {**texts, "proposal.md": f"{proposal.title}\n\n{proposal.hypothesis}\n", "transcript.txt": ended.tail}
    if refused:
        why = f"the agent {ended.exceeded}, and {refused}" if ended.exceeded else refused
        return night.close(record, Verdict(status="invalid", reason=why), texts)
    if not changed:
        return night.close(record, nothing_changed(ended, agent.spec.ok_exit_codes), texts)
    tree = git.tree_with(night.repo, record.experiment.base, changed)
    if twin := tried_before(night, tree):
        return night.close(record, Verdict(status="invalid", reason=f"the same change was tried as {twin}"), texts)
    commit = git.commit(night.repo, tree, [record.experiment.base], candidate_message(record), author(record))
    reached(Step.CANDIDATE_WRITTEN)
    branch = f"exp/{night.ledger.tag}/{record.id}-{slug(proposal.title)}"
    experiment = record.experiment.model_copy(update={"commit": commit, "tree": tree, "branch": branch})
    return night.ledger.save(record.model_copy(update={"experiment": experiment, "state": "measuring"}), Step.PROPOSED, texts)


def candidate_message(record: Record) -> str:
    """What `git log` says of a candidate."""
    assert record.proposal is not None
    text = f"{record.proposal.title}\n\n{record.proposal.hypothesis}".rstrip()
    return f"{text}\n\nExperiment: {record.experiment.tag}/{record.id}\nAgent: {author(record)[0]}\n"


def tried_before(night: Night, tree: str) -> str | None:
    """The id of an experiment that had this very tree."""
    for record in night.ledger.records():
        void = record.verdict is not None and record.verdict.status == "void"  # then the idea was never tried
        if record.experiment.tree == tree and not void:
            return record.id
    return None
