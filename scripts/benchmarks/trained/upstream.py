"""karpathy/autoresearch's train.py (at 228791f) on this machine's CPU, from a copy in memory: none of its code is kept here.

Its imports of `kernels` and `prepare` find stand-ins: attention is PyTorch's, rows and scores are ours. Its constants for size
and batch are set, its learning rates and everything else stay. It is told CPU seconds when it asks for the time, from its first
step on. What the recipe replaces are names of devices and functions; a text that lacks one of them is refused.

On a GPU it stays as it is but for its seed and its kernel, which is FlexAttention here: it is compiled, in its own size, and
leaves its first eleven steps untimed.
"""

from __future__ import annotations

import ast
import io
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from nanochat_train.supply import Order
from trained import trial as measured
from trained.trial import Ground

CPU_RECIPE = (
    ('torch.device("cuda")', 'torch.device("cpu")'),
    ('device_type="cuda"', 'device_type="cpu"'),
    ("torch.cuda.", "cuda."),
    ("torch.compile", "eager"),
    ("time.time()", "clock()"),
    ("step > 10", "step > -1"),  # it leaves its first steps untimed, for compilation
)
RECIPE = (("seed(42)", "seed(SEED)"),)


def constants(text: str, values: dict[str, int]) -> str:
    """The text with other values of names that it assigns at its top level."""
    lines = text.splitlines()
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in values:
            name = node.targets[0].id
            lines[node.lineno - 1] = f"{name} = {values[name]}"
    return "\n".join(lines)


def moved(text: str, sizes: dict[str, int], recipe: tuple[tuple[str, str], ...]) -> str:
    """Upstream's text as it runs here."""
    text = constants(text, sizes)
    for old, new in recipe:
        if old not in text:
            raise SystemExit(f"this is not upstream's train.py at 228791f: it has no {old!r}")
        text = text.replace(old, new)
    return text


def attention(q: Any, k: Any, v: Any, causal: bool, window_size: tuple[int, int]) -> Any:
    """The attention that its kernel computes, [B, T, H, d]: each position sees `window_size[0]` before it."""
    back = torch.arange(q.size(1))[:, None] - torch.arange(q.size(1))
    seen = (back >= 0) & (back <= window_size[0])
    q, k, v = (each.transpose(1, 2) for each in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2)


def flexible(length: int) -> Any:
    """The same on a GPU, by FlexAttention; it uses these two windows."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def mask(window: int) -> Any:
        def seen(_batch: Any, _head: Any, query: Any, key: Any) -> Any:
            return (key <= query) & (query - key <= window)

        return create_block_mask(seen, None, None, length, length, device="cuda")

    masks = {window: mask(window) for window in (length // 2, length)}

    def attend(q: Any, k: Any, v: Any, causal: bool, window_size: tuple[int, int]) -> Any:
        q, k, v = (each.to(v.dtype).transpose(1, 2) for each in (q, k, v))
        return flex_attention(q, k, v, block_mask=masks[window_size[0]]).transpose(1, 2)

    return attend


def trial(top: Path, ground: Ground, seed: int, seconds: float, sizes: dict[str, int]) -> dict[str, Any]:
    """Train it for `seconds` with its constants `sizes` set, and score it."""
    cpu = ground.device == "cpu"
    clock = time.process_time if cpu else time.monotonic
    text = moved((top / "train.py").read_text(), sizes, (*RECIPE, *CPU_RECIPE) if cpu else RECIPE)
    found: dict[str, Any] = {"seed": seed}
    began, entered = clock(), time.monotonic()

    def loader(_tokenizer: object, rows: int, _length: int, _split: str) -> Iterator[tuple[Any, Any, int]]:
        nonlocal began
        order, began = Order(ground.train, seed), clock()
        found["tokens"] = -rows * ground.seq_len  # it asks for one batch more than it uses
        while True:
            batch = np.empty((rows, ground.seq_len + 1), dtype=np.uint16)
            order.fill(batch)
            ids = torch.from_numpy(batch.astype(np.int64)).to(ground.device)
            found["tokens"] += rows * ground.seq_len
            yield ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), 0

    def evaluate(model: Any, *_: object) -> float:
        found["seconds"], found["total_s"] = clock() - began, time.monotonic() - entered
        found.update(**measured.sizes(model), **ground.score(model))
        return found["contiguous"]

    tokenizer = SimpleNamespace(from_directory=lambda: SimpleNamespace(get_vocab_size=lambda: ground.vocab_size))
    kernels, prepare = ModuleType("kernels"), ModuleType("prepare")
    interface = SimpleNamespace(
        flash_attn_interface=SimpleNamespace(flash_attn_func=attention if cpu else flexible(ground.seq_len))
    )
    kernels.__dict__.update(get_kernel=lambda _name: interface)
    stand_ins = {"MAX_SEQ_LEN": ground.seq_len, "TIME_BUDGET": seconds, "Tokenizer": tokenizer}
    prepare.__dict__.update(stand_ins, make_dataloader=loader, evaluate_bpb=evaluate)
    nothing = SimpleNamespace(
        get_device_capability=lambda: (9, 0),
        manual_seed=lambda _seed: None,
        synchronize=lambda: None,
        max_memory_allocated=lambda: 0,
    )
    program = ModuleType("upstream")
    program.__dict__.update(cuda=nothing, eager=eager, clock=time.process_time, SEED=seed)
    sys.modules.update({"kernels": kernels, "prepare": prepare, "upstream": program})
    with redirect_stdout(io.StringIO()):
        exec(compile(text, "upstream", "exec"), program.__dict__)
    return found


def eager(function: Any = None, **_: object) -> Any:
    """In place of torch.compile: as little pays for seconds on a CPU here as for ours."""
    return function or (lambda each: each)
