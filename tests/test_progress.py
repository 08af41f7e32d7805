"""progress.png: what is shown where is decided by pure functions; the picture itself has to be drawn whatever agents wrote."""

from __future__ import annotations

import math
import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from harness.models import Experiment, Measurement, Metric, Proposal, Record, UserError, Verdict
from harness.report import progress

LOSS, SCORE = Metric(name="loss", resolution=0.01), Metric(name="score", direction="maximize", resolution=0.01)


def record(number: int, status: str, value: float | None = None, metric: Metric = LOSS, title: str = "t") -> Record:
    """A record that was closed with `status`; "open" has its value but no verdict yet."""
    run = Measurement(status="ok" if value is not None else "crash", value=value)
    return Record(
        experiment=Experiment(id=f"{number:04d}", tag="t", agent="a", base="0" * 40),
        state="measuring" if status == "open" else "closed",
        task="toy",
        metric=metric,
        profile="",
        sandbox="",
        harness="",
        program="",
        started="",
        updated="",
        proposal=Proposal(title=title) if number else None,
        measurements=[run],
        verdict=None
        if status == "open"
        else Verdict.model_validate({"status": status, "reason": "why", "sigma": 0.01 if value is not None else None}),
    )


def night(metric: Metric, sign: float) -> list[Record]:
    """One of everything; `sign` mirrors the values for a metric whose direction is the other one."""
    values = [("keep", 5.0), ("discard", 5.1), ("keep", 4.0), ("crash", None), ("void", None), ("invalid", 1.0)]
    values += [("discard", 4.2), ("discard", 90.0), ("keep", 3.5), ("open", 0.5)]
    return [record(n, s, sign * v if v is not None else None, metric, f"title {n}") for n, (s, v) in enumerate(values)]


def long_night(experiments: int, kept: int) -> list[Record]:
    """A synthetic night whose merges crowd at its beginning, as real ones do."""
    chance, best, records = random.Random(7), 1.0, [record(0, "keep", 1.0)]
    merges = {1 + int((experiments - 1) * (index / kept) ** 2) for index in range(kept)}
    for number in range(1, experiments + 1):
        best -= 0.03 / (5 + number / 20) if number in merges else 0.0
        value = best if number in merges else best + abs(chance.gauss(0, 0.01))
        title = f"Raise the learning rate of layer {number} a little bit further"
        records.append(record(number, "keep" if number in merges else "discard", value, title=title))
    return records


