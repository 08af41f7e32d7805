"""What train.py is made of: attention against a reference, its optimiser, its sizes, its starts. No data, no sandbox."""

from __future__ import annotations

import difflib
import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from harness import static  # noqa: E402
from harness.agents.constants import declared  # noqa: E402
from harness.spec import Limits  # noqa: E402
from nanochat_train import train  # noqa: E402
from nanochat_train.check import Rehearsal  # noqa: E402

PACKAGE = Path(train.__file__).parent


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def reference(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int, scale: float) -> torch.Tensor:
    """Attention as its definition says, in float32, position by position; [B, T, H, d]."""
    found = torch.zeros_like(v)
    for t in range(q.size(1)):
        first = max(0, t - window + 1)
        seen, values = k[:, first : t + 1], v[:, first : t + 1]
        share = (torch.einsum("bhd,bshd->bhs", q[:, t], seen) * scale).softmax(-1)
        found[:, t] = torch.einsum("bhs,bshd->bhd", share, values)
    return found


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("name", ["sdpa", "flex"])
@pytest.mark.parametrize("window", [1, 5, 16, 48, 100])
def test_every_kernel_is_the_reference(name: str, window: int) -> None:
    q, k, v = torch.randn(3, 2, 48, 2, 16)
    attend = train.KERNELS[name]("cpu", window, 48, 0.3)
    wanted = reference(q, k, v, window, 0.3)
    torch.testing.assert_close(attend(q, k, v), wanted, atol=1e-5, rtol=1e-5)
    short = attend(*(each[:, :20] for each in (q, k, v)))  # rows may be shorter than those of training
    torch.testing.assert_close(short, wanted[:, :20], atol=1e-5, rtol=1e-5)
    low = attend(*(each.bfloat16() for each in (q, k, v))).float()
    torch.testing.assert_close(low, wanted, atol=0.03, rtol=0.03)
    wrong = reference(q, k, v, window + 1 if window < 48 else 47, 0.3)  # what a window off by one would give
    assert (wrong - wanted).abs().max() > 0.03


def test_flash_is_asked_for_the_same_window() -> None:
    """FlashAttention counts the positions before the query, on each side, and -1 is no bound."""
    asked = []

    def attention(q: torch.Tensor, *_: object, **options: object) -> tuple[torch.Tensor, None]:
        asked.append(options)
        return q, None

    q = torch.zeros(1, 8, 1, 4)
    for window in (3, 8):
        assert train.flash(attention, window, 8, 0.5)(q, q, q) is q
    common = {"softmax_scale": 0.5, "causal": True}
    assert asked == [{**common, "window_size": (2, 0)}, {**common, "window_size": (-1, -1)}]


@pytest.mark.parametrize(
    ("device", "capability", "installed", "name"),
    [
        ("cuda", 90, {"flash_attn_interface", "flash_attn", "triton"}, "flash3"),
        ("cuda", 90, {"flash_attn", "triton"}, "flash2"),
        ("cuda", 100, {"flash_attn_interface", "triton"}, "flex"),  # FlashAttention 3 is for Hopper alone
        ("cuda", 89, {"flash_attn_interface", "flash_attn", "triton"}, "flash2"),
        ("cuda", 80, {"triton"}, "flex"),
        ("cuda", 75, {"flash_attn", "triton"}, "flex"),  # Turing
        ("cuda", 75, set(), "sdpa"),
        ("cpu", 0, {"flash_attn_interface", "flash_attn", "triton"}, "sdpa"),
        ("mps", 0, set(), "sdpa"),
    ],
)
def test_the_kernel_follows_from_what_is_there(device: str, capability: int, installed: set[str], name: str) -> None:
    assert train.kernel(device, capability, installed.__contains__) == name


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 64, 16), (2, 16, 64)])
def test_polar_express_makes_singular_values_equal(shape: tuple[int, int, int]) -> None:
    left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    x = left * torch.logspace(-1.3, 0, min(shape[1:])) @ right
    found = train.orthogonal(x, torch.float32)
    assert torch.linalg.svdvals(x).amin() < 0.06
    values = torch.linalg.svdvals(found)
    assert 0.8 < values.min() <= values.max() < 1.2
    torch.testing.assert_close(found, left @ right, atol=0.15, rtol=0)


def test_a_batch_in_parts_has_the_gradient_of_the_whole() -> None:
    torch.manual_seed(3)
    model = train.GPT(64, 16, 2, 32, 16).place("cpu").float()
    model.dtype = torch.float32
    model.cos, model.sin = model.cos.float(), model.sin.float()
    torch.nn.init.normal_(model.head.weight)
    rows = torch.randint(0, 64, (7, 17))
    gradients = []
    for part in (7, 4, 1):
        model.zero_grad()
        for each in rows.split(part):
            (model.loss(each) * len(each) / len(rows)).backward()
        gradients.append([weight.grad.clone() for weight in model.parameters()])
    for whole, other in ((gradients[0], gradients[1]), (gradients[0], gradients[2])):
        for one, two in zip(whole, other, strict=True):
            torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-4)


def test_a_batch_is_split_by_the_memory_that_is_free() -> None:
    with torch.device("meta"):
        model = train.GPT(8192, 2048, train.DEPTH, train.DIM, train.HEAD_DIM)
    rows = train.BATCH_TOKENS // 2048
    found = {gb: train.fitting(model, rows, gb << 30) for gb in (141, 79, 23, 15, 7)}
    assert found == {141: 128, 79: 128, 23: 32, 15: 16, 7: 8}
    assert train.fitting(model, rows, 0) == 1  # what does not fit at all is for the device to say


