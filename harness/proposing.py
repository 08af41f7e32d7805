"""The first half of an experiment: an agent works in a worktree, and what it left becomes a commit or a verdict."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from harness import git, lab, limits, logins, merging, mirror, outcome, prompt, repairing, sessions, stuck, variants, wishes
from harness.beginning import tried_before, with_change
from harness.harvest import Harvest, snapshot
from harness.leavings import Left, leavings
from harness.ledger import BASELINE
from harness.models import Outcome, Record, Try, Verdict
from harness.night import PAUSES, Night
from harness.outcome import Said
from harness.patterns import VARIANTS, editable_files
from harness.proposal import added, describe, nothing_changed, take
from harness.protocols import Agent, Cancel, Exit
from harness.scheduling import aside
from harness.shelf import Shelf
from harness.steps import Step, reached
from harness.variants import Change
from harness.workspace import agent_box, link_inputs, show_papers, worktree

AGAIN = ("rate_limited", "network")
ONCE_MORE = """
# Once more

A moment ago you were asked the same, and {why}. That was not measured. Your worktree is as it was before.
Read `lab/history.tsv`, then make another change, which nobody has tried.
"""


@dataclass(frozen=True)
class Work:
    """What one call of an agent came to. `changed` are the editable files that differ, as blobs; None for deleted ones.

    Of several variants they are those of the one that is tried first, `change`; `others` are the rest. `resumed`: it went on with
    an earlier session. `collided`: the experiment that made the same change while it worked.
    """

    ended: Exit
    said: Said
    found: Harvest | None
    refused: str
    changed: dict[str, str | None]
    outcome: Outcome
    change: Change
    others: list[Change]
    resumed: bool = False
    collided: str | None = None


@dataclass(frozen=True)
class Again:
    """Why an agent is asked once more, after how many seconds, and what it is told beside the prompt."""

    why: Outcome
    wait_s: float
    words: str = ""


async def propose(night: Night, record: Record, worker: int) -> Record:
    """Let the agent work in a worker's slot and take what it left; unchanged when the user interrupted it."""
    agent = night.agent(record.experiment.agent)
    text, blob = night.program(agent.spec.program)
    begun = repairing.failed_try(record) or stuck.restarted(record)
    base = record.experiment.base if begun else night.head()  # it may have waited for an agent
    experiment = record.experiment.model_copy(update={"agent": agent.spec.name, "base": base})
    record = record.model_copy(update={"experiment": experiment, "program": blob})
    repairing.drop_branches(night, record)
    incumbent, many = night.ledger.incumbent(base), variants.most(night, record)
    records = others(night, record)
    asked = prompt.render(night.task, text, records, incumbent, record.id, many)
    asked += wishes.words(record) + stuck.words(night.task, record, records)
    asked += repairing.words(night, record) or merging.words(night, record)
    tries = list(record.proposal.tries) if record.proposal else []
    pauses, repairs = waits(agent), iter(range(agent.spec.more_tries))
    texts = {"program.md": text, "prompt.md": asked}
    while not isinstance(work := await call(night, record, agent, worker, asked), Verdict):
        if work is None:
            return record
        if (once_more := again(night, record, work, pauses, repairs)) is None:
            return accept(night, record, agent, work, tries, texts)
        asked = texts["prompt.md"] + once_more.words
        tries.append(Try(outcome=once_more.why, seconds=round(work.ended.seconds, 3)))
        if not await rest(night, record, once_more.wait_s, once_more.why):
            return record
    return night.close(record, work)


def others(night: Night, record: Record) -> list[Record]:
    """The records of all other experiments, those under way among them."""
    return [known for known in night.ledger.records() if known.id != record.id]


def again(night: Night, record: Record, work: Work, pauses: Iterator[float], repairs: Iterator[int]) -> Again | None:
    """Whether the same agent is asked again: without a session that is lost; after a wait; for nothing new, in words."""
    if work.resumed and work.outcome.kind in sessions.LOST:
        return Again(work.outcome, 0.0)
    if work.outcome.kind in AGAIN:
        wait_s = next(pauses, None)
        return None if wait_s is None else Again(work.outcome, wait_s)
    why = nothing_new(night, record, work)
    if why is None or (not work.collided and next(repairs, None) is None):
        return None
    return Again(why, 0.0, ONCE_MORE.format(why=why.reason))


