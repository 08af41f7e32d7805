"""Certificates as text for people: every run, and what they say together."""

from __future__ import annotations

from harness.certificates import SIDES, Certificate


def certificate(found: Certificate) -> str:
    """A certificate: what was compared, every run, and what they say together."""
    shown, runs = found.metric.shown, found.measurements
    lines = [f"{found.tag}/{found.id}  {found.metric.name} of autoresearch/{found.tag} against its baseline", ""]
    lines += [f"commits   baseline {found.baseline[:10]}   tip {found.tip[:10]}", f"asked by  {found.by}"]
    lines += [f"times     {found.started} to {found.updated}"]
    lines += [f"sandbox   {found.sandbox}   profile {found.profile}   harness {found.harness}"]
    lines += ["", f"{'seed':<12}{'baseline':>12}{'tip':>12}"]
    for index, seed in enumerate(found.seeds):
        made = [side[index] if index < len(side) else None for side in (runs["baseline"], runs["tip"])]
        cells = ["-" if run is None else shown(run.value) if run.status == "ok" else run.status for run in made]
        lines += [f"{seed:<12}" + "".join(f"{cell:>12}" for cell in cells)]
        lines += [f"            {run.reason}" for run in made if run and run.status != "ok"]
    return "\n".join([*lines, "", sentence(found)])


def sentence(found: Certificate) -> str:
    """What a certificate says, with everything that it takes to believe it."""
    result, shown, count = found.result, found.metric.shown, len(found.seeds)
    sealed = f"each opening of the split makes it a little less sealed: this was opening {found.opening}"
    data = (
        f"sealed test split; {sealed}"
        if found.split == "test"
        else "validation data: the task has no test split, so this is the data by which the night chose, if with fresh seeds"
    )
    if found.state == "open":
        made = sum(map(len, found.measurements.values()))
        return f"not finished: {made} of {2 * count} runs are made; `harness certify --tag {found.tag}` goes on; {data}"
    if result is None:
        return f"nothing can be said: fewer than two runs of a side ended well; {data}"
    what = f"{found.metric.name} {shown(result.baseline)} -> {shown(result.tip)}: "
    what += f"{'worse' if result.gain < 0 else 'better'} by {shown(abs(result.gain))}"
    low, high = (result.low, result.high) if result.gain >= 0 else (-result.high, -result.low)
    within = ", so it may be chance" if low <= 0 else ""
    failed = 2 * count - sum(len(found.values(side)) for side in SIDES)
    seeds = f"{count} seeds each" + (f", {failed} of the runs failed" if failed else "")
    return f"{what}, 95 % interval {shown(low)} to {shown(high)} ({result.method}){within}, {seeds}, {data}"


def certificates(mine: list[Certificate], opened: list[Certificate]) -> str:
    """The certificates of a night and how often the test split was opened for its task; empty when there is nothing to tell."""
    times = "once" if len(opened) == 1 else f"{len(opened)} times"
    parts = [f"sealed test split opened {times}"] if opened else []
    names = ", ".join(each.id + (" (not finished)" if each.state == "open" else "") for each in mine)
    return "; ".join(parts + ([f"certificates: {names}, see `harness show {mine[-1].id}`"] if mine else []))
