"""progress.png: every experiment of a night as a dot, in the manner of karpathy/autoresearch's analysis notebook.

To try it: `plot(Ledger(repo, tag).records(), Path("progress.png"))`. `prepare` and `place` are pure and decide what is
seen where; only `plot` and what it calls knows matplotlib, which is imported there because that takes a second.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import prompt
from harness.ledger import BASELINE
from harness.models import Metric, Record, UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ft2font import FT2Font

SIZE_IN, DPI = (14.0, 7.0), 150
SUFFIXES = (".png", ".svg", ".pdf")
FONT = "DejaVu Sans"  # comes with matplotlib, so a picture is the same on every machine
TITLE_CHARS, LABEL_PT, LABEL_DEGREES, GAP_PT, DOT_PT, MARGINS_PT = 45, 9.0, 30.0, 7.0, 2.0, 80.0
GREEN, DARK, INK, GREY, RED, AMBER = "#2ecc71", "#14532d", "#222222", "#b4b8bd", "#c0392b", "#e0a100"


@dataclass(frozen=True)
class Kept:
    """A merged experiment, or the baseline: `gain` is over the one before, `sigma` the noise of one run then."""

    number: int
    value: float
    gain: float
    sigma: float
    title: str


@dataclass(frozen=True)
class Picture:
    """What is to be drawn. `kept` has the baseline, then the merges in order; values outside `view` (low, high) are counted.

    `waiting` are kept and for a person to merge or not; what one rejected is among the discarded.
    """

    heading: str
    metric: Metric
    kept: list[Kept]
    discarded: list[tuple[int, float]]
    waiting: list[tuple[int, float]]
    out_of_view: int
    failed: list[int]
    void: int
    last: int
    view: tuple[float, float]

    def since(self) -> list[int]:
        """From which experiment on each of the kept ones was the best: it may have been merged after later ones had begun."""
        return list(accumulate((point.number for point in self.kept), max))


def plot(records: list[Record], path: Path, merged: list[str] | None = None) -> None:
    """Draw the night to a .png, .svg or .pdf file; 2100 x 1050 pixels. `merged` as for `prepare`."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path} cannot be drawn: give it a name that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    figure = _draw(prepare(records, merged))
    try:
        figure.savefig(path, dpi=DPI, format=path.suffix.lower()[1:])
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"{path} cannot be written ({why}): name a file in a folder that exists and is yours") from error


def prepare(records: list[Record], merged: list[str] | None = None) -> Picture:
    """Records -> what is to be drawn; experiments without a verdict are left out.

    `merged`: the kept ones in the order of their merges, which is not that of their numbers where several were under way.
    """
    baseline = next((record for record in records if record.id == BASELINE), None)
    if baseline is None or (first := _value(baseline)) is None:
        raise UserError("there is nothing to draw yet: the baseline has no value; `harness status` tells what is going on")
    metric, ended = baseline.metric, [(r, r.verdict) for r in records if r.verdict and r.id != BASELINE]
    order = {name: place for place, name in enumerate(merged or [])}
    ended.sort(key=lambda item: order.get(item[0].id, len(order)) if item[0].merged else -1)
    kept = [Kept(0, first, 0.0, _spread(baseline), "baseline")]
    discarded, waiting, failed = list[tuple[int, float]](), list[tuple[int, float]](), list[int]()
    for record, verdict in ended:
        number, value = int(record.id), _value(record)
        if record.merged and value is not None:
            gain = metric.gain(kept[-1].value, value)
            kept.append(Kept(number, value, gain, _spread(record) or kept[-1].sigma, prompt.title(record)))
        elif verdict.status in ("keep", "discard") and value is not None:
            (waiting if record.status == "waiting" else discarded).append((number, value))
        elif verdict.status != "void":
            failed.append(number)
    count, last = len(ended), max(1, *(int(record.id) for record in records))
    heading = f"{baseline.task}: {count} experiment{'s' * (count != 1)}, {len(kept) - 1} kept"
    heading += f", {len(waiting)} waiting for review" if waiting else ""
    void = sum(verdict.status == "void" for _, verdict in ended)
    low, high = _view(metric, kept, [value for _, value in (*discarded, *waiting)])
    seen = [(number, value) for number, value in discarded if low <= value <= high]
    return Picture(heading, metric, kept, seen, waiting, len(discarded) - len(seen), failed, void, last, (low, high))


