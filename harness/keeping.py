"""What stays of a closed experiment on this machine: what a kept one's runs made and compiled; of the others nothing."""

from __future__ import annotations

from harness import artefacts, caches, trees
from harness.models import Record
from harness.night import Night


def keep_or_drop(night: Night, record: Record) -> None:
    """After the verdict: what the incumbent compiled is the new master, and what kept ones made stays while there is room.

    What waits for a person to accept it is not the incumbent, unless the search goes on from it.
    """
    made = night.state.left(night.ledger.tag, record.id).artefacts
    compiled = night.state.compiled(night.ledger.tag, record.id)
    if record.verdict is None or record.verdict.status != "keep":
        trees.remove(made)
    else:
        incumbent = night.ledger.incumbent(night.head()).id
        artefacts.trim(made.parent, incumbent)
        if night.caches and record.id == incumbent:
            caches.fill(night.caches, compiled)
    trees.remove(compiled)
