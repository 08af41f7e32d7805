"""The GPU: nobody but runs gets it, CUDA is tried before a night, and one that a run does not let go of is used no more."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Lab, heavy, make_lab
from graphics import machine, missing
from machine import readable

from harness import gpus
from harness.preflight import NAMES, preflight
from harness.sandboxes import SANDBOXES

double = pytest.mark.skipif(bool(missing()), reason=missing())
GONE = 1 << 22  # no process has this number
ASK = """
import sys; from harness.preflight import preflight; from harness.sandboxes import SANDBOXES
print(preflight(SANDBOXES[sys.argv[1]]()))
"""


class Graphics(Lab):
    """A lab on a machine with a GPU, whose task has a profile for it."""

    before: tuple[str, ...] = ()

    def command(self, *args: str) -> list[str]:  # type: ignore[override]
        return [*self.before, *Lab.command(*args)]

    @property
    def smi(self) -> Path:
        """Where the double of nvidia-smi looks."""
        return self.path.parent / "gpu/smi"

    def evaluated(self, afterwards: str) -> None:
        """From the first run on, nvidia-smi is this script when it is asked for processes. The evaluation tells it."""
        (self.smi / "afterwards").write_text(afterwards)
        with (self.path / "toy/evaluate.py").open("a") as file:
            file.write(f"pathlib.Path({str(self.smi / 'flag')!r}).touch()\n")
        self.commit()

    def commit(self) -> None:
        self.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "changed")

    def said(self, *args: str, code: int = 0) -> str:
        return self.harness(*args, code=code).stderr


@pytest.fixture
def graphics(tmp_path: Path) -> Graphics:
    made = make_lab(tmp_path)
    lab = Graphics(made.path, made.env)
    lab.before = tuple(machine(tmp_path / "gpu"))  # type: ignore[misc]
    (lab.smi / "gpus").write_text("GPU-1\n")
    lab.edit("toy/task.yaml", "stop:", "profiles: {gpu: {}, cpu: {}}\nstop:")
    lab.commit()
    return lab


def asked(tmp_path: Path, sandbox: str = "bubblewrap", **driver: int) -> str:
    before = [*(readable() if sandbox == "uid" else []), *machine(tmp_path / "gpu", **driver)]
    done = subprocess.run([*before, sys.executable, "-c", ASK, sandbox], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@double
@pytest.mark.parametrize("sandbox", ["bubblewrap", *heavy("uid")])
def test_the_sandbox_of_a_run_has_what_cuda_needs(tmp_path: Path, sandbox: str) -> None:
    assert asked(tmp_path, sandbox) == "None"


@double
@pytest.mark.parametrize("code", [304, *heavy(34, 100, 803, 999, 7)])
def test_an_error_of_cuda_is_a_sentence_with_its_number_and_what_mends_it(tmp_path: Path, code: int) -> None:
    said = asked(tmp_path, answer=code)
    name, mend = NAMES.get(code, ("see cuda.h", "restart the machine"))
    assert said.startswith(f"CUDA does not work inside the sandbox bubblewrap: cuInit failed with error {code} ({name}): {mend}")


@double
@pytest.mark.parametrize(
    ("driver", "wanted"),
    [
        ({"library": False}, "the driver's library is not found (libcuda.so.1: cannot open shared object file"),
        ({"count": 0}, "it found no device: see that `nvidia-smi` works"),
        ({"answer": -1}, "its driver gave up (exit code 134): see `dmesg"),
    ],
)
def test_a_driver_that_is_not_there_or_breaks_is_told_apart(tmp_path: Path, driver: dict[str, int], wanted: str) -> None:
    assert wanted in asked(tmp_path, **driver)


LOOK = """
import sys; from pathlib import Path
from harness.process import inner_env, run; from harness.protocols import Box; from harness.sandboxes import get
for role, gpu in (("agent", False), ("check", False), ("train", False), ("train", True), ("evaluate", True)):
    with get("bubblewrap").wrap(["sh", "-c", sys.argv[1]], Box(Path("/"), env=inner_env(), gpu=gpu, role=role)) as launch:
        print(role, gpu, *run(launch, Path("/dev/null"), 20).tail.split())
