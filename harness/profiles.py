"""What a sandboxed command may see and do, by its role: the one table. No role has a network or a key.

A box of a role cannot be made with more than the role has (protocols.Box). What a role is not given here it does not have:
a task or an agent can narrow a profile, never widen it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["agent", "check", "train", "evaluate"]


@dataclass(frozen=True)
class Profile:
    """One role. Memory is the smaller of a share of the machine's and, above 0, `most_memory_mb`; sizes are in MiB.

    `gpu`: the GPU's device files, where the task's profile asks for a GPU. `home`: a private HOME on disk. `writes`: places
    on disk, an agent's folders, a run's declared outputs, files that an evaluation names; without, only temporary files.
    `gateway`: a line to the LLM provider.
    """

    gpu: bool
    home: bool
    writes: bool
    gateway: bool
    memory: float
    most_memory_mb: int
    processes: int
    file_mb: int
    disk_mb: int
    inodes: int = 200_000
    open_files: int = 4096
    output_mb: int = 4

    def limits(self, machine_mb: int) -> dict[str, int]:
        """Its limits on a machine of that much memory, by the names of spec.Limits."""
        share = int(self.memory * machine_mb)
        numbers = {name: getattr(self, name) for name in ("processes", "file_mb", "disk_mb", "inodes", "open_files", "output_mb")}
        return {"memory_mb": min(share, self.most_memory_mb or share), **numbers}


# An agent writes text and runs small checks; a check takes two steps of a tiny model beside a run that is being timed;
# training fills memory and disk by design. The rest of the memory is what the machine and the harness need to go on; a
# GPU's own memory is not counted, so one share serves every machine.
RUN = Profile(
    gpu=True, home=False, writes=True, gateway=False, memory=0.8, most_memory_mb=0, processes=4096, file_mb=8192, disk_mb=16384
)
PROFILES: dict[Role, Profile] = {
    "agent": Profile(
        gpu=False, home=True, writes=True, gateway=True, memory=0.5, most_memory_mb=0, processes=4096, file_mb=2048, disk_mb=4096
    ),
    "check": Profile(
        gpu=False,
        home=False,
        writes=False,
        gateway=False,
        memory=0.5,
        most_memory_mb=4096,
        processes=1024,
        file_mb=512,
        disk_mb=1024,
    ),
    "train": RUN,
    "evaluate": RUN,
}
