"""What becomes of a night under different rules: the judge of the harness, upstream's "lower is better", and others between.

    scripts/bench judge [--worlds 20] [--runs 700] [--out docs/benchmarks]

A night is simulated: ideas improve (an exponential gain), change nothing, or harm; a run is the truth plus noise, which in some
worlds is not as the judge takes it to be. The same ideas come in the same order under every rule; that of the harness is its
own code, over records as a night makes them. A false keep gains less than an eighth of the noise; optimism is how much better
the recorded incumbent looks than it is.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from harness import __version__, judge
from harness.models import Experiment, Measurement, Metric, Proposal, Record, Task, Verdict

SIGMA = 4e-4
PAGE = """\
# The judge

`scripts/bench judge --worlds {worlds} --runs {runs}` on {date}: {worlds} simulated nights of {runs} runs each, noise of a run
{sigma:g}. Gains and optimism in thousandths of the metric.

{tables}
![keeps, true gain and optimism by rule](judge.png)

A false keep gains less than an eighth of the noise. Optimism is how much better the recorded incumbent looks than it is. "Lower
is better" is upstream's rule and ours with `judge: greedy`; "two sigma" asks for a margin of two standard deviations; "three
seeds" runs every candidate three times and keeps a better mean.
"""


@dataclass(frozen=True)
class World:
    """What ideas are like, gains and losses in standard deviations of a run, and how its noise departs from what is assumed.

    `guess`: what the task says of the noise. `tails`: Student's t with three degrees of freedom. `erratic`: the share of ideas
    with three times the noise. `grows`: the noise goes from half to twice. `drift`: how much better everything looks at the end
    than at the beginning. `common`: the share of the variance that is the seed's. `first`: by how much its first run misses.
    """

    name: str
    better: float = 0.03
    neutral: float = 0.40
    gain: float = 3.0
    loss: float = 5.0
    guess: float = 1.0
    tails: bool = False
    erratic: float = 0.0
    grows: bool = False
    drift: float = 0.0
    common: float = 0.0
    first: float = 0.0

    def idea(self, rng: random.Random) -> float:
        """The true gain of the next idea."""
        side, up, down = rng.random(), rng.expovariate(1 / self.gain), rng.expovariate(1 / self.loss)
        return up if side < self.better else 0.0 if side < self.better + self.neutral else -down


WORLDS = (
    World("3 % of ideas improve"),
    World("none improves", better=0.0),
    World("1 % improve", better=0.01),
    World("10 % improve", better=0.10),
    World("gains half as large", gain=1.5),
    World("heavy tails", tails=True),
    World("one idea in five is erratic", erratic=0.2),
    World("the noise is guessed at a fifth", guess=0.2),
    World("the noise grows fourfold in the night", grows=True),
    World("the machine drifts to better by two sigma", drift=2.0),
    World("the machine drifts to worse by two sigma", drift=-2.0),
    World("seeds have four fifths in common", common=0.8),
    World("the baseline's first run is unlucky", first=-2.5),
)


@dataclass
class Night:
    """A night so far: the truth, what is recorded of it, and counts."""

    world: World
    rng: random.Random
    noise: random.Random
    budget: int
    number: int
    spread: float = 1.0
    truth: float = 0.0
    recorded: float = 0.0
    runs: int = 0
    candidates: int = 0
    keeps: int = 0
    false: int = 0

    def run(self, gain: float | None = None, seed: int = 1) -> float:
        """One run of the incumbent, or of a candidate that gains so much."""
        world, dice, way = self.world, self.noise, self.runs / self.budget
        self.runs += 1
        own = dice.gauss(0, 1) * (1.0 if gain is None else self.spread) * (0.5 + 1.5 * way if world.grows else 1.0)
        if world.tails:
            own /= math.sqrt(dice.gammavariate(1.5, 2))  # a chi-square with three degrees of freedom, to a variance of one
        shared = random.Random(self.number * 1000 + seed).gauss(0, 1)
        found = math.sqrt(1 - world.common) * own + math.sqrt(world.common) * shared + world.drift * way
        return self.truth + (gain or 0.0) + (world.first if self.runs == 1 and world.first else found)

    def idea(self) -> float:
        """The next candidate's true gain."""
        self.candidates += 1
        self.spread = 3.0 if self.world.erratic and self.noise.random() < self.world.erratic else 1.0
        return self.world.idea(self.rng)

    def keep(self, gain: float) -> None:
        """Merge it."""
        self.keeps += 1
        self.false += gain < judge.LEAST
        self.truth += gain


def higher(night: Night, margin: float = 0.0, seeds: int = 1) -> None:
    """Keep what scores better than the record by a margin, over so many seeds."""
    night.recorded = statistics.fmean(night.run(seed=seed) for seed in range(1, seeds + 1))
    while night.runs < night.budget:
        gain = night.idea()
        score = statistics.fmean(night.run(gain, seed) for seed in range(1, seeds + 1))
        if score > night.recorded + margin:
            night.keep(gain)
            night.recorded = score


def bayes(night: Night) -> None:
    """The harness's judge, over records as a night makes them."""
    task = Task(name="t", program="p", editable=["f"], metric=Metric(name="m", direction="maximize", noise=night.world.guess))
    records, best, tip = [record(0, "start")], 0, "start"
    run(night, records, 0)
    records[0] = records[0].model_copy(update={"verdict": judge.judge_baseline(task, records[0])})
    while night.runs < night.budget:
        gain, new = night.idea(), len(records)
        records.append(record(new, tip))
        run(night, records, new, gain)
        while not isinstance(said := decide(task, records, best, tip), Verdict):
            run(night, records, best) if said == "control" else run(night, records, new, gain)
        records[new] = records[new].model_copy(update={"verdict": said})
        if said.status == "keep":
            night.keep(gain)
            best, tip = new, f"merge {new}"
        while judge.control_due(task, records[best], tip, records):
            run(night, records, best)
    night.recorded = (records[best].value or 0.0) - night.world.drift


