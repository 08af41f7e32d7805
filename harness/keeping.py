"""What stays of a closed experiment on this machine: what a kept one's run made; of the others nothing."""

from __future__ import annotations

from harness import artefacts, trees
from harness.models import Record
from harness.night import Night


def keep_or_drop(night: Night, record: Record) -> None:
    """Drop what the run of a discarded experiment made, and the oldest of the night where that takes too much room."""
    place = night.state.artefacts(night.ledger.tag, record.id)
    if record.verdict and record.verdict.status == "keep":
        artefacts.trim(place.parent, night.ledger.incumbent().id)
    else:
        trees.remove(place)
