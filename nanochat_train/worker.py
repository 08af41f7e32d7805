"""The entry point inside a sandbox: runs `train.py`'s functions and talks to the referee. Nothing here is believed.

python -m nanochat_train.worker train SOCKET_FD ROWS_FD COUNTER_FD
python -m nanochat_train.worker evaluate SOCKET_FD TOKENS_FD LOGITS_FD CHECKPOINT
"""

from __future__ import annotations

import mmap
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
    candidate(run.device).train(run)


def evaluate(sock: socket.socket, tokens_fd: int, logits_fd: int, checkpoint: str) -> None:
    """Load the trained model and answer batches of tokens with logits, float32 [B, T, V], until the referee ends it."""
    hello = feed.receive(sock)
    length, vocab_size, device = hello["seq_len"], hello["vocab_size"], hello["device"]
    module = candidate(device)
    import numpy as np
    import torch

    tokens = np.frombuffer(mmap.mmap(tokens_fd, hello["tokens_bytes"], prot=mmap.PROT_READ), dtype=np.uint16)
    logits = torch.frombuffer(mmap.mmap(logits_fd, hello["logits_bytes"]), dtype=torch.float32)
    model = module.load(checkpoint)
    feed.send(sock, {"do": "ready"})
    while (count := feed.receive(sock)["n"]) > 0:
        batch = torch.from_numpy(tokens[: count * length].reshape(count, length).astype(np.int64)).to(device)
        with torch.no_grad():
            answer = module.logits(model, batch)
        if tuple(answer.shape) != (count, length, vocab_size):
            feed.send(sock, {"do": "shape", "shape": list(answer.shape)[:8]})
            return
        logits[: answer.numel()].view(answer.shape).copy_(answer)
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
    sys.exit(main(sys.argv[1:]))
