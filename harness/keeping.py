"""What stays of a closed experiment on this machine: what a kept one's runs made and compiled; of the others nothing."""

from __future__ import annotations

from harness import artefacts, caches, trees
from harness.models import Record
from harness.night import Night


def keep_or_drop(night: Night, record: Record) -> None:
    """After the verdict: what a kept one compiled is the new master, and what it made is not the oldest that has to go."""
    made = night.state.left(night.ledger.tag, record.id).artefacts
    compiled = night.state.compiled(night.ledger.tag, record.id)
    if record.verdict is None or record.verdict.status != "keep":
        trees.remove(made)
    else:
        artefacts.trim(made.parent, night.ledger.incumbent().id)
        if night.caches:
            caches.fill(night.caches, compiled)
    trees.remove(compiled)
