"""What the benchmark of the audit audits: each text is put behind train.py. HARD is set before: high quantiles of the losses."""

VARIANTS = {
    "float32": "def precision(device): return torch.float32",
    "bfloat16": "def precision(device): return torch.bfloat16",
    "micro-batches of 3": """
whole = logits
def logits(model, tokens): return torch.cat([whole(model, part) for part in tokens.split(3)])""",
    "sliding window of 32": "GPT.windows = lambda self: [32] * len(self.blocks)",
    "int8, dynamic": """
import warnings
full, precision = load, lambda device: torch.float32
def load(path):
    model = full(path)
    for each in model.modules():
        each.__class__ = nn.Linear if type(each) is Linear else type(each)  # the kind that can be quantised
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)""",
    "compiled": """
eager = load
def load(path):
    model = eager(path).place("cpu")
    model.forward = torch.compile(model.forward, dynamic=True)
    return model""",
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
