from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.agents.constants import declared, edited, literals
from harness.agents.tuner import Tried, Tuner, code_of

ROOT = Path(__file__).parents[1]
FILE = "src/train.py"
TOY = """\
import math

RATE = 2e-2  # tune: 0.005..0.08 log - the learning rate
DEPTH: int = 4   # tune: 2..8 step 2
DROP = 0.5# tune: 0..1
HEADS = 2  # tune: {1, 2, 4}
FIXED = 7  # not for tuning: 1..9
print("é", RATE)  # the rest of the file
"""
HEADER = "id\tcommit\tmetric\tmemory_gb\tstatus\tagent\ttitle\n"


def lab(tree: Path, *experiments: tuple[str, str, str | None], direction: str = "minimize") -> None:
    """A worktree as the harness prepares it; an experiment is (metric, status, its file), the first is the baseline."""
    (tree / "src").mkdir(parents=True, exist_ok=True)
    (tree / FILE).write_text(TOY)
    rows = []
    for number, (metric, status, text) in enumerate(experiments):
        rows.append(f"{number:04}\tabc\t{metric}\t0.1\t{status}\ttuner\tsome title\n")
        if text is not None:
            file = tree / f"lab/experiments/{number:04}/files" / FILE
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    (tree / "lab").mkdir(exist_ok=True)
    (tree / "lab/history.tsv").write_text(HEADER + "".join(rows))
    (tree / "lab/task.json").write_text(json.dumps({"metric": {"name": "loss", "direction": direction}, "profile": "small"}))


def tune(tree: Path, seed: int = 1) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-P", "-W", "error", "-m", "harness.agents.tuner", FILE, "--seed", str(seed)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(argv, cwd=tree, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def values_of(text: str) -> dict[str, object]:
    return {name: value for name, (value, _) in literals(text.encode()).items()}


# A history in which every constant was varied, so that the model proposes; the crash lost.
VARIED = (
    ("1.0", "keep", TOY),
    ("0.8", "discard", TOY.replace("2e-2", "0.04")),
    ("1.1", "discard", TOY.replace("= 4 ", "= 6 ")),
    ("0.9", "discard", TOY.replace("0.5#", "0.25#")),
    ("-", "crash", TOY.replace("HEADS = 2", "HEADS = 4")),
    ("-", "open", TOY.replace("HEADS = 2", "HEADS = 1")),
)


