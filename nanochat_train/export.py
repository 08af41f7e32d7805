"""A trained model as a folder that needs no harness: its weights, its code, its tokenizer, and ten lines that use them.

    python -m nanochat_train.export EXPORT.json

With a sample, the model also goes on with a text. Its code runs in the sandbox of an evaluation and answers with logits;
which token comes next is drawn here.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

import numpy as np

from harness.models import Export, UserError
from nanochat_train import data
from nanochat_train.answers import Form, examinee
from nanochat_train.channel import Fault, device
from nanochat_train.data import Data
from nanochat_train.referee import MODEL
from nanochat_train.tokenizer import Tokenizer

TEMPERATURE, LONGEST = 0.8, 128  # of a sample, in tokens
README = """\
# {title}

{about}

`train.py` was written by an agent: read it before you run it. It needs `torch`, `safetensors` and `tiktoken`.
In this folder:

```python
{example}```
"""
EXAMPLE = """\
import base64, json, pathlib, tiktoken, torch, train
stored = json.loads(pathlib.Path("tokenizer.json").read_text())
ranks = {{base64.b64decode(token): rank for rank, token in enumerate(stored["tokens"])}}
text = tiktoken.Encoding("exported", pat_str=stored["pattern"], mergeable_ranks=ranks, special_tokens={{"<|bos|>": len(ranks)}})
model, tokens = train.load("{model}"), [len(ranks), *text.encode("{prompt}")]
while len(tokens) < {length}:
    row = torch.tensor([tokens + [0] * ({seq_len} - len(tokens))], device="{device}")  # what stands behind is not looked at
    with torch.no_grad():
        logits = train.logits(model, row)[0, len(tokens) - 1].float()
    tokens.append(int(torch.multinomial((logits / {temperature}).softmax(-1), 1)))
print(text.decode(tokens[1:]))
"""


def export(asked: Export) -> str:
    """Fill the folder; the sample, or nothing."""
    prepared = data.load(asked.request.task.profile)
    if prepared.meta.tokenizer != asked.measurement.versions.get("tokenizer"):
        raise UserError("the data was prepared anew since, with another tokenizer: prepare it as it was, the model needs its own")
    shutil.copyfile(asked.artefacts / MODEL, asked.to / MODEL)
    shutil.copyfile(prepared.path / "tokenizer.json", asked.to / "tokenizer.json")
    shutil.copyfile(asked.request.tree / "nanochat_train" / "train.py", asked.to / "train.py")
    (asked.to / "README.md").write_text(readme(asked, prepared))
    return "" if asked.sample is None else sample(asked, prepared, asked.sample)


def readme(asked: Export, prepared: Data) -> str:
    """Where the model comes from, and how it is loaded."""
    made, length = asked.measurement, prepared.meta.seq_len
    about = [
        f"Commit {asked.request.commit}, seed {made.seed}, profile {made.profile}.",
        f"{asked.request.task.metric.name} {made.value:.4f}." if made.value is not None else "",
        f"SHA-256 of {MODEL}: {made.artefacts[MODEL]}",
    ]
    example = EXAMPLE.format(
        model=MODEL,
        prompt="import " if made.profile == "cpu" else "The ",
        length=min(64, length),
        seq_len=length,
        device=device(made.profile),
        temperature=TEMPERATURE,
    )
    return README.format(title=f"A model of {asked.request.task.name}", about="\n".join(filter(None, about)), example=example)


def sample(asked: Export, prepared: Data, prompt: str) -> str:
    """The prompt and how the model goes on with it, at most LONGEST tokens in all; the run's seed fixes the draws."""
    meta, tokenizer = prepared.meta, Tokenizer.load(prepared.path / "tokenizer.json")
    tokens, rng = [meta.bos, *tokenizer.encode(prompt).tolist()], np.random.default_rng(asked.request.seed)
    most = min(LONGEST, meta.seq_len)
    if len(tokens) >= most:
        raise UserError(f"the text of --sample has {len(tokens) - 1} tokens: at most {most - 2} leave room to go on")
    state = Path(shutil.copyfile(asked.artefacts / MODEL, asked.request.work / MODEL))  # kept ones are closed to others
    if hashlib.sha256(state.read_bytes()).hexdigest() != asked.measurement.checkpoint:
        raise UserError("the model is not the one that was scored")
    state.chmod(0o644)
    with examinee(asked.request, Form(1, meta.seq_len, meta.vocab_size, 1), state, "sample") as asking:
        asking.begin()
        while len(tokens) < most:
            row = np.zeros((1, meta.seq_len), dtype=np.uint16)
            row[0, : len(tokens)] = tokens
            logits = asking.ask(row, np.array([len(tokens) - 1]))[0, 0].astype(np.float64) / TEMPERATURE
            chances = np.exp(logits - logits.max())
            if not np.isfinite(chances).all():
                raise Fault("invalid", "logits are not finite")
            if (drawn := int(rng.choice(len(chances), p=chances / chances.sum()))) == meta.bos:
                break
            tokens.append(drawn)
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in tokenizer.decode(tokens[1:]))


def main(arguments: list[str]) -> int:
    """The program: 0, or 1 with a sentence."""
    try:
        said = export(Export.model_validate_json(Path(arguments[0]).read_text()))
    except UserError as error:
        print(error)
        return 1
    except Fault as fault:
        print(f"the model could not be sampled: {fault.reason}")
        return 1
    print(said, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
