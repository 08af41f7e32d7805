"""The last lines of a commit's message, by which `git log` alone says where a change comes from. Pure."""

from __future__ import annotations

from harness.models import Record

LONGEST = 200


def origin(record: Record) -> dict[str, str]:
    """Where a candidate comes from: its experiment, and the agent or the person who made it or asked for it."""
    agent = f"{record.experiment.agent} {record.proposal.agent_version if record.proposal else ''}".strip()
    found = {"Experiment": f"{record.experiment.tag}/{record.id}"}
    if record.wish and record.wish.kind == "submission":
        return {**found, "Submitted-by": _line(record.wish.by)}
    found["Agent"] = agent
    return {**found, "Idea-by": _line(record.wish.by), "Idea": _line(record.wish.text)} if record.wish else found


def text(facts: dict[str, str]) -> str:
    """Trailers as they end a message."""
    return "".join(f"{name}: {value}\n" for name, value in facts.items())


def _line(words: str) -> str:
    """On one line, so that nobody's words can be another trailer."""
    return " ".join(words.split())[:LONGEST]
