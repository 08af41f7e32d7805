"""When a harness was at work: a part of a record, because a night may be stopped and resumed, here or elsewhere."""

from __future__ import annotations

from harness.value import Value


class Stint(Value):
    """From when a harness was opened, which is the same in all records that it wrote to, until it last wrote to this one; UTC."""

    began: str
    until: str


def extended(stints: list[Stint], began: str, until: str) -> list[Stint]:
    """The stints of a record that is written to at `until` by the harness that was opened at `began`, or by none: ""."""
    return [*(each for each in stints if each.began != began), Stint(began=began, until=until)] if began else stints