def place(points: list[tuple[float, float]], widths: list[float], size: tuple[float, float]) -> dict[int, int]:
    """Which labels fit into a picture of `size`: index -> 1 when to the upper right of its point, -1 to the lower left.

    Lengths are points (1/72 inch), the most important label comes first. Labels rise by LABEL_DEGREES, so they are
    upright rectangles (left, bottom, right, top) in a frame that is turned by as much.
    """
    cosine, sine = (part(math.radians(LABEL_DEGREES)) for part in (math.cos, math.sin))
    half, placed = 0.65 * LABEL_PT, dict[int, int]()
    turned = [(x * cosine + y * sine, y * cosine - x * sine) for x, y in points]
    taken = [(u - DOT_PT, v - DOT_PT, u + DOT_PT, v + DOT_PT) for u, v in turned]
    for index, ((x, y), (u, v), width) in enumerate(zip(points, turned, widths, strict=True)):
        for side in (1, -1):
            near, far = side * GAP_PT, side * (GAP_PT + width)
            box = (u + min(near, far), v - half, u + max(near, far), v + half)
            inside = half < x + far * cosine < size[0] - half and half < y + far * sine < size[1] - half
            others = taken[:index] + taken[index + 1 :]
            if inside and not any(box[0] < o[2] and o[0] < box[2] and box[1] < o[3] and o[1] < box[3] for o in others):
                taken.append(box)
                placed[index] = side
                break
    return placed


def _value(record: Record) -> float | None:
    value = record.value
    return value if value is not None and math.isfinite(value) else None


def _spread(record: Record) -> float:
    """Standard deviation of what is believed of a kept value; of one run where records are older than that belief."""
    verdict = record.verdict
    return (verdict and (verdict.value_sd or verdict.sigma)) or 0.0


def _view(metric: Metric, kept: list[Kept], discarded: list[float]) -> tuple[float, float]:
    """The range to show: all that was gained, room for labels, and of what is worse than the baseline only what is near."""
    first, noise = kept[0].value, 2 * kept[-1].sigma
    lost, best = [metric.gain(value, first) for value in discarded], metric.gain(kept[-1].value, first)
    typical = statistics.median(map(abs, lost)) if lost and not kept[1:] else 0.0
    span = max(-best, 2 * noise, 4 * typical) or abs(first) / 10 or 1.0
    unsure = min(2 * kept[0].sigma, span / 2)  # of the baseline, which is often known less well than what came after it
    worst = max([noise, unsure, 0.32 * span, *(distance for distance in lost if distance <= span / 2)]) + 0.06 * span
    best = min([best - noise, *lost]) - 0.06 * span
    return (first + best, first + worst) if metric.direction == "minimize" else (first - worst, first - best)


def _draw(picture: Picture) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.font_manager import findfont
    from matplotlib.ft2font import FT2Font
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import MaxNLocator

    figure = Figure(SIZE_IN, DPI, facecolor="white", layout=ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.12))
    axes, font, lower = figure.add_subplot(), FT2Font(findfont(FONT)), picture.metric.direction == "minimize"
    text: dict[str, Any] = {"color": INK, "parse_math": False, "fontfamily": FONT}
    name, void = _clean(picture.metric.name, 50, font), f" ({picture.void} void left out)" if picture.void else ""
    axes.set_title(_clean(picture.heading, 90, font), loc="left", fontsize=17, fontweight="bold", pad=32, **text)
    axes.set_xlabel(f"experiment{void}", fontsize=12, **text)
    axes.set_ylabel(f"{name} ({'lower' if lower else 'higher'} is better)", fontsize=12, **text)
    axes.set(xlim=(-0.015 * picture.last, 1.015 * picture.last), ylim=picture.view)
    axes.ticklabel_format(useOffset=False, scilimits=(-5, 9))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="#ececec", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    _marks(axes, picture, edge=0.985 if lower else 0.015)
    above: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (-0.005, 1.0), "ncols": 7, "borderaxespad": 0.2}
    axes.legend(frameon=False, fontsize=10.5, scatteryoffsets=[0.5], **above).set_in_layout(False)
    _labels(figure, axes, picture, font)
    return figure


