"""A trained model taken out: the folder, its ten lines as a reader pastes them, and samples drawn by code in the sandbox."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from course import Course, bare, changed, course

from harness import artefacts
from harness.models import Export, Measurement, Request, UserError
from nanochat_train import referee
from nanochat_train.channel import Fault
from nanochat_train.export import export

__all__ = ["bare", "course"]
SAVE = '    hand_over(run, save({"table": np.log(counts)}))\n'
SOURCE = changed(
    ("from nanochat_train import feed\n", "import torch\n"),
    (SAVE, '    run.save({"table": torch.from_numpy(np.log(counts))})\n'),
)


@dataclass
class Trained:
    """A run that counts, and what it left."""

    request: Request
    measurement: Measurement
    folder: Path

    def export(self, to: Path, sample: str | None = None, logits: str = "return model[tokens]") -> str:
        """Into an empty folder, with another `logits` of the candidate's if asked for."""
        (self.request.tree / "nanochat_train/train.py").write_text(SOURCE.replace("return model[tokens]", logits))
        to.mkdir()
        found = {"request": self.request, "measurement": self.measurement, "artefacts": self.request.artefacts}
        return export(Export(**found, to=to, sample=sample))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(course: Course) -> Trained:
    request = course.request(SOURCE)
    found = referee.measure(request)
    assert found.status == "ok", found.reason
    found = found.model_copy(update={"artefacts": artefacts.hashes(request.artefacts)})
    return Trained(request, found, request.artefacts)


def test_the_model_that_stays_is_the_one_that_was_scored(course: Course, trained: Trained) -> None:
    assert trained.measurement.artefacts == {"model.safetensors": trained.measurement.checkpoint}
    crashed = course.request(changed(("return model[tokens]", "raise ValueError(7)")))
    assert referee.measure(crashed).status == "crash"
    assert not crashed.artefacts.exists()
    assert not list(crashed.work.glob("*.safetensors"))


def test_the_ten_lines_work_when_pasted(trained: Trained, tmp_path: Path) -> None:
    assert trained.export(tmp_path / "out") == ""
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"README.md", "model.safetensors", "tokenizer.json", "train.py"}
    text = (tmp_path / "out/README.md").read_text()
    assert trained.measurement.checkpoint in text
    (lines,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(lines.splitlines()) <= 12
    argv = [sys.executable, "-c", lines]  # as in a shell of Python's in that folder: no harness, no file of its own
    done = subprocess.run(argv, cwd=tmp_path / "out", capture_output=True, text=True, timeout=120, env={"PATH": "/usr/bin"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("import ")
    assert len(done.stdout) > 30


def test_a_sample_is_drawn_here_from_logits_made_in_the_sandbox(trained: Trained, tmp_path: Path) -> None:
    said = trained.export(tmp_path / "one", "def main(")
    assert said.startswith("def main(")
    assert len(said) > len("def main(") + 20
    mark = tmp_path / "escaped"
    escape = f"\n    try: open({str(mark)!r}, 'w')\n    except OSError: pass\n    return model[tokens]"
    assert trained.export(tmp_path / "three", "def main(", escape) == said
    assert not mark.exists()
    with pytest.raises(Fault, match="logits have shape"):
        trained.export(tmp_path / "four", "def main(", "return model[tokens][:, :-1]")
    ansi = "x = torch.full((*tokens.shape, len(model)), -99.0); x[:, :, 27 % len(model)] = 99.0; return x"
    assert trained.export(tmp_path / "five", "a", ansi).isprintable()


def test_another_tokenizer_is_no_tokenizer_of_the_model(trained: Trained, tmp_path: Path) -> None:
    other = trained.measurement.model_copy(update={"versions": {"tokenizer": "0" * 16}})
    with pytest.raises(UserError, match="with another tokenizer"):
        Trained(trained.request, other, trained.folder).export(tmp_path / "out")
    with pytest.raises(UserError, match="tokens: at most"):
        trained.export(tmp_path / "long", "word " * 200)
