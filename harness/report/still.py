"""The progress picture without a script, for readers that run none: some mail programs, for example. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from harness.report.progress import Picture

WIDTH, HEIGHT, MOST = 1000.0, 360.0, 1500


@dataclass(frozen=True)
class Still:
    """Paths of an SVG of WIDTH by HEIGHT, and what to write at its edges."""

    discarded: str
    kept: str
    best: str
    top: str
    bottom: str


def still(picture: Picture) -> Still:
    """Dots are lines without length; of very many discarded ones an even share is drawn."""
    low, high = picture.view

    def at(number: int, value: float) -> str:
        return f"{WIDTH * number / picture.last:.1f} {HEIGHT * (high - value) / (high - low):.1f}"

    step = -(-len(picture.discarded) // MOST) or 1
    first, *merged = picture.kept
    steps = zip(merged, picture.since()[1:], strict=True)
    stairs = "".join(f"H{at(since, each.value).replace(' ', 'V')}" for each, since in steps)
    return Still(
        discarded="".join(f"M{at(*point)}h0" for point in (*picture.discarded[::step], *picture.waiting)),
        kept="".join(f"M{at(each.number, each.value)}h0" for each in picture.kept),
        best=f"M{at(0, first.value)}{stairs}H{WIDTH:.0f}",
        top=picture.metric.shown(high),
        bottom=picture.metric.shown(low),
    )
