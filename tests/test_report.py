"""What the report is made from: time, standings, ideas, diffs, texts; and the commands that show a night."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any, Literal

import long_night
import pytest
from conftest import Lab, make_lab

from harness import git, judge, refs
from harness.ledger import Ledger
from harness.models import Decision, Measurement, Proposal, Record, Review, Stint
from harness.report import bundle, detail, difference, headline, ideas, sections, standing, text
from harness.report.graph import graph
from harness.report.lineage import lineage
from harness.report.page import BLOCK, Page, page, policy
from harness.report.progress import prepare
from harness.report.spent import spent


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    folder = tmp_path_factory.mktemp("night") / "lab"
    long_night.make(folder, 60, 8)
    return Ledger(git.open_repo(folder), "t")


def test_every_referee_phase_is_counted_once_and_the_time_at_work_is_what_harnesses_were_open(ledger: Ledger) -> None:
    first, second, *_ = ledger.records()
    one = spent([first, second])
    assert one.phases["agent"] == second.proposal.seconds  # type: ignore[union-attr]
    assert one.phases["train"] == 600
    assert one.stopped == 0
    assert one.active == 340 + 335
    assert one.busy == pytest.approx(600 / one.active)
    resumed = Stint(began="2026-11-20T22:10:00+00:00", until="2026-11-20T22:15:00+00:00")
    paused = spent([first, second.model_copy(update={"stints": [resumed]})])
    assert (paused.active, paused.stopped) == (335 + 300, 600 - 335), "a pause of minutes is one as well"
    again = Stint(began="2026-11-21T08:00:00+00:00", until="2026-11-21T08:01:00+00:00")
    killed = spent([first, second.model_copy(update={"stints": [*second.stints, again]})])
    assert (killed.active, killed.stopped) == (675 + 60, 10 * 3600 - 675), "an experiment that was resumed"
    revived = second.model_copy(update={"updated": "2027-01-01T00:00:00+00:00"})
    assert spent([first, revived]) == one, "a record that a person decided about long afterwards is no long night"
    old = [each.model_copy(update={"stints": []}) for each in (first, second)]
    assert spent(old).active == pytest.approx(323.5 + one.phases["agent"] + 323.5), "what it says itself is all that is known"


def test_neither_a_part_of_a_phase_nor_the_sum_of_all_is_a_phase(ledger: Ledger) -> None:
    run = Measurement(status="ok", value=1.0, seconds={"train": 10.0, "train.save": 4.0, "evaluate": 2.0, "total": 12.0})
    record = ledger.records()[0].model_copy(update={"measurements": [run]})
    assert spent([record]).phases == {"train": 10.0, "evaluate": 2.0}
    assert detail.cells(record).seconds == 12.0


def test_standings_add_up(ledger: Ledger) -> None:
    records = ledger.records()
    gains = {f"{kept.number:04d}": kept.gain for kept in prepare(records).kept[1:]}
    found = standing.standings(records, gains, lambda record: record.experiment.agent)
    assert sum(sum(each.counts.values()) for each in found) == 60
    assert sum(each.gain for each in found) == pytest.approx(records[0].value - min(r.value for r in records if r.value))  # type: ignore[operator]
    assert {each.name for each in found} == set(long_night.AGENTS)
    tuner = next(each for each in found if each.name == "tuner")
    assert tuner.usd == 0
    assert all(a >= b for each in found for (_, a), (_, b) in zip(each.hits, each.hits[1:], strict=False))
    programs = sections.programs(ledger, records, gains)
    assert [row["name"] for row in programs] == ["version 1", "version 2", "version 3"]
    assert ("+", "Simple changes first.") in programs[1]["changes"]
    assert [row["count"] for row in programs] == [20, 20, 20]


@pytest.mark.parametrize(
    ("probability", "said"),
    [(1.0, "> 99 %"), (0.995, "> 99 %"), (0.9949, "99 %"), (0.5, "50 %"), (0.0051, "1 %"), (0.0049, "< 1 %"), (0.0, "< 1 %")],
)
def test_no_posterior_is_said_to_be_certain(ledger: Ledger, probability: float, said: str) -> None:
    record = next(r for r in ledger.records() if r.verdict and r.verdict.status == "discard")
    assert record.verdict
    record = record.model_copy(update={"verdict": record.verdict.model_copy(update={"probability": probability})})
    assert judge.chance(probability) == said
    assert ("Real", f"probability {said}") in detail.facts(record)
    assert detail.cells(record).chance == said
    assert sections.near(record)["chance"] == said


def reviewed(record: Record, *kinds: Literal["accept", "reject"], again: str | None = None) -> Record:
    """A kept experiment that a person was to look at, and what one said."""
    made = [Decision(kind=kind, by="Ada", at="") for kind in kinds]
    assert record.verdict
    verdict = record.verdict.model_copy(update={"status": "keep"})
    return record.model_copy(update={"review": Review(decisions=made, again=again), "verdict": verdict})


def test_what_a_person_decides_about_is_not_called_merged_before(ledger: Ledger) -> None:
    baseline, *others = [r for r in ledger.records() if r.values]
    waits, rejected, again = reviewed(others[0]), reviewed(others[1], "reject"), reviewed(others[2], "accept", again="0009")
    records = [baseline, waits, rejected, again]
    assert [r.status for r in records] == ["keep", "waiting", "rejected", "accepted"]
    figures = {name: (value, remark) for name, value, remark in headline.figures(records, spent(records))}
    assert figures["merged"] == ("0", "1 more wait for review")
    assert "a merged gain" not in figures["US dollars"][1]
    picture = prepare(records)
    assert [number for number, _ in picture.waiting] == [int(waits.id)]
    assert [number for number, _ in picture.discarded] == [int(rejected.id), int(again.id)]
    assert picture.heading.endswith("0 kept, 1 waiting for review")
    assert "one that the harness would keep waits for you" in headline.nothing(records, picture)
    assert "was rejected" in headline.nothing([baseline, rejected], prepare([baseline, rejected]))
    assert [detail.cells(record).status for record in records] == ["keep", "waiting", "rejected", "accepted"]
    assert ("Review", "reject    Ada, ") in detail.facts(rejected)
    tree = graph(records, records, {}).splitlines()
    assert [line[:4] for line in tree] == ["| - ", "| - ", "| ? ", "|/", "*   "], "nobody's ground but the baseline's"
    merged = [baseline, reviewed(others[0], "accept")]
    assert headline.figures(merged, spent(merged))[1][:2] == ("kept", "1")
    assert graph(merged, merged, {}).splitlines()[0].startswith("*   ")


def test_what_a_forge_merged_as_one_commit_is_known_by_its_tree(ledger: Ledger) -> None:
    *_, last = [r for r in ledger.records() if r.merged]
    assert last.experiment.commit
    tree = git.tree(ledger.repo, last.experiment.commit)
    squashed = git.commit(ledger.repo, tree, [last.experiment.base], "one commit\n")
    known = reviewed(last.model_copy(update={"experiment": last.experiment.model_copy(update={"tree": tree})}), "accept")
    records = [known if r.id == last.id else r for r in ledger.records()]
    line = lineage(ledger, records, squashed)
    assert next(iter(line.merge.items())) == (last.id, squashed)
    assert line.incumbent[squashed] == last.id
    assert last.id not in lineage(ledger, ledger.records(), squashed).merge, "without a review nobody squashes"


WRAPPED = """\
A run of seconds has no time to learn in attention what follows which
pair of tokens. A table that is looked up by a hash of the last two
tokens learns it at once.

