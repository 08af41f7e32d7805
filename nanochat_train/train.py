"""The experiment: a GPT, its optimiser and its training loop. This is the one file that changes.

A plain decoder: rotary positions, normalised queries and keys, squared ReLU, AdamW. `train(run)` gets rows, the clock
and the device from `run`; `load(path)` and `logits(model, tokens)` are called later, in a fresh process, to score it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

# ---------------------------------------------------------------------------------------------------------------------
# Constants. A trailing `# tune:` gives the range in which a search may move a constant:
#   a..b (uniform), a..b log (log-uniform), a..b step s (whole multiples), {x, y, z} (one of these).

# Shape
DEPTH = 4  # tune: 3..5 step 1 - layers
DIM = 128  # tune: {64, 128, 192} - width of the residual stream
HEAD_DIM = 64  # tune: {32, 64} - DIM has to be a multiple
MLP_RATIO = 4  # tune: 2..5 step 1 - width of the MLP over DIM
ROPE_BASE = 10_000.0  # tune: 500..200000 log - longest wavelength of the rotary positions
SOFTCAP = 0.0  # tune: {0.0, 15.0, 30.0} - bound on the logits, 0 for none

# Optimisation
BATCH_TOKENS = 2048  # tune: {512, 1024, 2048, 4096} - tokens of one step
MATRIX_LR = 0.002  # tune: 0.0005..0.02 log - learning rate of the blocks' matrices
EMBED_LR = 0.01  # tune: 0.001..0.1 log - learning rate of the token embedding
HEAD_LR = 0.002  # tune: 0.0005..0.02 log - learning rate of the output head
WEIGHT_DECAY = 0.1  # tune: 0.0..0.3 - decoupled, on the blocks' matrices
BETA1 = 0.9  # tune: 0.8..0.95 - momentum of AdamW
BETA2 = 0.95  # tune: 0.9..0.999 - its memory of squared gradients
WARMUP = 0.02  # tune: 0.0..0.2 - share of the budget for warm-up
WARMDOWN = 0.4  # tune: 0.1..0.9 - share of the budget for the decay at the end
FINAL_LR = 0.1  # tune: 0.0..0.3 - learning rate at the end, relative to the peak
CLIP = 1.0  # tune: {0.0, 0.5, 1.0, 2.0} - largest norm of the gradient, 0 for no clipping

# Initialisation
EMBED_STD = 1.0  # tune: 0.02..2.0 log - standard deviation of the embedding
MATRIX_GAIN = 1.0  # tune: 0.3..2.0 log - of the matrices, relative to 1 / sqrt(fan in)

# A GPU gets another shape; everything else above holds for both.
GPU_BATCH_ROWS = 16  # rows of one forward pass on a GPU
GPU_SHAPE = {"depth": 8, "dim": 512, "head_dim": 128, "batch_tokens": 2**18}
# ---------------------------------------------------------------------------------------------------------------------


def norm(x: Tensor) -> Tensor:
    """Root-mean-square norm without a scale."""
    return F.rms_norm(x, (x.size(-1),))


class Attention(nn.Module):
    """Causal self-attention with rotary positions and normalised queries and keys."""

    def __init__(self, dim: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        heads = self.qkv(x).unflatten(-1, (3, -1, self.head_dim))  # [B, T, 3, H, head_dim]
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        q, k = norm(rotate(q, cos, sin)), norm(rotate(k, cos, sin))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two matrices around a squared ReLU."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.up = nn.Linear(dim, MLP_RATIO * dim, bias=False)
        self.down = nn.Linear(MLP_RATIO * dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        return self.down(F.relu(self.up(x)).square())


class Block(nn.Module):
    """Attention, then MLP, each on a normalised input and added to the stream."""

    def __init__(self, dim: int, head_dim: int) -> None:
        super().__init__()
        self.attention = Attention(dim, head_dim)
        self.mlp = MLP(dim)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        x = x + self.attention(norm(x), cos, sin)
        return x + self.mlp(norm(x))


class GPT(nn.Module):
    """Token ids [B, T] -> logits [B, T, V]."""

    def __init__(self, vocab_size: int, seq_len: int, depth: int, dim: int, head_dim: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, dim)
        self.blocks = nn.ModuleList(Block(dim, head_dim) for _ in range(depth))
        self.head = nn.Linear(dim, vocab_size, bias=False)
        cos, sin = rotary(seq_len, head_dim)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.initialise()

    def initialise(self) -> None:
        """Matrices at 1 / sqrt(fan in); what writes to the stream, and the head, at zero."""
        for name, weight in self.named_parameters():
            if name == "embed.weight":
                nn.init.normal_(weight, std=EMBED_STD)
            elif name.endswith(("out.weight", "down.weight", "head.weight")):
                nn.init.zeros_(weight)
            else:
                nn.init.normal_(weight, std=MATRIX_GAIN / math.sqrt(weight.size(1)))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits in float32, bounded by SOFTCAP."""
        x = norm(self.embed(tokens))
        for block in self.blocks:
            x = block(x, self.cos[: tokens.size(1)], self.sin[: tokens.size(1)])
        logits = self.head(norm(x)).float()
        return SOFTCAP * torch.tanh(logits / SOFTCAP) if SOFTCAP else logits


