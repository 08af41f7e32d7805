"""The default referee: what a candidate leaves in place of its outputs, and what an evaluate may say.

Each attack has its control: a reader that trusts the place of an output gets what the attacker wants it to get.
"""

from __future__ import annotations

import ast
import json
import os
import pickle
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.evaluation import Refused, parse
from harness.models import Limits, Measurement, Request, Task, UserError
from harness.process import PACKAGE
from harness.referee import measure

OUTPUT = "out/answer.json"
EVALUATE = """\
import json, pathlib, sys
print(json.dumps({"value": json.loads((pathlib.Path(sys.argv[1]) / "out/answer.json").read_text())["x"]}))
"""
HONEST = "import json, pathlib; pathlib.Path('out/answer.json').write_text(json.dumps({'x': 2.5}))"


def asked(top: Path, solve: str, evaluate: str = EVALUATE, sandbox: str = "bubblewrap", **task: object) -> Request:
    """A run of a task with one output, whose evaluate has a secret beside it."""
    (top / "tree").mkdir(parents=True)
    (top / "work").mkdir()
    (top / "tree/solve.py").write_text(solve.replace("SECRET", str(top / "secret.json")))
    (top / "evaluate.py").write_text(evaluate.replace("SECRET", str(top / "secret.json")))
    (top / "secret.json").write_text('{"x": 42}')
    fields = {
        "name": "toy",
        "program": "program.md",
        "editable": ["solve.py"],
        "command": ["python", "solve.py"],
        "outputs": [OUTPUT],
        "evaluate": ["python", str(top / "evaluate.py")],
        "metric": {"name": "distance"},
        "budget": {"run_s": 20, "evaluate_s": 20},
    }
    described = Task.model_validate({**fields, **task})
    return Request(task=described, tree=top / "tree", work=top / "work", commit="", seed=7, sandbox=sandbox)


def measured(top: Path, solve: str, evaluate: str = EVALUATE, sandbox: str = "bubblewrap", **task: object) -> Measurement:
    return measure(asked(top, solve, evaluate, sandbox, **task))


def test_an_honest_run(tmp_path: Path) -> None:
    found = measured(tmp_path, HONEST + "; print('{\"value\": 0}')")
    assert (found.status, found.value, found.seed) == ("ok", 2.5, 7)
    assert found.log_tail == '{"value": 0}\n'


GONE = "import os; os.unlink('out/answer.json'); "


@pytest.mark.parametrize(
    ("solve", "reason", "control"),
    [
        (GONE + "os.symlink('/etc/passwd', 'out/answer.json')", "is a link", lambda p: b"root" in p.read_bytes()),
        (GONE + "os.symlink('SECRET', 'out/answer.json')", "is a link", lambda p: json.loads(p.read_text()) == {"x": 42}),
        (GONE + "os.link('SECRET', 'out/answer.json')", "is hard-linked", lambda p: json.loads(p.read_text()) == {"x": 42}),
        (
            GONE + "os.rmdir('out'); os.symlink(os.path.dirname('SECRET'), 'out'); os.rename('SECRET', 'out/answer.json')",
            "is a link",
            lambda p: json.loads(p.read_text()) == {"x": 42},
        ),
        (GONE + "os.mkfifo('out/answer.json')", "is not a regular file", lambda p: stat.S_ISFIFO(p.stat().st_mode)),
        (GONE + "os.mkdir('out/answer.json')", "is not a regular file", lambda p: p.is_dir()),
        (GONE, "is gone", lambda p: not p.exists()),
        (
            "open('out/answer.json', 'w').truncate(10 << 30)",
            "is larger than 65536 KiB",
            lambda p: p.stat().st_size == 10 << 30,
        ),
    ],
)
def test_an_output_that_is_no_plain_file_is_refused(
    tmp_path: Path, solve: str, reason: str, control: Callable[[Path], bool]
) -> None:
    """Without a sandbox, which would not even let it happen: the control is that it happened."""
    found = measured(tmp_path, solve, sandbox="none", limits=Limits(file_mb=0, disk_mb=0).model_dump())
    assert (found.status, found.value) == ("invalid", None)
    assert found.reason.startswith("output refused: out/answer.json ")
    assert reason in found.reason
    assert control(tmp_path / "tree" / OUTPUT)


@pytest.mark.parametrize("work", ["os.unlink(p)", "os.rename('/tmp/made-here', p)", "os.symlink('/etc/passwd', 'out/other')"])
def test_in_the_sandbox_an_output_can_only_be_filled(tmp_path: Path, work: str) -> None:
    found = measured(tmp_path, f"import os; p = 'out/answer.json'; open('/tmp/made-here', 'w').close(); {work}")
    assert found.status == "crash"
    assert "OSError" in found.reason


DAEMON = (
    HONEST
    + """
import os, time
if os.fork() == 0:
    os.setsid()
    os.close(1), os.close(2)
    time.sleep(1)
    pathlib.Path('out/answer.json').write_text(json.dumps({'x': -1}))
    os._exit(0)
"""
)


