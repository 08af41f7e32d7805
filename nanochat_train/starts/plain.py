"""The plain start: `harness run --start plain` puts this file in the place of train.py.

It is train.py without hashed bigrams and with the constants of karpathy/autoresearch at 228791f, whose published baseline on an
H100 is 0.9979: so a night compares with published curves and has room for what they found.

`train(run)` gets rows, the clock and the device from `run`; `load(path)` and `logits(model, tokens)` are called later, in a
fresh process, to score it. The file reads from top to bottom: constants, attention, model, optimisers, training.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

# ---------------------------------------------------------------------------------------------------------------------
# Constants. A trailing `# tune:` gives the range in which a search may move a constant:
#   a..b (uniform), a..b log (log-uniform), a..b step s (whole multiples), {x, y, z} (one of these);
#   `# tune gpu:` or `# tune cpu:` is for that profile alone.

# Size: what a GPU trains in five minutes, and what a CPU trains in seconds. Everything below it holds for both.
DEPTH = 8  # tune gpu: 6..14 step 1 - layers
DIM = 512  # tune gpu: 384..1024 step 128 - width of the residual stream
HEAD_DIM = 128  # tune gpu: {64, 128} - DIM has to be a multiple
BATCH_TOKENS = 524_288  # tune gpu: {131072, 262144, 524288} - tokens of one step
CPU_DEPTH = 4  # tune cpu: 3..6 step 1 - layers
CPU_DIM = 128  # tune cpu: {64, 128, 192} - width of the residual stream
CPU_HEAD_DIM = 64  # tune cpu: {32, 64} - CPU_DIM has to be a multiple
CPU_BATCH_TOKENS = 2048  # tune cpu: {512, 1024, 2048} - tokens of one step

# Model
WINDOWS = "SSSL"  # attention of each layer, repeated: S short, L the whole row; the last layer is always L
SHORT_WINDOW = 2  # tune: {2, 4, 8, 16} - a short window is the row's length divided by this
ATTENTION = "auto"  # flash3, flash2, flex or sdpa; auto takes the first of them that is installed and works
ROPE_BASE = 10_000.0  # tune: 1000..1000000 log - longest wavelength of the rotary positions
QK_SCALE = 1.0  # tune: 0.8..1.6 - factor on the normalised queries and keys
GATE_CHANNELS = 32  # tune: 4..32 step 4 - channels of the stream that a value embedding's gate looks at
MLP_RATIO = 4  # tune: 2..5 step 1 - width of the MLP over the stream's
SOFTCAP = 15.0  # tune: 8..30 - bound on the logits

# Initialisation
EMBED_STD = 1.0  # tune: 0.1..3.0 log - standard deviation of the token embedding
MATRIX_GAIN = 1.0  # tune: 0.3..1.5 log - of the blocks' matrices, relative to 1 / sqrt(width)
HEAD_STD = 0.001  # tune: 0.0001..0.01 log - standard deviation of the output head
X0_INIT = 0.1  # tune: 0.0..0.3 - share of the embedding that each layer's input gets again

# Optimisation. Learning rates are peaks; the rate of tables and head is for a width of 768.
MATRIX_LR = 0.04  # tune: 0.01..0.1 log - of the blocks' matrices, by Muon
EMBED_LR = 0.6  # tune: 0.2..3.0 log - of the token embedding
VALUE_LR = 0.6  # tune: 0.2..3.0 log - of the value embeddings
HEAD_LR = 0.004  # tune: 0.001..0.03 log - of the output head
GATE_LR = 0.02  # tune: 0.002..0.1 log - of the gates
X0_LR = 0.5  # tune: 0.005..0.5 log - of the shares of the embedding
RESIDUAL_LR = 0.005  # tune: 0.0005..0.05 log - of the scales of the stream
MOMENTUM = 0.95  # tune: 0.8..0.98 - of Muon
MOMENTUM_START = 0.85  # tune: 0.7..0.95 - its first value
MOMENTUM_STEPS = 300  # tune: 1..400 - steps until it is reached
NEURON_BETA = 0.95  # tune: 0.8..0.99 - memory of NorMuon's second moments
MATRIX_DECAY = 0.2  # tune: 0.0..0.5 - decoupled weight decay of the matrices, falling to zero
EMBED_DECAY = 0.0  # tune: 0.0..0.01 - of the token embedding
VALUE_DECAY = 0.0  # tune: 0.0..0.01 - of the value embeddings
HEAD_DECAY = 0.0  # tune: 0.0..0.1 - of the output head
BETA1 = 0.8  # tune: 0.6..0.95 - momentum of AdamW
BETA2 = 0.95  # tune: 0.8..0.99 - its memory of squared gradients
WARMDOWN = 0.5  # tune: 0.2..1.0 - share of the budget in which the rates fall
FINAL_LR = 0.0  # tune: 0.0..0.3 - rates at the end, relative to the peaks
# ---------------------------------------------------------------------------------------------------------------------

LOG_EVERY = 10  # steps
SAVE_SHARE = 0.003  # of a GPU's budget, kept for saving
MEMORY_SHARE = 0.85  # of a GPU's free memory, used


@dataclass(frozen=True)
class Size:
    """What a model is made of; a combination that cannot work is refused with a sentence."""

    depth: int
    dim: int
    head_dim: int
    batch_tokens: int

    def __post_init__(self) -> None:
        if self.dim % self.head_dim or self.head_dim % 2:
            raise ValueError(f"a width of {self.dim} does not divide into heads of {self.head_dim} channels, an even number")
        if self.dim < GATE_CHANNELS:
            raise ValueError(f"GATE_CHANNELS = {GATE_CHANNELS} is more than the width {self.dim}")
        if min(self.depth, self.batch_tokens, SHORT_WINDOW, MLP_RATIO) < 1:
            raise ValueError("depth, batch, SHORT_WINDOW and MLP_RATIO have to be at least 1")
        if not WINDOWS or set(WINDOWS) - {"S", "L"}:
            raise ValueError(f"WINDOWS = {WINDOWS!r} is not a sequence of S and L")
        if ATTENTION not in ("auto", *KERNELS):
            raise ValueError(f"ATTENTION = {ATTENTION!r} is neither auto nor one of {', '.join(KERNELS)}")

    def scaled(self, scale: float) -> Size:
        """Depth and width grow together, the width in whole heads."""
        heads = max(1, round(self.dim * scale / self.head_dim))
        return Size(max(1, round(self.depth * scale)), heads * self.head_dim, self.head_dim, self.batch_tokens)


def size(device: str, scale: float) -> Size:
    """The size for a device. Both are looked at, so that a check on a CPU finds what is wrong with a GPU's."""
    sizes = {
        "cuda": Size(DEPTH, DIM, HEAD_DIM, BATCH_TOKENS),
        "cpu": Size(CPU_DEPTH, CPU_DIM, CPU_HEAD_DIM, CPU_BATCH_TOKENS),
    }
    return sizes["cuda" if device == "cuda" else "cpu"].scaled(scale)


