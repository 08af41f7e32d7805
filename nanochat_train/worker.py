"""The entry point inside a sandbox: runs `train.py`'s functions and talks to the referee. Nothing here is believed.

python -m nanochat_train.worker train SOCKET_FD ROWS_FD COUNTER_FD
python -m nanochat_train.worker evaluate SOCKET_FD TOKENS_FD ANSWERS_FD CHECKPOINT
"""

from __future__ import annotations

import mmap
import os
import socket
import sys
import traceback
from pathlib import Path
from types import ModuleType

from nanochat_train import feed

CANDIDATE = Path(__file__).with_name("train.py")


def train(sock: socket.socket, rows: int, counter: int) -> None:
    """Call train(run)."""
    run = feed.Run(sock, rows, counter)
    module = candidate(run.device)
    feed.send(sock, {"do": "imported"})
    module.train(run)


def evaluate(sock: socket.socket, tokens_fd: int, answers_fd: int, checkpoint: str) -> None:
    """Load the trained model and answer batches of tokens until the referee ends it.

    The answer to [B, T] tokens are logits, float32 [B, width, V], from a start in each row on. Where the referee asks for
    claims it sends [B, T+1] tokens and gets losses, float32 [B, T].
    """
    import numpy as np
    import torch  # before anything is asked: the referee has a second process ready while it works with the first

    hello = feed.receive(sock)
    length, width, claims, device = hello["seq_len"], hello["width"], hello["claims"], hello["device"]
    module, columns = candidate(device), length + claims
    tokens = np.frombuffer(mmap.mmap(tokens_fd, hello["tokens_bytes"], prot=mmap.PROT_READ), dtype=np.uint16)
    answers = torch.frombuffer(mmap.mmap(answers_fd, hello["answer_bytes"]), dtype=torch.float32)
    model = module.load(checkpoint)
    feed.send(sock, {"do": "ready"})
    while (count := (asked := feed.receive(sock))["n"]) > 0:
        rows = torch.from_numpy(tokens[: count * columns].reshape(count, columns).astype(np.int32)).to(device).long()
        with torch.no_grad():
            logits = module.logits(model, rows[:, :length])
        if tuple(logits.shape) != (count, length, hello["vocab_size"]):
            feed.send(sock, {"do": "shape", "shape": list(logits.shape)[:8]})
            return
        if claims:
            pairs = zip(logits, rows[:, 1:], strict=True)  # row by row: float32 logits of a batch are gigabytes
            parts = [torch.nn.functional.cross_entropy(row.float(), target, reduction="none") for row, target in pairs]
        else:
            parts = [row[start : start + width] for row, start in zip(logits, asked["starts"], strict=True)]
        for place, part in zip(answers[: count * parts[0].numel()].view(count, *parts[0].shape), parts, strict=True):
            place.copy_(part)
        feed.send(sock, {"do": "scored"})


def candidate(device: str) -> ModuleType:
    """The candidate's module; where it uses torch, that is set up so that the same seed gives the same numbers on a CPU."""
    if not CANDIDATE.is_file():
        raise FileNotFoundError("nanochat_train/train.py is gone")
    from nanochat_train import train as module

    if device == "cpu" and (torch := sys.modules.get("torch")):
        torch.set_deterministic_debug_mode("warn")  # as use_deterministic_algorithms, without the three seconds of its import
        torch.utils.deterministic.fill_uninitialized_memory = False
    return module


def explain(error: BaseException) -> feed.Message:
    """The class, the message and the line of train.py where an exception came from."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == CANDIDATE]
    line = error.lineno if isinstance(error, SyntaxError) else (lines or [None])[-1]
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return {"do": "error", "kind": type(error).__name__[:64], "text": text[:300], "line": line}


def main(args: list[str]) -> int:
    """Dispatch; whatever the candidate raises is reported and printed."""
    sock = socket.socket(fileno=int(args[1]))
    try:
        if args[0] == "train":
            train(sock, int(args[2]), int(args[3]))
        else:
            evaluate(sock, int(args[2]), int(args[3]), args[4])
    except BaseException as error:
        traceback.print_exc()
        feed.send(sock, explain(error))
        return 1
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # everything was handed over: tidying up torch would only take time
