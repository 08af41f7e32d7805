"""Asks the GPU's driver, from inside of a sandbox, whether a program there can use it. Prints JSON; see harness/gpus.py.

    python -I -S cuda.py

`nvidia-smi` proves nothing: it needs neither /sys nor the devices of unified memory. CUDA itself is asked, without torch.
"""

from __future__ import annotations

import ctypes
import json

LIBRARY = "libcuda.so.1"


def ask() -> dict[str, object]:
    """{"devices": how many}, or {"call": the one that failed, "error": its CUresult}, or {"library": why it is not loaded}."""
    try:
        cuda = ctypes.CDLL(LIBRARY)
    except OSError as error:
        return {"library": str(error)}
    count = ctypes.c_int(0)
    for call, arguments in (("cuInit", (0,)), ("cuDeviceGetCount", (ctypes.byref(count),))):
        if code := getattr(cuda, call)(*arguments):
            return {"call": call, "error": code}
    return {"devices": count.value}


if __name__ == "__main__":
    print(json.dumps(ask()))
