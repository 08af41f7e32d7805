"""What agents must not learn of a score: the test split's at all, and anybody's beyond the task's resolution.

The attack is snoop.py, run by an agent and by a candidate on everything that they can read, while the exact figures lie
wherever the harness keeps them. The control is the same search without a sandbox, which finds all of them.
"""

from __future__ import annotations

import base64
import json
import math
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab
from test_judge import record

from harness import judge, prompt
from harness.messages import merge_message
from harness.models import Metric, Proposal, Record, Task, Verdict

SNOOP = Path(__file__).with_name("snoop.py").read_text()
SOLUTION = "import random; X += random.Random(os.environ['SEED'] + str(X)).gauss(0, 0.02)\npathlib.Path"
VALUE = '"value": 3000 + 2000 * abs(x - 3) + 1111 * (os.environ["HARNESS_SPLIT"] == "test")'


def prepare(lab: Lab, root: str) -> None:
    """Scores of four digits and a fraction that nobody may see: the resolution is 10. Agents and candidates that snoop."""
    lab.edit("toy/solution.py", "pathlib.Path", SOLUTION)
    lab.edit("toy/evaluate.py", '"value": abs(x - 3)', VALUE)
    lab.edit("toy/evaluate.py", "import json", "import json, os")
    lab.edit("toy/task.yaml", "outputs:", "test_split: true\noutputs:")
    lab.edit("toy/task.yaml", "resolution: 0.01", "resolution: 10")
    lab.edit("toy/task.yaml", "propose_s: 20, run_s: 5", "propose_s: 60, run_s: 60")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "a test split")
    code = base64.b64encode(SNOOP.replace('ROOT = "/"', f"ROOT = {root!r}").encode()).decode()
    lab.agent("first", "sed -i 's/^X = 5.0/X = 4.0/' toy/solution.py; NOTE")
    snoop = f"import base64; exec(base64.b64decode('{code}'))"
    lab.agent(
        "second",
        f"""{{python}} -c "{snoop}"; sed -i 's/^X = 4.0/X = 3.25/' toy/solution.py; echo "{snoop}" >> toy/solution.py""",
    )
    lab.agent("third", f'{{python}} -c "{snoop}"')


def numbers(value: Any) -> Iterator[float]:
    """Every number that looks like a score in a JSON value."""
    if isinstance(value, float) and 1000 <= abs(value) < 10_000:
        yield abs(value)
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from numbers(each)


def told(text: str, secrets: set[float]) -> set[float]:
    """The secrets of which a text of snoop.py shows at least the first decimal, cut or rounded."""
    seen = [number for line in text.splitlines() if line.startswith("SEEN") for number in line.split()[1:]]
    assert "SEEN" in text, text
    return {
        secret for secret in secrets for number in seen if abs(secret - float(number)) < 10.0 ** -len(number.partition(".")[2])
    }


@pytest.mark.parametrize("sandbox", ["bubblewrap", pytest.param("none", marks=pytest.mark.heavy)])
def test_no_agent_and_no_candidate_can_find_an_exact_or_a_sealed_score(lab: Lab, sandbox: str) -> None:
    search(lab, sandbox)


@pytest.mark.heavy
def test_nor_can_the_candidate_that_is_certified_or_the_agent_after_it(lab: Lab) -> None:
    secrets = search(lab, "bubblewrap")
    lab.harness("certify", "--seeds", "2")
    runs = [lab.git("show", f"refs/certificates/t/2:train-tip-{number}.log") for number in (1, 2)]
    secrets |= set(numbers(json.loads(lab.git("show", "refs/certificates/t/2:certificate.json"))))
    lab.harness("run", "--tag", "t", "--agent", "third", "--experiments", "3")
    assert [told(text, secrets) for text in (*runs, (lab.state / "logs/t/0003.log").read_text())] == [set()] * 3


def search(lab: Lab, sandbox: str) -> set[float]:
    """A merged experiment, a certificate, and then the attack; the secrets that it did not find, or in a control did."""
    prepare(lab, "/" if sandbox == "bubblewrap" else str(lab.path.parent))
    options = ("--tag", "t", "--sandbox", sandbox)
    lab.harness("run", *options, "--agent", "first", "--experiments", "1")
    lab.harness("certify", "--seeds", "2")
    refs = lab.git("for-each-ref", "--format=%(refname)", "refs/experiments", "refs/certificates").splitlines()
    names = ["certificate" if ref.startswith("refs/cert") else "record" for ref in refs]
    kept = [lab.git("show", f"{ref}:{name}.json") for ref, name in zip(refs, names, strict=True)]
    secrets = {number for text in kept for number in numbers(json.loads(text)) if number % 10}
    assert len(secrets) >= 2 + 4 + 3  # the two runs of the night, those of the certificate, their means and gain
    for place in ("runs/u/c1-tip-0/measurement.json", "status/u.json", "logs/u/0001.log"):  # another night's, at this moment
        (lab.state / place).parent.mkdir(parents=True, exist_ok=True)
        (lab.state / place).write_text(kept[-1])
    lab.harness("run", *options, "--agent", "second", "--experiments", "2")
    assert [row[3] for row in lab.rows()] == ["keep", "keep", "keep"]
    agent, candidate = (lab.state / "logs/t/0002.log").read_text(), lab.git("show", "refs/experiments/t/0002:train-1.log")
    found = told(agent, secrets), told(candidate, secrets)
    assert found == ((set(), set()) if sandbox == "bubblewrap" else (secrets, secrets))
    return secrets


