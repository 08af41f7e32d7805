"""Records <-> refs/experiments/<tag>/<id>. The repository is the database; whatever else is shown is derived from it.

Each state of a record is a commit whose tree holds `record.json` and the long texts beside it; its first parent is the state
before. The candidate's commit is a parent too, so deleting its branch loses nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

from pydantic import ValidationError

from harness import git, refs
from harness.messages import merge_message
from harness.models import Record, UserError
from harness.steps import Step, reached
from harness.stint import extended
from harness.tally import Tally

BASELINE = "0000"


class Ledger:
    """The records and branches of one tag. Records are read once: only the holder of the tag's lock writes them."""

    def __init__(self, repo: git.Repo, tag: str, began: str = "") -> None:
        """A view on `tag`; nothing is written. `began`: when the harness was opened that will; nothing for who only decides."""
        self.repo, self.tag, self.began = repo, tag, began
        self.lab = f"refs/heads/autoresearch/{tag}"
        self._records: dict[str, Record] | None = None
        self._tips: dict[str, str] = {}
        self._tally: Tally | None = None

    def ref(self, experiment: str) -> str:
        """The ref that holds a record."""
        return f"refs/experiments/{self.tag}/{experiment}"

    def records(self) -> list[Record]:
        """All records, oldest first."""
        if self._records is None:
            with _no_collection():
                self.follow()
        return list((self._records or {}).values())

    def follow(self) -> list[Record]:
        """All records as they are now, for who only watches: those that another process moved since are read anew."""
        found = {ref.rsplit("/", 1)[1]: tip for ref, tip in refs.below(self.repo, self.ref("")).items()}
        if self._records is None or len(found) != len(self._records) or found != self._tips:
            tips = {name: found[name] for name in sorted(filter(str.isdigit, found), key=int)}
            known = {name: each for name, each in (self._records or {}).items() if tips.get(name) == self._tips.get(name)}
            self._records = {name: known.get(name) or self._read(name, tip) for name, tip in tips.items()}
            self._tips, self._tally = tips, None
        return list(self._records.values())

    @property
    def tally(self) -> Tally:
        """What is counted of all records, as they are now."""
        if self._tally is None:
            self._tally = Tally(partial(git.tree, self.repo), BASELINE)
            for record in self.records():
                self._tally.put(record)
        return self._tally

    def get(self, experiment: str) -> Record:
        """One record; ids may be given without their leading zeros."""
        name = experiment if experiment in self._tips else experiment.zfill(4)
        if self._records is not None and name in self._records:
            return self._records[name]
        if (tip := refs.resolve(self.repo, self.ref(name))) is None:
            raise UserError(f"there is no experiment {experiment} in {self.tag!r}: `harness log --tag {self.tag}` lists them")
        self._tips[name] = tip
        return self._read(name, tip)

    def state(self, experiment: str) -> str:
        """The commit of a record as it was read or written last."""
        return self._tips[experiment]

    def _read(self, experiment: str, tip: str) -> Record:
        try:
            return Record.model_validate_json(git.file(self.repo, tip, "record.json") or b"")
        except (ValidationError, KeyError, git.GitError) as error:
            raise UserError(
                f"{self.ref(experiment)} holds no record that this version of the harness can read: "
                f"it was written by another version, or damaged (`git show {self.ref(experiment)}` shows it)"
            ) from error

    def text(self, record: Record, name: str) -> str:
        """A text beside a record: prompt.md, transcript.txt, train-1.log, curve-1.tsv, ...; empty if there is none."""
        return (git.file(self.repo, self._tips[record.id], name) or b"").decode("utf-8", "replace")

    def save(self, record: Record, step: Step, texts: dict[str, str] | None = None) -> Record:
        """Write the next state of a record by compare-and-swap of its ref; texts of earlier states are kept."""
        merge = sum(known.merged for known in self.records()) if record.merged and record.merge is None else record.merge
        experiment, before, time = record.experiment, self._tips.get(record.id), now()
        record = record.model_copy(update={"updated": time, "merge": merge, "stints": extended(record.stints, self.began, time)})
        contents = {name: text.encode() for name, text in (texts or {}).items() if text}
        contents["record.json"] = (record.model_dump_json(indent=1) + "\n").encode()
        named = record.judged or experiment.base if step in (Step.BEGUN, Step.PROPOSED, Step.JOINED) else None
        waiting = [each.commit for each in record.variants] if step is Step.PROPOSED else []  # no other ref names these
        parents = [parent for parent in (before, named, *waiting) if parent]
        title = record.proposal.title if record.proposal else experiment.agent
        subject = f"{record.id} {record.verdict.status if record.verdict else record.state}: {title}"
        commit = git.commit(self.repo, git.tree_of(self.repo, contents, before), parents, f"{subject}\n")
        refs.swap(self.repo, self.ref(record.id), commit, before)
        self._tips[record.id] = commit
        if self._records is not None:
            self._records[record.id] = record
        if self._tally is not None:
            self._tally.put(record)
        reached(step)
        return record

    def tip(self) -> str:
        """The commit of the lab branch."""
        if (tip := refs.resolve(self.repo, self.lab)) is None:
            raise UserError(f"there is no lab branch autoresearch/{self.tag}: start one with `harness run --tag {self.tag}`")
        return tip

    def incumbent(self, commit: str | None = None) -> Record:
        """Whose measurement the lab branch's tip has, or an earlier commit of it, or a winner in review; else the baseline's."""
        commit = commit or self.tip()
        baseline = self.get(BASELINE)
        if commit == baseline.experiment.base:
            return baseline
        tree, (first, *merged) = git.tree(self.repo, commit), git.parents(self.repo, commit) or [""]
        for record in reversed(self.records()):
            if record.review and record.judged == commit:  # a winner that waits, and that the search went on from
                return record
            if record.review and record.merged and self.tree(record) == tree:  # a forge's commit may have other parents
                return record
        if merged and tree == git.tree(self.repo, first):  # it only took in what was merged elsewhere
            return self.incumbent(first)
        for record in reversed(self.records()):
            if record.experiment.commit in merged:
                return record
        raise self._moved(commit)

    def tree(self, record: Record) -> str | None:
        """The tree that a record's verdict is about."""
        return git.tree(self.repo, record.experiment.joined) if record.experiment.joined else record.experiment.tree

    def open_branch(self, record: Record) -> None:
        """Make the experiment's branch; harmless when it is there."""
        branch, commit = record.experiment.branch, record.experiment.commit
        if branch and commit and refs.resolve(self.repo, f"refs/heads/{branch}") is None:
            refs.swap(self.repo, f"refs/heads/{branch}", commit, None)
            reached(Step.BRANCHED)

    def settle(self, record: Record) -> None:
        """Delete the branch of a closed experiment, after all else: while it is there, a start carries the verdict out again.

        What waits for a person keeps its branch; what one accepted is merged in review.py.
        """
        if record.status == "waiting":
            return self.open_branch(record)
        if record.experiment.branch and not record.revived:
            refs.delete(self.repo, f"refs/heads/{record.experiment.branch}")
        reached(Step.SETTLED)

    def merge(self, record: Record) -> None:
        """Move the lab branch to a merge whose tree is the measured tree, when the verdict says keep and that is not done yet."""
        verdict = record.verdict
        if verdict is None or verdict.status != "keep" or not record.experiment.branch or record.review:
            return
        commit, judged, tip = record.experiment.commit, record.judged, refs.resolve(self.repo, self.lab)
        assert commit is not None
        assert judged is not None
        assert record.values, f"{record.id} would be merged, and nothing measured {judged}"
        if tip is None:
            raise self._moved(tip)
        if self._is_merged(commit, record.ground, tip):
            return
        if tip != record.ground and git.tree(self.repo, tip) != git.tree(self.repo, record.ground):
            raise self._moved(tip)
        if refs.checked_out(self.repo, self.lab):
            raise checked_out(self.tag)
        merge = git.commit(self.repo, git.tree(self.repo, judged), [tip, commit], merge_message(record, verdict))
        reached(Step.MERGE_WRITTEN)
        refs.swap(self.repo, self.lab, merge, tip)
        reached(Step.MERGED)

    def _is_merged(self, commit: str, base: str, tip: str) -> bool:
        """Whether a merge of `commit` lies on the first-parent line from `tip` down to `base`."""
        while tip != base:
            first, *others = git.parents(self.repo, tip) or [base]
            if commit in others:
                return True
            tip = first
        return False

    def _moved(self, tip: str | None) -> UserError:
        """The sentence for a lab branch that a person moved, with the commands that put it back."""
        lab, ours = f"autoresearch/{self.tag}", tip
        commits = {record.experiment.commit for record in self.records()}
        while ours and not commits & {ours, *git.parents(self.repo, ours)[1:]}:
            ours = next(iter(git.parents(self.repo, ours)), None)
        how = f"`git branch mine {lab} && git branch -f {lab} {ours[:10]}`" if ours else f"with the help of `git reflog {lab}`"
        return UserError(
            f"{lab} was moved by somebody else: its tip {tip[:10] if tip else 'is gone and'} is not the harness's; "
            f"put it back, {how}, then run `harness resume --tag {self.tag}`"
        )

    def revive(self, record: Record) -> str:
        """Make the branch of a closed experiment again and say in its record that it is to stay; the branch's name."""
        experiment = record.experiment
        if record.state != "closed" or not experiment.branch:
            why = "is still open" if record.state != "closed" else "changed nothing"
            raise UserError(f"experiment {record.id} {why}: `harness show {record.id} --tag {self.tag}` says more")
        if not record.revived:
            if any(each.id == record.id for each in self.unsettled()):  # with its branch it would lose its merge
                raise UserError(f"experiment {record.id} is not finished: `harness resume --tag {self.tag}` does that")
            self.save(record.model_copy(update={"revived": True}), Step.REVIVED)
        self.open_branch(record)
        return experiment.branch

    def unsettled(self) -> list[Record]:
        """Records that a harness left open, or closed without carrying the verdict out."""
        branches = {ref.removeprefix("refs/heads/") for ref in refs.below(self.repo, f"refs/heads/exp/{self.tag}/")}
        records = [record for record in self.records() if not record.revived and record.status != "waiting"]
        return [record for record in records if record.state != "closed" or record.experiment.branch in branches]


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without Python's cyclic collector, which takes half the time of reading ten thousand records and finds nothing in them."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


def checked_out(tag: str) -> UserError:
    """The lab branch is in somebody's work tree, where moving it would look like changes of theirs."""
    return UserError(
        f"autoresearch/{tag} is checked out: switch to another branch (`git switch -`), the harness moves this one; "
        f"to look at it, use `git switch --detach autoresearch/{tag}`"
    )


def now() -> str:
    """In UTC, to the second, as records carry it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
