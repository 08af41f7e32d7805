"""The run slots of this machine: which GPUs or cores each of several runs at a time gets. One alone gets all there is."""

from __future__ import annotations

import os
from collections import Counter

from harness import gpus
from harness.models import Place, Task, UserError


def places(task: Task) -> list[Place]:
    """One place for each of the task's run slots; a UserError where there are not so many GPUs of one model."""
    if task.slots == 1:
        return [Place()]
    return cards(task.slots) if gpus.wanted(task) and gpus.present() else shares(task.slots, sorted(os.sched_getaffinity(0)))


def cards(count: int) -> list[Place]:
    """A GPU each, all of one model: runs on different ones do not compare. What is out of use is left out."""
    known, unusable = gpus.devices(), {each.gpu for each in gpus.dirty()}
    if shown := [name for name in os.environ.get(gpus.VISIBLE, "").split(",") if name]:
        numbers = {str(number): each.name for number, each in enumerate(known)}
        chosen = tuple(numbers.get(name, name) for name in shown)
        known = [each for each in known if each.name.startswith(chosen)]
    known = [each for each in known if each.name not in unusable and gpus.EVERY not in unusable]
    model, most = next(iter(Counter(each.model for each in known).most_common(1)), ("", 0))
    if most < count:
        raise UserError(f"there are {count} run slots and {most} usable GPUs of one model: use --slots {max(1, most)}")
    return [Place(gpus=[each.name]) for each in known if each.model == model][:count]


def shares(count: int, cores: list[int]) -> list[Place]:
    """An equal share of the cores each; where there are fewer cores than slots, all of them share all."""
    each = len(cores) // count
    return [Place(cpus=cores[number * each : (number + 1) * each]) for number in range(count)]
