"""What agents are asked for when nothing is kept: by turns, nothing twice, and the record says whether it helped."""

from __future__ import annotations

from pathlib import Path

import pytest
from stage import Part, Stage, check, home
from test_summary import BASELINE, KEPT, discarded, record

from harness import git, refs, review, view
from harness.ledger import Ledger
from harness.models import AgentSpec, Nudge, Proposal, Record, Sibling, Stop, Verdict
from harness.stopping import by_work
from harness.stuck import nudge
from harness.summary import summarise, text
from harness.tally import Tally

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
    assert kinds[:4] == ["combine", "bolder", "restart", "nothing"]
    assert found[0] == Nudge(kind="combine", of=["0003", "0002"])
    assert found[2] == Nudge(kind="restart", of=["0000"])
    assert kinds.count("combine") == 1  # there is no other pair
    assert kinds.count("restart") == 1  # and no other incumbent
    assert set(kinds[4:]) == {"bolder", "nothing"}


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


def tally(records: list[Record]) -> Tally:
    """What is counted of them."""
    found = Tally(str, "0000")
    for each in records:
        found.put(each)
    return found


def grown(records: list[Record], variants: int) -> list[Record]:
    """The records, and of the last one so many more variants, as hopeless."""
    last = records[-1]
    same = {"nudge": last.nudge, "variant": Sibling(of=last.id, n=1, k=1 + variants)}
    more = [discarded(int(last.id) + n, *HOPELESS).model_copy(update=same) for n in range(1, 1 + variants)]
    return [*records[:-1], last.model_copy(update=same), *more]


def test_variants_of_one_idea_are_one_idea_and_one_turn() -> None:
    """The controls are the same records without saying that they belong together."""
    assert nudge(READER, night(*[HOPELESS] * 13)) == Nudge(kind="bolder")
    assert nudge(READER, grown(night(*[HOPELESS] * 9), 4)) is None
    stuck = night(*[HOPELESS] * 10)
    for wanted in ("bolder", "restart", "nothing", "bolder", "nothing", "bolder"):
        found = nudge(READER, stuck)
        assert found is not None
        assert found.kind == wanted
        stuck = grown([*stuck, discarded(len(stuck), *HOPELESS).model_copy(update={"nudge": found})], len(stuck) % 4)


def test_what_takes_a_merge_back_is_no_idea() -> None:
    """`harness ablate` may make ten in a row, of which none is kept."""
    takes_back = Proposal(title="Take back 0001", reverts="0001")
    records = night(*[HOPELESS] * 9)
    assert nudge(READER, [*records, discarded(11, *HOPELESS)]) is not None
    after = [discarded(11 + n, *HOPELESS).model_copy(update={"proposal": takes_back}) for n in range(9)]
    assert nudge(READER, [*records, *after]) is None
    stop = Stop(experiments=99, plateau=9)
    assert by_work(stop, tally(records)) is not None
    assert by_work(stop, tally([*night(*[HOPELESS] * 8), *after])) is None


def test_the_summary_says_whether_it_helped() -> None:
    bold, helped = Nudge(kind="bolder"), KEPT.model_copy(update={"nudge": Nudge(kind="bolder")})
    records = [BASELINE, discarded(2, *HOPELESS).model_copy(update={"nudge": bold}), discarded(3, *HOPELESS), helped]
    found = summarise(records, helped)
    assert found.nudges == {"bolder": [2, 1]}
    assert "\nstuck     bolder 2 tried, 1 kept\n" in text(found, records)
    together = Sibling(of="0001", n=1, k=2)
    one = [each.model_copy(update={"variant": together}) if each.nudge else each for each in records]
    assert summarise(one, helped).nudges == {"bolder": [1, 1]}


def test_in_a_night_the_prompt_asks_and_the_record_says_so(home: Path) -> None:
    """The same change again and again is no idea, so each of these is another one, and worse."""
    worse = [Part({"A": 60 + number}) for number in range(10)]
    stage = Stage(home, [Part({"A": 4}), *worse, Part({"B": 4}), Part({"B": 70})])
    stage.play(1, 1)
    told = {name: prompts[0] for name, prompts in stage.prompts.items()}
    marked = [name for name, prompt in told.items() if "# The last 10 ideas brought nothing" in prompt]
    assert marked == ["0012"]
    assert "Propose something of another kind" in told["0012"]
    by_id = {each.id: each for each in stage.records}
    assert by_id["0012"].nudge == Nudge(kind="bolder")
    assert by_id["0012"].verdict is not None
    assert by_id["0012"].verdict.status == "keep"
    assert by_id["0013"].nudge is None  # it helped


RESTART = "0014"


def restarting(home: Path, change: Part, worse: str, kills: tuple[int, ...] = (), second: str = "4") -> Stage:
    """A night in which A, then B are merged, ten ideas fail, a bolder one too, and `change` is made on the code with A alone."""
    parts = [Part({"A": 4}), Part({"B": second}), *(Part({"A": 60 + number}) for number in range(11)), change]
    stage = Stage(home, parts, worse={worse} if worse else set(), kills=list(kills))
    stage.play(1, 1)
    check(stage)
    return stage


def told(stage: Stage) -> tuple[Record, str]:
    """The restart and its verdict."""
    found = next(record for record in stage.records if record.id == RESTART)
    assert found.nudge == Nudge(kind="restart", of=["0001"])
    assert found.verdict is not None
    return found, f"{found.verdict.status}: {found.verdict.reason}"


def first_merge(stage: Stage) -> str:
    """Where 0001 was merged."""
    found = [each for each in stage.merged if Ledger(stage.repo, "t").incumbent(each).id == "0001"]
    assert len(found) == 1
    return found[0]


