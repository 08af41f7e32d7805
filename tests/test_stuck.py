"""What agents are asked for when nothing is kept: by turns, nothing twice, and the record says whether it helped."""

from __future__ import annotations

from pathlib import Path

from stage import Part, Stage, home
from test_summary import BASELINE, KEPT, discarded, record

from harness.models import AgentSpec, Nudge, Record, Verdict
from harness.stuck import nudge
from harness.summary import summarise, text

__all__ = ["home"]
READER = AgentSpec(name="reader", argv=["sh"])
DEAF = AgentSpec(name="deaf", argv=["sh"], prompt={"via": "none"})
HOPELESS, NEAR = (0.01, -0.5), (0.5, 0.05)


def night(*figures: tuple[float, float] | str) -> list[Record]:
    """The baseline, a kept experiment, and others by probability and gain or by status."""
    found = [BASELINE, KEPT]
    for number, each in enumerate(figures, 2):
        verdict = Verdict(status=each, reason="") if isinstance(each, str) else None  # type: ignore[arg-type]
        found.append(record(number, verdict) if verdict else discarded(number, *each))  # type: ignore[misc]
    return found


def asked(records: list[Record], times: int) -> list[Nudge | None]:
    """What so many more hopeless experiments are asked for, one after the other."""
    found = []
    for _ in range(times):
        found.append(nudge(READER, records))
        records = [*records, discarded(len(records), *HOPELESS).model_copy(update={"nudge": found[-1]})]
    return found


def test_nothing_special_is_asked_before_and_to_who_reads_no_words() -> None:
    assert nudge(READER, night(*[HOPELESS] * 9)) is None
    assert nudge(READER, night(*[HOPELESS] * 9, "void")) is None
    assert nudge(READER, night(*[HOPELESS] * 10)) == Nudge(kind="bolder")
    assert nudge(DEAF, night(*[HOPELESS] * 10)) is None
    assert nudge(READER, [*night(*[HOPELESS] * 10), KEPT.model_copy(update={"experiment": BASELINE.experiment})]) is None


def test_by_turns_and_nothing_twice() -> None:
    found = asked(night(NEAR, (0.6, 0.06), *[HOPELESS] * 8), 9)
    kinds = [each.kind if each else "" for each in found]
    assert kinds[:4] == ["combine", "bolder", "restart", ""]
    assert found[0] == Nudge(kind="combine", of=["0003", "0002"])
    assert found[2] == Nudge(kind="restart", of=["0000"])
    assert kinds.count("combine") == 1  # there is no other pair
    assert kinds.count("restart") == 1  # and no other incumbent
    assert set(kinds[4:]) == {"bolder", ""}


def test_pairs_and_incumbents_are_used_up_in_order_of_promise() -> None:
    later = KEPT.model_copy(update={"experiment": KEPT.experiment.model_copy(update={"id": "0002"})})
    rest = [
        discarded(3, 0.7, 0.1),
        discarded(4, 0.5, 0.1),
        discarded(5, 0.3, 0.1),
        *(discarded(n, *HOPELESS) for n in range(6, 13)),
    ]
    found = [each for each in asked([BASELINE, KEPT, later, *rest], 24) if each]
    assert [each.of for each in found if each.kind == "combine"] == [["0003", "0004"], ["0003", "0005"], ["0004", "0005"]]
    assert [each.of for each in found if each.kind == "restart"] == [["0001"], ["0000"]]


def test_the_summary_says_whether_it_helped() -> None:
    bold, helped = Nudge(kind="bolder"), KEPT.model_copy(update={"nudge": Nudge(kind="bolder")})
    records = [BASELINE, discarded(2, *HOPELESS).model_copy(update={"nudge": bold}), discarded(3, *HOPELESS), helped]
    found = summarise(records, helped)
    assert found.nudges == {"bolder": [2, 1]}
    assert "\nstuck     bolder 2 tried, 1 kept\n" in text(found, records)


def test_in_a_night_the_prompt_asks_and_the_record_says_so(home: Path) -> None:
    """The same change again and again is no idea, so each of these is another one, and worse."""
    worse = [Part({"A": 60 + number}) for number in range(10)]
    stage = Stage(home, [Part({"A": 4}), *worse, Part({"B": 4}), Part({"B": 70})])
    stage.play(1, 1)
    told = {name: prompts[0] for name, prompts in stage.prompts.items()}
    marked = [name for name, prompt in told.items() if "# The last 10 experiments brought nothing" in prompt]
    assert marked == ["0012"]
    assert "Propose something of another kind" in told["0012"]
    by_id = {each.id: each for each in stage.records}
    assert by_id["0012"].nudge == Nudge(kind="bolder")
    assert by_id["0012"].verdict is not None
    assert by_id["0012"].verdict.status == "keep"
    assert by_id["0013"].nudge is None  # it helped
