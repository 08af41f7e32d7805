"""Certificates: what they measure, what they say, how they survive, and what never opens the test split."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab

from harness.certificates import Certificate
from harness.certify import conclude
from harness.report import sealed
from harness.steps import Step

MORTAL = Path(__file__).with_name("mortal.py")
RUN = ("run", "--tag", "t", "--agent", "better", "--experiments", "1")
# The test split is a hundred further away, so whoever looked at it shows it; and every run has a noise of its own.
NOISE = "import random; X += random.Random(os.environ['SEED'] + str(X)).gauss(0, 0.05)\npathlib.Path"
SPLIT = "'value': abs(x - 3) + 100 * (os.environ['HARNESS_SPLIT'] == 'test')"


def prepare(lab: Lab, nap: float = 0.0, sealed: bool = True) -> None:
    """A lab whose task has a test split and noise, with one experiment merged; the runs of a certificate take a nap."""
    lab.edit(
        "toy/solution.py",
        "pathlib.Path",
        NOISE.replace("import random", f"import random, time; time.sleep({nap} * (int(os.environ['SEED']) > 10**6))"),
    )
    lab.edit("toy/evaluate.py", '"value": abs(x - 3)', SPLIT)
    lab.edit("toy/evaluate.py", "import json", "import json, os")
    lab.edit("toy/task.yaml", "outputs:", f"test_split: {str(sealed).lower()}\noutputs:")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "a task with a test split")
    lab.git("config", "user.name", "Ada")
    lab.git("config", "user.email", "ada@localhost")
    lab.harness(*RUN)
    assert [row[3] for row in lab.rows()] == ["keep", "keep"]


def parsed(lab: Lab, *args: str, code: int = 0) -> Any:
    return json.loads(lab.harness(*args, "--json", code=code).stdout)


def certificates(lab: Lab) -> list[dict[str, Any]]:
    refs = lab.git("for-each-ref", "--format=%(refname)", "refs/certificates").splitlines()
    return [json.loads(lab.git("show", f"{ref}:certificate.json")) for ref in refs]


def seeds_of(runs: list[dict[str, Any]]) -> list[int]:
    return [run["seed"] for run in runs]


def test_tip_and_baseline_are_measured_on_the_test_split_with_the_same_fresh_seeds(lab: Lab) -> None:
    prepare(lab)
    before = parsed(lab, "log"), lab.harness("log", "--tsv").stdout, lab.git("log", "--format=%H %B", "autoresearch/t")
    said = lab.harness("certify", "--tag", "t", "--seeds", "2").stdout
    (found,) = certificates(lab)
    baseline, tip = found["measurements"]["baseline"], found["measurements"]["tip"]
    assert seeds_of(baseline) == seeds_of(tip) == found["seeds"]
    assert len({*found["seeds"]} - {run["seed"] for record in before[0] for run in record["measurements"]}) == 2
    assert [(run["status"], run["split"]) for run in baseline + tip] == [("ok", "test")] * 4
    assert all(101.5 < run["value"] < 102.5 for run in baseline)
    assert all(100.5 < run["value"] < 101.5 for run in tip)
    assert [found["baseline"], found["tip"]] == lab.git("rev-parse", "main", "autoresearch/t").splitlines()
    assert found["by"] == "Ada <ada@localhost>"
    result = found["result"]
    assert result["gain"] == pytest.approx(result["baseline"] - result["tip"])
    figures = [f"{result[name]:.2f}" for name in ("baseline", "tip", "gain", "low", "high")]
    wanted = (
        "distance {} -> {}: better by {}, 95 % interval {} to {} (paired t), 2 seeds each, sealed test split; each opening of "
    )
    assert said.splitlines()[-1].replace(", so it may be chance", "") == wanted.format(*figures) + (
        "the split makes it a little less sealed: this was opening 1"
    )
    # What is known is shown, not measured again; records, their table and the lab branch know nothing of it.
    assert lab.harness("certify", "--seeds", "2").stdout == lab.harness("show", "c1").stdout == said
    assert parsed(lab, "show", "c1")["sentence"] == said.splitlines()[-1]
    assert (parsed(lab, "log"), lab.harness("log", "--tsv").stdout, lab.git("log", "--format=%H %B", "autoresearch/t")) == before
    assert lab.harness("log").stdout.endswith("sealed test split opened once; certificates: c1, see `harness show c1`\n")
    lab.git("update-ref", "refs/certificates/another-night/1", "refs/certificates/t/1")
    assert parsed(lab, "status")["test_split_opened"] == 2
    assert "sealed test split opened 2 times; certificates: c1, see" in lab.harness("status").stdout
    # What was certified stays, whatever is deleted.
    for ref in ("refs/heads/autoresearch/t", "refs/experiments/t/0000", "refs/experiments/t/0001"):
        lab.git("update-ref", "-d", ref)
    lab.git("reflog", "expire", "--expire=now", "--all")
    lab.git("gc", "-q", "--prune=now")
    assert "X = 4.0" in lab.git("show", f"{found['tip']}:toy/solution.py")
    assert "train-tip-2.log" in lab.git("ls-tree", "--name-only", "refs/certificates/t/1")


@pytest.mark.heavy
def test_every_opening_counts_whichever_night_it_was_for(lab: Lab) -> None:
    prepare(lab)
    lab.harness("certify", "--seeds", "2")
    lab.git("update-ref", "refs/certificates/another-night/1", "refs/certificates/t/1")
    lab.harness("run", "--tag", "t", "--agent", "better", "--experiments", "2")  # the tip moves on
    assert "this was opening 3" in lab.harness("certify", "--tag", "t", "--seeds", "2").stdout
    assert "sealed test split opened 3 times; certificates: c1, c2," in lab.harness("log", "--tag", "t").stdout
    assert parsed(lab, "status")["test_split_opened"] == 3
    first, second = certificates(lab)[1:]
    assert first["tip"] != second["tip"]
    assert not {*first["seeds"]} & {*second["seeds"]}


@pytest.mark.heavy
def test_a_task_without_a_test_split_is_told_plainly(lab: Lab) -> None:
    prepare(lab, sealed=False)
    said = lab.harness("certify", "--seeds", "2").stdout
    assert "2 seeds each, validation data: the task has no test split" in said
    assert "opening" not in said
    (found,) = certificates(lab)
    assert all(run["value"] < 3 and run["split"] == "validation" for run in found["measurements"]["tip"])
    assert lab.harness("log").stdout.endswith("\ncertificates: c1, see `harness show c1`\n")
    assert parsed(lab, "status")["test_split_opened"] == 0


@pytest.mark.heavy
def test_nothing_but_certify_opens_the_test_split(lab: Lab) -> None:
    prepare(lab)
    lab.harness("replicate", "1")
    lab.harness("baseline", "--tag", "t", "--seeds", "2")
    assert parsed(lab, "measure")["split"] == "validation"
    lab.env["HARNESS_SPLIT"] = "test"  # nor does a variable of the user's
    assert parsed(lab, "measure", "autoresearch/t")["value"] < 3
    values = [run["value"] for record in parsed(lab, "log") for run in record["measurements"]]
    assert len(values) == 4
    assert max(values) < 3
    assert certificates(lab) == []


@pytest.mark.heavy
def test_a_referee_that_does_not_know_the_split_certifies_nothing(lab: Lab) -> None:
    """Its number would be validation data under the name of the test split."""
    lab.edit("toy/task.yaml", "command:", "referee: [python, toy/referee.py]\ncommand:")
    (lab.path / "toy/referee.py").write_text(
        "import sys\nfrom harness.referee import measure, serve\n"
        "forgetful = lambda asked: measure(asked.model_copy(update={'split': 'validation'}))\n"
        "sys.exit(serve(forgetful, sys.argv[1:]))\n"
    )
    lab.git("add", "toy")
    prepare(lab)
    assert "was asked for the test split and measured on validation" in lab.harness("certify", code=1).stderr
    assert certificates(lab)[0]["measurements"] == {"baseline": [], "tip": []}


@pytest.mark.heavy
def test_what_cannot_be_certified(lab: Lab) -> None:
    lab.harness("baseline", "--tag", "t")
    lab.harness("run", "--tag", "t", "--agent", "worse", "--experiments", "1")
    assert "nothing was merged into autoresearch/t yet" in lab.harness("certify", code=1).stderr
    assert "there is no certificate c1" in lab.harness("show", "c1", code=1).stderr
    lab.harness("certify", "--seeds", "1", code=2)
    assert certificates(lab) == []


def made(direction: str = "minimize", **values: list[float | None]) -> Certificate:
    """A certificate with these values, one a seed; None for a run that crashed."""
    runs = {
        side: [
            {"status": "crash" if value is None else "ok", "value": value, "seed": seed, "split": "test"}
            for seed, value in enumerate(values[side])
        ]
        for side in ("baseline", "tip")
    }
    metric = {"name": "m", "direction": direction, "resolution": 0.001}
    told = dict.fromkeys(("tag", "by", "task", "profile", "sandbox", "harness", "baseline", "tip", "started", "updated"), "x")
    about = {"number": 1, "opening": 2, "split": "test", "metric": metric, "seeds": list(range(len(values["tip"])))}
    found = Certificate.model_validate({**told, **about, "measurements": runs, "state": "closed"})
    return found.model_copy(update={"result": conclude(found)})


@pytest.mark.parametrize(
    ("direction", "baseline", "tip", "wanted"),
    [
        ("minimize", [2.0, 2.1, 2.2], [1.0, 1.2, 1.1], "better by 1.000, 95 % interval 0.752 to 1.248 (paired t), 3 seeds"),
        ("maximize", [2.0, 2.1, 2.2], [1.0, 1.2, 1.1], "worse by 1.000, 95 % interval 0.752 to 1.248 (paired t), 3 seeds"),
        ("maximize", [1.0, 1.2, 1.1], [2.0, 2.1, 2.2], "better by 1.000, 95 % interval 0.752 to 1.248 (paired t), 3 seeds"),
        ("minimize", [2.0, 2.1], [1.9, 2.1], "better by 0.050, 95 % interval -0.585 to 0.685 (paired t), so it may be chance"),
        ("minimize", [2.0, 2.0], [2.0, 2.0], "better by 0.000, 95 % interval 0.000 to 0.000 (paired t), so it may be chance"),
        # Without all the pairs the variances are added: 0.01 / 3 + 0.005 / 2, 2.88 degrees of freedom, so 3.26 x 0.0764.
        (
            "minimize",
            [2.0, 2.1, 2.2],
            [1.0, None, 1.1],
            "better by 1.050, 95 % interval 0.801 to 1.299 (Welch's t), 3 seeds each, 1 of",
        ),
        ("minimize", [2.0, 2.1, 2.2], [1.0, None, None], "nothing can be said: fewer than two runs of a side ended well"),
    ],
)
def test_the_sentence_of(direction: str, baseline: list[float | None], tip: list[float | None], wanted: str) -> None:
    sentence = sealed.sentence(made(direction, baseline=baseline, tip=tip))
    assert wanted in sentence
    assert sentence.endswith("sealed test split; each opening of the split makes it a little less sealed: this was opening 2")


def mortal(lab: Lab, *words: str) -> int:
    done = subprocess.run(
        [sys.executable, MORTAL, *words], cwd=lab.path, env=lab.env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode in (0, -9), done.stdout + done.stderr
    return done.returncode


ON_THE_WAY = (
    *(Step.OPENED, Step.EXPORTED, Step.RUN_STARTED, Step.RUN_GOES_ON, Step.RUN_ENDED),
    *(Step.CERTIFICATE_MEASURED, Step.CERTIFIED),
)


@pytest.mark.heavy
def test_killed_at_every_step_a_certificate_loses_at_most_the_run_in_progress(lab: Lab) -> None:
    """It dies at its first step, the one that continues it at the next, and so on, and once more between two runs."""
    prepare(lab, nap=0.3)
    kept: dict[str, list[Any]] = {"baseline": [], "tip": []}
    for nth, step in [*(("1", step) for step in ON_THE_WAY[:-1]), ("2", Step.CERTIFICATE_MEASURED), ("1", Step.CERTIFIED)]:
        assert mortal(lab, "kill", step.name, nth, "certify", "--seeds", "2") == -9, step
        assert lab.strays() == [], step
        (found,) = certificates(lab)
        runs = found["measurements"]
        assert all(runs[side][: len(kept[side])] == kept[side] for side in kept), step
        assert sum(map(len, runs.values())) == {"CERTIFICATE_MEASURED1": 1, "CERTIFICATE_MEASURED2": 3, "CERTIFIED1": 4}.get(
            step.name + nth, 0
        )
        kept = runs
    said = lab.harness("certify", "--seeds", "2").stdout
    (found,) = certificates(lab)
    assert found["state"] == "closed"
    assert found["measurements"] == kept
    assert seeds_of(kept["baseline"]) == seeds_of(kept["tip"]) == found["seeds"]
    assert said.endswith("this was opening 1\n")
    assert not list(lab.state.glob("runs/t/*"))


@pytest.mark.heavy
def test_ctrl_c_finishes_the_run_in_progress_and_says_what_continues(lab: Lab) -> None:
    prepare(lab, nap=1.0)
    child = lab.start("certify", "--seeds", "2")
    try:
        while not list(lab.state.glob("runs/t/c1-baseline-0/referee.log")):
            assert child.poll() is None
            time.sleep(0.01)
        assert "c1 baseline: run 1 of 2" in lab.harness("status").stdout
        os.kill(child.pid, signal.SIGINT)
        assert child.wait(30) == 130
    finally:
        child.kill()
        child.wait()
    assert "continue with: harness certify --tag t --seeds 2" in (lab.path.parent / "night.log").read_text()
    (found,) = certificates(lab)
    assert [len(runs) for runs in found["measurements"].values()] == [1, 0]
    assert "not finished: 1 of 4 runs are made" in lab.harness("show", "c1").stdout
    assert "certificates: c1 (not finished)" in lab.harness("log").stdout
    lab.harness("certify", "--seeds", "2")
    assert certificates(lab)[0]["measurements"]["baseline"][0] == found["measurements"]["baseline"][0]
