"""The caches of a training run: what is kept of them was there before the first row, and nothing passes between evaluations."""

from __future__ import annotations

import re

import pytest
from course import Course, bare, changed, course

from harness import caches
from harness.models import Measurement, Request
from nanochat_train import referee

__all__ = ["bare", "course"]
NAMES = ["TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"]
LEAVE = """
def leave(what):
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        folder = os.environ[name]
        print("cached by", what, sorted(os.listdir(folder)), flush=True)
        open(os.path.join(folder, what), "w").write("compiled")
"""
SETTINGS = """
    import torch._inductor.config as config
    from torch._inductor.runtime.cache_dir_utils import cache_dir
    names = ("max_autotune", "max_autotune_gemm", "max_autotune_pointwise", "coordinate_descent_tuning", "deterministic")
    run.note("on", [name for name in names if getattr(config, name)])
    run.note("cache", cache_dir() == os.environ["TORCHINDUCTOR_CACHE_DIR"])
    run.start()
"""


def measured(course: Course, source: str, request: Request | None = None) -> tuple[Request, Measurement]:
    """A run whose task has caches, begun from those that `request` left if there is one."""
    asked = course.request(source)
    task = asked.task.model_copy(update={"caches": NAMES})
    asked = asked.model_copy(update={"task": task, "caches": request.left_caches if request else None})
    return asked, referee.measure(asked)


def cached(request: Request, log: str, by: str) -> list[str]:
    text = (request.work / log).read_text()
    return re.findall(rf"^cached by {by} (.*)$", text, re.MULTILINE)[:2]


def test_what_is_left_was_there_before_the_first_row(course: Course) -> None:
    """The control is the run's own folder: what it wrote later, after it saw rows, is there and goes with it."""
    source = changed(
        ("    step = 0\n", '    leave("early")\n    step = 0\n'),
        ("        step += 1\n", '        leave(f"row-{rows[0, 0]}")\n        step += 1\n'),
        ("    return load_file", '    leave("evaluation")\n    return load_file'),
        ("def train(run):", f"{LEAVE}\ndef train(run):"),
    )
    first, found = measured(course, source)
    assert found.status == "ok", found.reason
    left = [f"{name}/early" for name in NAMES]
    assert sorted(caches.files(first.left_caches)) == left
    own = caches.files(first.work / "caches/train")
    assert set(left) < set(own)
    assert found.figures["compiled_files"] == 2
    assert found.figures["compiled_on_the_clock"] == len(own) - 2 > 0
    for log in ("evaluate.log", "audit.log"):  # neither what training learnt nor what the other process saw
        assert cached(first, log, "evaluation") == ["['early']", "['early']"]

    second, found = measured(course, source, first)
    assert cached(second, "train.log", "early") == ["['early']", "['early']"]
    assert "compiled_files" not in found.figures  # warm: nothing was added
    assert sorted(caches.files(first.left_caches)) == left


@pytest.mark.heavy
def test_nothing_is_tuned_by_the_clock(course: Course) -> None:
    _, found = measured(
        course, changed(("import numpy as np\n", "import numpy as np\nimport torch\n"), ("    run.start()\n", SETTINGS))
    )
    assert found.notes == {"on": "['deterministic']", "cache": "True", "seen": found.notes["seen"]}


COMPILED = """
    model = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.GELU(), torch.nn.Linear(16, 1))
    torch.compile(model)(torch.ones(4, 16)).sum().backward()
    from torch._dynamo.utils import counters
    run.note("misses", counters["inductor"]["fxgraph_cache_miss"] + counters["aot_autograd"]["autograd_cache_miss"])
    run.start()
"""


@pytest.mark.heavy
def test_a_second_run_compiles_nothing(course: Course) -> None:
    source = changed(("import numpy as np\n", "import numpy as np\nimport torch\n"), ("    run.start()\n", COMPILED))
    first, cold = measured(course, source)
    _, warm = measured(course, source, first)
    assert int(cold.notes["misses"]) > 0
    assert int(warm.notes["misses"]) == 0
    assert cold.figures["compiled_files"] > 0
    assert warm.figures.get("compiled_files", 0) == 0
    assert warm.value == cold.value
