"""Print every path that holds held-out text and that a sandbox could otherwise see, one a line.

The engine masks them in every sandbox: a hidden file reads as empty, a hidden folder lists nothing.

    python -m nanochat_train.hidden
"""

from __future__ import annotations

import sys
from pathlib import Path

from harness.models import UserError
from nanochat_train import corpus, data
from nanochat_train.prepare import SHAPES


def hidden() -> list[Path]:
    """The prepared data, a source folder, and the held-out modules of every standard library in reach with their .pyc."""
    paths = [data.home()] if data.home().exists() else []
    names: set[str] = set()
    prepared = False
    for profile in SHAPES:
        try:
            meta = data.load(profile).meta
        except UserError:
            continue
        prepared = True
        names.update(meta.held_out)
        if meta.source and Path(meta.source).is_absolute():
            paths.append(Path(meta.source))
    if not prepared:
        names.update(corpus.standard_library().held_out)
    modules = [path for root in libraries() for name in sorted(names) for path in _module(root / name)]
    return list(dict.fromkeys(path.resolve() for path in (*paths, *modules) if path.exists()))


def libraries() -> list[Path]:
    """Every folder that may be a standard library visible in a sandbox: this Python's and the system's."""
    roots = dict.fromkeys((Path(sys.base_prefix), Path("/usr"), Path("/usr/local")))
    return [path for root in roots for lib in ("lib", "lib64") for path in sorted((root / lib).glob("python3*")) if path.is_dir()]


def _module(path: Path) -> list[Path]:
    return [path, *sorted((path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"))]


def main() -> int:
    """The command line."""
    for path in hidden():
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