"""


@double
def test_only_what_trains_and_is_scored_sees_the_devices(tmp_path: Path) -> None:
    script = "ls /dev | grep -c nvidia; ls -d /sys; ulimit -v; test -s /usr/bin/nvidia-modprobe && echo setuid"
    done = subprocess.run([*machine(tmp_path / "gpu"), sys.executable, "-c", LOOK, script], capture_output=True, text=True)
    nothing = "0 ls: cannot access '/sys': No such file or directory unlimited setuid"
    closed = [f"{role} False {nothing}" for role in ("agent", "check", "train")]
    if "setuid" not in done.stdout:
        closed = [line.removesuffix(" setuid") for line in closed]  # the double of the program could not be mounted
    assert done.stdout.splitlines() == [*closed, "train True 3 /sys unlimited", "evaluate True 3 /sys unlimited"], done.stderr


@double
def test_a_night_is_refused_where_cuda_does_not_work(graphics: Graphics) -> None:
    machine(graphics.path.parent / "gpu", answer=304)
    said = graphics.said("run", "--tag", "t", "--agent", "better", code=1)
    assert "CUDA does not work inside the sandbox bubblewrap: cuInit failed with error 304 (OPERATING_SYSTEM)" in said
    assert graphics.git("for-each-ref", "refs/experiments") == ""
    graphics.said("measure", "--profile", "cpu")


@double
@pytest.mark.heavy
def test_doctor_says_what_cuda_said(graphics: Graphics) -> None:
    checks = {each["check"]: each["problem"] for each in json.loads(graphics.harness("doctor", "--json").stdout)}
    assert checks["GPU: CUDA in the sandbox bubblewrap"] is None
    machine(graphics.path.parent / "gpu", answer=304)
    checks = {each["check"]: each["problem"] for each in json.loads(graphics.harness("doctor", "--json", code=1).stdout)}
    assert "error 304" in checks["GPU: CUDA in the sandbox bubblewrap"]


@double
def test_a_machine_without_a_gpu_is_told_apart(graphics: Graphics) -> None:
    graphics.before = ()  # type: ignore[misc]
    if gpus.present():
        pytest.skip("there is a GPU here")
    assert "needs an NVIDIA GPU" in graphics.said("run", "--tag", "t", "--profile", "gpu", "--agent", "better", code=1)


@double
@pytest.mark.heavy
def test_a_night_with_other_peoples_processes_on_the_gpu_warns_and_goes_on(graphics: Graphics) -> None:
    (graphics.smi / "apps").write_text(f"{os.getpid()}, GPU-1\n")
    graphics.evaluated("cat apps; echo '1, GPU-1'")  # one that lives came meanwhile
    said = graphics.said("run", "--tag", "t", "--agent", "better", "--experiments", "1")
    assert f"warning: GPU-1 is also used by process {os.getpid()} (" in said
    assert [row[3] for row in graphics.rows()] == ["keep", "keep"]
    assert f"process {os.getpid()}" in graphics.harness("doctor").stdout


@double
def test_the_only_gpu_that_is_dirty_is_not_used_again(graphics: Graphics) -> None:
    graphics.evaluated("exit 9")
    run = json.loads(graphics.harness("measure", "--json").stdout)
    assert (run["status"], run["hardware"]["dirty"].startswith("every GPU is out of use, because")) == ("ok", True)
    assert "no GPU is left to run on: every GPU is out of use since 20" in graphics.said("measure", code=1)


@double
@pytest.mark.heavy
def test_the_only_gpu_that_is_dirty_ends_the_night_with_that_sentence(graphics: Graphics) -> None:
    graphics.evaluated("exit 9")  # a driver that is stuck answers nobody
    said = graphics.said("run", "--tag", "t", "--agent", "better", "--experiments", "3", code=1)
    assert "every GPU is out of use, because nvidia-smi no longer answers after a run; `harness doctor` says what to do" in said
    refused = said.strip().splitlines()[-1]
    assert "no GPU is left to run on: every GPU is out of use since 20" in refused
    assert graphics.harness("log", "--tag", "t", "--tsv").stdout.count("keep") == 1
    record = json.loads(graphics.git("show", "refs/experiments/t/0000:record.json"))
    assert "out of use" in record["measurements"][0]["hardware"]["dirty"]
    assert graphics.said("resume", "--tag", "t", code=1).strip().splitlines()[-1] == refused
    checks = {each["check"]: each["problem"] for each in json.loads(graphics.harness("doctor", "--json", code=1).stdout)}
    assert checks["GPU every GPU"] in refused
    (graphics.smi / "afterwards").write_text("")
    subprocess.run(["sh", "-c", re.search(r"run `(rm .*?)`", refused)[1]], check=True)  # type: ignore[index]
    graphics.said("resume", "--tag", "t", "--experiments", "1")


@double
@pytest.mark.heavy
def test_of_two_gpus_the_clean_one_is_used(graphics: Graphics) -> None:
    (graphics.smi / "gpus").write_text("GPU-1\nGPU-2\n")
    spoil(graphics, "GPU-1")
    graphics.edit("toy/solution.py", 'os.environ["SEED"]', 'os.environ["CUDA_VISIBLE_DEVICES"]')
    graphics.commit()
    graphics.said("run", "--tag", "t", "--agent", "better", "--experiments", "1")
    assert graphics.git("show", "refs/experiments/t/0001:train-1.log").endswith("GPU-2")
    spoil(graphics, "GPU-2")
    said = graphics.said("run", "--tag", "t", "--agent", "better", "--experiments", "2", code=1)
    assert "no GPU is left to run on: GPU-1 is" in said
    assert "GPU-2 is" in said


@double
@pytest.mark.heavy
def test_after_a_restart_of_the_machine_a_gpu_is_clean(graphics: Graphics) -> None:
    spoil(graphics, "GPU-1")
    assert "no GPU is left" in graphics.said("measure", code=1)
    mark = Path(graphics.env["XDG_STATE_HOME"]) / "harness/gpus/GPU-1.json"
    mark.write_text(json.dumps({**json.loads(mark.read_text()), "boot": "another"}))
    graphics.said("measure")
    assert not mark.exists()


@double
@pytest.mark.heavy
def test_a_tree_that_cannot_be_killed_takes_the_gpu_out_of_use(graphics: Graphics) -> None:
    """A process in such a state cannot be made here: the referee says that it met one, in the way that referees do."""
    (graphics.path / "toy/referee.py").write_text(
        "import sys\nfrom harness.process import UNKILLABLE\n"
        "if sys.argv[1] != '--ready':\n    print('process 5 cannot be killed')\n    sys.exit(UNKILLABLE)\n"
    )
    graphics.edit("toy/task.yaml", "outputs:", "referee: [python, toy/referee.py]\noutputs:")
    graphics.git("add", ".")
    graphics.commit()
    graphics.harness("measure", code=1)
    assert "GPU is out of use since" in graphics.said("measure", code=1)
    assert "because process 5 cannot be killed" in graphics.said("measure", code=1)


@double
@pytest.mark.heavy
def test_a_dead_process_that_holds_the_gpu_makes_it_dirty(graphics: Graphics) -> None:
    graphics.evaluated(f"echo '{GONE}, GPU-1'")
    said = graphics.said("run", "--tag", "t", "--agent", "better", "--experiments", "1", code=1)
    assert f"GPU-1 is out of use, because process {GONE} of a run holds it 15 s after it was killed" in said


def spoil(lab: Graphics, gpu: str) -> None:
    code = "import sys; from harness import gpus; gpus.mark(sys.argv[1], 'it is broken')"
    subprocess.run([sys.executable, "-c", code, gpu], env=lab.env, check=True)


@pytest.mark.gpu
@pytest.mark.skipif(not gpus.present(), reason="there is no NVIDIA GPU here")
def test_with_a_true_gpu_cuda_works_inside_and_nothing_holds_it_afterwards() -> None:
    sandbox = SANDBOXES["bubblewrap"]()
    assert preflight(sandbox) is None
    assert shutil.which("nvidia-smi") is None or gpus.holders() is not None
