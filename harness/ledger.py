"""Records <-> refs/experiments/<tag>/<id>. The repository is the database; whatever else is shown is derived from it.

Each state of a record is a commit whose tree holds `record.json` and what a person wants to read beside it; its first
parent is the state before. The candidate's commit is a parent too, so deleting its branch loses nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime

from harness import git
from harness.models import Experiment, Record, Task, UserError, Verdict

BASELINE = "0000"


class Ledger:
    """The records and branches of one tag in the user's repository."""

    def __init__(self, repo: git.Repo, tag: str) -> None:
        """A view on `tag`; nothing is written."""
        self.repo, self.tag = repo, tag
        self.lab = f"refs/heads/autoresearch/{tag}"

    def ref(self, experiment: str) -> str:
        """The ref that holds a record."""
        return f"refs/experiments/{self.tag}/{experiment}"

    def ids(self) -> list[str]:
        """The ids of all experiments, oldest first."""
        return sorted((ref.rsplit("/", 1)[1] for ref in git.refs(self.repo, self.ref(""))), key=int)

    def get(self, experiment: str) -> Record:
        """One record; ids may be given without their leading zeros."""
        commit = git.resolve(self.repo, self.ref(experiment)) or git.resolve(self.repo, self.ref(experiment.zfill(4)))
        if commit is None:
            raise UserError(f"there is no experiment {experiment} in {self.tag!r}: `harness log --tag {self.tag}` lists them")
        return Record.model_validate_json(self.attachment(commit, "record.json"))

    def records(self) -> list[Record]:
        """All records, oldest first."""
        return [self.get(experiment) for experiment in self.ids()]

    def attachment(self, commit: str, name: str) -> bytes:
        """A file of a record commit; empty when it has none of that name."""
        blob = git.files(self.repo, commit).get(name)
        return git.read(self.repo, blob) if blob else b""

    def save(self, record: Record, **attachments: str) -> Record:
        """Write the next state of a record by compare-and-swap of its ref; attachments of earlier states are kept."""
        record = record.model_copy(update={"updated": now()})
        ref, experiment = self.ref(record.id), record.experiment
        before = git.resolve(self.repo, ref)
        kept = {name: git.read(self.repo, blob) for name, blob in git.files(self.repo, before).items()} if before else {}
        contents = {**kept, **{name.replace("__", "."): text.encode() for name, text in attachments.items() if text}}
        contents["record.json"] = (record.model_dump_json(indent=1) + "\n").encode()
        parents = list(dict.fromkeys(filter(None, (before, experiment.commit or (None if before else experiment.base)))))
        title = record.proposal.title if record.proposal else experiment.agent
        subject = f"{record.id} {record.verdict.status if record.verdict else record.state}: {title}"
        commit = git.commit(self.repo, git.tree_of(self.repo, contents), parents, f"{subject}\n")
        git.swap(self.repo, ref, commit, before)
        return record

    def incumbent(self) -> Record:
        """The record of the lab branch's tip: the last kept experiment, or the baseline."""
        tip = git.resolve(self.repo, self.lab)
        if tip is None:
            raise UserError(f"there is no lab branch autoresearch/{self.tag}: start one with `harness run --tag {self.tag}`")
        baseline = self.get(BASELINE)
        if tip == baseline.experiment.base:
            return baseline
        for record in reversed(self.records()):
            if record.experiment.commit in git.parents(self.repo, tip)[1:]:
                return record
        raise UserError(
            f"autoresearch/{self.tag} was moved by somebody else: its tip {tip[:10]} is not a merge of the harness; "
            f"move your commits to another branch and reset it to the last merge"
        )

    def open_branch(self, record: Record) -> None:
        """Make the experiment's branch; harmless when it is there."""
        branch, commit = record.experiment.branch, record.experiment.commit
        if branch and commit and git.resolve(self.repo, f"refs/heads/{branch}") is None:
            git.swap(self.repo, f"refs/heads/{branch}", commit, None)

    def settle(self, record: Record) -> None:
        """Carry out a verdict: merge when it says keep, and delete the branch either way. Harmless when it was done."""
        experiment, verdict = record.experiment, record.verdict
        tip = git.resolve(self.repo, self.lab)
        kept = verdict and verdict.status == "keep" and experiment.branch
        if verdict and kept and experiment.commit and tip and tip == experiment.base:
            text = merge_message(record, verdict)
            merge = git.commit(self.repo, git.tree(self.repo, experiment.commit), [tip, experiment.commit], text)
            git.swap(self.repo, self.lab, merge, tip)
        if experiment.branch:
            git.delete(self.repo, f"refs/heads/{experiment.branch}")

    def unsettled(self) -> list[Record]:
        """Records that a harness left open, or closed without carrying the verdict out."""
        branches = {ref.removeprefix("refs/heads/") for ref in git.refs(self.repo, f"refs/heads/exp/{self.tag}/")}
        return [record for record in self.records() if record.state != "closed" or record.experiment.branch in branches]


def merge_message(record: Record, verdict: Verdict) -> str:
    """What a reviewer reads in `git log --first-parent`: what was changed, why, and the evidence."""
    proposal = record.proposal
    assert proposal is not None
    runs = [m for m in record.measurements if m.status == "ok"]
    facts = {
        "Experiment": f"{record.experiment.tag}/{record.id}",
        "Agent": author(record)[0],
        "Metric": f"{record.metric.name} {record.metric.shown(record.value)}",
        "Runs": f"{len(runs)} ({record.profile} profile, {record.sandbox} sandbox)",
    }
    trailers = "\n".join(f"{name}: {value}" for name, value in facts.items())
    return f"keep: {proposal.title}\n\n{verdict.reason}.\n\n{proposal.hypothesis}".rstrip() + f"\n\n{trailers}\n"


def author(record: Record) -> tuple[str, str]:
    """Git author of a candidate: the agent's name and version."""
    version = record.proposal.agent_version if record.proposal else ""
    return f"{record.experiment.agent} {version}".strip(), f"{record.experiment.agent}@localhost"


def new_record(experiment: Experiment, task: Task, sandbox: str, harness: str, program: str) -> Record:
    """A record at the start of its life."""
    return Record(
        experiment=experiment,
        state="proposing",
        task=task.name,
        metric=task.metric,
        profile=task.profile,
        sandbox=sandbox,
        harness=harness,
        program=program,
        started=now(),
        updated=now(),
    )


def now() -> str:
    """The time of day in UTC, to the second, as records carry it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
