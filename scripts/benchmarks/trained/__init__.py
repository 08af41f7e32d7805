"""The ideas that the benchmark of train.py takes out or puts in: replacements in its text, by name."""

from __future__ import annotations

Edits = tuple[tuple[str, str], ...]

# Each is train.py as it is but for one idea: what it is worth is how much worse the file is without it.
WITHOUT: dict[str, Edits] = {
    "Muon (AdamW for the matrices)": (
        (
            '    muon = Muon([weight for name, weight in named if "gate" not in name], MATRIX_LR, model.dtype)\n',
            '    matrices = [weight for name, weight in named if "gate" not in name]\n'
            "    muon = torch.optim.AdamW(matrices, lr=0.004, betas=(BETA1, BETA2), eps=1e-10, weight_decay=0.1, fused=True)\n",
        ),
    ),
    "value embeddings": (
        ("gated = [(depth - 1 - layer) % 2 == 0 for layer in range(depth)]", "gated = [False] * depth"),
        ('        {"params": list(model.values.parameters()), "lr": VALUE_LR * width, "weight_decay": VALUE_DECAY},\n', ""),
        ('        {"params": [weight for name, weight in named if "gate" in name], "lr": GATE_LR},\n', ""),
    ),
    "hashed bigrams": (
        ("        self.bigrams = nn.Embedding(BIGRAMS * vocab_size, dim)\n", ""),
        (", rows = tokens.size(1), self.bigrams.num_embeddings", " = tokens.size(1)"),
        ("        bigrams = self.bigrams(((previous(tokens) * 1_000_003) ^ (tokens * 36_313)) % rows).to(self.dtype)\n", ""),
        (" + self.bigram_share[layer] * bigrams", ""),
        ("        self.bigram_share = nn.Parameter(torch.full((depth,), BIGRAM_INIT))\n", ""),
        ("[model.x0, model.bigram_share]", "[model.x0]"),
        ('        {"params": [model.bigrams.weight], "lr": BIGRAM_LR * width, "weight_decay": VALUE_DECAY},\n', ""),
    ),
    "lambdas for each layer": (
        ("self.residual[layer] * x + self.x0[layer] * x0 + self.bigram_share[layer] * bigrams", "x + bigrams * (layer == 0)"),
        ('        {"params": [model.x0, model.bigram_share], "lr": X0_LR},\n', ""),
        ('        {"params": [model.residual], "lr": RESIDUAL_LR},\n', ""),
    ),
    "NorMuon": (
        ("    even = found * seconds.clamp_min(1e-10).rsqrt()\n", "    return found\n"),
        ("    seconds.lerp_(found.square().mean(along, keepdim=True), 1 - NEURON_BETA)\n", ""),
    ),
    "short windows": (('WINDOWS = "SSSSL"', 'WINDOWS = "L"'),),
    "softcap": (("return SOFTCAP * torch.tanh(logits / SOFTCAP)", "return logits"),),
    "small batches (twice as large)": (("CPU_BATCH_TOKENS = 1024", "CPU_BATCH_TOKENS = 2048"),),
}
BEGIN_SMEAR = "        x = x0 = norm(self.embed(tokens).to(self.dtype))\n"
# Each is train.py with one more idea: it is left out because it does not pay here.
WITH: dict[str, Edits] = {
    "QK scale 1.15": (("QK_SCALE = 1.0 ", "QK_SCALE = 1.15 "),),
    "smear": (
        (
            BEGIN_SMEAR,
            "        x = norm(self.embed(tokens).to(self.dtype))\n"
            "        share = self.smear_share * torch.sigmoid(self.smear(x[:, 1:, :GATE_CHANNELS]))\n"
            "        x = x0 = torch.cat((x[:, :1], x[:, 1:] + share * x[:, :-1]), 1)\n",
        ),
        (
            "        self.head = Linear(dim, vocab_size)\n",
            "        self.head = Linear(dim, vocab_size)\n"
            "        self.smear, self.smear_share = Linear(GATE_CHANNELS, 1), nn.Parameter(torch.zeros(()))\n",
        ),
        ('"gate.weight", "bigrams.weight"', '"gate.weight", "smear.weight", "bigrams.weight"'),
        ("[model.x0, model.bigram_share]", "[model.x0, model.bigram_share, model.smear_share, model.smear.weight]"),
    ),
    "backout 0.2": (
        (
            "        logits = self.head(norm(x)).float()\n",
            "        logits = self.head(norm(x - self.backout * middle)).float()\n",
        ),
        (
            "            x = block(x, cos, sin, self.attends[layer], values)\n",
            "            x = block(x, cos, sin, self.attends[layer], values)\n"
            "            middle = x if layer < len(self.blocks) // 2 else middle\n",
        ),
        (
            "        self.head = Linear(dim, vocab_size)\n",
            "        self.head, self.backout = Linear(dim, vocab_size), nn.Parameter(torch.tensor(0.2))\n",
        ),
        ("[model.x0, model.bigram_share]", "[model.x0, model.bigram_share, model.backout]"),
    ),
    "MuonEq (rows of equal norm first)": (
        ("    found = orthogonal(gradient, dtype)\n", "    found = orthogonal(F.normalize(gradient, dim=-1), dtype)\n"),
    ),
    "batch schedule (half for the first third)": (
        (
            "        batch = run.next_rows(rows)\n",
            "        now = rows if run.progress > 0.33 else rows // 2\n        batch = run.next_rows(now)\n",
        ),
        ("2 * run.progress - before > 1 + 1e-6 - keep", "run.progress >= 1"),
        ("(len(each) / rows)", "(len(each) / now)"),
    ),
}


def edited(text: str, edits: Edits) -> str:
    """The text with each replacement made; each has to be there."""
    for old, new in edits:
        if old not in text:
            raise SystemExit(f"train.py has changed, so this idea has to be written anew: {old!r} is not there")
        text = text.replace(old, new)
    return text
