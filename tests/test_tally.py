"""What is counted record by record is what a look through all of them finds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness import grid
from harness.models import Experiment, Metric, Outcome, Proposal, Record, Sibling, Try, Variant, Verdict
from harness.tally import Tally

TREES = st.sampled_from(["a" * 40, "b" * 40, "c" * 40])
STATUSES = st.sampled_from(["", "keep", "discard", "crash", "invalid", "void"])


@st.composite
def states(draw: st.DrawFn) -> Record:
    """One of six experiments in some state; 1 and 4 may name variants, of which any other may be one."""
    number = draw(st.integers(0, 5))
    of = draw(st.sampled_from(["0001", "0004"]))
    status = draw(STATUSES)
    named = f"{number:04d}"
    family = named in ("0001", "0004")
    tries = [Try(outcome=Outcome(kind="changed"), seconds=1.0, tree=tree) for tree in draw(st.lists(TREES, max_size=1))]
    dropped = draw(st.sampled_from(["", "too late"]))
    sibling = Sibling(of=named, n=1, k=4) if family else Sibling(of=of, n=draw(st.integers(2, 4)), k=4)
    return Record(
        experiment=Experiment(id=named, tag="t", agent="a", base="0" * 40, tree=draw(TREES), joined=draw(st.none() | TREES)),
        state="closed" if status else "measuring",
        task="toy",
        metric=Metric(name="loss", direction="minimize", resolution=0.1),
        profile="",
        sandbox="none",
        harness="0",
        program="",
        started="",
        updated="",
        proposal=Proposal(title="t", tries=tries, reverts="0001" * (number == 5)) if draw(st.booleans()) or number == 5 else None,
        verdict=Verdict(status=status, reason="") if status else None,
        variant=sibling if named != "0000" and draw(st.booleans()) else None,
        variants=[Variant(folder="1"), Variant(folder="2", dropped=dropped), Variant(folder="3")] if family else [],
    )


@given(st.lists(states(), max_size=12))
def test_any_order_of_states_comes_to_what_a_look_through_all_records_finds(changes: list[Record]) -> None:
    tally, now = Tally(str.swapcase, "0000"), dict[str, Record]()
    for record in changes:
        if record.id not in now and any(int(name) > int(record.id) for name in now):
            continue  # numbers are given in their order
        if record.id in now and now[record.id].variant:
            record = record.model_copy(update={"variant": now[record.id].variant})  # which one it is never changes
        now[record.id] = record
        tally.put(record)
    records = list(now.values())
    verdicts = [record.verdict.status if record.verdict else "" for record in records if record.id != "0000"]
    counted = [each for each in verdicts if each != "void"]
    assert (tally.begun, tally.done) == (len(counted), len([each for each in counted if each]))
    new = [each for each in records if each.id != "0000" and not (each.proposal and each.proposal.reverts)]
    ended = [each.verdict.status for each in new if each.verdict and each.verdict.status != "void"]
    assert list(tally.verdicts()) == ended[::-1]
    assert tally.waiting() == grid.waiting(record for record in records if record.variant)
    for tree in ("a" * 40, "B" * 40, "c" * 40):
        assert tally.tried(tree) == next((record.id for record in records if tree in trees(record)), None)


def trees(record: Record) -> set[str]:
    """Every tree that was tried in an experiment; the tree of a joined commit is its name in capitals here."""
    earlier = {each.tree for each in record.proposal.tries} if record.proposal else set()
    void = record.verdict is not None and record.verdict.status == "void"
    mine = {record.experiment.tree or "", (record.experiment.joined or "").swapcase()}
    return {each for each in (earlier if void else earlier | mine) if each}
