"""The picture of a pull request: a chart in Mermaid's grammar, of numbers alone, however strange these are."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from test_offers import AROUND, outside, record

from harness import chart, offers

NUMBER = r"-?\d+(?:\.\d+)?"
GRAMMAR = re.compile(
    rf"""```mermaid
%%\{{init: .*\}}%%
xychart-beta
  x-axis (?:"[^"\n]+" {NUMBER} --> {NUMBER}|\["\d+"(?:, "\d+")*\])
  y-axis "[\w .%/-]+" (?P<low>{NUMBER}) --> (?P<high>{NUMBER})
(?:  line \[{NUMBER}(?:, {NUMBER})*\]\n)+```"""
)


def tsv(losses: list[float]) -> str:
    return "".join(f"{3 * step}\t{loss:.5f}\n" for step, loss in enumerate(losses))


def test_a_curve_is_drawn_over_the_later_part_of_its_own_run() -> None:
    long, short = chart.resampled(tsv([1000.0 - n for n in range(1000)])), chart.resampled(tsv([10.0, 8.0, 6.0, 4.0, 2.0]))
    assert (len(long), len(short)) == (chart.POINTS, chart.POINTS)
    assert (long[0], long[-1]) == (pytest.approx(1000 - 999 * chart.LATE), 1.0)
    assert (short[0], short[-1]) == (pytest.approx(10 - 8 * chart.LATE), 2.0)
    assert chart.resampled("") == chart.resampled(tsv([1.0, 2.0])) == []


@pytest.mark.parametrize(
    "values",
    [[1.0, 1.0], [1e-9, 2e-9], [-1e300, 1e300], [0.0, 0.0], [123456.789, 0.5], [-0.25, -0.75]],
    ids=str,
)
def test_strange_numbers_are_still_a_chart(values: list[float]) -> None:
    found = GRAMMAR.fullmatch("\n".join(chart.chart('["0000", "0001"]', None, None, "loss", [[chart.fit(v) for v in values]])))
    assert found
    assert float(found["low"]) < float(found["high"])


def test_what_is_not_finite_is_no_point() -> None:
    curve = tsv([9.0, math.nan, 7.0, math.inf, 5.0, 4.0, 3.0])
    assert all(math.isfinite(value) for value in chart.resampled(curve))


def test_a_hostile_name_of_a_metric_stays_in_its_text() -> None:
    name = chart.label('x"] --> 1\n```\n@torvalds #1 <img src=x onerror=alert(1)>')
    block = "\n".join(chart.chart('["0000"]', None, None, name, [[1.0, 2.0]]))
    assert GRAMMAR.fullmatch(block)
    shown = offers.offer(record("A small change"), replace(AROUND, picture=["words", "", block]))
    assert "xychart" not in outside(shown.body)
    assert "xychart-beta" in shown.body
