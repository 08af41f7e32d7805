"""The command that opens the sealed test split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness import git
from harness.certify import certify as work_on
from harness.cli.ending import show_certificate
from harness.cli.nights import at_work, remembered
from harness.cli.options import JsonOption, TagOption, latest


def certify(
    tag: TagOption = None,
    seeds: Annotated[int, typer.Option("--seeds", min=2, help="Fresh seeds for each of the two.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """How much better the lab branch is than its baseline: both measured with fresh seeds on the sealed test split.

    Interrupted, it continues where it was. A tip that has a certificate of as many seeds is not measured again.
    """
    repo = git.open_repo(Path.cwd())
    name = latest(repo, tag)
    settings = remembered(repo, name).model_copy(update={"agents": []})
    with at_work(repo, settings, f"harness certify --tag {name} --seeds {seeds}") as (night, _):
        certificate = work_on(night, seeds)
        if certificate.state == "closed":
            show_certificate(certificate, as_json)
    if certificate.result is None:
        raise typer.Exit(1)