def _marks(axes: Axes, picture: Picture, edge: float) -> None:
    (first, *merged), shown, many = picture.kept, picture.metric.shown, picture.last > 1000
    numbers, values = [point.number for point in merged], [point.value for point in merged]
    if merged:
        axes.scatter(numbers, values, s=60, c=GREEN, edgecolors=DARK, linewidths=1, zorder=5, label=f"{len(merged)} kept")
    if count := len(picture.discarded) + picture.out_of_view:
        label = f"{count} discarded" + (f" ({picture.out_of_view} out of view)" if picture.out_of_view else "")
        across, up = [number for number, _ in picture.discarded], [value for _, value in picture.discarded]
        axes.scatter(across, up, s=7 if many else 28, c=GREY, alpha=0.7, linewidths=0, zorder=2, label=label)
    if picture.waiting:
        across, up = [number for number, _ in picture.waiting], [value for _, value in picture.waiting]
        axes.scatter(across, up, s=60, c=AMBER, linewidths=0, zorder=4, label=f"{len(up)} waiting")
    if picture.failed:
        heights, transform, label = [edge] * len(picture.failed), axes.get_xaxis_transform(), f"{len(picture.failed)} failed"
        style: dict[str, Any] = {"marker": "|" if many else "x", "linewidths": 0.7 if many else 1.0, "alpha": 0.6}
        axes.scatter(picture.failed, heights, s=26, c=RED, transform=transform, zorder=2, label=label, **style)
    steps, best, label = [*picture.since(), picture.last], [first.value, *values], f"running best {shown(picture.kept[-1].value)}"
    axes.step(steps, [*best, best[-1]], where="post", color=GREEN, linewidth=2.2, zorder=3, label=label)
    if any(point.sigma for point in picture.kept):
        ends = [*picture.kept, picture.kept[-1]]
        low, high = ([point.value + sign * point.sigma for point in ends] for sign in (-2, 2))
        axes.fill_between(steps, low, high, step="post", color=GREEN, alpha=0.16, linewidth=0, label="± 2 sd")
    axes.axhline(first.value, color=INK, linestyle=":", linewidth=1.2, zorder=1, label=f"baseline {shown(first.value)}")
    axes.scatter(0, first.value, s=60, c="white", edgecolors=DARK, linewidths=1, zorder=4)


def _labels(figure: Figure, axes: Axes, picture: Picture, font: FT2Font) -> None:
    """Titles beside the kept points, the largest gains first, as far as there is room."""
    from matplotlib.patheffects import withStroke

    kept = sorted(picture.kept[1:], key=lambda point: -point.gain)
    titles = [_clean(point.title, TITLE_CHARS, font) or f"#{point.number}" for point in kept]
    widths = [_width_pt(title, font) for title in titles]
    cosine, sine = (part(math.radians(LABEL_DEGREES)) for part in (math.cos, math.sin))
    needs = [(width + 3 * GAP_PT) * cosine / (72 * SIZE_IN[0] - MARGINS_PT) for width in widths]
    rights = [point.number / (1 - share) for point, share in zip(kept, needs, strict=True)]
    axes.set_xlim(right=max([axes.get_xlim()[1], *rights]))  # the titles of the last ones end within the picture
    figure.draw_without_rendering()  # labels can be placed only in a layout that is settled
    area, unit, up = axes.get_window_extent(), DPI / 72, 1 if picture.metric.direction == "minimize" else -1
    pixels = [axes.transData.transform((point.number, point.value)) for point in kept]
    points = [((x - area.x0) / unit, (y - area.y0 if up > 0 else area.y1 - y) / unit) for x, y in pixels]
    style: dict[str, Any] = {"color": DARK, "fontfamily": FONT, "fontsize": LABEL_PT, "parse_math": False, "zorder": 6}
    style |= {"rotation": up * LABEL_DEGREES, "rotation_mode": "anchor", "va": "center_baseline", "in_layout": False}
    style |= {"textcoords": "offset points", "path_effects": [withStroke(linewidth=2.5, foreground="white")]}
    for index, side in place(points, widths, (area.width / unit, area.height / unit)).items():
        at, offset = (kept[index].number, kept[index].value), (side * GAP_PT * cosine, side * up * GAP_PT * sine)
        axes.annotate(titles[index], at, xytext=offset, ha="left" if side > 0 else "right", **style)


def _clean(text: str, limit: int, font: FT2Font) -> str:
    """What the font can draw of a text, on one line: a glyph that it lacks would be a warning and a box."""
    text = " ".join("".join(c for c in text if c.isprintable() and font.get_char_index(ord(c))).split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _width_pt(text: str, font: FT2Font) -> float:
    font.set_size(LABEL_PT, 72)
    font.set_text(text)
    return font.get_width_height()[0] / 64