def precision(device: str) -> torch.dtype:
    """What is computed in: bfloat16 where the hardware has it, float16 on older NVIDIA GPUs (Turing), else float32.

    Weights, their gradients and the optimisers' state are float32 everywhere.
    """
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    fast = device == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return torch.bfloat16 if fast else torch.float32


# ---------------------------------------------------------------------------------------------------------------------
# Attention: four kernels for one function. Position t sees the last `window` positions, itself included.

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # queries, keys and values [B, T, H, d] -> [B, T, H, d]


def flash(attention: Callable[..., Tensor | tuple[Tensor, ...]], window: int, length: int, scale: float) -> Attend:
    """A FlashAttention function (Dao 2023, arXiv 2307.08691; Shah et al. 2024, arXiv 2407.08608)."""
    reach = (-1, -1) if window >= length else (window - 1, 0)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        found = attention(q, k, v, softmax_scale=scale, causal=True, window_size=reach)
        return found if isinstance(found, Tensor) else found[0]  # early versions of 3 return the sums of exponentials too

    return attend


def flash3(device: str, window: int, length: int, scale: float) -> Attend:
    """FlashAttention 3, for Hopper."""
    from flash_attn_interface import flash_attn_func

    return flash(flash_attn_func, window, length, scale)


def flash2(device: str, window: int, length: int, scale: float) -> Attend:
    """FlashAttention 2, for Ampere and later."""
    from flash_attn import flash_attn_func

    return flash(flash_attn_func, window, length, scale)