def test_nothing_changes_an_output_after_the_end(tmp_path: Path) -> None:
    found = measured(tmp_path / "one", DAEMON)
    assert found.value == 2.5
    time.sleep(2)
    assert json.loads((tmp_path / "one/tree" / OUTPUT).read_text()) == {"x": 2.5}
    tree = asked(tmp_path / "control", DAEMON).tree
    (tree / "out").mkdir()
    subprocess.run([sys.executable, "solve.py"], cwd=tree, check=True)
    end = time.monotonic() + 20
    while json.loads((tree / OUTPUT).read_text() or '{"x": 2.5}') != {"x": -1}:
        assert time.monotonic() < end
        time.sleep(0.05)


class Bomb:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.place),)


def test_a_pickle_is_only_bytes(tmp_path: Path) -> None:
    data = pickle.dumps(Bomb(tmp_path / "exploded"))
    found = measured(tmp_path, f"import pathlib; pathlib.Path('out/answer.json').write_bytes({data!r})", sandbox="none")
    assert found.status == "invalid"
    assert "evaluation failed" in found.reason
    assert not (tmp_path / "exploded").exists()
    pickle.loads((tmp_path / "tree" / OUTPUT).read_bytes())
    assert (tmp_path / "exploded").exists()  # the control


def test_nothing_in_the_harness_unpickles() -> None:
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            assert not {"pickle", "marshal", "shelve", "joblib", "dill", "torch"}.intersection(names), file
            assert not (isinstance(node, ast.Attribute) and node.attr == "load" and "np" in ast.dump(node.value)), file


def test_binary_outputs_are_taken(tmp_path: Path) -> None:
    evaluate = "import json, pathlib, sys; print(json.dumps({'value': len((pathlib.Path(sys.argv[1]) / 'w.bin').read_bytes())}))"
    solve = "import pathlib; pathlib.Path('w.bin').write_bytes(b'\\xff\\0\\xfe')"
    assert measured(tmp_path, solve, evaluate, outputs=["w.bin"]).value == 3


TELL = """\
import json, os, sys
print("not this line:", json.dumps({"value": 0}))
split, seed = os.environ["HARNESS_SPLIT"], int(os.environ["SEED"])
figures = {"test": int(split == "test"), "seed": seed}
print(json.dumps({"name": "distance", "value": 1.5, "figures": figures, "items": [1, 2.5]}))
"""


@pytest.mark.parametrize("split", ["validation", "test"])
def test_what_an_evaluate_may_say(tmp_path: Path, split: str) -> None:
    request = asked(tmp_path, HONEST, TELL).model_copy(update={"split": split})
    found = measure(request)
    assert (found.status, found.value, found.hidden_figures) == ("ok", 1.5, {"test": float(split == "test"), "seed": 7.0})
    items = np.load(request.items, allow_pickle=False)
    assert (items.dtype, items.tolist()) == (np.float32, [1.0, 2.5])


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        ('{"value": NaN}', "invalid", "the metric is nan"),
        ('{"value": -Infinity}', "invalid", "the metric is -inf"),
        ('{"value": 1e999}', "invalid", "the metric is inf"),
        ('{"value": "1.5"}', "void", "value is not a number: 1.5"),
        ('{"value": true}', "void", "value is not a number"),
        ('{"value": null}', "void", "value is not a number: None"),
        ('{"value": [1]}', "void", "value is not a number"),
        (f'{{"value": 1{"0" * 400}}}', "void", "value is not a number: too large"),
        (f'{{"value": 1{"0" * 5000}}}', "void", "no JSON on its last line"),
        ("1.5", "void", 'no {"value": ...}'),
        ("[1]", "void", 'no {"value": ...}'),
        ("", "void", "no JSON on its last line: nothing"),
        ("[" * 100_000, "void", "no JSON on its last line"),
        ('{"loss": 1}', "void", 'no {"value": ...}'),
        ('{"value": 1, "accuracy": 2}', "void", "printed the field 'accuracy': it may print value, name, figures, items"),
        ('{"value": 1, "name": "length"}', "void", "measured 'length', the task's metric is 'distance'"),
        ('{"value": 1, "figures": [1]}', "void", "figures are not a mapping"),
        ('{"value": 1, "figures": {"a": "b"}}', "void", "figure 'a' is not a number"),
        ('{"value": 1, "figures": {"a": NaN}}', "void", "figure 'a' is not finite"),
        (json.dumps({"value": 1, "figures": dict.fromkeys(map(str, range(101)), 1)}), "void", "figures are not a mapping"),
        ('{"value": 1, "items": {"a": 1}}', "void", "items are not a list"),
        ('{"value": 1, "items": [1, "2"]}', "void", "items is not a number"),
        ('{"value": 1, "items": [1e39]}', "void", "items is not finite"),
    ],
)
def test_garbage_is_no_value(line: str, status: str, reason: str) -> None:
    with pytest.raises(Refused) as caught:
        parse(line, "distance")
    assert (caught.value.status, reason in caught.value.reason) == (status, True), caught.value.reason


