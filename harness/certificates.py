"""Certificates <-> refs/certificates/<tag>/<number>: every opening of a task's sealed test split, and what it showed.

They are kept apart from the records, so that nothing which is made for agents or decides about experiments can come across
a test score, and so that sharing records does not share these. Each state is a commit, as with records (ledger.py): its tree
holds `certificate.json` and the training logs, its first parent is the state before, and the first state has the two
measured commits as parents.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import ValidationError

from harness import git, refs
from harness.ledger import now
from harness.models import Measurement, Metric, Split, UserError, Value
from harness.steps import Step, reached

ALL = "refs/certificates/"
Side = Literal["baseline", "tip"]
SIDES: tuple[Side, Side] = ("baseline", "tip")


class Result(Value):
    """Means over the runs that count, and the gain with its 95 % interval; positive is better in either direction."""

    baseline: float
    tip: float
    gain: float
    low: float
    high: float
    method: Literal["paired t", "Welch's t"]


class Certificate(Value):
    """One comparison of a lab branch's tip with its baseline. `opening` counts those of the test split, 0 when it stayed shut.

    `by` is who asked. The run of each side with index i had `seeds[i]`.
    """

    version: Literal[1] = 1
    tag: str
    number: int
    state: Literal["open", "closed"] = "open"
    opening: int
    split: Split
    by: str
    task: str
    metric: Metric
    profile: str
    sandbox: str
    harness: str
    baseline: str
    tip: str
    seeds: list[int]
    started: str
    updated: str
    measurements: dict[Side, list[Measurement]] = {"baseline": [], "tip": []}
    result: Result | None = None

    @property
    def id(self) -> str:
        """As `harness show` takes it."""
        return f"c{self.number}"

    def values(self, side: Side) -> dict[int, float]:
        """Seed -> the metric, of the runs that count."""
        return {run.seed: run.value for run in self.measurements[side] if run.status == "ok" and run.value is not None}


class Certificates:
    """The certificates of one tag. Only the holder of the tag's lock saves."""

    def __init__(self, repo: git.Repo, tag: str) -> None:
        """A view on `tag`; nothing is written."""
        self.repo, self.tag = repo, tag

    def ref(self, number: int) -> str:
        """The ref that holds a certificate."""
        return f"{ALL}{self.tag}/{number}"

    def all(self) -> list[Certificate]:
        """All of them, oldest first."""
        found = [read(self.repo, ref) for ref in refs.below(self.repo, f"{ALL}{self.tag}/")]
        return sorted(found, key=lambda certificate: certificate.number)

    def get(self, name: str) -> Certificate:
        """One of them by its id."""
        number = number_of(name)
        if number is None or refs.resolve(self.repo, self.ref(number)) is None:
            raise UserError(
                f"there is no certificate {name} in {self.tag!r}: `harness log --tag {self.tag}` names those there are"
            )
        return read(self.repo, self.ref(number))

    def save(self, certificate: Certificate, step: Step, texts: dict[str, str] | None = None) -> Certificate:
        """Write the next state by compare-and-swap of the certificate's ref; texts of earlier states are kept."""
        certificate = certificate.model_copy(update={"updated": now()})
        ref = self.ref(certificate.number)
        before = None if step == Step.OPENED else refs.resolve(self.repo, ref)
        contents = {name: text.encode() for name, text in (texts or {}).items() if text}
        contents["certificate.json"] = (certificate.model_dump_json(indent=1) + "\n").encode()
        parents = [before] if before else list(dict.fromkeys((certificate.tip, certificate.baseline)))
        count = sum(map(len, certificate.measurements.values()))
        subject = f"{certificate.id} {certificate.state}: {count} of {2 * len(certificate.seeds)} runs"
        commit = git.commit(self.repo, git.tree_of(self.repo, contents, before), parents, f"{subject}\n")
        refs.swap(self.repo, ref, commit, before)
        reached(step)
        return certificate

    def add(self, certificate: Certificate, side: Side, measured: Measurement) -> Certificate:
        """Write a measurement into the certificate, its log and its curve beside it."""
        runs = [*certificate.measurements[side], measured.facts()]
        certificate = certificate.model_copy(update={"measurements": {**certificate.measurements, side: runs}})
        return self.save(certificate, Step.CERTIFICATE_MEASURED, measured.texts(f"{side}-{len(runs)}"))


def number_of(name: str) -> int | None:
    """The number in a certificate's id, such as c2; None when it is the id of something else."""
    return int(name[1:]) if re.fullmatch(r"c[1-9][0-9]{0,5}", name) else None


def read(repo: git.Repo, ref: str) -> Certificate:
    """The certificate that a ref holds now."""
    tip = refs.resolve(repo, ref)
    try:
        return Certificate.model_validate_json(git.file(repo, tip or "", "certificate.json") or b"")
    except (ValidationError, KeyError, ValueError) as error:
        raise UserError(
            f"{ref} holds no certificate that this version of the harness can read: "
            f"it was written by another version, or damaged (`git show {ref}` shows it)"
        ) from error


def openings(repo: git.Repo, task: str, profile: str) -> list[Certificate]:
    """Every certificate of any tag for which the test split of a task's profile was opened."""
    found = [read(repo, ref) for ref in refs.below(repo, ALL)]
    return [each for each in found if each.split == "test" and (each.task, each.profile) == (task, profile)]
