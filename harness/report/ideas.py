"""Discarded ideas by what they have in common: the words of their titles. Pure.

Again and again the word that most of the ungrouped titles share makes a group (the greedy cover of Chvátal 1979), so that a
reader sees at once where a night kept looking without finding anything.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from harness import prompt
from harness.models import Record

WORD = re.compile(r"[^\W\d_][\w]{2,}")
GROUPS, LEAST = 30, 2
# What a change does to anything, and the little words: they say nothing of what it is about.
COMMON = """
the and for with from into over under than then that this not out off via per its all more less each only add added adding use
using used set make made let try keep put get give take replace replaced remove removed drop change changed raise raised lower
lowered increase increased decrease decreased reduce reduced double doubled triple halve half bring move swap switch turn start
first last new old bit little slightly further back higher larger smaller bigger longer shorter
"""
SKIPPED = frozenset(COMMON.split())


@dataclass(frozen=True)
class Group:
    """Ideas that share a word, as it was written first; best first."""

    name: str
    records: list[Record]


def grouped(records: list[Record]) -> tuple[list[Group], list[Record]]:
    """The discarded ones in groups of two or more, the largest first, and those that share no word."""
    left = [(record, _words(prompt.title(record))) for record in records if record.verdict and record.verdict.status == "discard"]
    groups: list[Group] = []
    while len(groups) < GROUPS:
        counts = Counter(word for _, words in left for word in words)
        # Of two words that are as common, the one that titles name first.
        word, count = max(counts.items(), key=lambda item: item[1], default=("", 0))
        if count < LEAST:
            break
        mine = [record for record, words in left if word in words]
        name = next(words[word] for _, words in left if word in words)
        groups.append(Group(name, sorted(mine, key=_gain, reverse=True)))
        left = [(record, words) for record, words in left if word not in words]
    return groups, [record for record, _ in left]


def _words(title: str) -> dict[str, str]:
    """Words without their plural -> as they stand in the title, in its order."""
    found: dict[str, str] = {}
    for word in WORD.findall(title):
        if (plain := word.lower()) not in SKIPPED:
            found.setdefault(plain[:-1] if plain.endswith("s") and not plain.endswith("ss") else plain, word)
    return found


def _gain(record: Record) -> float:
    verdict = record.verdict
    return verdict.gain if verdict and verdict.gain is not None else float("-inf")
