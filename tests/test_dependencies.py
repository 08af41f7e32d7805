"""Nothing is imported that a plain installation, without the tools of development, does not bring."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMES_ALONG = {"markupsafe": "jinja2", "yarl": "aiohttp"}  # parts of another's interface
OPTIONAL = {"flash_attn", "flash_attn_interface"}  # kernels that are used where they are


def imported(folder: Path) -> set[str]:
    """The first names of all imports in a folder."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found


def test_what_is_imported_is_a_dependency() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    declared = {re.split(r"[<>=!~\[; ]", each)[0].lower() for each in listed}
    names = imported(ROOT / "harness") | imported(ROOT / "nanochat_train")
    names -= {*sys.stdlib_module_names, *OPTIONAL, "harness", "nanochat_train"}
    assert names > {"pydantic", "torch"}
    known = packages_distributions()
    owners = {name: {COMES_ALONG.get(each.lower(), each.lower()) for each in known.get(name, [name])} for name in names}
    assert {name: found for name, found in owners.items() if not found & declared} == {}