def flex(device: str, window: int, length: int, scale: float) -> Attend:
    """FlexAttention (Dong et al. 2024, arXiv 2412.05496): compiled by Triton, skips the blocks that a window hides."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def seen(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query - key < window)

    compute = compiled(flex_attention, device)

    def mask(t: int) -> object:
        return create_block_mask(seen, None, None, t, t, device=device)

    masks = {length: mask(length)}

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (each.transpose(1, 2) for each in (q, k, v))
        if q.size(2) not in masks:
            masks[q.size(2)] = mask(q.size(2))
        return compute(q, k, v, block_mask=masks[q.size(2)], scale=scale).transpose(1, 2)

    return attend


def sdpa(device: str, window: int, length: int, scale: float) -> Attend:
    """PyTorch's own, with a mask where the window is shorter than the row."""
    back = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)
    mask = None if window >= length else (back >= 0) & (back < window)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (each.transpose(1, 2) for each in (q, k, v))
        seen = None if mask is None else mask[: q.size(2), : q.size(2)]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=seen is None, scale=scale).transpose(1, 2)

    return attend


KERNELS = {"flash3": flash3, "flash2": flash2, "flex": flex, "sdpa": sdpa}


def kernel(device: str, capability: int, installed: Callable[[str], object]) -> str:
    """The attention kernel for a device of a CUDA capability (90 for 9.0), by what is installed. Nothing is downloaded."""
    if ATTENTION != "auto":
        return ATTENTION
    if device == "cuda" and capability // 10 == 9 and installed("flash_attn_interface"):
        return "flash3"
    if device == "cuda" and capability >= 80 and installed("flash_attn"):
        return "flash2"
    return "flex" if device == "cuda" and installed("triton") else "sdpa"


def compiled(function: Callable[..., object], device: str) -> Callable[..., object]:
    """The function, compiled where that pays: for a CPU's seconds it does not."""
    return torch.compile(function, dynamic=False) if device == "cuda" and find_spec("triton") else function


# ---------------------------------------------------------------------------------------------------------------------
# Model


def norm(x: Tensor) -> Tensor:
    """Root-mean-square norm without a scale."""
    return F.rms_norm(x, (x.size(-1),))


class Linear(nn.Linear):
    """A matrix without a bias that computes in its input's precision."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        return F.linear(x, self.weight.to(x.dtype))


def rotary(length: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary positions (Su et al. 2021, arXiv 2104.09864), [T, 1, head_dim / 2] each."""
    frequency = ROPE_BASE ** -(torch.arange(0, head_dim, 2) / head_dim)
    angle = torch.outer(torch.arange(length), frequency)[:, None]
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn pairs of channels of x [B, T, H, head_dim] by their position's angle."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


class Attention(nn.Module):
    """Causal self-attention with rotary positions and normalised queries and keys (Henry et al. 2020, arXiv 2010.04245).

    Value embeddings: in every second layer a table gives each token values of its own, and a gate for each head, from a few
    channels of the stream, says how much of them is added (modded-nanogpt, nanochat; after Zhou et al. 2024, arXiv 2410.17897).
    """

    def __init__(self, dim: int, head_dim: int, gated: bool) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.q, self.k, self.v, self.out = (Linear(dim, dim) for _ in range(4))
        self.gate = Linear(GATE_CHANNELS, dim // head_dim) if gated else None

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend, values: Tensor | None) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        q, k, v = (matrix(x).unflatten(-1, (-1, self.head_dim)) for matrix in (self.q, self.k, self.v))
        if self.gate is not None and values is not None:
            share = 2 * torch.sigmoid(self.gate(x[..., :GATE_CHANNELS]))
            v = v + share[..., None] * values.unflatten(-1, (-1, self.head_dim))
        q, k = norm(rotate(q, cos, sin)), norm(rotate(k, cos, sin))
        return self.out(attend(q, k, v).flatten(2))


