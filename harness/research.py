"""A night: propose, commit, measure, judge, merge or delete, until told to stop.

Every step begins and ends with a record in git (see steps.py), so the same loop also continues a night that was killed
anywhere.
"""

from __future__ import annotations

import asyncio
import time

from harness import __version__, git, grid, refs, submitting, variants
from harness.beginning import draft, new_record
from harness.decisions import pending
from harness.keeping import keep_or_drop
from harness.ledger import BASELINE
from harness.measuring import control_if_due, forget, measure
from harness.models import Experiment, Record
from harness.night import Night
from harness.proposing import propose
from harness.review import carry_out, take_up
from harness.steps import Step, reached
from harness.stopping import over, remaining, spare
from harness.stuck import base, nudge
from harness.upkeep import pack_if_needed
from harness.wishes import idea_for

IDLE_S = 1.0  # how often it is asked whether the night is over while nothing else happens


async def research(night: Night) -> str:
    """The whole night; the reason why it ended."""
    unsettled = night.ledger.unsettled()
    for record in unsettled:
        if record.state == "closed" or record.id == BASELINE:  # nothing else makes sense before these are done
            await carry(night, record)
    async with asyncio.TaskGroup() as under_way:
        for record in unsettled:
            if night.ledger.get(record.id).state != "closed":
                take_off(under_way, night, record)
        while not (reason := over(night)) or len(night.flight) or decisions_left(night):  # what is under way may yet change it
            if not night.interrupt.soon and (accepted := take_up(night)):
                take_off(under_way, night, accepted)
            elif reason:
                await night.flight.change(IDLE_S)
            elif remaining(night) and queue(night) and (submitted := submitting.begin(night)):
                take_off(under_way, night, submitted)
            elif queue(night) and (sibling := variants.begin(night)):
                take_off(under_way, night, sibling)
            elif night.ledger.tally.waiting():  # they fill the queue: no agent is asked for more
                await night.flight.change(IDLE_S)
            elif not night.ready():
                await wait(night)
            elif room(night):
                take_off(under_way, night, begin(night))
            else:
                await night.flight.change(IDLE_S)
    night.board.end(reason)
    return reason


def decisions_left(night: Night) -> bool:
    """Whether a night that is over has still to do what people decided: to merge it, or to measure it for that."""
    if night.interrupt.soon or not pending(night.repo, night.ledger.tag):
        return False
    return bool(carry_out(night.ledger))


def room(night: Night) -> bool:
    """Whether one more agent may begin: a worker is free, and what it proposes will not grow stale waiting to be run."""
    return spare(night) > 0 and night.flight.count("proposing") < len(night.workers.slots) and queue(night)


def queue(night: Night) -> bool:
    """Whether one more change may wait to be run.

    With one worker and one run slot, experiments follow one another, so that an agent knows every result before its own.
    """
    workers, places, flight = len(night.workers.slots), len(night.places.slots), night.flight
    if workers == places == 1:
        return not len(flight)
    return flight.count("proposing") + flight.count("waiting") < max(workers, places)


async def wait(night: Night) -> None:
    """Until an agent may be asked again, or the night is over for another reason."""
    name, first = min(night.paused.items(), key=lambda item: item[1].until)
    seconds = first.until - time.monotonic()
    phase = f"waiting for {name}: {first.reason.partition(':')[0]}"
    with night.watch(night.ledger.records()[-1], phase, Step.AGENT_AT_WORK, seconds) as told:
        while not night.ready() and not over(night):
            told()
            await asyncio.sleep(0.25)


def begin(night: Night) -> Record:
    """The next experiment, opened on the incumbent; the agents that can work take turns, however many variants each leaves, and
    whatever people asked for in between."""
    records, able = night.ledger.records(), night.ready()
    agent = able[sum(map(grid.asked, records[1:])) % len(able)]
    record, text = draft(night, agent.spec.name, agent.spec.program)
    wish = idea_for(agent.spec, night.repo, records)
    asked = None if wish else nudge(agent.spec, records)
    experiment = record.experiment.model_copy(update={"base": base(night.ledger, night.head(), asked)})
    record = record.model_copy(update={"experiment": experiment, "wish": wish, "nudge": asked})
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


def take_off(under_way: asyncio.TaskGroup, night: Night, record: Record) -> None:
    """Let an experiment go its way beside the others; it counts as one of them at once."""
    night.flight.enter(record.id, "proposing" if record.state == "proposing" else "waiting")
    under_way.create_task(carry(night, record))


async def carry(night: Night, record: Record) -> None:
    """One experiment to its end, and what is due after it."""
    try:
        await advance(night, record)
        if night.ledger.get(record.id).state == "closed":
            await control_if_due(night)
            pack_if_needed(night.repo, night.state)
    finally:
        night.flight.leave(record.id)


async def advance(night: Night, record: Record) -> None:
    """Take one experiment from whatever state it is in to its end, or to where an interrupt stops it."""
    if record.state == "proposing":
        night.flight.enter(record.id, "proposing")
        async with night.workers.lease(len(record.measurements)) as worker:
            record = record if worker is None else await propose(night, record, worker)
    if record.state == "measuring":
        night.flight.enter(record.id, "waiting")
        record = await measure(night, record)
        if record.state == "proposing":  # sent back to its agent, as often as it may be
            return await advance(night, record)
    if record.state == "closed":
        night.ledger.merge(record)
        forget(night)
        keep_or_drop(night, record)
        night.ledger.settle(record)
        night.tell(record)
