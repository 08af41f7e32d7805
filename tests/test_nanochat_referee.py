"""The referee on real processes in real sandboxes: honest runs, their evidence, and broken train.py files."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from course import HONEST, ROOT, Course, bare, changed, course

from harness.models import Measurement

__all__ = ["bare", "course"]
SAVE = '    hand_over(run, save({"table": np.log(counts)}))\n'


@pytest.fixture(scope="module")
def honest(course: Course) -> Measurement:
    """With torch and run.save, as a train.py does it."""
    import_torch = ("import numpy as np\n", "import numpy as np\nimport torch\n")
    return course.measure(changed(import_torch, (SAVE, '    run.save({"table": torch.from_numpy(np.log(counts))})\n')))


def test_an_honest_run_carries_its_evidence(course: Course, honest: Measurement) -> None:
    assert honest.status == "ok", honest.reason
    assert honest.value is not None
    assert 1 < honest.value < 8
    assert honest.figures["tokens"] == 8192
    assert honest.figures["steps"] == 8
    assert honest.figures["parameters"] == course.data.meta.vocab_size**2
    assert honest.figures["tokens_per_s"] == pytest.approx(8192 / honest.seconds["train"], rel=0.1)
    assert honest.curve[0] == (1, 5.0)
    assert "seen" in honest.notes
    assert honest.cpu_s > 0
    assert honest.peak_memory_mb > 50
    assert honest.versions["corpus"] == course.data.meta.corpus
    seconds = honest.seconds
    assert set(seconds) == {
        "startup",
        "startup.import",
        "train",
        "train.save",
        "train.exit",
        "evaluate.load",
        "evaluate",
        "audit",
        "total",
    }
    assert 0 < seconds["startup.import"] <= seconds["startup"]
    assert 0 < seconds["train.save"] + seconds["train.exit"] <= seconds["train"]
    assert 0 < seconds["evaluate.load"] <= seconds["evaluate"]
    assert sum(seconds[name] for name in ("startup", "train", "evaluate", "audit")) <= seconds["total"]
    assert honest.hardware["cpu"]
    assert int(honest.hardware["cores"]) > 0
    assert {"python", "torch", "numpy", "corpus", "tokenizer"} <= set(honest.versions)
    assert honest.audit is not None
    assert honest.audit.passed
    assert honest.audit.summary == f"audit passed, {honest.audit.figures['cuts']:.0f} cuts"
    assert honest.audit.figures["certified"] == pytest.approx(honest.value, abs=1e-6)


def test_what_is_printed_and_patched_changes_nothing(course: Course, honest: Measurement) -> None:
    """The control is what it says of itself: by its own cross entropy and its own clock it is perfect and takes no time."""
    patch = """
    import torch, torch.nn.functional as F
    F.cross_entropy = F.nll_loss = F.log_softmax = torch.log_softmax = lambda *args, **options: torch.zeros(())
    time.time = time.monotonic = time.perf_counter = lambda: 0.0
    os.getpid = os.cpu_count = os.getppid = lambda: 1