def test_an_evaluate_that_talks_without_end_or_never_ends(tmp_path: Path) -> None:
    found = measured(tmp_path / "talk", HONEST, "print('{\"value\": 1}\\n' * 400_000)")
    assert (found.status, found.reason) == ("void", "evaluate printed more than 4 MB")
    late = {"run_s": 20, "evaluate_s": 1}
    found = measured(tmp_path / "late", HONEST, "while True: pass", budget=late)
    assert (found.status, found.reason) == ("invalid", "the evaluation took longer than 1 s")


# A task whose product is a program: it has to be executed to be scored, and it would rather read the solution.
THIEF = """\
import pathlib, sys
try:
    print(pathlib.Path('SECRET').read_text()[6:8])
except OSError:
    print(sys.stdin.read())
"""
MAKE = f"import pathlib; pathlib.Path('out/answer.json').write_text('''{THIEF}''')"
RUN_INSIDE = """\
import json, pathlib, sys
from harness import sandboxed
ran = sandboxed.run(["python", str(pathlib.Path(sys.argv[1]) / "out/answer.json")], stdin=b"17", timeout_s=10)
print(json.dumps({"value": float(ran.output)}))
"""
RUN_OUTSIDE = """\
import json, pathlib, subprocess, sys
done = subprocess.run([sys.executable, pathlib.Path(sys.argv[1]) / "out/answer.json"], input=b"17", capture_output=True)
print(json.dumps({"value": float(done.stdout)}))
"""


def test_evaluate_executes_what_a_candidate_made_in_the_sandbox(tmp_path: Path) -> None:
    assert measured(tmp_path / "inside", MAKE, RUN_INSIDE).value == 17
    assert measured(tmp_path / "outside", MAKE, RUN_OUTSIDE).value == 42  # the control: executed as any program would be


HOSTILE = """\
import os, pathlib, sys, time
if os.fork() == 0:
    os.setsid()
    time.sleep(30)
print(os.environ.get("HARNESS_REQUEST"), os.getuid() != 0 or "root", os.listdir("/proc/self/task") != [])
pathlib.Path(sys.argv[1]).write_text("5")
for other in (sys.argv[1] + ".x", "out/answer.json", "solve.py"):
    try:
        open(other, "w")
        print("wrote", other)
    except OSError:
        pass
try:
    os.unlink(sys.argv[1])
    print("removed")
except OSError:
    pass
"""
PROGRAM = """\
import json, os, pathlib, subprocess, sys, tempfile
folder = pathlib.Path(tempfile.mkdtemp(dir=pathlib.Path(sys.argv[1]).parent))
tool = [os.environ["HARNESS_PYTHON"], "-m", "harness.sandboxed", "--timeout", "WAIT", "--writable", str(folder / "filled"), "--"]
done = subprocess.run([*tool, "python", str(pathlib.Path(sys.argv[1]) / "out/answer.json"), str(folder / "filled")],
                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
assert done.stdout.split("\\n")[0] == "None True True", done.stdout
assert "wrote" not in done.stdout and "removed" not in done.stdout, done.stdout
print(json.dumps({"value": float((folder / "filled").read_text()), "figures": {"code": done.returncode}}))
"""


@pytest.mark.parametrize(("wait", "body", "code"), [("20", "", 0), ("20", "sys.exit(3)", 3), ("2", "time.sleep(60)", 124)])
def test_the_same_as_a_program(tmp_path: Path, wait: str, body: str, code: int) -> None:
    make = f"import pathlib; pathlib.Path('out/answer.json').write_text({HOSTILE + body!r})"
    found = measured(tmp_path, make, PROGRAM.replace("WAIT", wait))
    assert (found.value, found.hidden_figures) == (5.0, {"code": code}), found.reason


def test_outside_an_evaluation_it_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness.sandboxed", "--", "true"], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "works in the `evaluate` of a task, which the harness starts" in done.stderr


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_only_a_regular_file_can_be_handed_out_for_writing(tmp_path: Path, kind: str) -> None:
    make = "os.symlink('/etc/passwd', p)" if kind == "link" else "os.mkdir(p)"
    evaluate = f"""\
import os, pathlib, sys
from harness import sandboxed
p = sys.argv[1] + ".x"
{make}
sandboxed.run(["true"], writable=[pathlib.Path(p)])
"""
    found = measured(tmp_path, HONEST, evaluate)
    assert found.status == "invalid"
    assert found.reason == ("evaluation failed: OSError" if kind == "link" else "evaluation failed: IsADirectoryError")
    assert ("symbolic links" if kind == "link" else "Is a directory") in found.referee_tail


def test_a_sandbox_that_broke_meanwhile_is_not_the_candidates_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A night proves it at its start, and a referee only where something failed."""
    assert measured(tmp_path / "works", "raise ValueError(7)").status == "crash"
    (broken := tmp_path / "bwrap").write_text('#!/bin/sh\n[ "$1" != --version ] || exec echo bubblewrap 0.9.0\nexit 1\n')
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(UserError, match="bubblewrap cannot make namespaces"):
        measured(tmp_path / "broken", HONEST)
