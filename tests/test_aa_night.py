"""A night whose changes change nothing: what the judge keeps of it is luck. Greedy shows how much luck there was."""

from __future__ import annotations

import pytest
from conftest import Lab

SOLUTION = """\
import hashlib, os, pathlib, random
source = pathlib.Path(__file__).read_bytes()
luck = random.Random(hashlib.sha256(source + os.environ["SEED"].encode()).digest()).gauss(0, 1)
pathlib.Path("toy/answer.txt").write_text(str(9.0 + luck))
# 0
"""
EXPERIMENTS = 200


@pytest.mark.heavy
@pytest.mark.parametrize(("rule", "share"), [("bayes", 0.02), ("greedy", None)])
def test_of_two_hundred_changes_of_a_comment_hardly_one_is_kept(lab: Lab, rule: str, share: float | None) -> None:
    (lab.path / "toy/solution.py").write_text(SOLUTION)
    lab.edit("toy/task.yaml", "resolution: 0.01", "resolution: 0.01, noise: 1.0")
    lab.edit("toy/task.yaml", "stop:", f"judge: {rule}\nstop:")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "nothing but noise")
    lab.agent("remark", "sed -i 's/^# .*/# {seed}/' toy/solution.py; NOTE", "Another remark")
    with (lab.path / "agents.yaml").open("a") as file:
        file.write("  prompt: {via: none}\n")  # it reads no words, so it is asked for nothing else when it is stuck
    night = lab.start("run", "--tag", "t", "--agent", "remark", "--experiments", str(EXPERIMENTS), "--sandbox", "none")
    assert night.wait(1800) == 0, (lab.path.parent / "night.log").read_text()[-2000:]
    statuses = [row[3] for row in lab.rows()][1:]
    assert len(statuses) == EXPERIMENTS
    assert set(statuses) <= {"keep", "discard"}
    if share is not None:
        assert statuses.count("keep") <= share * EXPERIMENTS
    else:
        assert statuses.count("keep") > 0.02 * EXPERIMENTS  # lower is better keeps about the logarithm of their number