def test_first_changes_one_constant_and_only_its_literal(tmp_path: Path) -> None:
    lab(tmp_path, ("1.0", "keep", TOY))
    ended = tune(tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (tmp_path / FILE).read_text() == TOY.replace("2e-2", "0.04")
    notes = (tmp_path / "notes/EXPERIMENT.md").read_text()
    assert notes.splitlines()[:2] == ["RATE 0.02 -> 0.04", ""]
    assert "the learning rate" in notes
    assert "loss so far is 1" in notes


def test_goes_through_the_constants_in_order_and_alternates() -> None:
    data, past, seen = TOY.encode(), [], []
    for number in range(4):
        tuner = Tuner(data, past, "minimize", 0)
        changes, _ = tuner.propose() or pytest.fail("no proposal")
        seen.append(changes)
        tried = edited(data, tuner.constants, changes)
        past.append(Tried(f"{number:04}", values_of(tried.decode()), "discard", 1.0, code_of(tried)))
    assert seen == [{"RATE": 0.04}, {"DEPTH": 2}, {"DROP": 0.75}, {"HEADS": 1}]


def test_log_ranges_come_first() -> None:
    tuner = Tuner(b"A = 1  # tune: 1..9\nB = 1.0  # tune: 0.1..10 log\n", [], "minimize", 0)
    assert (tuner.propose() or pytest.fail("no proposal"))[0] == {"B": 2.0}


def test_the_same_inputs_give_the_same_proposal_and_another_seed_another(tmp_path: Path) -> None:
    texts = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        lab(tmp_path / name, *VARIED)
        assert tune(tmp_path / name, seed).returncode == 0
        texts.append((tmp_path / name / FILE).read_text())
    assert texts[0] == texts[1] != texts[2]
    assert texts[0] not in {text for _, _, text in VARIED}


def test_several_at_a_time_do_not_propose_the_same(tmp_path: Path) -> None:
    """One whose change is being measured, and two that are being proposed: the third constant is this one's."""
    lab(tmp_path, ("1.0", "keep", TOY), ("-", "open", TOY.replace("2e-2", "0.04")), ("-", "open", None), ("-", "open", None))
    assert tune(tmp_path).returncode == 0
    assert (tmp_path / FILE).read_text() == TOY.replace("HEADS = 2", "HEADS = 1")
    lab(tmp_path, ("1.0", "keep", TOY), ("-", "open", TOY.replace("2e-2", "0.04")))
    assert tune(tmp_path).returncode == 0
    assert (tmp_path / FILE).read_text() == TOY.replace("= 4 ", "= 2 ")


def test_what_is_being_measured_keeps_others_away(tmp_path: Path) -> None:
    """Where all but one of a small space's points are known or being measured, that one is proposed."""
    text = "A = 1  # tune: {1, 2, 3}\n"
    lab(tmp_path, ("1.0", "keep", text), ("0.9", "discard", text.replace("1 ", "2 ", 1)))
    (tmp_path / FILE).write_text(text)
    assert tune(tmp_path).returncode == 0
    assert (tmp_path / FILE).read_text().startswith("A = 3")
    lab(
        tmp_path,
        ("1.0", "keep", text),
        ("0.9", "discard", text.replace("1 ", "2 ", 1)),
        ("-", "open", text.replace("1 ", "3 ", 1)),
    )
    (tmp_path / FILE).write_text(text)
    assert "was tried" in tune(tmp_path).stdout


def test_a_void_experiment_is_tried_again_and_a_missing_file_is_no_obstacle(tmp_path: Path) -> None:
    lab(tmp_path, ("1.0", "keep", None), ("-", "void", TOY.replace("2e-2", "0.04")), ("-", "crash", "RATE = = 1"))
    assert tune(tmp_path).returncode == 0
    assert "RATE = 0.04 " in (tmp_path / FILE).read_text()


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_learns_from_the_history_and_never_repeats_itself(direction: str) -> None:
    sign = 1.0 if direction == "minimize" else -1.0

    def score(values: dict[str, object]) -> float:
        rate, depth, drop, heads = (float(str(values[name])) for name in ("RATE", "DEPTH", "DROP", "HEADS"))
        return math.log(rate / 0.06) ** 2 + 0.1 * (depth - 6) ** 2 + 3 * (drop - 0.2) ** 2 + (0.0 if heads == 4 else 0.3)

    best, scores, past = TOY.encode(), [score(values_of(TOY))], []
    past.append(Tried("0000", values_of(TOY), "keep", sign * scores[0], code_of(best)))
    for number in range(1, 26):
        tuner = Tuner(best, past, "minimize" if sign > 0 else "maximize", 3)
        changes, _ = tuner.propose() or pytest.fail("no proposal")
        tried = edited(best, tuner.constants, changes)
        values = values_of(tried.decode())
        if score(values) < min(scores):
            best = tried
        scores.append(score(values))
        past.append(Tried(f"{number:04}", values, "discard", sign * scores[-1], code_of(tried)))
    assert len({item.code for item in past}) == 26
    assert min(scores) < 0.5 * min(scores[:5]) < 0.5 * scores[0]


def test_a_small_space_is_used_up_without_a_repetition() -> None:
    data, past, codes = b"A = 1  # tune: {1, 2, 3}\nB = 'x'  # tune: {'x', 'y'}\n", [], set()
    while (tuner := Tuner(data, past, "minimize", 0)) and (proposal := tuner.propose()):
        tried = edited(data, tuner.constants, proposal[0])
        codes.add(tried)
        past.append(Tried("0001", values_of(tried.decode()), "discard", 1.0 + len(past), code_of(tried)))
        assert len(codes) == len(past)
    assert len(codes) == 5  # six combinations less the incumbent


def test_a_declaration_that_cannot_be_used_is_named_and_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["A = 1  # tune: 5..2", "B = 2 ** 3  # tune: 1..9", "C = 0.5  # tune: 0..1 lgo", "D = -3  # tune: -5..5"]
    text = "\n".join([*lines, "E = (1, 2)  # tune: {(1, 2), (3, 4)}", ""]).encode()
    assert [constant.name for constant in declared(text)] == ["D", "E"]
    said = capsys.readouterr().out
    assert all(part in said for part in ("line 1: A is not tuned", "line 2: nothing is tuned", "line 3: C is not tuned"))


def test_a_constant_of_one_profile_is_left_alone_under_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "A = 1  # tune small: {1, 2}\nB = 1  # tune large: {1, 2}\nC = 1  # tune: {1, 2}\n"
    names = {profile: [each.name for each in declared(text.encode(), profile)] for profile in ("small", "large", "other")}
    assert names == {"small": ["A", "C"], "large": ["B", "C"], "other": ["C"]}
    assert capsys.readouterr().out == ""
    lab(tmp_path, ("1.0", "keep", text), ("1.0", "discard", text.replace("A = 1", "A = 2")))
    for _ in range(2):  # C, then both: B never, though nobody has tried it
        (tmp_path / FILE).write_text(text)
        assert tune(tmp_path).returncode == 0
        done = (tmp_path / FILE).read_text()
        assert "B = 1" in done
        assert "C = 2" in done
        lab(tmp_path, ("1.0", "keep", text), ("1.0", "discard", text.replace("A = 1", "A = 2")), ("1.0", "discard", done))


@pytest.mark.parametrize(
    ("text", "sentence"), [("RATE = 0.02\n", "declares no tunable constant"), ("RATE = = 1\n", "not Python")]
)
def test_a_file_that_gives_nothing_to_tune_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    lab(tmp_path, ("1.0", "keep", TOY))
    (tmp_path / FILE).write_text(text)
    ended = tune(tmp_path)
    assert ended.returncode == 1
    assert sentence in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert (tmp_path / FILE).read_text() == text
