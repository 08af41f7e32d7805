"""An agent without a language model: Optuna's TPE over the constants that a file declares (see constants.py).

    python -m harness.agents.tuner train.py --seed 1

At first each constant is changed alone, one a proposal; then TPE (Bergstra et al. 2011) proposes new values for a few
of them, from what all experiments measured, and the others stay as the incumbent has them.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.agents.constants import Constant, Value, declared, edited, literals
from harness.agents.scripted import LAB, history, write_notes

TOGETHER = 3  # constants that one TPE proposal changes at most: beyond it a reader cannot tell what helped
ASKS = 30  # TPE is asked this often for something new, and chance after it
CHANCES = 1000


@dataclass(frozen=True)
class Tried:
    """An earlier experiment: the values that its file gave to constants, and what came of it."""

    id: str
    values: dict[str, Value]
    status: str
    metric: float | None
    code: str


def code_of(data: bytes) -> str:
    """What a file means, whatever its comments and spellings: two files of one code are the same experiment."""
    return ast.dump(ast.parse(data))


def remembered(rows: list[dict[str, str]], file: str, lab: Path = LAB) -> list[Tried]:
    """The experiments whose file is known and parses; void ones tell nothing, not even that they were tried."""
    found = []
    for row in rows:
        path = lab / "experiments" / row["id"] / "files" / file
        if row["status"] == "void" or not path.is_file():
            continue
        data = path.read_bytes()
        try:
            values = {name: value for name, (value, _) in literals(data).items()}
            metric = None if row["metric"] in ("", "-") else float(row["metric"])
            found.append(Tried(row["id"], values, row["status"], metric, code_of(data)))
        except (SyntaxError, ValueError):
            continue  # it did not parse: no file of ours can equal it
    return found


def unseen(rows: list[dict[str, str]], file: str, lab: Path = LAB) -> int:
    """How many experiments are being proposed at this moment, by others of us perhaps, and have no file to look at yet."""
    return sum(row["status"] == "open" and not (lab / "experiments" / row["id"] / "files" / file).exists() for row in rows)


class Tuner:
    """Proposes changes of one file's constants, from what earlier experiments made of them.

    `unseen` others begin at the same time: this one leaves the first steps to them, and has dice of its own for the rest.
    """

    def __init__(
        self,
        data: bytes,
        past: list[Tried],
        direction: Literal["minimize", "maximize"],
        seed: int,
        profile: str = "default",
        unseen: int = 0,
    ) -> None:
        self.data, self.past, self.direction = data, past, direction
        self.constants = declared(data, profile)
        self.current = {constant.name: constant.value for constant in self.constants}
        self.codes = {code_of(data), *(tried.code for tried in past)}
        self.unseen = unseen
        self.seed = seed * 100_003 + len(past)  # a night has one seed, its experiments must not share their dice
        self.rng = random.Random(self.seed)

    def propose(self) -> tuple[dict[str, Value], str] | None:
        """New values for some constants and the reason, or None when everything within the ranges was tried."""
        return self._alone() or self._model() or self._chance()

    def _new(self, changes: dict[str, Value]) -> bool:
        return code_of(edited(self.data, self.constants, changes)) not in self.codes

    def _alone(self) -> tuple[dict[str, Value], str] | None:
        """One step of the first constant that has had only one value so far; every second constant first goes down.

        Those with a log range come first: where not even the magnitude is known, there is most to gain.
        """
        left = self.unseen
        for index, constant in enumerate(sorted(self.constants, key=lambda constant: not constant.log)):
            values = [tried.values[constant.name] for tried in self.past if constant.name in tried.values]
            seen = {repr(value) for value in (constant.value, *values)}
            for up in (index % 2 == 0, index % 2 != 0):
                changes = {constant.name: constant.neighbour(up)}
                if len(seen) == 1 and self._new(changes):
                    if not left:
                        return changes, f"{constant.name} has not been varied yet; this changes it alone."
                    left -= 1
                    break
        return None

    def _model(self) -> tuple[dict[str, Value], str] | None:
        """A few constants at once where TPE expects an improvement; the others stay as the incumbent has them."""
        import optuna  # half a second that only this stage needs

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        # What is measured at this moment counts as a failure until it is known, or all would go to the same place.
        sampler = optuna.samplers.TPESampler(seed=self.seed % 2**32, n_startup_trials=1, constant_liar=True)
        study = optuna.create_study(sampler=sampler, direction=self.direction)
        for tried in self.past:
            self._tell(study, tried)
        measured = len(study.get_trials(states=[optuna.trial.TrialState.COMPLETE]))
        for _ in range(ASKS if measured > 1 else 0):
            count = min(self.rng.randint(1, TOGETHER), len(self.constants))
            chosen = self.rng.sample(self.constants, count)
            trial = study.ask({constant.name: _distribution(constant) for constant in chosen})
            changes = {constant.name: _value(constant, trial.params[constant.name]) for constant in chosen}
            if self._new(changes):
                return changes, f"TPE expects the most of these values after {measured} measured experiments."
        return None

    def _tell(self, study: Any, tried: Tried) -> None:
        """Add an experiment to the study as far as its values lie within today's ranges; a failure counts as worst of all."""
        from optuna.trial import TrialState, create_trial

        states = {
            "crash": TrialState.PRUNED,
            "invalid": TrialState.PRUNED,
            "discard": TrialState.PRUNED,
            "open": TrialState.RUNNING,
        }
        state = states.get(tried.status) if tried.metric is None else TrialState.COMPLETE
        usable = [constant for constant in self.constants if constant.allows(tried.values.get(constant.name))]
        if state is None or not usable:
            return
        distributions = {constant.name: _distribution(constant) for constant in usable}
        params = {constant.name: _suggestion(constant, tried.values[constant.name]) for constant in usable}
        study.add_trial(create_trial(state=state, value=tried.metric, params=params, distributions=distributions))

    def _chance(self) -> tuple[dict[str, Value], str] | None:
        for _ in range(CHANCES):
            constant = self.rng.choice(self.constants)
            changes = {constant.name: constant.anywhere(self.rng)}
            if self._new(changes):
                return changes, "What the model would choose was tried already; this is a step by chance."
        return None


