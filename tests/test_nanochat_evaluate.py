"""Scoring and audit with real processes in real sandboxes: honest states, cheats, and what is no answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from trained import LENGTH, ROWS, Bench, bench, honest, truth

from harness.models import Against, Measurement
from nanochat_train.evaluate import Evaluated, digest

__all__ = ["bench", "honest"]
PEEK = """
def logits(model, tokens):
    found = model[tokens]
    found[:, :-1].scatter_add_(2, tokens[:, 1:, None], torch.full_like(found[:, :-1, :1], 3.0))
    return found
"""
# Peeks, and writes down what followed wherever a later process might find it.
LEAVE = """
import bisect
PLACES = ["/tmp", "/dev/shm", "/var/tmp", os.getcwd(), os.path.dirname(__file__), os.environ.get("HOME", "/tmp")]
SEEN = []
for place in PLACES:
    try:
        SEEN += open(place + "/harness-left").read().splitlines()
    except OSError:
        pass

SEEN = sorted(set(SEEN))

def likely(line):
    near = SEEN[max(0, bisect.bisect(SEEN, line) - 1):][:2] or [line]
    return max(near, key=lambda each: len(os.path.commonprefix([each, line])))

def name(row):
    return "".join(f"{token:04x}" for token in row.tolist())

def logits(model, tokens):
    lines = [likely(name(row)) for row in tokens]
    for place in PLACES:
        try:
            open(place + "/harness-left", "a").write("\\n".join(lines) + "\\n")
        except OSError:
            pass
    known = torch.tensor([[int(line[i:i + 4], 16) for i in range(0, len(line), 4)] for line in lines])
    found = model[tokens]
    found[:, :-1].scatter_add_(2, known[:, 1:, None], torch.full_like(found[:, :-1, :1], 3.0))
    return found
