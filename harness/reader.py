"""Records and the published status of a night -> what it is doing at this moment (live.py).

A reader stands beside the night and never in its way: nothing is written, and what did not change is not read again.
"""

from __future__ import annotations

import math
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal

from harness import git, locks, prompt, refs, view
from harness.ledger import Ledger
from harness.live import Best, Closed, History, Live, Work
from harness.models import Record, UserError
from harness.outline import Outline, Remembered, outline
from harness.spec import moment
from harness.state import Activity, Status, status_of

VERDICTS = 40  # that are told, the latest first
TRIED = 400  # experiments whose values are told, of more every second, third, ...; those that were kept are all told
PACE = 20  # experiments from whose ends the time of one is taken
WORDS = {"propose": "proposing", "check": "checking", "start": "starting", "train": "training", "audit": "auditing"}
WORDS |= {"evaluate": "evaluating", "run": "running", "guard": "checking guard"}
WAITING = {"proposing": "waiting for a worker", "measuring": "waiting for a run slot"}


class Reader:
    """Looks at one night, as often as it is asked."""

    def __init__(self, repo: git.Repo, tag: str) -> None:
        """Nothing is read yet."""
        self.repo, self.ledger = repo, Ledger(repo, tag)
        self._glance = refs.Glance(repo, self.ledger.ref("").rstrip("/"))
        self._history: History | None = None
        self._outlines = Remembered(outline)
        self._known: dict[str, Record] = {}
        self._settled: list[Outline] = []
        self._open: list[Record] = []
        self._summary = ""

    def look(self) -> Live:
        """The night as it is now. Records are read when one of their refs moved."""
        tag = self.ledger.tag
        running, told = locks.held(self.repo, tag), status_of(self.repo, tag)
        history = self._records()
        ended = bool(told and told.ended)
        state: Literal["running", "ended", "killed", "idle"] = "running" if running else "ended" if ended else "killed"
        if not running and told is None:
            state = "idle"
        mine = told if told and not (running and ended) else None  # the next session has said nothing yet
        now = datetime.now(UTC)
        return Live(
            tag=tag,
            running=running,
            state=state,
            since=(mine.began if running else mine.updated) if mine else "",
            reason=told.ended if told and not running else "",
            now=self._under_way(mine.activities if mine else []) if running else [],
            workers=mine.workers if mine else 1,
            slots=mine.slots if mine else 1,
            stop=mine.stop if mine else None,
            usd=mine.usd if mine else None,
            left_s=_left(mine, now) if running and mine else None,
            eta_s=_eta(mine, history) if running and mine else None,
            summary=self._summary,
            history=history,
            told=mine if running else None,
        )

    def _records(self) -> History:
        """What the records say, read again only where a ref may have moved since, and counted only where one did."""
        if self._history is None:
            self._glance.moved()
            self._history = self._told(self.ledger.records())
            self._glance.settle()
        elif self._glance.moved():
            with suppress(KeyError, git.GitError):  # refs are packed at this very moment
                self._history = self._told(self.ledger.follow())
                self._glance.settle()
        return self._history

    def _told(self, records: list[Record]) -> History:
        if not records:
            raise UserError(f"the records of {self.ledger.tag!r} are gone: `harness log` shows what there is")
        night = self._outlines.of(records)
        self._known = {each.id: each.record for each in night}
        self._open = [each.record for each in night if not each.closed]
        settled = [each for each in night if each.closed]
        if self._history and settled == self._settled:
            return self._history
        first, ended = night[0], [each for each in night[1:] if each.ended]
        merged = sorted((each for each in ended if each.merged), key=lambda each: (each.merge, int(each.id)))
        best, counts = merged[-1] if merged else first, Counter(each.status for each in ended)
        found = History(
            task=first.record.task,
            profile=first.record.profile,
            metric=first.record.metric,
            baseline=first.value,
            best=Best(id=best.id, title=prompt.title(best.record), value=best.value, curve=self._curve(best.record)),
            counts=dict(sorted(counts.items())),
            done=len(ended) - counts["void"],
            kept=[(int(each.id), each.value) for each in merged if each.value is not None],
            tried=[(int(each.id), each.value) for each in ended[:: 1 + len(ended) // TRIED] if each.value is not None],
            latest=[_closed(each) for each in ended[: -VERDICTS - 1 : -1]],
            ends=sorted(each.record.updated for each in ended[-PACE:]),
        )
        self._settled, self._summary = settled, view.told(night)
        return found

    def _curve(self, record: Record) -> list[tuple[float, float]]:
        """The curve of a record's first run; empty where its referee knows none."""
        rows = [line.split("\t") for line in self.ledger.text(record, "curve-1.tsv").splitlines()]
        last = float(rows[-1][0]) if rows else 0.0
        curve = [(float(step) / last, float(loss)) for step, loss in rows] if last else []
        return [(share, loss) for share, loss in curve if math.isfinite(loss)]

    def _under_way(self, activities: list[Activity]) -> list[Work]:
        """What is at work, runs first, and then what waits for its turn."""
        busy = [self._work(each) for each in activities]
        waiting = [
            Work(
                experiment=record.id,
                title=_title(record),
                agent=record.experiment.agent,
                phase=WAITING[record.state] if not record.runs else "judging, or waiting to run again",
                run=False,
                elapsed_s=0.0,
            )
            for record in self._open
            if record.id not in {each.experiment for each in busy}
        ]
        return sorted(busy, key=lambda work: (not work.run, work.experiment)) + waiting

    def _work(self, each: Activity) -> Work:
        """An activity in words: "run 2: train" is training, with the second seed. `limited`: nobody knows when it is done."""
        what, _, phase = each.phase.partition(": ")
        word, _, number = what.partition(" ")
        run, named = word == "run" and number.isdigit(), phase if word == "run" and phase else ""
        text = each.phase if not run and phase else WORDS.get(named or word, named or word)
        if run and number != "1":
            text += f", run {number}"
        elif not run and not phase and number:
            text += f" {number}"
        known = self._known.get(each.experiment)
        again = run and known and known.state == "closed"
        return Work(
            experiment=each.experiment,
            title=_title(known) if known and (run or known.state != "closed") else "",
            agent=each.agent,
            phase=f"{text}, as a control" if again else text,
            run=run or phase.startswith("run "),
            limited=not (each.phase.endswith(": train") or (run and not phase)),
            elapsed_s=each.elapsed_s,
            left_s=each.left_s,
            share=each.share,
            loss=each.loss,
            curve=each.curve,
        )


def _title(record: Record) -> str:
    """What an experiment tries; empty as long as nobody knows."""
    return prompt.title(record) if record.proposal else ""


def _closed(each: Outline) -> Closed:
    record = each.record
    assert record.verdict is not None
    return Closed(
        id=each.id,
        agent=record.experiment.agent,
        title=prompt.title(record),
        status=each.status,
        reason=" ".join(record.verdict.reason.split()),
        shown=record.metric.shown(each.value),
        believed=view.believed(record.verdict),
    )


def _left(status: Status, now: datetime) -> float | None:
    """Seconds until the hours of a session are over or its clock time has come."""
    if not status.stop or not status.began:
        return None
    began, stop = datetime.fromisoformat(status.began), status.stop
    ends = [stop.hours * 3600 - (now - began).total_seconds()] if stop.hours else []
    ends += [(moment(stop.at, began) - now).total_seconds()] if stop.at else []
    return max(0.0, min(ends)) if ends else None


def _eta(status: Status, history: History) -> float | None:
    """Seconds that the experiments still to be made will take, at the pace of this session's latest; None before its first."""
    if not status.stop or not status.began:
        return None
    began = datetime.fromisoformat(status.began)
    ends = [end for each in history.ends if (end := datetime.fromisoformat(each)) > began]
    first, count = (ends[0], len(ends) - 1) if len(ends) == PACE else (began, len(ends))
    left = max(0, status.stop.experiments - history.done)
    return left * (ends[-1] - first).total_seconds() / count if count else None
