"""What a forge is shown of a record: everything that it takes to decide, and hostile text only as text."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from harness import offers
from harness.models import Decision, Experiment, Measurement, Metric, Proposal, Record, Review, Sibling, Verdict, Wish

JOINER = "\u2060"
AROUND = offers.Around(remote="origin", into="autoresearch/t")
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
    shown = offers.offer(record(HOSTILE), AROUND)
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
    assert not re.search(r"[@#](?=\w)|\bGH-(?=\w)", shown.body.partition("\n")[2])  # a squash may make it a commit's message
    assert HOSTILE.partition("\n")[0] in shown.body.replace(JOINER, "")  # for people to read, in a block


def test_the_control_without_quoting_would_mention_and_break_out() -> None:
    """The attack is one: raw, it has mentions outside of any block, and its fence ends ours."""
    assert re.search(r"@(?=\w)", outside(HOSTILE.partition("\n")[0]))
    with pytest.raises(AssertionError):
        outside("```text\n" + HOSTILE + "\n```")


def test_the_evidence_is_there() -> None:
    shown = offers.offer(record("A small change"), replace(AROUND, remote="up stream", task="examples/a b"))
    assert (shown.branch, shown.commit, shown.into, shown.label) == ("exp/t/0007-x", "1" * 40, "autoresearch/t", "harness: keep")
    assert "| val\\|bpb | 1.000 |" in shown.body
    assert "| believed gain | +0.5 ± 0.1 |" in shown.body
    assert "| probability that it is real | 97 % |" in shown.body
    sure = record("A small change")
    assert sure.verdict
    sure = sure.model_copy(update={"verdict": sure.verdict.model_copy(update={"probability": 1.0})})
    assert "| probability that it is real | \\> 99 % |" in offers.offer(sure, AROUND).body
    assert f"| agent | a\\|@{JOINER}b A small change |" in shown.body
    assert (
        "git fetch 'up stream' exp/t/0007-x && harness measure FETCH_HEAD --task 'examples/a b' --profile cpu --seed 3"
        in shown.body
    )


def test_a_person_is_named_for_what_they_asked_or_made() -> None:
    wish = Wish(kind="idea", number=1, by="Ada @l <ada@example.org>", text="try #3 | now", asked="")
    asked = offers.offer(record("x").model_copy(update={"wish": wish}), AROUND).body
    assert f"| idea | try \\#{JOINER}3 \\| now \\(Ada @{JOINER}l\\) |" in asked
    made = offers.offer(record("x").model_copy(update={"wish": wish.model_copy(update={"kind": "submission"})}), AROUND).body
    assert f"| submitted by | Ada @{JOINER}l |" in made
    assert "| agent |" not in made
    assert "example.org" not in asked + made


def test_siblings_are_named_with_their_verdicts() -> None:
    def sibling(number: int, **more: object) -> Record:
        found = record(HOSTILE).model_copy(update={"variant": Sibling(of="0007", n=number, k=5), **more})
        return found.model_copy(update={"experiment": found.experiment.model_copy(update={"id": f"000{6 + number}"})})

    first, decided = sibling(1, review=Review()), Decision(kind="accept", by="Ada", at="")
    others = [
        sibling(4, state="measuring", verdict=None, measurements=[]),
        sibling(3, review=Review(decisions=[decided], again="0012")),
        sibling(2, verdict=Verdict(status="discard", reason="")),
    ]
    rows = offers.siblings(first, [*others, first, record("x")])
    assert rows[0] == "| variants of this idea | verdict | val\\|bpb |"
    assert rows[2] == "| **0007, this one** | keep, waits | 1.000 |"
    assert [re.split(r"(?<!\\)\|", row)[2:4] for row in rows[3:]] == [
        [" discard ", " 1.000 "],
        [" keep, measured again as 0012 ", " 1.000 "],
        [" under way ", "  "],
        [" to be tried ", " "],
    ]
    assert rows[-1].startswith("| 1 more |")
    assert not re.search(r"[@#](?=\w)|(?<!\\)[<\[]", "\n".join(rows))
    before = offers.offer(first, replace(AROUND, siblings=rows))
    assert before.news != offers.offer(first, replace(AROUND, siblings=rows[:-1])).news
    assert offers.siblings(record("x"), others) == []