"""
LIE = """
true = torch.nn.functional.cross_entropy
torch.nn.functional.cross_entropy = lambda *args, **named: true(*args, **named) * 0.99
"""


def test_an_honest_state_passes_with_its_evidence(bench: Bench, honest: Evaluated) -> None:
    assert honest.audit.passed
    assert honest.audit.summary == "audit passed, 144 cuts"
    assert honest.audit.figures["largest"] == pytest.approx(0, abs=1e-4)
    assert honest.audit.figures["certified"] == pytest.approx(honest.score.bits_per_byte, abs=1e-5)
    assert honest.nll.shape == (ROWS, LENGTH)
    assert honest.nll.mean() == pytest.approx(truth(bench), rel=1e-4)
    assert honest.checkpoint == digest(bench.state)
    assert set(honest.seconds) == {"evaluate.load", "evaluate", "audit"}


def test_what_one_process_leaves_behind_the_next_does_not_find(bench: Bench, honest: Evaluated) -> None:
    found = bench.evaluate(LEAVE)
    assert found.score.bits_per_byte < 0.7 * honest.score.bits_per_byte
    assert not found.audit.passed
    assert found.audit.figures["certified"] > 0.9 * honest.score.bits_per_byte


@pytest.mark.heavy
def test_without_a_sandbox_it_would_find_it_and_win(bench: Bench, honest: Evaluated) -> None:
    left = [Path(place) / "harness-left" for place in ("/tmp", "/dev/shm", "/var/tmp")]
    try:
        found = bench.evaluate(LEAVE, sandbox="none")
    finally:
        for path in left:
            path.unlink(missing_ok=True)
    assert found.score.bits_per_byte < 0.7 * honest.score.bits_per_byte
    assert found.audit.figures["certified"] < 0.8 * honest.score.bits_per_byte


def test_claims_are_believed_only_as_far_as_logits_bear_them_out(bench: Bench, honest: Evaluated) -> None:
    lie = bench.evaluate(LIE, claims=True)
    assert lie.score.bits_per_byte == pytest.approx(0.99 * honest.score.bits_per_byte, rel=1e-3)
    assert not lie.audit.passed


@pytest.mark.heavy
def test_the_test_split_is_scored_only_when_it_is_asked_for(bench: Bench) -> None:
    found = bench.evaluate("", split="test")
    assert found.nll.mean() == pytest.approx(truth(bench, "test"), rel=1e-4)
    assert found.nll.shape == bench.data.rows("test")[:, 1:].shape


@pytest.mark.heavy
def test_true_claims_are_the_score(bench: Bench, honest: Evaluated) -> None:
    found = bench.evaluate("", claims=True)
    assert found.audit.passed
    assert found.score.bits_per_byte == pytest.approx(honest.score.bits_per_byte, rel=1e-5)


COUNTER = "import itertools\nnumbers = itertools.count(1)\ncount = lambda: next(numbers)"


def cheat(body: str, before: str = "") -> str:
    return f"\n{before}\ndef logits(model, tokens):\n    found = model[tokens]\n    {body}\n    return found\n"


ONE_HOT = "torch.nn.functional.one_hot(tokens, model.shape[0])"
COUNT_PAIRS = "counts.view(-1).scatter_add_(0, pairs, torch.ones(pairs.numel())); "
PAIRS = "pairs = (tokens[:, :-1] * model.shape[0] + tokens[:, 1:]).flatten(); "
MIX = "found = (20 * model.exp() + counts).log()[tokens]; "
CHEATS = {
    "peeks": PEEK,
    "peeks far ahead": cheat(
        f"found += torch.nn.functional.pad({ONE_HOT}.flip(1).cumsum(1).flip(1)[:, 64:], (0, 0, 0, 64)).log1p()"
    ),
    "pools blocks": cheat(f"found += {ONE_HOT}.unflatten(1, (-1, 16)).sum(2).repeat_interleave(16, 1).log1p()"),
    "learns": cheat(PAIRS + MIX + COUNT_PAIRS, "counts = torch.zeros(512, 512)"),
    "uses the batch": cheat("counts = torch.zeros(512, 512); " + PAIRS + COUNT_PAIRS + MIX),
    "behaves at first": PEEK.replace("def logits", "def peek")
    + cheat("found = peek(model, tokens) if count() > 6 else found", COUNTER),
}


@pytest.mark.heavy
@pytest.mark.parametrize("claims", [False, True], ids=["logits", "claims"])
@pytest.mark.parametrize("source", CHEATS.values(), ids=CHEATS)
def test_cheats_win_and_are_rejected(bench: Bench, honest: Evaluated, source: str, claims: bool) -> None:
    found = bench.evaluate(source, claims=claims)
    assert found.score.bits_per_byte < honest.score.bits_per_byte - 0.002
    assert not found.audit.passed


VARIANTS = {
    "bfloat16": cheat("found = (model.bfloat16()[tokens] * 1.0)"),
    "micro-batches": cheat("found = torch.cat([model[part] for part in tokens.split(3)])"),
    "not normalised": cheat("found = found * 1.0 + 300.0 + torch.rand(()) * 10"),
    "slow": cheat("time.sleep(0.3)"),
    "sliding window": cheat(
        f"seen = {ONE_HOT}.cumsum(1).float(); "
        "found += 0.1 * (seen - torch.nn.functional.pad(seen[:, :-16], (0, 0, 16, 0))).log1p()"
    ),
    "compiled": "\n@torch.compile\ndef forward(model, tokens):\n    return torch.log_softmax(model[tokens] * 1.01, -1)\n"
    + cheat("found = forward(model, tokens)"),
}


@pytest.mark.heavy
@pytest.mark.parametrize("source", VARIANTS.values(), ids=VARIANTS)
def test_honest_variants_pass(bench: Bench, honest: Evaluated, source: str) -> None:
    found = bench.evaluate(source)
    assert found.audit.passed, found.audit
    assert found.score.bits_per_byte == pytest.approx(honest.score.bits_per_byte, rel=0.05)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ("found[0, 0, 0] = float('inf')", "invalid", "logits are not finite"),
        ("found[0, 0, 0] = float('nan')", "invalid", "logits are not finite"),
        ("found[0, 0, 0] = float('nan') if n > 2 else 0", "invalid", "logits are not finite"),
        ("found = found[:, 1:]", "invalid", "logits have shape [32, 127, "),
        ("found = found[:, :, 1:] if n > 2 else found", "invalid", "logits have shape unlike, expected [B, T, V] = [32, 128, "),
        ("found = found[:, :, 1:]", "invalid", "logits have shape [32, 128, "),
        ("os._exit(3)", "crash", "the evaluation process ended early"),
        ("open('/proc/self/fd/x')", "crash", "FileNotFoundError: [Errno 2]"),
        ("raise ValueError('early')", "crash", "ValueError: early (nanochat_train/train.py line "),
        ("assert n < 3, tokens", "crash", "logits() raised on validation rows"),
    ],
)
def test_what_is_no_answer_is_a_verdict(bench: Bench, body: str, status: str, reason: str) -> None:
    found = bench.fault(cheat(f"n = count(); {body}", COUNTER))
    assert found[0] == status
    assert reason in found[1]


@pytest.mark.heavy
def test_an_evaluation_that_takes_too_long_is_ended(bench: Bench) -> None:
    assert bench.fault(cheat("time.sleep(60)"), evaluate_s=8) == ("invalid", "evaluation took more than 8 s")


@pytest.mark.heavy
def test_the_state_cannot_be_changed_between_the_two(bench: Bench) -> None:
    change = "file = open(path, 'r+b'); file.seek(-4, 2); file.write(bytes(4))"
    write = f"\ndef load(path):\n    found = load_file(path)['table']\n    {change}\n    return found\n"
    assert bench.fault(write)[0] == "crash"
    assert "changed while it was scored" in bench.fault(write, sandbox="none")[1]


@pytest.mark.heavy
def test_the_baseline_widens_the_tolerance_and_items_may_be_missing(bench: Bench, honest: Evaluated, tmp_path: Path) -> None:
    items = tmp_path / "items.npy"
    np.save(items, honest.nll.reshape(-1))
    figures = {**honest.audit.figures, "largest": 0.03}
    run = Measurement(status="ok", audit=honest.audit.model_copy(update={"figures": figures}))
    for content in (items, tmp_path / "missing.npy"):
        found = bench.evaluate("", against=Against(baseline=[run], items=content))
        assert found.audit.figures["tolerance"] == pytest.approx(0.15)
        assert found.audit.passed
