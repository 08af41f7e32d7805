"""What `git log` says of candidates and merges: who made them, why, by what evidence, and where they come from. Pure."""

from __future__ import annotations

import re

from harness.models import Record, Verdict

LONGEST = 200
MENTION = re.compile(r"(@|#|\bGH-|!)(?=\w)", re.IGNORECASE)
ISSUE = re.compile(r"\b(https?):(?=//\S+/(?:issues|pull|discussions|merge_requests)/\d)", re.IGNORECASE)
ORDER = re.compile(r"\[((?:skip|no) (?:ci|actions)|(?:ci|actions) skip)\]", re.IGNORECASE)
CREDIT = re.compile(r"^[ \t]*(?=(?:co-authored-by|signed-off-by|skip-checks)\s*:)", re.IGNORECASE | re.MULTILINE)


def candidate_message(record: Record) -> str:
    """What `git log` says of a candidate."""
    assert record.proposal is not None
    said = spoken(record)
    return f"{said}\n\n{text(origin(record))}"


def merge_message(record: Record, verdict: Verdict) -> str:
    """What a reviewer reads in `git log --first-parent`: what was changed, why, and the evidence."""
    proposal = record.proposal
    assert proposal is not None
    runs = [m for m in record.runs if m.status == "ok"]
    how = [f"{record.profile} profile", f"{record.sandbox} sandbox", *(m.audit.summary for m in runs[-1:] if m.audit)]
    facts = {
        **origin(record),
        "Metric": f"{record.metric.name} {record.metric.shown(record.value)}",
        "Runs": f"{len(runs)} ({', '.join(how)})",
    }
    what = "simplify" if verdict.simpler else "keep"
    title, _, hypothesis = spoken(record).partition("\n\n")
    return f"{what}: {title}\n\n{verdict.reason}.\n\n{hypothesis}".rstrip() + f"\n\n{text(facts)}"


def spoken(record: Record) -> str:
    """Title and hypothesis for a commit that may be pushed: what an agent wrote orders nothing; a person's words stay."""
    assert record.proposal is not None
    said = f"{record.proposal.title}\n\n{record.proposal.hypothesis}".rstrip()
    return said if record.submitted else powerless(said)


def powerless(words: str, joint: str = " ") -> str:
    """Words that mention nobody, refer to no issue and close none, credit nobody and skip no check when a forge reads them.

    What forges look for: https://docs.github.com/en/get-started/writing-on-github, "Linking a pull request to an issue" and
    "Skipping workflow runs". A `joint` parts the sign from the name.
    """
    parted = MENTION.sub(rf"\1{joint}", ISSUE.sub(rf"\1{joint}:", words))
    return CREDIT.sub("> ", ORDER.sub(r"(\1)", parted))


def author(record: Record) -> tuple[str, str]:
    """Git author of a candidate: the agent's name and version, or the person who submitted it."""
    if record.submitted and record.wish:
        name, _, address = record.wish.by.rstrip("> ").partition(" <")
        return name, address
    version = record.proposal.agent_version if record.proposal else ""
    return f"{record.experiment.agent} {version}".strip(), f"{record.experiment.agent}@localhost"


def origin(record: Record) -> dict[str, str]:
    """Where a candidate comes from: its experiment, and the agent or the person who made it or asked for it."""
    agent = f"{record.experiment.agent} {record.proposal.agent_version if record.proposal else ''}".strip()
    found = {"Experiment": f"{record.experiment.tag}/{record.id}"}
    if record.wish and record.wish.kind == "submission":
        return {**found, "Submitted-by": _line(record.wish.by)}
    found["Agent"] = agent
    found |= {"Variant": record.variant.told} if record.variant else {}
    return {**found, "Idea-by": _line(record.wish.by), "Idea": powerless(_line(record.wish.text))} if record.wish else found


def text(facts: dict[str, str]) -> str:
    """Trailers as they end a message."""
    return "".join(f"{name}: {value}\n" for name, value in facts.items())


def _line(words: str) -> str:
    """On one line, so that nobody's words can be another trailer."""
    return " ".join(words.split())[:LONGEST]