- a first item of a list that goes on for so long that its author wrapped
  it, as people do
- a second one
loss: 2.0
time: 30

    code that is indented, and long enough that it could have been wrapped
    is code

```
and so is what stands between two fences, as long as this line is, where
no line is joined
```
"""


def test_what_was_wrapped_by_its_author_is_wrapped_once() -> None:
    shown = text.prose(WRAPPED, 8000)
    assert shown.split("\n")[0].endswith(
        "what follows which pair of tokens. A table that is looked up by a hash of the last two tokens learns it at once."
    )
    assert (
        "\n- a first item of a list that goes on for so long that its author wrapped it, as people do\n- a second one\n" in shown
    )
    assert "\nloss: 2.0\ntime: 30\n" in shown
    assert "could have been wrapped\n    is code\n" in shown
    assert "as long as this line is, where\nno line is joined\n```" in shown
    short = "Two lines\nof a poem.\n\n\nAnd a gap."
    assert text.prose(short, 8000) == short
    assert text.prose(shown, 8000) == shown
    assert len(text.prose("x y\n" * 100_000, 8000)) <= 8000


def titled(record: Record, title: str, gain: float = 0.0) -> Record:
    assert record.verdict
    verdict = record.verdict.model_copy(update={"status": "discard", "gain": gain})
    return record.model_copy(update={"proposal": Proposal(title=title), "verdict": verdict})


def test_ideas_are_grouped_by_what_they_are_about_not_by_what_they_do_to_it(ledger: Ledger) -> None:
    titles = ["Raise the warmup", "Longer warmups", "Lower weight decay", "Use weight decay on embeddings", "MATRIX_LR 1 -> 2"]
    records = [titled(ledger.records()[0], title, gain) for gain, title in enumerate(titles)]
    groups, others = ideas.grouped(records)
    assert [(group.name, len(group.records)) for group in groups] == [("warmup", 2), ("weight", 2)]
    assert groups[0].records[0].proposal.title == "Longer warmups", "best first"  # type: ignore[union-attr]
    assert [other.proposal.title for other in others] == ["MATRIX_LR 1 -> 2"]  # type: ignore[union-attr]


PATCH = """\
diff --git a/src/a.py b/src/a.py
--- a/src/a.py
+++ b/src/a.py
@@ -1,3 +1,3 @@ def f():
 x = 1
