"""Records of one proposal's variants: which of them wait for their turn, and which belong together. Pure.

Nothing marks a variant as taken but the record of the experiment that tries it, so no kill can lose one or try it twice.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.models import Record, Variant


def waiting(records: Iterable[Record]) -> list[tuple[Record, int, Variant]]:
    """The variants that no experiment has taken yet, oldest first, each after the record that names it and its number there."""
    records = list(records)
    taken = {(record.variant.of, record.variant.n) for record in records if record.variant}
    return [
        (record, n, variant)
        for record in records
        if record.variants
        for n, variant in enumerate((each for each in record.variants if not each.dropped), 2)
        if (record.id, n) not in taken
    ]


def first(record: Record) -> bool:
    """Whether an agent, or a person, was asked for this very experiment: it is no later variant of another one."""
    return record.variant is None or record.variant.of == record.id


def asked(record: Record) -> bool:
    """Whether an agent was asked for this very experiment: it is a turn of its."""
    reverts = record.proposal is not None and record.proposal.reverts
    return first(record) and not (record.submitted or record.again_of or reverts)


def family(records: Iterable[Record], record: Record) -> list[Record]:
    """All experiments of the proposal that a record belongs to, itself among them; only itself where it has no siblings."""
    if record.variant is None:
        return [record]
    return [each for each in records if each.variant and each.variant.of == record.variant.of]


def families(records: Iterable[Record]) -> dict[str, list[Record]]:
    """The families of all experiments that have siblings, or will have some, by the ids of their members."""
    found: dict[str, list[Record]] = {}
    for record in records:
        if record.variant:
            found.setdefault(record.variant.of, []).append(record)
    return {member.id: family for family in found.values() for member in family}


def merged_siblings(records: Iterable[Record], record: Record) -> list[Record]:
    """The siblings that were merged, the latest merge first."""
    found = [each for each in family(records, record) if each.merged and each.id != record.id]
    return sorted(found, key=lambda each: each.merge or 0, reverse=True)


def told(record: Record, records: Iterable[Record]) -> list[str]:
    """What `harness show` says of an experiment's siblings, a line each: theirs, those that wait, and those that were dropped."""
    lines = []
    if record.variant:
        others = [f"{each.id} {each.status}" for each in family(records, record) if each.id != record.id]
        left = record.variant.k - 1 - len(others)
        lines = [f"{record.variant.told}; {', '.join([*others, *([f'{left} more to be tried'] if left else [])])}"]
    names = [f"variants/{each.folder}" if each.folder else "the change itself" for each in record.variants]
    pairs = zip(names, record.variants, strict=True)
    return lines + [f"{name} is not tried: {each.dropped}" for name, each in pairs if each.dropped]
