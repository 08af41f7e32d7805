"""What a measurement says of the machine it ran on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nanochat_train.machine import hardware, versions

SMI = """#!/bin/sh
[ "$1" = --query-gpu=name,driver_version,clocks.sm,clocks.mem,temperature.gpu,power.draw ] || exit 1
echo "NVIDIA H100 80GB HBM3, 580.10, 1980, 2619, 61, 640.25"
"""


def pretend(folder: Path, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "nvidia-smi").write_text(program)
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_a_gpu_tells_its_clocks_and_temperature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tmp_path, SMI, monkeypatch)
    found = hardware(tmp_path)
    assert found["gpu"] == "NVIDIA H100 80GB HBM3"
    assert (found["driver"], found["gpu_clock_mhz"], found["gpu_temperature_c"]) == ("580.10", "1980", "61")
    assert found["cpu"]


@pytest.mark.parametrize("program", ["#!/bin/sh\nexit 9\n", "#!/bin/sh\necho no devices were found\n", "not a program"])
def test_a_driver_that_tells_nothing_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    pretend(tmp_path, program, monkeypatch)
    assert set(hardware(tmp_path)) == {"cpu", "cores", "kernel"}


def test_versions_name_what_candidates_import() -> None:
    assert {"python", "torch", "numpy", "safetensors"} <= set(versions())
