"""Every change of state in the life of an experiment, in its order: where a night may be killed, and what is true then.

The order is always: record first, then branch. So whatever a kill leaves half done is said by a record, and the next
start finishes it. Certificates have steps of their own, which only `harness certify` reaches. Each step is announced as
an audit event (PEP 578) named `harness.step`; the tests kill a night at every one of them, and `scripts/bench` times them.
"""

from __future__ import annotations

import sys
from enum import StrEnum

EVENT = "harness.step"


class Step(StrEnum):
    """What has just become true."""

    BEGUN = "a record says that experiment is proposing"  # the baseline begins as measuring
    LAB_MADE = "the lab branch is there"
    WORKTREE_MADE = "the agent's worktree is there"
    AGENT_AT_WORK = "an agent has been at work for a moment"
    HARVESTED = "the agent's tree is dead and what it left was read"
    WORKTREE_GONE = "the worktree is gone again"
    CANDIDATE_WRITTEN = "the candidate's commit is there, and no ref names it"
    PROPOSED = "the record names the candidate"
    BRANCHED = "the candidate's branch is there"
    CHECK_GOES_ON = "the task's check has been at work for a moment"
    CHECKED = "the candidate passed the task's check"
    EXPORTED = "the candidate's files are there for a run"
    RUN_STARTED = "the referee is about to be started"
    RUN_GOES_ON = "the referee has been at work for a moment"
    RUN_ENDED = "a measurement is there, in memory"
    MEASURED = "the record holds the measurement"
    JOIN_WRITTEN = "the merge of a stale candidate with the incumbent is there, and no ref names it"
    JOINED = "the record names that merge, which is what is measured next"
    GUARD_GOES_ON = "a guard has been at work for a moment"
    SENT_BACK = "the record says that the agent may mend its change; its branch may still be there"
    CLOSED = "the record holds the verdict"
    MERGE_WRITTEN = "the merge commit is there, and no ref names it"
    MERGED = "the lab branch is at the merge"
    SETTLED = "the candidate's branch is gone"
    OPENED = "a certificate names what is about to be measured on the test split"
    CERTIFICATE_MEASURED = "the certificate holds the measurement"
    CERTIFIED = "the certificate holds its result"
    REVIVED = "the record says that a person wants the branch back"
    DECISION_MADE = "a ref says what a person decided"
    DECIDED = "the record says what a person decided; the branch may still be there"


def reached(step: Step) -> None:
    """Announce a change of state that has just been made."""
    sys.audit(EVENT, step)