def nothing_new(night: Night, record: Record, work: Work) -> Outcome | None:
    """Why what an agent left costs a run for nothing, as the agent is told; None when it does not."""
    if work.outcome.kind == "unchanged":
        return Outcome(kind="unchanged", reason="you left the editable files as they were")
    if work.changed and (twin := tried_before(night, git.tree_with(night.repo, record.experiment.base, work.changed))):
        known = night.ledger.get(twin)
        became = f": {known.verdict.status}, {prompt.reason(known.verdict)}" if known.verdict else ""
        return Outcome(kind="unchanged", reason=f"you made the very change that was tried as experiment {twin}{became}")
    return None


def waits(agent: Agent) -> Iterator[float]:
    """Seconds to wait after each call that a busy provider or a bad connection spoilt."""
    retry = agent.spec.patience
    return (retry.wait_s * 3**number for number in range(retry.times)) if retry else iter(())


async def rest(night: Night, record: Record, seconds: float, why: Outcome) -> bool:
    """Wait before an agent is asked again; False when the user interrupted it."""
    end, phase = time.monotonic() + seconds, f"waiting: {why.reason.partition(':')[0]}"
    with night.watch(record, phase, Step.AGENT_AT_WORK, seconds) as cancel:
        while (left := end - time.monotonic()) > 0:
            if cancel() or night.interrupt.soon:
                return False
            await asyncio.sleep(min(0.25, left))
    return True


async def call(night: Night, record: Record, agent: Agent, worker: int, asked: str) -> Work | Verdict | None:
    """Have the agent work once in a worktree of its own; None when the user interrupted it."""
    base, tag, task, spec, records = record.experiment.base, night.ledger.tag, night.task, agent.spec, others(night, record)
    mirror.reflect(night.mirror, night.repo, night.ledger.lab, night.ledger.get(BASELINE).experiment.base, base)
    patterns, blobs = task.editable, git.files(night.repo, base)
    place = night.state.worktree(tag, sessions.owner(spec, worker) if spec.context == "resume" else record.id)
    shelf = night.shelves.setdefault(worker, Shelf(night.state.shelves(tag) / str(worker)))
    fresh = worktree(night.mirror, f"{tag}-{record.id}", place, base)
    with fresh as folder, lab.shown(folder, shelf, task, night.ledger, records):
        link_inputs(folder, task.inputs, git.root(night.repo))
        session = sessions.begin(night.state, tag, spec, worker)  # which knows the paths of its worktree
        env = {"HARNESS_FILE": next(iter(editable_files(patterns, blobs)), "")}
        readable = (night.state.mirror, *night.readable, *show_papers(folder, task.papers))
        box = agent_box(folder, patterns, session.home, readable, night.hidden, env, task.python)
        box = replace(box, limits=limits.settle(task.limits, "agent"))
        before = snapshot(folder, patterns, task.limits.editable_kb << 10)
        if many := variants.most(night, record):
            (folder / VARIANTS).mkdir()
            box = replace(box, writable=(*box.writable, folder / VARIANTS))
        restore(night, record, folder)
        reached(Step.WORKTREE_MADE)
        seed, seconds = int(record.id), task.budget.propose_s
        log = night.state.log(tag, record.id)
        with night.line(record) as line, night.watch(record, "propose", Step.AGENT_AT_WORK, seconds) as cancel:

            def work(stop: Cancel) -> Exit | None:
                def gone() -> bool:
                    return cancel() or night.interrupt.soon or stop() or night.barred(spec.name) is not None

                with logins.home_of(spec, session.home, gone) as home:
                    mine = replace(box, home=home, gateway=line)
                    return agent.propose(asked, mine, log, seed, seconds, gone, session.id) if home else None

            ended = await aside(work)
        barred = night.barred(spec.name) if ended and ended.cancelled and not night.interrupt.soon else None
        trouble = night.trouble(line) or barred  # at once, before any other line is closed
        if ended is None or (ended.cancelled and not barred):
            return None
        if not folder.is_dir():
            return Verdict(status="void", reason="the worktree was deleted while the agent worked in it")
        found, refused = take(folder, task, before, prompt.notebook(records), spec.litter)
        left, more = ([], []) if variants.own(night, record) else leavings(folder, task, before, many)
        reached(Step.HARVESTED)
    reached(Step.WORKTREE_GONE)
    change, *rest = changes(night, record, found, refused, left)
    changed, refused = change.files, next((each.dropped for each in rest if each.refused and not change.files), "")
    found = found and replace(found, dropped=[*found.dropped, *more])
    said = outcome.read(spec.output, log, ended.tail)
    failed = repairing.failed_try(record)
    new = bool(changed) and not (failed and failed.files == changed)
    told = Outcome(kind="refused_file", reason=refused) if refused else outcome.outcome(spec, ended, said, new)
    if not refused and not new and trouble and not (trouble.kind in AGAIN and told.kind in PAUSES):
        told = trouble  # the gateway knows better than the agent's words, which are as good where it only saw a busy provider
    sessions.end(night.state, tag, spec, worker, said.session or session.id, told)
    twin = tried_before(night, git.tree_with(night.repo, base, changed)) if changed else None
    known = twin in (None, record.id) or any(each.id == twin and each.experiment.tree for each in records)
    collided = None if known else twin
    return Work(ended, said, found, refused, changed, told, change, rest, bool(session.id), collided)


