"""A night: propose, commit, measure, judge, merge or delete, until told to stop.

Every step begins and ends with a record in git (see steps.py), so the same loop also continues a night that was killed
anywhere.
"""

from __future__ import annotations

import time

from harness import __version__, git, refs
from harness.ledger import BASELINE, new_record
from harness.measuring import control_if_due, forget, measure
from harness.models import Experiment, Record
from harness.night import Night
from harness.proposing import propose
from harness.steps import Step, reached
from harness.stopping import over
from harness.upkeep import pack_if_needed


def research(night: Night) -> str:
    """The whole night; the reason why it ended."""
    for record in night.ledger.unsettled():
        if not night.interrupt.soon:
            advance(night, record)
    while not (reason := over(night)):
        if not night.ready():
            wait(night)
            continue
        advance(night, begin(night))
        control_if_due(night)
        pack_if_needed(night.repo, night.state)
    return reason


def wait(night: Night) -> None:
    """Until an agent may be asked again, or the night is over for another reason."""
    name, first = min(night.paused.items(), key=lambda item: item[1].until)
    seconds = first.until - time.monotonic()
    phase = f"waiting for {name}: {first.reason.partition(':')[0]}"
    told = night.watch(night.ledger.records()[-1], phase, Step.AGENT_AT_WORK, seconds)
    while not night.ready() and not over(night):
        told()
        time.sleep(0.25)


def begin(night: Night) -> Record:
    """The next experiment, opened on the incumbent; the agents that can work take turns."""
    records = night.ledger.records()
    turn = (len(records) - 1) % len(night.agents)
    agent = next(found for each in (*night.agents[turn:], *night.agents[:turn]) if (found := night.able(each)))
    base = refs.resolve(night.repo, night.ledger.lab)
    assert base is not None
    experiment = Experiment(id=f"{int(records[-1].id) + 1:04d}", tag=night.ledger.tag, agent=agent.spec.name, base=base)
    text, blob = night.program(agent.spec.program)
    record = new_record(experiment, night.task, night.sandbox, __version__, blob)
    return night.ledger.save(record, Step.BEGUN, {"program.md": text})


def begin_baseline(night: Night, commit: str) -> None:
    """Open experiment 0000 on `commit` and make the lab branch there."""
    tree = git.tree(night.repo, commit)
    experiment = Experiment(id=BASELINE, tag=night.ledger.tag, agent="baseline", base=commit, commit=commit, tree=tree)
    text, blob = night.program()
    record = new_record(experiment, night.task, night.sandbox, __version__, blob).model_copy(update={"state": "measuring"})
    night.ledger.save(record, Step.BEGUN, {"program.md": text})
    make_lab(night, commit)


def make_lab(night: Night, commit: str) -> None:
    """The lab branch, at the baseline's commit."""
    refs.swap(night.repo, night.ledger.lab, commit, None)
    reached(Step.LAB_MADE)


def advance(night: Night, record: Record) -> None:
    """Take one experiment from whatever state it is in to its end, or to where an interrupt stops it."""
    if record.state == "proposing":
        record = propose(night, record)
    if record.state == "measuring":
        record = measure(night, record)
        if record.state == "proposing":  # sent back to its agent, as often as it may be
            return advance(night, record)
    if record.state == "closed":
        night.ledger.settle(record)
        forget(night)
        night.tell(record)
