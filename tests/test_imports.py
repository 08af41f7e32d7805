"""An upstream history: brought along, shown to agents as unverified, never a record, and measured on request."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Lab
from test_review import lab2, record, statuses, tip

__all__ = ["lab2"]
HEAD = "commit\tdistance\tmemory_gb\tstatus\tdescription\n"


def upstream(lab: Lab) -> str:
    """A branch of upstream's with one commit a kept experiment, and its results.tsv."""
    lab.git("switch", "-q", "-c", "autoresearch/mar5")
    rows = [f"{lab.git('rev-parse', '--short=7', 'HEAD')}\t4.000000\t1.0\tkeep\tbaseline\n"]
    for constant, value in (("A", 3.0), ("B", 1.0)):
        lab.edit("toy/solution.py", f"{constant} = {5.0 if constant == 'A' else 2.0}", f"{constant} = {value}")
        lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", f"{constant} lower")
        rows.append(f"{lab.git('rev-parse', '--short=7', 'HEAD')}\t0.000001\t1.0\tkeep\t{constant} lower\n")
    rows.append("deadbee\t0.000000\t0.0\tcrash\tdouble \x1b[31mwidth\n")
    lab.git("switch", "-q", "main")
    return HEAD + "".join(rows)


@pytest.mark.heavy
def test_a_history_is_shown_as_unverified_and_one_of_it_is_measured(lab2: Lab) -> None:
    lab2.harness("baseline", "--tag", "t")
    (lab2.path / "results.tsv").write_text(upstream(lab2))
    said = lab2.harness("import", "--tag", "t", "--results", "results.tsv", "--branch", "autoresearch/mar5").stdout
    assert "mar5: 4 experiments of autoresearch/mar5, unverified; 3 of their commits are here" in said
    assert "`harness replicate mar5/3 --tag t` measures one" in said
    rows = json.loads(lab2.harness("import", "--tag", "t", "--json").stdout)[0]["rows"]
    assert [row["status"] for row in rows] == ["keep", "keep", "keep", "crash"]
    assert (rows[3]["commit"], rows[3]["value"], rows[3]["title"]) == (None, None, "double [31mwidth")
    assert statuses(lab2) == ["keep"]
    lab2.git("branch", "-D", "autoresearch/mar5")
    lab2.git("reflog", "expire", "--expire=now", "--all")
    lab2.git("gc", "-q", "--prune=now")
    lab2.agent("reader", "cat lab/imported/mar5/history.tsv lab/imported/mar5/2.patch; sed -i 's/^T = .*/T = 9/' toy/solution.py")
    lab2.harness("run", "--tag", "t", "--agent", "reader", "--experiments", "1")
    seen = lab2.git("show", "refs/experiments/t/0001:transcript.txt")
    assert "0.000001\t1.0\tunverified keep\tA lower" in seen
    assert "+A = 3.0" in seen
    assert record(lab2, "0001")["verdict"]["status"] == "discard"  # against the baseline, not against 0.000001
    assert "0002 B lower: keep: distance 3.00 against 4.00" in lab2.harness("replicate", "mar5/3", "--tag", "t").stdout
    assert record(lab2, "0002")["experiment"]["agent"] == "imported"
    assert lab2.git("rev-parse", "autoresearch/t^{tree}") == record(lab2, "0002")["experiment"]["tree"]


@pytest.mark.heavy
def test_what_cannot_be_measured_says_why(lab2: Lab) -> None:
    lab2.harness("run", "--tag", "t", "--agent", "idle", "--experiments", "1")
    (lab2.path / "results.tsv").write_text(upstream(lab2))
    lab2.harness("import", "--tag", "t", "--results", "results.tsv", "--branch", "autoresearch/mar5")
    before = tip(lab2)
    wanted = {"mar5/4": "deadbee, which is not here", "mar5/9": "no imported experiment", "x/1": "no imported experiment"}
    for name, why in {**wanted, "mar5/1": "it changes nothing"}.items():
        assert why in lab2.harness("replicate", name, "--tag", "t", code=1).stderr
    assert tip(lab2) == before


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a\tb\n", "line 1: the columns have to be commit, the metric, memory_gb, status, description"),
        (f"{HEAD}abc1234\tfast\t1\tkeep\tx\n", "line 2: this is no row of results.tsv"),
        (f"{HEAD}abc1234\t1\t1\tmaybe\tx\n", "line 2: this is no row of results.tsv"),
    ],
)
def test_a_broken_table_is_refused_with_its_line(lab2: Lab, tmp_path: Path, text: str, wanted: str) -> None:
    from harness import git, imports
    from harness.models import UserError

    (tmp_path / "results.tsv").write_text(text)
    with pytest.raises(UserError, match=wanted):
        imports.read_table(git.open_repo(lab2.path), tmp_path / "results.tsv")
    assert lab2.git("for-each-ref", "refs/imports") == ""