class MLP(nn.Module):
    """Two matrices around a squared ReLU (So et al. 2021, arXiv 2109.08668)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.up, self.down = Linear(dim, MLP_RATIO * dim), Linear(MLP_RATIO * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        return self.down(F.relu(self.up(x)).square())


class Block(nn.Module):
    """Attention, then MLP, each on a normalised input and added to the stream."""

    def __init__(self, dim: int, head_dim: int, gated: bool) -> None:
        super().__init__()
        self.attention, self.mlp = Attention(dim, head_dim, gated), MLP(dim)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend, values: Tensor | None) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        x = x + self.attention(norm(x), cos, sin, attend, values)
        return x + self.mlp(norm(x))


class GPT(nn.Module):
    """Token ids [B, T] -> logits [B, T, V].

    Each layer's input is the stream and the token's embedding, in shares that are learned for each layer (x0 and residual
    lambdas: modded-nanogpt).
    """

    def __init__(self, vocab_size: int, seq_len: int, depth: int, dim: int, head_dim: int) -> None:
        super().__init__()
        self.seq_len, self.head_dim, self.device = seq_len, head_dim, ""
        gated = [(depth - 1 - layer) % 2 == 0 for layer in range(depth)]
        self.embed = nn.Embedding(vocab_size, dim)
        self.values = nn.ModuleDict({str(layer): nn.Embedding(vocab_size, dim) for layer in range(depth) if gated[layer]})
        self.blocks = nn.ModuleList(Block(dim, head_dim, each) for each in gated)
        self.head = Linear(dim, vocab_size)
        self.residual = nn.Parameter(torch.ones(depth))
        self.x0 = nn.Parameter(torch.full((depth,), X0_INIT))
        cos, sin = rotary(seq_len, head_dim)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.initialise(dim)

    def initialise(self, dim: int) -> None:
        """Matrices uniform; what writes to the stream, and the gates, at zero."""
        bound = math.sqrt(3 / dim)  # for a standard deviation of 1 / sqrt(width)
        for name, weight in self.named_parameters():
            if name in ("embed.weight", "head.weight"):
                nn.init.normal_(weight, std=EMBED_STD if name == "embed.weight" else HEAD_STD)
            elif name.endswith(("out.weight", "down.weight", "gate.weight")):
                nn.init.zeros_(weight)
            elif weight.ndim > 1:
                scale = MATRIX_GAIN if name.startswith("blocks") else 1.0
                nn.init.uniform_(weight, -scale * bound, scale * bound)

    def place(self, device: str) -> GPT:
        """The model on a device ("cpu", "cuda", "mps"), with the precision and the attention kernels of that device."""
        if self.device != device:
            self.to(device)
            self.device, self.dtype = device, precision(device)
            self.cos, self.sin = self.cos.to(self.dtype), self.sin.to(self.dtype)
            major, minor = torch.cuda.get_device_capability() if device == "cuda" else (0, 0)
            self.kernel = kernel(device, 10 * major + minor, find_spec)
            make, scale = KERNELS[self.kernel], QK_SCALE**2 / math.sqrt(self.head_dim)
            self.attends = [make(device, window, self.seq_len, scale) for window in self.windows()]
        return self

    def windows(self) -> list[int]:
        """How many positions each layer sees."""
        pattern = (WINDOWS * len(self.blocks))[: len(self.blocks) - 1] + "L"
        return [self.seq_len if each == "L" else max(1, self.seq_len // SHORT_WINDOW) for each in pattern]

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits in float32, softly bounded (Gemma 2, arXiv 2408.00118)."""
        length = tokens.size(1)
        cos, sin = self.cos[:length], self.sin[:length]
        x = x0 = norm(self.embed(tokens).to(self.dtype))
        for layer, block in enumerate(self.blocks):
            x = self.residual[layer] * x + self.x0[layer] * x0
            values = self.values[str(layer)](tokens).to(self.dtype) if str(layer) in self.values else None
            x = block(x, cos, sin, self.attends[layer], values)
        logits = self.head(norm(x)).float()
        return SOFTCAP * torch.tanh(logits / SOFTCAP)

    def loss(self, rows: Tensor) -> Tensor:
        """Mean cross entropy in nats of rows [B, T+1]."""
        return F.cross_entropy(self(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())


# ---------------------------------------------------------------------------------------------------------------------
# Optimisers

# Coefficients of the first five steps of Polar Express (Amsel et al. 2025, arXiv 2505.16932, algorithm 1).
POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
)
SAFETY = 1.01  # keeps singular values below 1 in low precision, as its authors do


