"""What becomes of a night under different rules: the judge of the harness, upstream's "lower is better", and others between.

    scripts/bench judge [--worlds 100] [--runs 700] [--out docs/benchmarks]

A night is simulated: ideas improve (an exponential gain), change nothing, or harm; a run is the truth plus noise. The same
ideas come in the same order under every rule. A false keep gains less than an eighth of the noise; optimism is how much
better the recorded incumbent looks than it is.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import __version__
from harness.belief import Experience, Incumbent
from harness.judge import BASELINE_RUNS, CONTROL_EVERY, DISCARD, KEEP, LEAST, MOST_RUNS

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
    """What ideas are like, gains and losses in standard deviations of a run."""

    name: str
    better: float = 0.03
    neutral: float = 0.40
    gain: float = 3.0
    loss: float = 5.0

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
)


@dataclass
class Night:
    """A night so far: the truth, what is recorded of it, and counts."""

    world: World
    rng: random.Random
    noise: random.Random
    budget: int
    truth: float = 0.0
    recorded: float = 0.0
    runs: int = 0
    candidates: int = 0
    keeps: int = 0
    false: int = 0

    def run(self, gain: float = 0.0) -> float:
        """One run of the incumbent, or of a candidate that gains so much."""
        self.runs += 1
        return self.truth + gain + self.noise.gauss(0, 1)

    def idea(self) -> float:
        """The next candidate's true gain."""
        self.candidates += 1
        return self.world.idea(self.rng)

    def keep(self, gain: float) -> None:
        """Merge it."""
        self.keeps += 1
        self.false += gain < LEAST
        self.truth += gain


def higher(night: Night, margin: float = 0.0, seeds: int = 1) -> None:
    """Keep what scores better than the record by a margin, over so many seeds."""
    night.recorded = statistics.fmean(night.run() for _ in range(seeds))
    while night.runs < night.budget:
        gain = night.idea()
        score = statistics.fmean(night.run(gain) for _ in range(seeds))
        if score > night.recorded + margin:
            night.keep(gain)
            night.recorded = score


def bayes(night: Night) -> None:
    """The harness's judge, with its own constants."""
    known, learnt = Incumbent.measured([night.run() for _ in range(BASELINE_RUNS)]), Experience()
    while night.runs < night.budget:
        gain, scores = night.idea(), list[float]()
        while True:
            scores.append(night.run(gain))
            found = known.gain(scores, learnt.prior)
            real = found.above(LEAST)
            if not DISCARD <= real <= KEEP or len(scores) >= MOST_RUNS:
                break
            if known.variance > 1 / len(scores):
                known = known.control(night.run())
        learnt = learnt.after(found.observed, found.error)
        kept = real > KEEP
        known = known.after(found, len(scores), kept)
        if kept:
            night.keep(gain)
        if night.candidates % CONTROL_EVERY == 0:
            known = known.control(night.run())
        night.recorded = known.mean


RULES: dict[str, Callable[[Night], None]] = {
    "lower is better (upstream)": higher,
    "two sigma": lambda night: higher(night, margin=2.0),
    "three seeds": lambda night: higher(night, seeds=3),
    "the judge of the harness": bayes,
}


def simulate(rule: Callable[[Night], None], world: World, number: int, runs: int) -> dict[str, float]:
    """One night."""
    night = Night(world, random.Random(number), random.Random(-1 - number), runs)
    rule(night)
    facts = {"candidates": night.candidates, "keeps": night.keeps, "false": night.false}
    return {**facts, "gain": night.truth * SIGMA * 1e3, "optimism": (night.recorded - night.truth) * SIGMA * 1e3}


def measure(worlds: int, runs: int) -> dict[str, Any]:
    """Means over all nights, by world and rule."""
    found: dict[str, Any] = {}
    for world in WORLDS:
        for name, rule in RULES.items():
            nights = [simulate(rule, world, number, runs) for number in range(worlds)]
            means = {key: statistics.fmean(night[key] for night in nights) for key in nights[0]}
            found.setdefault(world.name, {})[name] = means
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
    parser.add_argument("--worlds", type=int, default=100)
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