def record(number: int, ground: str) -> Record:
    """An experiment that was not run yet."""
    experiment = Experiment(id=f"{number:04d}", tag="t", agent="a", base=ground)
    proposal = Proposal(title="") if number else None
    return Record.model_construct(experiment=experiment, measurements=[], proposal=proposal)


def run(night: Night, records: list[Record], number: int, gain: float | None = None) -> None:
    """One more run of an experiment, with its next seed."""
    of = records[number]
    seed = judge.seed(len(of.measurements))
    value = night.run(gain, seed)
    of.measurements.append(Measurement(status="ok", value=value, seed=seed))
    if of.verdict:
        records[number] = of.model_copy(update={"verdict": judge.refined(of.verdict, value)})


def decide(task: Task, records: list[Record], best: int, tip: str) -> judge.Next:
    """What the judge says of the last experiment."""
    known = judge.standing(task, records[best], tip, records)
    return judge.judge(task, known, records[best], records[0], records[-1])


RULES: dict[str, Callable[[Night], None]] = {
    "lower is better (upstream)": higher,
    "two sigma": lambda night: higher(night, margin=2.0),
    "three seeds": lambda night: higher(night, seeds=3),
    "the judge of the harness": bayes,
}


def simulate(world: World, rule: str, number: int, runs: int) -> dict[str, float]:
    """One night."""
    night = Night(world, random.Random(number), random.Random(-1 - number), runs, number)
    RULES[rule](night)
    facts = {"candidates": night.candidates, "keeps": night.keeps, "false": night.false}
    return {**facts, "gain": night.truth * SIGMA * 1e3, "optimism": (night.recorded - night.truth) * SIGMA * 1e3}


def measure(worlds: int, runs: int) -> dict[str, Any]:
    """Means over all nights, by world and rule."""
    pairs = list(product(WORLDS, RULES))
    with ProcessPoolExecutor() as pool:
        asked = [[pool.submit(simulate, world, rule, number, runs) for number in range(worlds)] for world, rule in pairs]
        nights = [[each.result() for each in several] for several in asked]
    found: dict[str, Any] = {}
    for (world, rule), several in zip(pairs, nights, strict=True):
        means = {key: statistics.fmean(night[key] for night in several) for key in several[0]}
        found.setdefault(world.name, {})[rule] = means
    facts = {"harness": __version__, "python": platform.python_version(), "date": time.strftime("%Y-%m-%d"), "sigma": SIGMA}
    return {**facts, "worlds": worlds, "runs": runs, "ideas": [asdict(world) for world in WORLDS], "results": found}


def page(found: dict[str, Any]) -> str:
    """The figures for people."""
    tables = []
    for world, rules in found["results"].items():
        rows = [f"### {world}\n", "| rule | candidates | keeps | false keeps | true gain | optimism |"]
        rows.append("| --- | ---: | ---: | ---: | ---: | ---: |")
        for rule, mean in rules.items():
            share = f"{100 * mean['false'] / mean['keeps']:.1f} %" if mean["keeps"] else "-"
            cells = [f"{mean['candidates']:.0f}", f"{mean['keeps']:.1f}", share, f"{mean['gain']:.2f}", f"{mean['optimism']:.2f}"]
            rows.append(f"| {rule} | {' | '.join(cells)} |")
        tables.append("\n".join(rows) + "\n")
    return PAGE.format_map({**found, "tables": "\n".join(tables)})


def draw(found: dict[str, Any], path: Path) -> None:
    """Three small bar charts of the first world."""
    from matplotlib.figure import Figure

    rules = found["results"][WORLDS[0].name]
    figure = Figure(figsize=(10, 2.6), layout="constrained")
    panels = {
        "false keeps, %": [100 * mean["false"] / max(mean["keeps"], 1e-9) for mean in rules.values()],
        "true gain, thousandths": [mean["gain"] for mean in rules.values()],
        "optimism, thousandths": [mean["optimism"] for mean in rules.values()],
    }
    for axes, (title, values) in zip(figure.subplots(1, 3, sharey=True), panels.items(), strict=True):
        bars = axes.barh(list(rules), values, color=["#b0b0b0"] * (len(rules) - 1) + ["#2a7f62"])
        axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
        axes.set_title(title, fontsize=10)
        axes.margins(x=0.2)
        axes.spines[["top", "right"]].set_visible(False)
        axes.invert_yaxis() if axes is figure.axes[0] else None
    figure.savefig(path, dpi=120)


def main() -> None:
    """Simulate and write the table, the figures and the picture."""
    parser = argparse.ArgumentParser(description="Simulate nights under different rules.")
    parser.add_argument("--worlds", type=int, default=20)
    parser.add_argument("--runs", type=int, default=700)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    args = parser.parse_args()
    found = measure(args.worlds, args.runs)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "judge.json").write_text(json.dumps(found, indent=1) + "\n")
    (args.out / "judge.md").write_text(page(found))
    draw(found, args.out / "judge.png")
    print(page(found))


if __name__ == "__main__":
    main()
