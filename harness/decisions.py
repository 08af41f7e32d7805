"""What people decided and nobody has carried out yet <-> refs/decisions/<tag>/<id>.

Records belong to whoever holds the tag's lock, so a decision is a ref of its own: it is made at any time, by compare-and-swap,
and taken up by the night that is at work or by the command that made it. The ref goes when the record says the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from harness import git, refs
from harness.models import Decision
from harness.steps import Step, reached

ALL = "refs/decisions/"
FILE = "decisions.json"


@dataclass(frozen=True)
class Pending:
    """The decisions on one experiment, oldest first, and the commit that holds them."""

    experiment: str
    made: list[Decision]
    commit: str


def pending(repo: git.Repo, tag: str) -> dict[str, Pending]:
    """Everything that was decided and is not carried out, by experiment, lowest id first."""
    if not _some(repo, tag):
        return {}
    found = {ref.rsplit("/", 1)[1]: commit for ref, commit in refs.below(repo, f"{ALL}{tag}/").items()}
    return {name: Pending(name, _read(repo, found[name]), found[name]) for name in sorted(found, key=lambda id: (len(id), id))}


def _some(repo: git.Repo, tag: str) -> bool:
    """Whether there may be any: a night asks every second, and to list all refs takes long where there are thousands."""
    loose, packed = git.common(repo) / ALL / tag, git.common(repo) / "packed-refs"
    return loose.is_dir() or (packed.exists() and f" {ALL}{tag}/".encode() in packed.read_bytes())


def decide(repo: git.Repo, tag: str, experiment: str, decision: Decision) -> None:
    """Add a decision; the commits that a forge made for it are kept with it."""
    ref = f"{ALL}{tag}/{experiment}"
    before = refs.resolve(repo, ref)
    made = [*(_read(repo, before) if before else []), decision]
    text = json.dumps([each.model_dump() for each in made], indent=1)
    parents = [*([before] if before else []), *([decision.merged] if decision.merged else [])]
    commit = git.commit(repo, git.tree_of(repo, {FILE: text.encode()}), parents, f"{decision.kind} {tag}/{experiment}\n")
    refs.swap(repo, ref, commit, before)
    reached(Step.DECISION_MADE)


def carried_out(repo: git.Repo, tag: str, done: Pending) -> None:
    """Forget decisions that the record holds now, unless another one was added meanwhile."""
    refs.delete(repo, f"{ALL}{tag}/{done.experiment}", done.commit)


def _read(repo: git.Repo, commit: str) -> list[Decision]:
    return [Decision.model_validate(each) for each in json.loads(git.file(repo, commit, FILE) or b"[]")]