-LR = 0.01  # rate
+LR = 0.025  # rate
---- a comment, not a header
+evil = "\u202e"
"""


def test_a_diff_keeps_its_lines_and_marks_what_differs() -> None:
    (file,) = difference.read(PATCH)
    assert file["name"] == "src/a.py"
    (hunk,) = file["hunks"]
    lines = [(sign, "".join(part for _, part in pieces)) for sign, pieces in hunk["lines"]]
    assert lines == [
        (" ", "x = 1"),
        ("-", "LR = 0.01  # rate"),
        ("+", "LR = 0.025  # rate"),
        ("-", "--- a comment, not a header"),
        ("+", 'evil = "<U+202E>"'),
    ]
    marked = [[part for kind, part in pieces if kind.endswith("!")] for _, pieces in hunk["lines"][1:3]]
    assert marked == [["0.01"], ["0.025"]]
    assert ("c", "# rate") in hunk["lines"][1][1]


def test_a_diff_of_any_size_is_bounded_and_says_so() -> None:
    body = "".join(f"+{'x' * 5000}\n" for _ in range(2000))
    (file,) = difference.read(f"diff --git a/a.b b/a.b\n--- a/a.b\n+++ b/a.b\n@@ -0,0 +1,2000 @@\n{body}")
    assert file["more"]
    assert len(json.dumps(file)) < 60_000
    short = difference.read("diff --git a/a b/a\n--- a/a\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone\n\\ No newline at end of file\n")
    assert short == [{"name": "a", "hunks": [{"at": "@@ -1 +0,0 @@", "lines": [("-", [("", "gone")])]}]}]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("\x1b[31mred\x1b[0m \x1b]0;title\x07x", "red x"),
        ("a\u202eb\u2066c\u200f", "abc"),
        ("half \ud800 pair", "half  pair"),
        ("10%\r50%\r100%\r\nnext", "100%\nnext"),
        ("m" * 1_000_000, None),
    ],
)
def test_logs_are_harmless_and_bounded(given: str, shown: str | None) -> None:
    found = text.log(given, 4000)
    assert found == shown if shown is not None else len(found) < 500
    json.dumps(found, ensure_ascii=False).encode()


def test_what_is_no_number_is_none_and_curves_are_means() -> None:
    assert [text.number(value) for value in (float("nan"), float("inf"), None, 1.23456789)] == [None, None, None, 1.23457]
    table = "".join(f"{n}\t{n % 2}\n" for n in range(1000)) + "x\ty\n1001\tnan\n"
    steps, losses = detail.curve(table)
    assert len(steps) == len(losses) <= detail.CURVE_POINTS
    assert set(losses) <= {0.42857, 0.5, 0.57143}
    assert detail.curve("1\t2\n") == []


def unpacked(block: str) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(block)))


def test_of_too_many_the_most_telling_keep_their_diff(ledger: Ledger) -> None:
    records = ledger.records()
    few = detail.chosen(records, 15)
    kept = {r.id for r in records if r.verdict and r.verdict.status == "keep"}
    assert kept < few
    assert len(few) == 15
    found = detail.details(ledger, records, lineage(ledger, records, git.commit_of(ledger.repo, ledger.lab)))
    assert all("diff" in each for each in found[1:])
    assert [each["id"] for each in unpacked(bundle.chunks(found)[1])] == [r.id for r in records[bundle.CHUNK : 2 * bundle.CHUNK]]


def test_a_page_made_again_is_the_one_that_would_be_made_first(tmp_path: Path) -> None:
    long_night.make(tmp_path, BLOCK + 20, 5)
    ledger = Ledger(git.open_repo(tmp_path), "t")
    again = Page(ledger)
    before = re.findall(r'class="rows">([^<]+)<', again.html("1"))
    assert [len(unpacked(block)["id"]) for block in before] == [BLOCK, 21]
    for name, other in (("0510", "0511"), ("0003", None)):
        refs.delete(ledger.repo, ledger.ref(name))
        if other:
            refs.swap(ledger.repo, ledger.ref(name), str(refs.resolve(ledger.repo, ledger.ref(other))), None)
        ledger.follow()
        html = again.html("2")
        assert html == Page(Ledger(git.open_repo(tmp_path), "t")).html("2")
        after = re.findall(r'class="rows">([^<]+)<', html)
        assert [one == two for one, two in zip(before, after, strict=True)] == ([True, False] if other else [False, False])
        before = after


def test_the_incumbent_is_the_one_that_the_lab_branch_had(ledger: Ledger) -> None:
    records = ledger.records()
    line = lineage(ledger, records, git.commit_of(ledger.repo, ledger.lab))
    latest = "0000"
    for record in records[1:]:
        assert line.incumbent[record.experiment.base] == latest
        assert record.verdict
        latest = record.id if record.verdict.status == "keep" else latest
    assert set(line.merge) == {r.id for r in records[1:] if r.verdict and r.verdict.status == "keep"}


def test_the_graph_shows_who_hangs_from_whom(ledger: Ledger) -> None:
    records = ledger.records()
    line = lineage(ledger, records, git.commit_of(ledger.repo, ledger.lab)).incumbent
    lines = graph(records, records, line).splitlines()
    assert lines[-1].startswith("*   0000 keep")
    assert sum(each.startswith("*") for each in lines) == 1 + len(set(line.values()) - {"0000"})
    assert sum(each.startswith(("| -", "| !")) for each in lines) == 61 - len(set(line.values()))
    assert "(from" not in "".join(lines)
    stale = records[-1].model_copy(update={"experiment": records[1].experiment.model_copy(update={"id": "0060"})})
    assert "(from 0000)" in graph([*records[:-1], stale], records[-1:], line)


def test_nothing_kept_shows_what_came_nearest_and_what_was_learnt(tmp_path: Path) -> None:
    long_night.make(tmp_path / "lab", 30, 0)
    ledger = Ledger(git.open_repo(tmp_path / "lab"), "t")
    html = page(ledger)
    assert "Nothing was better than the baseline by more than the noise." in html
    assert "Nearest misses" in html
    near = headline.nearest(ledger.records())
    chances = [r.verdict.probability for r in near if r.verdict]
    assert chances == sorted(chances, reverse=True)  # type: ignore[type-var]
    assert all(f'href="#{r.id}"' in html for r in near)
    assert "Two runs of the same code differ by" in html
    assert "did not get as far as a value" in html


def test_a_night_that_has_hardly_begun_has_a_page(tmp_path: Path) -> None:
    def begun(record: Record) -> Record:
        return record.model_copy(update={"state": "measuring", "verdict": None, "measurements": []})

    long_night.make(tmp_path / "begun", 0, 0, begun)
    html = page(Ledger(git.open_repo(tmp_path / "begun"), "t"))
    assert "The baseline has no value yet." in html
    long_night.make(tmp_path / "first", 1, 0, lambda record: begun(record) if record.id != "0000" else record)
    html = page(Ledger(git.open_repo(tmp_path / "first"), "t"))
    assert "no experiment has ended yet" in html
    assert unpacked(re.findall(r'class="rows">([^<]+)<', html)[0])["status"] == ["keep", "open"]


def test_a_page_of_a_hundred_is_small_and_names_nobody_else(ledger: Ledger) -> None:
    html = page(ledger)
    assert len(html.encode()) < 1_000_000
    own = re.sub(r"/\*!.*?\*/", "", html, flags=re.DOTALL)
    assert not re.search(r"https?://|//cdn|@import|url\(", own)
    assert re.findall(r"<script[^>]*>", html).count("<script>") == 1
    assert not re.search(r"\son[a-z]+=|style=", re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL))
    style, script = (re.search(f"<{name}>(.*?)</{name}>", html, re.DOTALL)[1] for name in ("style", "script"))  # type: ignore[index]
    assert policy(style, script).replace("'", "&#39;") in html


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = make_lab(tmp_path_factory.mktemp("real"))
    lab.harness("run", "toy", "--tag", "t", "--agent", "better", "--agent", "crash", "--agent", "worse", "--experiments", "3")
    return lab


def test_a_real_night_from_the_command_line(real: Lab) -> None:
    said = real.harness("report").stdout
    assert said.startswith("report-t.html (0.")
    html = (real.path / "report-t.html").read_text()
    assert "Move X towards three" in html
    real.harness("report", "--out", "other.html")
    assert (real.path / "other.html").stat().st_size == (real.path / "report-t.html").stat().st_size
    assert "name a file in a folder that exists" in real.harness("report", "--out", "no/where.html", code=1).stderr
    assert "name a file" in real.harness("report", "--out", ".", code=1).stderr
    (rows,) = re.findall(r'class="rows">([^<]+)<', html)
    assert unpacked(rows)["status"] == ["keep", "keep", "crash", "discard"]
    (chunk,) = re.findall(r'class="chunk">([^<]+)<', html)
    assert "ValueError: 7" in unpacked(chunk)[2]["logs"][0][1]
    assert [row[3] for row in real.rows()] == ["keep", "keep", "crash", "discard"]


def test_the_log_shows_what_is_asked_for(real: Lab) -> None:
    def found(*args: str) -> list[str]:
        return [record["experiment"]["id"] for record in json.loads(real.harness("log", "--json", *args).stdout)]

    assert found() == ["0000", "0001", "0002", "0003"]
    assert found("--status", "keep", "--status", "crash") == ["0000", "0001", "0002"]
    assert found("--agent", "worse") == ["0003"]
    assert found("--grep", "TOWARDS") == ["0001"]
    assert found("--grep", "0002") == ["0002"]
    assert found("--last", "2", "--status", "keep") == ["0000", "0001"]
    assert found("--status", "open") == []
    table = real.harness("log", "--status", "crash").stdout.splitlines()
    assert len(table) == 4
    assert table[-1].startswith("1 crash, 1 discard, 1 keep"), "the summary is of the whole night"
    assert len(real.harness("log", "--tsv", "--agent", "worse").stdout.splitlines()) == 2
    tree = real.harness("log", "--graph").stdout.splitlines()
    assert [line[:4] for line in tree] == ["| - ", "| ! ", "|/", "*   ", "*   "]
    assert "choose from keep, discard" in real.harness("log", "--status", "kept", code=1).stderr
    assert "no experiment of this night is its" in real.harness("log", "--agent", "nobody", code=1).stderr
