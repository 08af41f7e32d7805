"""The pictures of a night in a terminal: the loss of each run at work against the incumbent's, and the metric so far. Pure."""

from __future__ import annotations

from functools import partial
from itertools import zip_longest

from rich.text import Text

from harness import judge
from harness.cells import fit, plain, rule
from harness.live import History, Live, Work
from harness.plots import Line, Points, Range, bounds, plot

NARROW = 44  # columns that a picture has at least, unless it is the only one
GUTTER = 9  # columns of the figures at its left
SETTLING = 0.08  # of a run: losses begin so high that nothing else could be seen
LARGEST = 1e15
FEWEST = 2  # values that say nothing yet


def panels(live: Live, width: int, height: int, ascii_only: bool = False) -> list[Text]:
    """As many pictures as there is room for beside each other, `height` lines with their titles."""
    curved = [work for work in live.now if work.run and len(_sane(work.curve)) > 1]
    wanted = [partial(_loss, work, live.history) for work in curved]
    wanted += [partial(_night, live.history)] if len(_values(live.history)) > FEWEST else []
    chosen = wanted[: max(1, (width + 2) // (NARROW + 2))]
    if not chosen:
        return []
    each = (width - 2 * (len(chosen) - 1)) // len(chosen)
    drawn = [draw(each, height, ascii_only) for draw in chosen]
    return [_beside(list(row), each) for row in zip_longest(*drawn, fillvalue=Text())]


def _beside(row: list[Text], each: int) -> Text:
    line = Text()
    for part in row:
        line.append("  " if line.plain else "")
        part = fit(part, each)
        line.append_text(part).append(" " * (each - part.cell_len))
    return line


def _loss(work: Work, known: History, width: int, height: int, ascii_only: bool) -> list[Text]:
    """The curve of a run at work, and dotted that of the incumbent's first run."""
    mine, best = _sane(work.curve), _sane(known.best.curve) if known.best.id != work.experiment else []
    title = Text.assemble((f"loss of {plain(work.experiment)}", "cyan"))
    if best:
        title.append(", dotted: ").append(f"incumbent {known.best.id}", "yellow")
    wide = bounds([mine, best], min(SETTLING, mine[-1][0] / 2))
    assert wide is not None
    lines = [Line(best, "yellow", "dotted")] if best else []
    shown = Range(0.0, 1.0, wide.low, wide.high)
    return _picture(title, [*lines, Line(mine, "cyan")], shown, ("start", "end of the run"), width, height, ascii_only)


def _night(known: History, width: int, height: int, ascii_only: bool) -> list[Text]:
    """What was tried, and as steps what the incumbent was."""
    kept = [(0, known.baseline), *known.kept] if known.baseline is not None else list(known.kept)
    last = int(known.latest[0].id) if known.latest else 0
    steps = [point for number, value in kept for point in ((float(number), float(value)),)]
    joined = [point for before, after in zip([steps[0], *steps], steps, strict=False) for point in ((after[0], before[1]), after)]
    joined.append((float(last), steps[-1][1]))
    tried = _sane([(float(number), value) for number, value in known.tried])
    wide = bounds([_near(tried, joined), joined])
    assert wide is not None
    shown = Range(0.0, float(last), wide.low, wide.high)
    title = Text.assemble((f"{plain(known.metric.name)} of each experiment", ""), ", ", ("incumbent", "green"))
    lines = [Line(tried, "dim", "points"), Line(joined, "green")]
    return _picture(title, lines, shown, ("0", judge.count(last, "experiment")), width, height, ascii_only)


def _near(tried: Points, kept: Points) -> Points:
    """The points that are not so bad that beside them nothing else could be told apart."""
    values = sorted(value for _, value in (*tried, *kept))
    spread = values[3 * len(values) // 4] - values[len(values) // 4]
    low, high = values[len(values) // 4] - 3 * spread, values[3 * len(values) // 4] + 3 * spread
    return [point for point in tried if low <= point[1] <= high]


def _values(known: History) -> Points:
    baseline = [(0, known.baseline)] if known.baseline is not None else []
    return _sane([*baseline, *known.kept, *known.tried])


def _sane(points: Points) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if abs(y) < LARGEST]


def _picture(
    title: Text, lines: list[Line], shown: Range, ends: tuple[str, str], width: int, height: int, ascii_only: bool
) -> list[Text]:
    """A plot with a title above it, its range at the left and below."""
    rows, columns = height - 2, width - GUTTER
    text = [rule(title, width)]
    for number, cells in enumerate(plot(lines, shown, columns, rows, ascii_only)):
        share = number / max(1, rows - 1)
        figure = f"{shown.high - share * (shown.high - shown.low):.4g}" if number in (0, rows // 2, rows - 1) else ""
        line = Text.assemble((f"{figure:>{GUTTER - 2}.{GUTTER - 2}} ", "dim"), ("┤" if figure else "│", "dim"))
        for char, style in cells:
            line.append(char, style)
        text.append(line)
    left, right = ends
    space = max(1, columns - len(left) - len(right))
    return [*text, Text(" " * (GUTTER - 1) + f"└{left}{' ' * space}{right}"[: columns + 1], "dim")]