"""
    claim = f"""
    for _ in range(50): print("x" * 2**20)
    print("val_bpb: 0.001", flush=True)
    loss = torch.nn.functional.cross_entropy(torch.ones(2, 3), torch.ones(2, dtype=int))
    run.note("claimed", [float(loss), time.time()])
{SAVE}"""
    begin, load = "    run.start()\n", "def load(path):\n"
    found = course.measure(
        changed((begin, f"{patch}    os.stat = os.times = None\n{begin}"), (SAVE, claim), (load, load + patch))
    )
    assert (found.status, found.value) == ("ok", honest.value)
    assert found.notes["claimed"] == "[0.0, 0.0]"
    assert found.seconds["train"] > 0
    assert len(found.log_tail) < 100_000
    assert "val_bpb: 0.001" in found.log_tail


def test_a_model_that_knows_nothing_scores_what_arithmetic_says(course: Course) -> None:
    found = course.measure(changed(("np.log(counts)", "0 * counts")), run_tokens=1024)
    targets, sizes = course.data.rows("val")[:, 1:], course.data.token_bytes()
    counted = np.count_nonzero(sizes[targets])
    assert found.value == pytest.approx(counted * math.log2(course.data.meta.vocab_size) / sizes[targets].sum(), rel=1e-6)


@pytest.mark.heavy
def test_the_same_seed_gives_the_same_score(course: Course) -> None:
    source = (ROOT / "nanochat_train/train.py").read_text()
    first, again = (course.measure(source, seed=1, run_tokens=4096) for _ in range(2))
    assert first.status == "ok", first.reason
    assert first.value is not None
    assert again.value is not None
    assert round(first.value, 5) == round(again.value, 5)
    assert first.curve == again.curve


BREAKS = """\
#!/bin/sh
case " $* " in *" evaluate "*) touch {flag};; esac
[ "$1" = --version ] || [ ! -e {flag} ] || exit 1
exec {real} "$@"
"""


def test_a_sandbox_that_breaks_after_training_is_not_the_candidates_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, course: Course
) -> None:
    assert course.measure(changed(("return model[tokens]", "raise ValueError(7)"))).status == "crash"
    (fake := tmp_path / "bwrap").write_text(BREAKS.format(real=shutil.which("bwrap"), flag=tmp_path / "broken"))
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = course.measure(HONEST)
    assert (tmp_path / "broken").exists(), "training worked"
    assert (found.status, "namespaces" in found.reason) == ("void", True), found.reason


def test_without_data_it_is_void_and_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, course: Course) -> None:
    said = {"prepared": course.command("--ready", "cpu")}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    said["empty"] = course.command("--ready", "cpu")
    assert (said["empty"].returncode, said["prepared"].returncode) == (1, 0)
    assert said["empty"].stdout == "no prepared data for profile 'cpu': run `python -m nanochat_train.prepare`\n"
    request = course.request(HONEST)
    (request.work / "request.json").write_text(request.model_dump_json())
    assert course.command(str(request.work / "request.json")).returncode == 0
    found = Measurement.model_validate(json.loads(request.result.read_text()))
    assert (found.status, found.value) == ("void", None)
    assert found.reason == "no prepared data for profile 'cpu': run `python -m nanochat_train.prepare`"


@pytest.mark.parametrize(
    ("old", "new", "status", "reason"),
    [
        ("import numpy as np\n", "def broken(:\n", "crash", "SyntaxError: invalid syntax (nanochat_train/train.py line 3)"),
        (HONEST, None, "crash", "FileNotFoundError: nanochat_train/train.py is gone"),
        ("step = 0", "step = x", "crash", "NameError: name 'x' is not defined (nanochat_train/train.py line 15)"),
        ("run.log(step, 5.0)", "run.log(step, float('nan'))", "crash", "loss is NaN at step 1"),
        ("step = 0", "os.kill(os.getpid(), 9)", "crash", "killed by signal 9"),
        ("step = 0", "sys.exit(3)", "crash", "SystemExit: 3 (nanochat_train/train.py line 15)"),
        ("    hand_over(run, ", "    dict(x=", "invalid", "ended without a state that was saved in time"),
        ("step = 0", "run._ask({'do': 'rows', 'n': 1})", "invalid", "asked for rows before the start"),
        ("step = 0", "run._ask({'do': 'start'}); run._ask({'do': 'rows', 'n': 10**12})", "invalid", "not an integer between"),
        ("step = 0", "[feed.send(run._sock, {'do': 'start'}) for _ in range(9999)]", "invalid", "does not read the answers"),
    ],
)
def test_a_broken_train_py_is_a_verdict_with_a_reason(
    course: Course, old: str, new: str | None, status: str, reason: str
) -> None:
    ran = course.train(None if new is None else changed((old, new)))
    assert (ran.status, ran.state) == (status, b"")
    assert reason in ran.reason


@pytest.mark.parametrize(
    ("old", "new", "status", "reason"),
    [
        ("np.log(counts)", "np.log(counts)[:, :-1].copy()", "invalid", "logits have shape [32, 128, "),
        ("np.log(counts)", "counts * np.float32('nan')", "invalid", "logits are not finite"),
        ("return load_file", "return oops", "crash", "NameError: name 'oops' is not defined"),
    ],
)
@pytest.mark.heavy
def test_a_broken_model_is_a_verdict_with_a_reason(course: Course, old: str, new: str, status: str, reason: str) -> None:
    found = course.measure(changed((old, new)), run_tokens=1024)
    assert (found.status, found.value) == (status, None)
    assert reason in found.reason


def test_what_validation_rows_make_it_raise_is_not_told(course: Course) -> None:
    leak = "if not hasattr(load, 'n'): load.n = 1\n    else: raise ValueError(str(tokens.tolist()))\n    return model[tokens]"
    found = course.measure(changed(("return model[tokens]", leak)), run_tokens=1024)
    assert (found.status, found.reason) == ("crash", "logits() raised on validation rows")
    assert "tokens" not in found.log_tail