def test_scale_makes_depth_and_width_grow_together() -> None:
    base = train.size("cuda", 1.0)
    assert (base.depth, base.dim) == (train.DEPTH, train.DIM)
    grown = train.size("cuda", 1.5)
    assert (grown.depth, grown.dim, grown.head_dim, grown.batch_tokens) == (14, 1024, 128, base.batch_tokens)
    assert train.size("cpu", 2.0).depth == 2 * train.CPU_DEPTH


@pytest.mark.parametrize("depth", [1, 2, 5, 9])
def test_the_last_layer_sees_the_whole_row(depth: int) -> None:
    windows = train.GPT(64, 32, depth, 32, 16).windows()
    assert len(windows) == depth
    assert windows[-1] == 32
    assert windows[:4] == [32 // train.SHORT_WINDOW] * 4 or depth < 5


def test_rates_fall_and_momentum_rises() -> None:
    matrices, table = {"lr": 0.0, "peak": 2.0, "momentum": 0.0, "weight_decay": 1.0}, {"lr": 0.0, "peak": 1.0}
    for group in (matrices, table):
        train.adjust(group, 0.0, 0)
    assert (matrices["lr"], table["lr"], matrices["momentum"]) == (2.0, 1.0, train.MOMENTUM_START)
    train.adjust(matrices, 1.0, 10**6)
    assert matrices["lr"] == pytest.approx(2 * train.FINAL_LR)
    assert (matrices["momentum"], matrices["weight_decay"]) == (train.MOMENTUM, 0.0)
    assert "momentum" not in table


def test_the_plain_start_is_the_same_code_with_other_constants() -> None:
    """What differs beyond its constants are the bigrams that it has not."""
    texts = [(PACKAGE / name).read_text() for name in ("train.py", "starts/plain.py")]
    best, plain = ([line for line in text.split("# ----", 2)[2].splitlines() if line.strip()] for text in texts)
    gone = [line for line in difflib.ndiff(best, plain) if line[0] in "+-"]
    assert [line for line in gone if line[0] == "-" and "bigram" in line.lower()]
    assert len(gone) < 40
    assert not [line for line in texts[1].splitlines()[6:] if "bigram" in line.lower()]
    names = [{each.name for each in declared(text.encode(), "cpu")} for text in texts]
    assert names[0] - names[1] == {"BIGRAMS", "BIGRAM_INIT", "BIGRAM_LR"}
    assert not names[1] - names[0]


@pytest.mark.parametrize("name", ["train.py", "starts/plain.py"])
def test_every_declared_constant_can_be_tuned(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = (PACKAGE / name).read_bytes()
    for profile in ("cpu", "gpu"):
        constants = declared(data, profile)
        assert capsys.readouterr().out == ""  # nothing was skipped
        assert len(constants) > 30
        assert [each.name for each in constants if not each.allows(each.value)] == []
    assert static.problem(name, data, Limits()) is None
    assert len(data.splitlines()) < 600


class Steady(Rehearsal):
    """One batch again and again, so that there is something to learn; it keeps the curve."""

    def __init__(self, state: Path, steps: int) -> None:
        super().__init__(state)
        self.steps, self.curve, self.notes = steps, list[float](), dict[str, object]()

    def next_rows(self, n: int) -> object:
        self.progress, self.step = self.step / self.steps, self.step + 1
        self.rng = type(self.rng)(type(self.rng.bit_generator)(1))
        return self.warmup_rows(n) if self.step <= self.steps else None

    def log(self, step: int, loss: float) -> None:
        self.curve.append(loss)

    def note(self, name: str, value: object) -> None:
        self.notes[name] = value


def test_it_learns_says_what_it_uses_and_loads_what_it_saved(tmp_path: Path) -> None:
    run = Steady(tmp_path / "state.safetensors", 12)
    train.train(run)
    assert run.curve[0] == pytest.approx(math.log(run.vocab_size), abs=0.05)
    assert run.curve[-1] < run.curve[0] - 2
    assert run.notes["attention"] == "sdpa"
    assert run.notes["precision"] in ("bfloat16", "float32")
    model = train.load(str(run.state))
    assert sum(weight.numel() for weight in model.parameters()) == run.notes["parameters"]
    with torch.no_grad():
        rows = torch.from_numpy(type(run)(tmp_path, 1).next_rows(8).astype("int64"))
        found = train.logits(model, rows[:, :-1]).float()
    loss = torch.nn.functional.cross_entropy(found.flatten(0, 1), rows[:, 1:].flatten())
    assert loss < run.curve[0] - 2


def test_a_step_that_would_end_too_late_is_not_begun(tmp_path: Path) -> None:
    class Clocked(Steady):
        """A budget in seconds, of which a step takes 0.3."""

        def next_rows(self, n: int) -> object:
            self.progress, self.step = 0.3 * self.step, self.step + 1
            return self.warmup_rows(n)

    run = Clocked(tmp_path / "state.safetensors", 0)
    train.train(run)
    assert run.state.exists()
    assert run.step == 4  # 0, 0.3 and 0.6 are trained; what is asked for at 0.9 would end at 1.2