@pytest.mark.parametrize(
    ("evaluate", "verdict"),
    [
        ("sys.exit(f'{3000 + x * 1000:.4f} is out of range')", "invalid"),
        pytest.param("print(json.dumps({'score': 3000 + x * 1000})); sys.exit()", "void", marks=pytest.mark.heavy),
    ],
)
def test_an_evaluation_that_fails_tells_agents_nothing_of_what_it_saw(lab: Lab, evaluate: str, verdict: str) -> None:
    """Its last words would be a way around the rounding; people find them in the record."""
    lab.edit("toy/evaluate.py", "print(", f"if x > 6: {evaluate}\nprint(")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "an evaluation that may fail")
    lab.agent("reader", "cat lab/history.tsv lab/experiments/0001/*; sed -i 's/5.0/4.5/' toy/solution.py")
    lab.agent("far", "sed -i 's/5.0/7.0625/' toy/solution.py")
    lab.harness("run", "--tag", "t", "--agent", "far", "--agent", "reader", "--experiments", "2", code=0)
    assert [row[3] for row in lab.rows()][1] == verdict
    seen = (lab.state / "logs/t/0002.log").read_text()
    assert f"verdict: {verdict}" in seen
    assert ("# is out of range" in seen) == (verdict == "invalid")
    assert "10062.5" not in seen
    assert "10062.5" in lab.harness("show", "1").stdout


RESOLUTIONS = (0.0002, 0.01, 0.25, 1.0, 5.0)
QUANTITY = re.compile(r"(?<![\d.])-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?(?![\d.]*\d)")


def judged(
    resolution: float, values: list[float], baseline: list[float], direction: str, noise: float
) -> tuple[Task, Record, Record]:
    """A candidate with its verdict, as the judge gives it, and the baseline."""
    metric = Metric.model_validate({"name": "m", "direction": direction, "resolution": resolution, "noise": noise})
    task = Task(name="toy", program="p", editable=["f"], metric=metric)
    first, candidate = record("0000", *baseline, metric=metric), record("0001", *values, metric=metric)
    verdict = judge.judge_baseline(task, first)
    first = first.model_copy(update={"verdict": verdict, "state": "closed"})
    verdict = judge.judge(task, judge.standing(task, first, first.experiment.base, [first, candidate]), first, first, candidate)
    if not isinstance(verdict, Verdict):  # a close call: the judge wants another run
        verdict = Verdict(status="discard", reason="undecided")
    proposal = Proposal(title="a title", hypothesis="a hypothesis")
    return task, first, candidate.model_copy(update={"verdict": verdict, "state": "closed", "proposal": proposal})


def shown(task: Task, first: Record, candidate: Record) -> str:
    """Everything that is made for agents of two records, but for what a file system has to hold."""
    records = [first, candidate]
    texts = [merge_message(candidate, candidate.verdict)] if candidate.verdict else []
    texts += [prompt.history(task, records), prompt.render(task, "a program", records, first, "0002")]
    texts += [each.verdict.reason for each in records if each.verdict]
    return "\n".join(texts)


def draws(count: int) -> Iterator[tuple[random.Random, float, float, float, str]]:
    """Random worlds: a resolution, a centre, a spread of the runs, a direction."""
    for number in range(count):
        rng = random.Random(number)
        resolution = rng.choice(RESOLUTIONS)
        yield (
            rng,
            resolution,
            rng.uniform(10, 400) * resolution,
            rng.uniform(0.1, 4) * resolution,
            rng.choice(("minimize", "maximize")),
        )


def test_a_value_is_shown_as_the_nearest_multiple_of_the_resolution() -> None:
    for rng, resolution, centre, _, _ in draws(300):
        metric, value = Metric(name="m", resolution=resolution), centre * rng.choice((-1, 1))
        assert abs(metric.rounded(value) - value) <= resolution * 0.5001
        assert float(metric.shown(value)) == metric.rounded(value) == metric.rounded(metric.rounded(value))
        assert abs(metric.rounded(value) / resolution - round(metric.rounded(value) / resolution)) < 1e-6
    assert Metric(name="m", resolution=0.01).shown(-0.001) == "0.00"


def test_no_reason_shows_a_finer_figure_of_the_metric_than_the_resolution() -> None:
    """Differences and standard deviations too: a gain to two digits beside a rounded score would give the score away."""
    for rng, resolution, centre, spread, direction in draws(300):
        values = [centre + rng.gauss(0, 6 * spread)]
        _, first, candidate = judged(
            resolution, values, [centre + rng.gauss(0, spread) for _ in range(3)], direction, 0.3 * spread
        )
        for verdict in (first.verdict, candidate.verdict):
            assert verdict is not None
            text = re.sub(r"[\d.]+ (standard deviations|seeds?|runs?)", "", verdict.reason)
            for quantity in QUANTITY.findall(text):
                steps = float(quantity.replace(",", "")) / resolution
                assert math.isclose(steps, round(steps), abs_tol=1e-6), (resolution, verdict.reason)


def test_what_agents_see_is_the_same_for_all_scores_that_round_to_the_same() -> None:
    """The Ladder mechanism (Blum and Hardt, 2015): between two steps of the resolution nothing is learnt but the verdict."""
    compared = 0
    for rng, resolution, centre, spread, direction in draws(300):
        middle = round((centre + rng.gauss(0, 5 * spread)) / resolution) * resolution
        baseline = [centre + rng.gauss(0, spread) for _ in range(3)]
        twins = [
            judged(resolution, [middle + rng.uniform(-0.49, 0.49) * resolution], baseline, direction, spread) for _ in range(2)
        ]
        one, other = (twin[2].verdict for twin in twins)
        same = len({twin[2].metric.shown(twin[2].value) for twin in twins}) == 1  # of a kept one, what is believed is shown
        if one and other and same and (one.status, one.runs) == (other.status, other.runs):
            compared += 1
            assert shown(*twins[0]) == shown(*twins[1])
    assert compared > 200