def orthogonal(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The nearest matrices with orthonormal rows or columns, roughly, to matrices x [N, rows, columns], by Polar Express."""
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) * SAFETY + 1e-7)).to(dtype)
    for a, b, c in POLAR_EXPRESS:
        gram = x @ x.mT
        x = a / SAFETY * x + (b / SAFETY**3 * gram + c / SAFETY**5 * gram @ gram) @ x
    return (x.mT if tall else x).float()


def direction(gradient: Tensor, seconds: Tensor, dtype: torch.dtype) -> Tensor:
    """Muon's direction for smoothed gradients [N, rows, columns], neuron by neuron evened out; updates `seconds`.

    NorMuon (Li et al. 2025, arXiv 2510.05491): each neuron is divided by the root of its mean square over time, then the
    matrix gets back the norm that it had.
    """
    along = -1 if gradient.size(-2) >= gradient.size(-1) else -2
    found = orthogonal(gradient, dtype)
    seconds.lerp_(found.square().mean(along, keepdim=True), 1 - NEURON_BETA)
    even = found * seconds.clamp_min(1e-10).rsqrt()
    return even * (found.norm(dim=(-2, -1), keepdim=True) / even.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-10))


class Muon(torch.optim.Optimizer):
    """Steepest descent of matrices in the spectral norm (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

    Matrices of one shape are one group and are computed together. The decay acts only where it and the step agree
    (cautious, after Liang et al. 2024, arXiv 2411.16085).
    """

    def __init__(self, matrices: list[nn.Parameter], lr: float, dtype: torch.dtype) -> None:
        shapes = sorted({matrix.shape for matrix in matrices})
        groups = [{"params": [each for each in matrices if each.shape == shape]} for shape in shapes]
        super().__init__(groups, {"lr": lr, "momentum": MOMENTUM_START, "weight_decay": MATRIX_DECAY})
        self.dtype = dtype
        self.direction = compiled(direction, matrices[0].device.type)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step, with Nesterov's momentum."""
        for group in self.param_groups:
            matrices, momentum = group["params"], group["momentum"]
            state, gradient = self.state[matrices[0]], torch.stack([matrix.grad for matrix in matrices])
            rows, columns = gradient.shape[1:]
            if not state:
                state["first"] = torch.zeros_like(gradient)
                state["second"] = gradient.new_zeros((len(matrices), rows, 1) if rows >= columns else (len(matrices), 1, columns))
            state["first"].lerp_(gradient, 1 - momentum)
            step = self.direction(gradient.lerp_(state["first"], momentum), state["second"], self.dtype)
            weights = torch.stack(matrices)
            step += group["weight_decay"] * weights * (step * weights >= 0)
            torch._foreach_add_(matrices, list(step), alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)


def optimizers(model: GPT) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW (Loshchilov and Hutter 2017, arXiv 1711.05101) for everything else.

    The rates of tables and head fall with the root of the width, as in nanochat.
    """
    width = (model.embed.embedding_dim / 768) ** -0.5
    named = list(model.blocks.named_parameters())
    groups = [
        {"params": [model.embed.weight], "lr": EMBED_LR * width, "weight_decay": EMBED_DECAY},
        {"params": list(model.values.parameters()), "lr": VALUE_LR * width, "weight_decay": VALUE_DECAY},
        {"params": [model.head.weight], "lr": HEAD_LR * width, "weight_decay": HEAD_DECAY},
        {"params": [weight for name, weight in named if "gate" in name], "lr": GATE_LR},
        {"params": [model.x0], "lr": X0_LR},
        {"params": [model.residual], "lr": RESIDUAL_LR},
    ]
    adamw = torch.optim.AdamW(groups, betas=(BETA1, BETA2), eps=1e-10, weight_decay=0.0, fused=model.device != "mps")
    muon = Muon([weight for name, weight in named if "gate" not in name], MATRIX_LR, model.dtype)
    for group in (*adamw.param_groups, *muon.param_groups):
        group["peak"] = group["lr"]
    return [adamw, muon]


def adjust(group: dict[str, float], progress: float, step: int) -> None:
    """Set a group's rate, momentum and decay by the share of the budget that is used and the steps that were taken.

    Rates are constant, then fall in a line to FINAL_LR; Muon's momentum rises, its decay falls to zero.
    """
    group["lr"] = group["peak"] * (FINAL_LR + (1 - FINAL_LR) * min(1.0, (1 - progress) / WARMDOWN))
    if "momentum" in group:
        group["momentum"] = MOMENTUM_START + (MOMENTUM - MOMENTUM_START) * min(1.0, step / MOMENTUM_STEPS)
        group["weight_decay"] = MATRIX_DECAY * (1 - progress)


# ---------------------------------------------------------------------------------------------------------------------
# Training


def train(run) -> None:
    """Train until the budget is used up and save the result."""
    torch.manual_seed(run.seed)
    torch.set_float32_matmul_precision("high")
    chosen = size(run.device, run.scale)
    model = GPT(run.vocab_size, run.seq_len, chosen.depth, chosen.dim, chosen.head_dim).place(run.device)
    compute, rows = compiled(model.loss, run.device), max(1, chosen.batch_tokens // run.seq_len)
    part = rows
    if run.device == "cuda":
        part = warm_up(run, model, compute, fitting(model, rows, torch.cuda.mem_get_info()[0]))
        gc.freeze()  # what lives now lives to the end; collecting would stop the GPU now and then (nanochat)
        gc.disable()
    describe(run, model, part)
    for step, loss in enumerate(steps(run, model, compute, rows, part)):
        if step % LOG_EVERY == 0:
            run.log(step, loss)
    run.log(step, loss)
    state = {name: weight.to(model.dtype) if weight.ndim > 1 else weight for name, weight in model.state_dict().items()}
    shape = torch.tensor([run.vocab_size, run.seq_len, chosen.depth, chosen.dim, chosen.head_dim])
    run.save({**state, "shape": shape})  # tables and matrices in the precision in which they are used


def steps(run, model: GPT, compute: Callable[[Tensor], Tensor], rows: int, part: int) -> Iterator[float]:
    """Take optimiser steps while there are rows, yielding each one's loss when the next has been begun.

    So the device never waits for Python, and Python is never more than a step ahead of it.
    """
    chosen, loss, before = optimizers(model), None, 0.0
    scaler = torch.amp.GradScaler(run.device, enabled=model.dtype == torch.float16)
    keep = SAVE_SHARE if run.device == "cuda" else 0.0
    run.start()
    for step in count():
        batch = run.next_rows(rows)
        if batch is None or 2 * run.progress - before > 1 + 1e-6 - keep:
            break  # no rows, or none that a step could use in time
        before = run.progress
        last, loss = loss, torch.zeros((), device=run.device)
        for each in torch.from_numpy(batch.astype("int32")).to(run.device).long().split(part):
            share = compute(each) * (len(each) / rows)
            scaler.scale(share).backward()
            loss += share.detach()
        for optimizer in chosen:
            for group in optimizer.param_groups:
                adjust(group, run.progress, step)
            scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        scaler.update()
        if last is not None:
            yield last.item()
    if loss is not None:
        yield loss.item()


def fitting(model: GPT, rows: int, free: int) -> int:
    """Rows of one forward and backward pass: all, or the largest even part of them that fits into `free` bytes of a GPU.

    The gradient of a batch is the mean over its parts, so cards of 8, 16, 24 and 80 GB train the same model up to rounding.
    Activations take about 24 bytes for each layer's channel and 12 for each logit; a weight 16, with gradient and moments.
    """
    weights = 16 * sum(weight.numel() for weight in model.parameters())
    row = model.seq_len * (24 * len(model.blocks) * model.embed.embedding_dim + 12 * model.embed.num_embeddings)
    while rows > 1 and weights + rows * row > MEMORY_SHARE * free:
        rows = math.ceil(rows / 2)
    return rows


def warm_up(run, model: GPT, compute: Callable[[Tensor], Tensor], part: int) -> int:
    """Compile on random ids, before the clock starts. The rows of a pass: half as many where they turn out not to fit."""
    try:
        rows = torch.from_numpy(run.warmup_rows(part).astype("int32")).to(run.device).long()
        compute(rows).backward()
        for optimizer in optimizers(model):
            for group in optimizer.param_groups:
                group["lr"] = 0.0  # a step that changes nothing
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    except torch.OutOfMemoryError:
        if part == 1:
            raise
    else:
        return part
    model.zero_grad(set_to_none=True)
    torch.cuda.empty_cache()
    return warm_up(run, model, compute, math.ceil(part / 2))


def describe(run, model: GPT, part: int) -> None:
    """Say and record what is trained, and by what."""
    notes = {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "attention": model.kernel,
        "precision": str(model.dtype).removeprefix("torch."),
        "rows of a pass": part,
    }
    for name, value in notes.items():
        run.note(name, value)
        print(f"{name}: {value}")


# ---------------------------------------------------------------------------------------------------------------------
# Scoring


def load(path: str) -> GPT:
    """The trained model from the file of what train() saved."""
    state = load_file(path)
    model = GPT(*state.pop("shape").tolist())
    model.load_state_dict(state)
    return model.eval()


def logits(model: GPT, tokens: Tensor) -> Tensor:
    """Logits [B, T, V] of token ids [B, T]; position t may depend on tokens up to t only."""
    return model.place(tokens.device.type)(tokens)
