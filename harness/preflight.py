"""Whether runs can use the GPU: CUDA is started in the very sandbox that runs get, and its error numbers become sentences.

The arguments of the sandbox come from public reports: without /sys cuInit fails with 304, with device files bound without
their devices with 100, and under a limit of address space it cannot reserve what it needs.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from harness import gpus, limits
from harness.models import Limits, Task, UserError
from harness.process import inner_env, run
from harness.protocols import Box, Sandbox

ASK = Path(__file__).parent / "sandboxes" / "cuda.py"
ASK_S = 60.0  # a driver that was not loaded yet takes seconds
DEVICES = "see that `nvidia-smi` works and that `ls -l /dev/nvidia*` shows files which every user may read and write"
UNIFIED = "`nvidia-modprobe -u -c 0`"
NAMES = {  # CUresult, of cuda.h: what it is called, and what mends it
    34: ("STUB_LIBRARY", "libcuda.so.1 is the toolkit's stub: put the driver's own before it, then run `ldconfig`"),
    100: ("NO_DEVICE", DEVICES),
    101: ("INVALID_DEVICE", DEVICES),
    304: ("OPERATING_SYSTEM", f"/sys or /dev/nvidia-uvm is missing: mount the one, make the other with {UNIFIED}"),
    802: ("SYSTEM_NOT_READY", "start the fabric manager with `systemctl start nvidia-fabricmanager`"),
    803: ("SYSTEM_DRIVER_MISMATCH", "the driver was updated while it was loaded: restart the machine"),
    804: ("COMPAT_NOT_SUPPORTED_ON_DEVICE", "CUDA's compatibility library does not fit this GPU: remove the package cuda-compat"),
    999: ("UNKNOWN", f"load the module for unified memory with `modprobe nvidia-uvm` and {UNIFIED}, or restart the machine"),
}


def problem(task: Task, sandbox: Sandbox) -> str | None:
    """What keeps a task's runs from using the GPU, and what mends it; None also for a task that wants none."""
    if not gpus.wanted(task):
        return None
    if not gpus.present():
        return "the profile gpu needs an NVIDIA GPU, and there is no /dev/nvidia0: use another --profile"
    try:
        gpus.pool()
    except UserError as error:
        return str(error)
    return preflight(sandbox)


def preflight(sandbox: Sandbox) -> str | None:
    """Start CUDA in the very sandbox that runs get; None if it finds a GPU there, else the reason and what mends it."""
    bounds = limits.settle(Limits(), "train")
    box = Box(cwd=Path("/"), env=inner_env(), gpu=True, limits=bounds, role="train")
    with sandbox.wrap([sys.executable, "-I", "-S", str(ASK)], box) as launch:
        ended = run(launch, Path(os.devnull), ASK_S)
    told: dict[str, object] = {}
    with suppress(ValueError, IndexError):
        told = json.loads(ended.tail.strip().splitlines()[-1])
    if why := _failed(told, f"exit code {ended.code}" if not ended.timed_out else f"no answer within {ASK_S:.0f} s"):
        return f"CUDA does not work inside the sandbox {sandbox.name}: {why}"
    return None


def _failed(told: dict[str, object], end: str) -> str | None:
    """What the preflight's answer means; `end` is how it ended when there is no answer."""
    if "library" in told:
        mend = "install NVIDIA's driver, or name its folder to the linker in /etc/ld.so.conf.d and run `ldconfig`"
        return f"the driver's library is not found ({told['library']}): {mend}"
    if isinstance(code := told.get("error"), int):
        name, mend = NAMES.get(code, ("see cuda.h", "restart the machine, and see `dmesg | grep NVRM`"))
        return f"{told['call']} failed with error {code} ({name}): {mend}"
    if not told.get("devices"):
        return f"it found no device: {DEVICES}" if told else f"its driver gave up ({end}): see `dmesg | grep NVRM`"
    return None