def changes(night: Night, record: Record, found: Harvest | None, refused: str, left: list[Left]) -> list[Change]:
    """What an agent left, the change that is to be tried first and all others; an empty one where there is nothing to try."""
    blobs = git.files(night.repo, record.experiment.base)
    files: dict[str, str | None] = {name: git.write(night.repo, data) for name, data in (found.files if found else {}).items()}
    files |= dict.fromkeys(found.deleted if found else [])
    changed = {name: blob for name, blob in files.items() if blobs.get(name) != blob}
    main = Change(files=changed, dropped=refused, refused=bool(refused)) if changed or refused else None
    return variants.sort_out(night, record, main, left)


def restore(night: Night, record: Record, folder: Path) -> None:
    """Put a change that is to be mended into a fresh worktree, with what its agent said of it."""
    if (failed := repairing.failed_try(record)) is None or record.proposal is None:
        return
    for name, blob in failed.files.items():
        (folder / name).unlink(missing_ok=True)
        if blob is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(git.read(night.repo, blob))
    (folder / "notes" / "EXPERIMENT.md").write_text(f"{record.proposal.title}\n\n{record.proposal.hypothesis}\n", "utf-8")


def accept(night: Night, record: Record, agent: Agent, work: Work, tries: list[Try], texts: dict[str, str]) -> Record:
    """Turn a harvest into a commit on a branch of its own, or into a verdict that says why there is none."""
    proposal = describe(work.ended, work.said, work.found, work.outcome, night.versions.get(agent.spec.name, ""))
    usage = night.gateway.usage(record.id) if night.gateway and agent.spec.provider else None
    network = agent.spec.network if agent.spec.outside else ""
    more = added(night.repo, git.files(night.repo, record.experiment.base), work.changed)
    title, hypothesis = variants.words(work.change, proposal)
    record = variants.note(night, record, proposal, work.others)
    told: dict[str, object] = {"files": work.changed, "title": title, "hypothesis": hypothesis, "added": more}
    told |= {"tries": tries, "usage": usage, "network": network}
    record = record.model_copy(update={"proposal": proposal.model_copy(update=told)})
    texts = {**texts, "proposal.md": f"{proposal.title}\n\n{proposal.hypothesis}\n", "transcript.txt": work.ended.tail}
    if work.refused:
        why = f"the agent {work.ended.exceeded}, and {work.refused}" if work.ended.exceeded else work.refused
        return night.close(record, Verdict(status="invalid", reason=why), texts)
    if work.outcome.kind != "changed":
        night.pause(agent.spec.name, work.outcome)
        return night.close(record, repairing.last_verdict(record) or nothing_changed(work.outcome), texts)
    if twin := tried_before(night, git.tree_with(night.repo, record.experiment.base, work.changed)):
        return night.close(record, Verdict(status="invalid", reason=f"the same change was tried as {twin}"), texts)
    return with_change(night, record, work.changed, texts)