def pixels(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


@pytest.mark.parametrize(("metric", "sign"), [(LOSS, 1.0), (SCORE, -1.0)])
def test_every_experiment_is_shown_or_counted(metric: Metric, sign: float) -> None:
    picture = progress.prepare(night(metric, sign))
    assert picture.heading == "toy: 8 experiments, 2 kept"
    assert [(kept.number, kept.value, kept.gain) for kept in picture.kept] == [
        (0, sign * 5, 0),
        (2, sign * 4, 1),
        (8, sign * 3.5, 0.5),
    ]
    assert [kept.title for kept in picture.kept] == ["baseline", "title 2", "title 8"]
    assert picture.discarded == [(1, sign * 5.1), (6, sign * 4.2)]
    assert (picture.out_of_view, picture.failed, picture.void, picture.last) == (1, [3, 5], 1, 9)
    low, high = picture.view
    assert low < min(sign * 3.5, sign * 5.1)
    assert high > max(sign * 3.5, sign * 5.1)
    assert high - low < 3, "90 flattens the picture"


def test_what_was_merged_later_is_the_best_later_whatever_its_number() -> None:
    picture = progress.prepare(night(LOSS, 1.0), ["0008", "0002"])
    assert [(kept.number, kept.gain) for kept in picture.kept] == [(0, 0), (8, 1.5), (2, -0.5)]
    assert picture.since() == [0, 8, 8]
    assert len(picture.discarded) == 2


def test_the_noise_of_the_verdict_is_carried_until_the_next_one() -> None:
    records = night(LOSS, 1.0)
    kept = records[2]
    assert kept.verdict
    records[2] = kept.model_copy(update={"verdict": kept.verdict.model_copy(update={"sigma": 0.07})})
    assert [kept.sigma for kept in progress.prepare(records).kept] == [0.01, 0.07, 0.01]
    records[8] = records[8].model_copy(update={"verdict": Verdict(status="keep", reason="")})
    assert [kept.sigma for kept in progress.prepare(records).kept] == [0.01, 0.07, 0.07]


def test_a_baseline_of_which_little_is_known_does_not_flatten_the_picture() -> None:
    records = night(LOSS, 1.0)
    first = records[0]
    assert first.verdict
    unsure = first.model_copy(update={"verdict": first.verdict.model_copy(update={"value_sd": 0.3})})
    low, high = progress.prepare([unsure, *records[1:]]).view
    assert high > 5.6, "two standard deviations of it are in view where there is room"
    unsure = first.model_copy(update={"verdict": first.verdict.model_copy(update={"value_sd": 30.0})})
    low, high = progress.prepare([unsure, *records[1:]]).view
    assert high - low < 3, "and cut off where there is none"


def test_a_night_without_a_gain_shows_most_of_what_was_tried() -> None:
    records = [record(0, "keep", 1.0), *(record(n, "discard", 1 + n / 10) for n in range(1, 10)), record(10, "discard", 1e6)]
    picture = progress.prepare(records)
    assert picture.out_of_view == 1
    assert picture.view[1] < 3


def test_values_that_are_no_numbers_are_failures() -> None:
    picture = progress.prepare([record(0, "keep", 1.0), record(1, "discard", math.inf), record(2, "discard", math.nan)])
    assert picture.failed == [1, 2]
    assert all(map(math.isfinite, picture.view))


@pytest.mark.parametrize("records", [[], [record(0, "open")], [record(0, "crash")]])
def test_without_a_baseline_there_is_nothing_to_draw(records: list[Record], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to draw yet"):
        progress.plot(records, tmp_path / "progress.png")
    assert not list(tmp_path.iterdir())


def test_labels_never_overlap_and_the_first_ones_win() -> None:
    crowd, widths = [(300.0 + 2 * n, 200.0 - n) for n in range(40)], [150.0] * 40
    placed = progress.place(crowd, widths, (900.0, 400.0))
    assert placed[0] == 1
    assert 2 < len(placed) < 25
    assert set(placed.values()) == {1, -1}
    alone = progress.place([crowd[3]], [150.0], (900.0, 400.0))
    assert alone == {0: 1}


def test_labels_stay_inside() -> None:
    size = (400.0, 300.0)
    assert progress.place([(10.0, 10.0)], [100.0], size) == {0: 1}
    assert progress.place([(390.0, 290.0)], [100.0], size) == {0: -1}
    assert progress.place([(200.0, 295.0)], [100.0], size) == {0: -1}
    assert progress.place([(200.0, 150.0)], [500.0], size) == {}


@pytest.mark.parametrize(("metric", "sign"), [(LOSS, 1.0), (SCORE, -1.0)])
def test_a_picture_of_the_promised_size(metric: Metric, sign: float, tmp_path: Path) -> None:
    progress.plot(night(metric, sign), tmp_path / "progress.png")
    assert pixels(tmp_path / "progress.png") == (2100, 1050)


@pytest.mark.parametrize(
    "title", ["$x_{", r"\frac{$\alpha$}", "🚀 学习率", "مرحبا \u202e a", "\x1b[31mred\x00", "_hidden", "", "w" * 500]
)
def test_whatever_an_agent_wrote_is_drawn(title: str, tmp_path: Path) -> None:
    progress.plot([record(0, "keep", 2.0), record(1, "keep", 1.0, title=title)], tmp_path / "progress.png")
    assert pixels(tmp_path / "progress.png") == (2100, 1050)


def test_titles_are_drawn_as_they_are_written() -> None:
    titles = [
        "cost $5 or $6_a",
        "学习率 0.02 → 0.04",
        "学习率",
        "A title that is far longer than anybody wants to read in a picture",
    ]
    records = [record(0, "keep", 5.0), *(record(4 * n, "keep", 5.0 - n, title=t) for n, t in enumerate(titles, 1))]
    found = {label.get_text() for label in labels(drawn(records))}
    assert found == {"cost $5 or $6_a", "0.02 → 0.04", "#12", "A title that is far longer than anybody want…"}


def test_nothing_is_taken_for_a_formula() -> None:
    metric = Metric(name="$bits_{", direction="maximize")
    records = [record(n, "keep", n + 1.0, metric, "$a$ b").model_copy(update={"task": "$toy$"}) for n in range(2)]
    texts = {text.get_text(): text for text in drawn(records).findobj(Text)}
    assert texts.keys() >= {"$toy$: 1 experiment, 1 kept", "$bits_{ (higher is better)", "$a$ b", "baseline 1", "running best 2"}
    assert not any(text.get_parse_math() for shown, text in texts.items() if "$" in shown)


@pytest.mark.parametrize(("experiments", "kept", "least", "most"), [(3, 1, 1, 1), (125, 22, 18, 22), (10_000, 60, 20, 50)])
def test_labels_are_few_enough_to_be_read(experiments: int, kept: int, least: int, most: int) -> None:
    figure = drawn(long_night(experiments, kept))
    assert least <= len(labels(figure)) <= most
    area = figure.axes[0].get_window_extent()
    for label in labels(figure):
        box = label.get_window_extent()
        assert area.x0 <= box.x0 < box.x1 <= area.x1
        assert area.y0 <= box.y0 < box.y1 <= area.y1


def test_the_largest_gain_is_labelled_even_at_the_very_end() -> None:
    records = [*long_night(125, 12), record(126, "keep", 0.5, title="The last experiment is by far the best of all")]
    assert "The last experiment is by far the best of all" in {label.get_text() for label in labels(drawn(records))}


@pytest.mark.parametrize("values", [(1.0, 1.0), (0.0, 0.0), (1e-9, 2e-9), (3e12, 1e12), (-1.0, -2.0)])
def test_any_range_of_values_is_drawn(values: tuple[float, float], tmp_path: Path) -> None:
    baseline = record(0, "keep", values[0]).model_copy(update={"verdict": Verdict(status="keep", reason="")})
    progress.plot([baseline, record(1, "discard", values[1]), record(2, "crash")], tmp_path / "progress.png")
    progress.plot([baseline], tmp_path / "progress.png")


@pytest.mark.parametrize("name", ["progress", "progress.txt", "progress.png.gz"])
def test_a_suffix_that_is_no_picture_is_the_users_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ends in \.png"):
        progress.plot(night(LOSS, 1.0), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere/progress\.png cannot be written \(No such file or directory\)"):
        progress.plot(night(LOSS, 1.0), tmp_path / "nowhere" / "progress.png")


def test_matplotlib_is_not_imported_before_something_is_drawn() -> None:
    code = "import sys, harness.report.progress; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def drawn(records: list[Record]) -> Figure:
    """The picture before it becomes a file."""
    return progress._draw(progress.prepare(records))


def labels(figure: Figure) -> list[Annotation]:
    return [found for found in figure.findobj(Annotation) if isinstance(found, Annotation)]
