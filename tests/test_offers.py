"""What a forge is shown of a record: everything that it takes to decide, and hostile text only as text."""

from __future__ import annotations

import re

import pytest

from harness import offers
from harness.models import Experiment, Measurement, Metric, Proposal, Record, Verdict

JOINER = "\u2060"
HOSTILE = (
    "@everyone fixes #12 GH-7 o/r#3 !5 <script>alert(1)</script> <!-- --> [x](javascript:1) ![i](http://evil.example/i.png)"
    "\n```\n````\n| a | b |\n</details>\n\u202egnirts\u0000\x1b[31m\n" + "x" * 100_000
)


def record(text: str) -> Record:
    first = text.partition("\n")[0]
    return Record(
        experiment=Experiment(id="0007", tag="t", agent="a|@b", base="0" * 40, commit="1" * 40, branch="exp/t/0007-x"),
        state="closed",
        task="toy",
        metric=Metric(name="val|bpb", resolution=0.001),
        profile="cpu",
        sandbox="bubblewrap",
        harness="1",
        program="",
        started="",
        updated="",
        proposal=Proposal(title=first, hypothesis=text, agent_version=text),
        measurements=[Measurement(status="ok", value=1.0, seed=3)],
        verdict=Verdict(status="keep", reason=text, gain=0.5, gain_sd=0.1, probability=0.97),
    )


def outside(body: str) -> str:
    """A body without its fenced blocks, as CommonMark finds them."""
    kept, fence = [], ""
    for line in body.split("\n"):
        ticks = re.match(r"`{3,}", line)
        if fence:
            fence = "" if ticks and len(ticks[0]) >= len(fence) and not line.strip("`") else fence
        elif ticks:
            fence = ticks[0]
        else:
            kept.append(line)
    assert not fence
    return "\n".join(kept)


def test_what_candidates_wrote_is_only_text() -> None:
    shown = offers.offer(record(HOSTILE), "origin", "autoresearch/t")
    text = outside(shown.body)
    assert text.startswith(f"<!-- harness experiment t/0007 {'1' * 40} -->\n")
    rest = text.partition("\n")[2]
    assert not re.search(r"[@#](?=\w)|\bGH-(?=\w)|(?<!\\)[<\[]|http://", rest)
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in rest.split("\n") if line.startswith("|") and "\\|" in line)
    assert not re.search(r"[@#](?=\w)|GH-(?=\w)", shown.title)
    assert "\n" not in shown.title
    assert len(shown.title) < 200
    assert len(shown.body) < 10_000
    assert not re.search(r"[\x00\x1b\u202e]", shown.body + shown.title)
    assert HOSTILE.partition("\n")[0] in shown.body  # for people to read, in a block


def test_the_control_without_quoting_would_mention_and_break_out() -> None:
    """The attack is one: raw, it has mentions outside of any block, and its fence ends ours."""
    assert re.search(r"@(?=\w)", outside(HOSTILE.partition("\n")[0]))
    with pytest.raises(AssertionError):
        outside("```text\n" + HOSTILE + "\n```")


def test_the_evidence_is_there() -> None:
    shown = offers.offer(record("A small change"), "up stream", "autoresearch/t")
    assert (shown.branch, shown.commit, shown.into, shown.label) == ("exp/t/0007-x", "1" * 40, "autoresearch/t", "harness: keep")
    assert "| val\\|bpb | 1.000 |" in shown.body
    assert "| believed gain | +0.5 ± 0.1 |" in shown.body
    assert "| probability that it is real | 97 % |" in shown.body
    sure = record("A small change")
    assert sure.verdict
    sure = sure.model_copy(update={"verdict": sure.verdict.model_copy(update={"probability": 1.0})})
    assert "| probability that it is real | \\> 99 % |" in offers.offer(sure, "origin", "autoresearch/t").body
    assert f"| agent | a\\|@{JOINER}b A small change |" in shown.body
    assert "git fetch 'up stream' exp/t/0007-x && harness measure FETCH_HEAD --profile cpu --seed 3" in shown.body