def rotary(length: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary positions, [T, head_dim / 2] each."""
    frequency = ROPE_BASE ** -(torch.arange(0, head_dim, 2) / head_dim)
    angle = torch.outer(torch.arange(length), frequency)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn pairs of channels of x [B, H, T, head_dim] by their position's angle."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1).type_as(x)


def optimizer(model: GPT) -> torch.optim.AdamW:
    """AdamW in three groups: embedding, head, matrices."""
    groups = [
        {"params": [model.embed.weight], "lr": EMBED_LR, "weight_decay": 0.0},
        {"params": [model.head.weight], "lr": HEAD_LR, "weight_decay": 0.0},
        {"params": list(model.blocks.parameters()), "lr": MATRIX_LR, "weight_decay": WEIGHT_DECAY},
    ]
    for group in groups:
        group["peak"] = group["lr"]
    return torch.optim.AdamW(groups, betas=(BETA1, BETA2), eps=1e-10, fused=True)


def schedule(progress: float) -> float:
    """Learning rate relative to its peak: linear warm-up, constant, linear decay to FINAL_LR."""
    if progress < WARMUP:
        return max(progress / WARMUP, 0.05)
    if progress > 1 - WARMDOWN:
        return FINAL_LR + (1 - FINAL_LR) * (1 - progress) / WARMDOWN
    return 1.0


def mixed_precision(device: str) -> torch.autocast:
    """bfloat16 where the device computes in it."""
    fast = device == "cuda" or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device, dtype=torch.bfloat16, enabled=fast)


def train(run) -> None:
    """Train until the budget is used up and save the result."""
    torch.manual_seed(run.seed)
    shape = {"depth": DEPTH, "dim": DIM, "head_dim": HEAD_DIM, "batch_tokens": BATCH_TOKENS}
    if run.device == "cuda":
        shape = GPU_SHAPE
    batch_rows = max(1, shape.pop("batch_tokens") // run.seq_len)
    model = GPT(run.vocab_size, run.seq_len, **shape).to(run.device)
    adamw = optimizer(model)
    step = 0
    for loss in steps(run, model, adamw, batch_rows):
        if step % 10 == 0:
            run.log(step, loss.item())
        step += 1
    run.log(step, loss.item())
    run.note("parameters", sum(p.numel() for p in model.parameters()))
    run.save({**model.state_dict(), "shape": torch.tensor([run.vocab_size, run.seq_len, *shape.values()])})


def steps(run, model: GPT, adamw: torch.optim.AdamW, batch_rows: int) -> Iterator[Tensor]:
    """Take optimiser steps while there are rows, yielding each one's loss."""
    run.start()
    while (rows := run.next_rows(batch_rows)) is not None:
        for group in adamw.param_groups:
            group["lr"] = group["peak"] * schedule(run.progress)
        batch = torch.from_numpy(rows.astype("int64")).to(run.device)
        loss = torch.zeros((), device=run.device)
        parts = batch.split(GPU_BATCH_ROWS if run.device == "cuda" else batch_rows)
        for part in parts:
            with mixed_precision(run.device):
                logits = model(part[:, :-1])
            piece = F.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten()) * len(part) / len(batch)
            piece.backward()
            loss += piece.detach()
        if CLIP:
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        adamw.step()
        adamw.zero_grad(set_to_none=True)
        yield loss


def load(path: str) -> GPT:
    """The trained model from the file of what train() saved."""
    state = load_file(path)
    vocab_size, seq_len, depth, dim, head_dim = state.pop("shape").tolist()
    model = GPT(vocab_size, seq_len, depth, dim, head_dim)
    model.load_state_dict(state)
    return model.eval()


def logits(model: GPT, tokens: Tensor) -> Tensor:
    """Logits [B, T, V] of token ids [B, T]; position t may depend on tokens up to t only."""
    with mixed_precision(tokens.device.type):
        return model.to(tokens.device)(tokens)
