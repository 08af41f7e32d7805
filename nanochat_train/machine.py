"""What a measurement ran on: hardware and versions, as far as this machine tells them."""

from __future__ import annotations

import os
import platform
import shutil
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness.caches import processor
from harness.process import clean_env, run
from harness.protocols import Launch

QUERY = {
    "gpu": "name",
    "driver": "driver_version",
    "gpu_clock_mhz": "clocks.sm",
    "memory_clock_mhz": "clocks.mem",
    "gpu_temperature_c": "temperature.gpu",
    "gpu_power_w": "power.draw",
}
ASK_S = 20.0
LIBRARIES = ("torch", "triton", "numpy", "safetensors", "tiktoken")


def hardware(work: Path) -> dict[str, str]:
    """CPU and GPU by name; of the GPU also clocks and temperature at this moment. Logs go to the folder `work`."""
    names = {"cpu": processor(), "cores": str(len(os.sched_getaffinity(0))), "kernel": platform.release()}
    if (program := shutil.which("nvidia-smi")) is None:
        return names
    query = f"--query-gpu={','.join(QUERY.values())}"
    try:
        told = run(Launch((program, query, "--format=csv,noheader,nounits"), clean_env(), Path("/")), work / "gpu.log", ASK_S)
    except OSError:
        return names
    values = told.tail.strip().splitlines()[0].split(", ") if told.code == 0 and told.tail.strip() else []
    return names | (dict(zip(QUERY, values, strict=True)) if len(values) == len(QUERY) else {})


def versions() -> dict[str, str]:
    """Python and the libraries that candidates use; torch's says which CUDA it was made for."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
