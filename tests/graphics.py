"""A double of a machine with NVIDIA GPUs, which cannot be had everywhere: a driver, device files and an nvidia-smi.

The driver is a real shared library, found where the linker finds the true one. Like that it wants /sys, device files that
are devices and address space without a limit, and otherwise answers what it was compiled to answer. All of it is mounted
for one command and seen by nobody else.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

PLACE = Path("/usr/local/src")  # empty on Debian; what lies there is not seen meanwhile
DRIVER = r"""
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
int cuInit(unsigned int flags) {
  struct rlimit space;
  if (ANSWER == -1) abort();
  if (access("/sys/devices", F_OK)) return 304;
  if (open("/dev/nvidia0", O_RDWR) < 0 || open("/dev/nvidiactl", O_RDWR) < 0) return 100;
  if (getrlimit(RLIMIT_AS, &space) || space.rlim_cur != RLIM_INFINITY) return 2;
  return ANSWER;
}
int cuDeviceGetCount(int *count) { *count = COUNT; return 0; }
"""
SMI = """\
#!/bin/sh
cd '{folder}'
case "$1" in
  -L) cat cards ;;
  --query-gpu=uuid) cat gpus ;;
  --query-compute-apps=*) [ -e flag ] && exec sh ./afterwards; cat apps ;;
esac
"""


def missing() -> str:
    """Why the double cannot be made here; empty when it can."""
    if os.getuid() or not shutil.which("unshare"):
        return "only root can mount the double of a GPU's driver"
    if not shutil.which("cc") or not shutil.which("ldconfig"):
        return "there is no C compiler for the double of a GPU's driver"
    return "" if PLACE.is_dir() and not any(PLACE.iterdir()) else f"{PLACE} is not empty"


def machine(folder: Path, answer: int = 0, count: int = 1, library: bool = True) -> list[str]:
    """What a command has to begin with to run on it. What nvidia-smi tells is in folder/smi: cards, gpus, apps, and afterwards,
    a script that is asked in place of apps as soon as there is a file named flag.
    """
    lib, smi, dev = folder / "lib", folder / "smi", folder / "dev"
    for each in (lib, smi, dev):
        each.mkdir(parents=True, exist_ok=True)
    if library:
        source = lib / "cuda.c"
        source.write_text(DRIVER)
        words = [f"-DANSWER={answer}", f"-DCOUNT={count}", "-shared", "-fPIC", str(source), "-o", str(lib / "libcuda.so.1")]
        subprocess.run(["cc", *words], check=True)
    (smi / "nvidia-smi").write_text(SMI.format(folder=smi))
    (smi / "nvidia-smi").chmod(0o755)
    for name in ("apps", "cards", "gpus", "afterwards"):
        (smi / name).touch()
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin/nvidia-modprobe").write_text("#!/bin/sh\n")
    (folder / "bin/nvidia-modprobe").chmod(0o4755)
    (folder / "ld.so.conf").write_text(f"include /etc/ld.so.conf.d/*.conf\n{PLACE}\n")
    quoted = {name: shlex.quote(str(path)) for name, path in {"lib": lib, "dev": dev, "folder": folder}.items()}
    lines = ["set -e", "mount --make-rprivate /", f"mount --bind {quoted['lib']} {PLACE}", f"cd {quoted['folder']}"]
    lines += ["ldconfig -f ld.so.conf -C cache 2>/dev/null", "chmod a+r cache", "mount --bind cache /etc/ld.so.cache"]
    lines += ["mount -t overlay -o lowerdir=bin:/usr/bin bin /usr/bin || true"]  # which not every kernel can
    lines += ["mount -t tmpfs -o mode=755 dev dev", "mkdir dev/shm dev/pts", "mount --rbind /dev/shm dev/shm"]
    lines += ["mount --rbind /dev/pts dev/pts"]
    lines += [
        f"touch dev/{name}; mount --bind /dev/{name} dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")
    ]
    lines += [f"touch dev/{name}; mount --bind /dev/null dev/{name}" for name in ("nvidia0", "nvidiactl", "nvidia-uvm")]
    lines += ["ln -s /proc/self/fd dev/fd", "mount --move dev /dev", "cd - >/dev/null", f"PATH={shlex.quote(str(smi))}:$PATH"]
    return ["unshare", "-m", "sh", "-c", "; ".join([*lines, 'exec "$@"']), "sh"]
