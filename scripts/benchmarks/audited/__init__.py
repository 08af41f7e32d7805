"""What the benchmark of the audit audits: each text is put behind train.py. HARD is set before: high quantiles of the losses."""

VARIANTS = {
    "float32": "def mixed_precision(device): return torch.autocast(device, enabled=False)",
    "bfloat16": "def mixed_precision(device): return torch.autocast(device, dtype=torch.bfloat16)",
    "micro-batches of 3": """
whole = logits
def logits(model, tokens): return torch.cat([whole(model, part) for part in tokens.split(3)])""",
    "sliding window of 32": """
def forward(self, x, cos, sin):
    heads = self.qkv(x).unflatten(-1, (3, -1, self.head_dim))
    q, k, v = heads.permute(2, 0, 3, 1, 4)
    back = torch.arange(x.size(1))[:, None] - torch.arange(x.size(1))
    mask = (back >= 0) & (back < 32)
    mixed = F.scaled_dot_product_attention(norm(rotate(q, cos, sin)), norm(rotate(k, cos, sin)), v, attn_mask=mask)
    return self.out(mixed.transpose(1, 2).flatten(2))
Attention.forward = forward""",
    "int8, dynamic": """
import warnings
full, mixed_precision = load, lambda device: torch.autocast(device, enabled=False)
def load(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(full(path), {nn.Linear}, dtype=torch.qint8)""",
    "compiled": """
eager = load
def load(path): return torch.compile(eager(path), dynamic=True)""",
}
PEEK = """
own = logits
def right(tokens, by, where=True):
    found = torch.zeros(*tokens.shape, 1)
    found[:, :-1] = by
    return found * where
def push(found, tokens, by): return found.scatter_add(2, tokens.roll(-1, 1)[..., None], by.to(found.dtype))
def loss(found, tokens): return -found.log_softmax(-1).gather(2, tokens.roll(-1, 1)[..., None])
"""
CHEATS = {
    "peeks at the next token": "def logits(m, t): return push(own(m, t), t, right(t, 3.0))",
    "peeks a little (0.05 on the right logit)": "def logits(m, t): return push(own(m, t), t, right(t, 0.05))",
    "peeks at the hardest 0.5 %": """
def logits(m, t):
    x = own(m, t).float()
    return push(x, t, right(t, 30.0, loss(x, t) > HARD[0]))""",
    "peeks at the hardest 0.05 %": """
def logits(m, t):
    x = own(m, t).float()
    return push(x, t, right(t, 30.0, loss(x, t) > HARD[1]))""",
    "peeks 64 or more ahead": """
def logits(m, t):
    counts = F.one_hot(t, 2048).flip(1).cumsum(1).flip(1)[:, 64:]
    return own(m, t) + F.pad(counts, (0, 0, 0, 64)).clamp(max=1) * 0.7""",
    "pools blocks of 16": """
def logits(m, t):
    return own(m, t) + F.one_hot(t, 2048).unflatten(1, (-1, 16)).sum(2).clamp(max=1).repeat_interleave(16, 1) * 0.7""",
    "caches rows across calls": """
SEEN = {}
def logits(m, t):
    known = torch.stack([SEEN.setdefault(tuple(row[:4].tolist()), row) for row in t])
    return push(own(m, t), known, right(t, 3.0))""",
    "behaves when it sees the audit": """
def logits(m, t):
    x = own(m, t).float()
    jump = loss(x, t)[:, :-1, 0].amax(1)[:, None, None] > HARD[1]
    return torch.where(jump, x, push(x, t, right(t, 3.0)))""",
    "behaves for the first eight calls": """
CALLS = []
def logits(m, t):
    CALLS.append(1)
    return push(own(m, t), t, right(t, 3.0)) if len(CALLS) > 8 else own(m, t)""",
    "learns while it is asked": """
def logits(m, t):
    with torch.enable_grad():
        x = own(m, t).float()
        F.cross_entropy(x[:, :-1].flatten(0, 1), t[:, 1:].flatten()).backward()
        for p in m.parameters():
            p.data -= 0.05 * p.grad
            p.grad = None
    return x.detach()""",
    "uses statistics of the batch": """
def logits(m, t):
    return own(m, t) + 0.3 * (torch.bincount(t.flatten(), minlength=2048) + 1).log()""",
    "states losses 1 % too low": """
true = F.cross_entropy
F.cross_entropy = lambda *a, **k: true(*a, **k) * 0.99""",
    "infinite logits": "def logits(m, t):\n    x = own(m, t).float()\n    x[..., 0] = float('inf')\n    return x",
}