def _distribution(constant: Constant) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if constant.choices:
        return CategoricalDistribution([repr(choice) for choice in constant.choices])
    if constant.whole:
        return IntDistribution(int(constant.low), int(constant.high), log=constant.log, step=int(constant.step or 1))
    return FloatDistribution(constant.low, constant.high, log=constant.log, step=constant.step)


def _suggestion(constant: Constant, value: Any) -> Any:
    """A value as Optuna knows it: choices by their spelling, because it takes no tuples, and takes True for 1."""
    return repr(constant.choices[constant.choices.index(value)]) if constant.choices else constant.tidy(value)


def _value(constant: Constant, suggested: Any) -> Value:
    if constant.choices:
        return constant.choices[[repr(choice) for choice in constant.choices].index(suggested)]
    return constant.tidy(float(suggested))


def notes(tuner: Tuner, changes: dict[str, Value], reason: str, metric: str) -> str:
    """Title, hypothesis and what the best of the earlier experiments had, for the experiment's record."""
    changed = [constant for constant in tuner.constants if changes.get(constant.name, constant.value) != constant.value]
    title = ", ".join(f"{constant.name} {constant.value!r} -> {changes[constant.name]!r}" for constant in changed)
    about = [f"{constant.name}: {constant.about}." for constant in changed if constant.about]
    measured = [(tried.metric, tried.id) for tried in tuner.past if tried.metric is not None]
    lines = [title, "", f"Hypothesis: {reason}", *about]
    if measured:
        best = min(measured) if tuner.direction == "minimize" else max(measured)
        lines.append(f"The best {metric} so far is {best[0]:g}, of experiment {best[1]}.")
    return "\n".join(lines)


def main() -> None:
    """Change FILE in place and write the notes; exit 1 with a sentence when FILE gives nothing to tune."""
    parser = argparse.ArgumentParser(prog="tuner", description="Propose new values for the constants that FILE declares.")
    parser.add_argument("file")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    try:
        data = Path(args.file).read_bytes()
        task = json.loads((LAB / "task.json").read_text(encoding="utf-8"))
        rows = history()
        past = remembered(rows, args.file)
    except OSError as error:
        sys.exit(f"tuner cannot read {error.filename}: {error.strerror}")
    try:
        tuner = Tuner(data, past, task["metric"]["direction"], args.seed, task["profile"], unseen(rows, args.file))
    except (SyntaxError, ValueError) as error:
        sys.exit(f"tuner cannot tune {args.file}, which is not Python: {error}")
    if not tuner.constants:
        sys.exit(f"{args.file} declares no tunable constant, such as `RATE = 0.02  # tune: 0.005..0.08 log`")
    if (proposal := tuner.propose()) is None:
        print(f"everything within the ranges of {args.file} was tried")
        return
    write_notes(notes(tuner, *proposal, task["metric"]["name"]))
    Path(args.file).write_bytes(edited(data, tuner.constants, proposal[0]))


if __name__ == "__main__":
    main()