def test_a_restart_is_made_on_an_earlier_incumbent_and_joined_with_what_was_merged_since(home: Path) -> None:
    stage = restarting(home, Part({"C": 4}), "")
    found, verdict = told(stage)
    assert found.experiment.base == first_merge(stage)
    assert found.experiment.commit is not None
    assert git.parents(stage.repo, found.experiment.commit) == [found.experiment.base]
    assert "B = 5" in stage.text(found.experiment.commit)
    assert verdict == "keep: distance 9.000 against 10.000: better by 1.000"
    assert found.experiment.joined in [run.commit for run in found.measurements]
    assert [line for line in stage.text("autoresearch/t").split() if line in "34"] == ["4", "4", "4"]
    prompt = stage.prompts[RESTART][0]
    assert "0001 keep 11.000 Play 1" in prompt.partition("# The last 11 ideas brought nothing")[2]
    assert "than was taken since: 0002 keep 10.000 Play 2." in prompt
    assert "better than the incumbent of now, 0002 keep 10.000 Play 2." in prompt
    assert "asked for restart 0001, being stuck" in view.full(found, lambda _: "")
    assert summarise(stage.records, found).nudges == {"bolder": [1, 0], "restart": [1, 1]}


@pytest.mark.parametrize("change", [{"C": 3, "D": 3}, {"B": 3, "C": 3}], ids=["not additive", "conflict"])
def test_what_does_not_go_together_takes_the_place_of_what_was_merged_since(home: Path, change: dict[str, int]) -> None:
    """In the end it is measured to be better than the tip, and the tree that is merged is the one that was measured."""
    stage = restarting(home, Part(change), "BC" if "D" in change else "")
    found, verdict = told(stage)
    assert verdict == "keep: in place of what was merged since 0001: distance 7.000 against 10.000: better by 3.000"
    assert (found.experiment.joined, found.experiment.onto) == (None, stage.merged[1])
    assert found.judged == found.experiment.commit
    assert "B = 4" not in stage.text("autoresearch/t")
    assert git.parents(stage.repo, stage.merged[2]) == [stage.merged[1], found.experiment.commit]
    assert len(stage.prompts[RESTART]) == 1
    refs.swap(stage.repo, "refs/heads/autoresearch/t", stage.merged[1], stage.merged[2])  # as it waits for a person in review
    ledger, ordinary = Ledger(stage.repo, "t"), found.experiment.model_copy(update={"onto": None})
    assert review.conflicts(ledger, found) == []
    assert bool(review.conflicts(ledger, found.model_copy(update={"experiment": ordinary}))) == ("B" in change)


def test_what_is_not_better_than_the_tip_is_made_anew_there(home: Path) -> None:
    """It is better than its own base, but that is not enough: neither with what was merged since nor in its place."""
    stage = restarting(home, Part({"C": 4}, again={"D": 4}), "BC")
    found, verdict = told(stage)
    assert verdict == "keep: distance 9.000 against 10.000: better by 1.000"
    assert found.proposal is not None
    (tried,) = found.proposal.tries
    assert tried.verdict is not None
    reason = "not additive: joined with it, distance 13.000 against 10.000: worse by 3.000"
    assert (tried.base, tried.verdict.reason) == (first_merge(stage), reason)
    assert found.experiment.base == stage.merged[1]
    first, anew = stage.prompts[RESTART]
    assert "# The last 11" in first
    assert "# The last 11" not in anew
    assert "# Make your idea anew" in anew


def test_what_is_not_better_than_its_base_costs_one_run(home: Path) -> None:
    stage = restarting(home, Part({"C": 6}), "")
    found, verdict = told(stage)
    assert verdict == "discard: compared with its base, 0001: distance 12.000 against 11.000: worse by 1.000"
    assert len(found.measurements) == 1
    assert stage.merged == stage.merged[:2]


def test_in_place_of_much_code_the_same_value_is_enough(home: Path) -> None:
    """The code is counted against the incumbent's of now; the control is the same night before, where B brought hardly any."""
    stage = restarting(home, Part({"C": 4}), "BC", second="4" + " + 0" * 20)
    assert told(stage)[1] == (
        "keep: in place of what was merged since 0001: distance 10.000 against 10.000: no difference, and 40 tokens of code less"
    )
    assert "+ 0" not in stage.text("autoresearch/t")


@pytest.mark.heavy
def test_a_restart_survives_kills_anywhere(home: Path) -> None:
    whole = restarting(home / "whole", Part({"C": 3, "D": 3}), "BC")
    for number in range(whole.steps - 20, whole.steps):
        stage = restarting(home / str(number), Part({"C": 3, "D": 3}), "BC", (number,))
        assert told(stage)[1] == told(whole)[1]
        assert stage.text("autoresearch/t") == whole.text("autoresearch/t")


@pytest.mark.heavy
def test_under_noise_a_restart_is_merged_only_for_a_gain_over_the_tip(home: Path) -> None:
    """check() holds every merge to a probability above 0.9 against the commit that it was merged onto."""
    fails = [Part({"A": 60 + number}) for number in range(11)]
    ended = []
    for number, change in enumerate(({"C": 3, "D": 3}, {"B": 1, "D": 3, "E": 3}, {"C": 4}, {"E": 3, "F": 3})):
        stage = Stage(home / str(number), [Part({"A": 3}), Part({"B": 3}), *fails, Part(change)], worse={"BC"}, noise=0.4)
        stage.play(1, 1)
        check(stage)
        found = next(record for record in stage.records if record.nudge and record.nudge.kind == "restart")
        ended.append((found.status, bool(found.experiment.onto), bool(found.experiment.joined)))
    assert ended == [("keep", True, False), ("keep", True, False), ("discard", True, True), ("keep", True, True)]
