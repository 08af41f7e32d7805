"""What can still stop a merge that the judge would make: commands of the task that must succeed on the candidate first."""

from __future__ import annotations

from harness.models import Guard, Measurement, Record, Verdict
from harness.night import Night
from harness.scheduling import aside
from harness.steps import Step

LOG = "guard.log"  # beside the record
ONLY_MEASURED = "only measured, it was not to be merged"


def due(night: Night, record: Record, verdict: Verdict) -> bool:
    """Whether something has still to be asked before what the judge would keep is kept."""
    guarded = bool(night.task.guards) and record.judged not in night.guarded
    return verdict.status == "keep" and (guarded or _only_measured(record))


async def veto(night: Night, record: Record, verdict: Verdict) -> tuple[Verdict, dict[str, str]] | tuple[()] | None:
    """The verdict that a guard turns this one into, with its output; () when all of them passed; None when the user interrupted.

    They run on the tree that would be merged, in the sandbox, only where the judge says keep. A veto leaves the figures as they
    are: the gain may be real, and whoever finds it again should know.
    """
    assert record.judged is not None
    if _only_measured(record):
        reason = f"{ONLY_MEASURED}: {verdict.reason}"
        return verdict.model_copy(update={"status": "discard", "reason": reason}), {}
    for guard in night.task.guards:
        if (told := await _ask(night, record, record.judged, guard)) is None:
            return None
        if told.status != "ok":
            reason = f"{told.reason}; it would have been kept: {verdict.reason}"
            return verdict.model_copy(update={"status": "discard", "reason": reason, "simpler": False}), {LOG: told.log_tail}
    night.guarded.add(record.judged)
    return ()


def _only_measured(record: Record) -> bool:
    return bool(record.proposal and record.proposal.only_measured)


async def _ask(night: Night, record: Record, commit: str, guard: Guard) -> Measurement | None:
    work = night.state.run(night.ledger.tag, f"{record.id}-guard")
    async with night.quiet_place(urgency=1) as place:
        if place is None:
            return None
        night.export(commit, work / "tree")
        with night.watch(record, f"guard {guard.name}", Step.GUARD_GOES_ON, guard.limit_s) as cancel:
            return await aside(lambda stop: night.checked(work, lambda: cancel() or stop(), guard, place.cpus))
