"""What an experiment made, as a folder of one's own: by the task's trusted `export` program, or as plain copies."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from harness import artefacts, git, gpus, locks, sandboxes, trees
from harness.bench import Bench
from harness.ledger import BASELINE, Ledger
from harness.models import Export, Measurement, Record, Request, UserError
from harness.opening import Settings, load_task, open_bench, secret
from harness.patterns import editable_files
from harness.process import PACKAGE, clean_env, python, run
from harness.protocols import Cancel, Launch
from harness.state import MEASURE, StateFolder

LIMIT_S = 1200.0


def export(repo: git.Repo, settings: Settings, record: Record, to: Path, sample: str | None, cancel: Cancel) -> str | None:
    """Make the folder `to`, which must not be there yet; what the task's program printed, None when it was cancelled."""
    if os.path.lexists(to):
        raise UserError(f"{to} exists: name another folder with --to, or remove it")
    state, task = StateFolder(repo), load_task(settings)
    made = origin(record, state.left(settings.tag, record.id).artefacts)
    if sample is not None:
        check_sample(repo, task.name, bool(task.export), gpus.wanted(task))
    start = Ledger(repo, settings.tag).get(BASELINE).experiment.base
    bench = open_bench(repo, task, state, settings, sandboxes.get(settings.sandbox, secret(repo)), start)
    work, part = state.run(MEASURE, str(os.getpid())), to.with_name(f".{to.name}.{os.getpid()}")
    try:
        asked = Export(
            request=request(bench, record, made, work),
            measurement=made,
            artefacts=state.left(settings.tag, record.id).artefacts,
            to=part,
            sample=sample,
        )
        part.mkdir(parents=True)
        said = by_program(bench, asked, cancel) if task.export else by_copy(asked)
        if said is not None:
            part.rename(to)
        return said
    finally:
        trees.remove(part)
        trees.remove(work)


def origin(record: Record, folder: Path) -> Measurement:
    """The run that made what lies in a folder; a UserError that says what makes it again when that is missing or another."""
    found = artefacts.hashes(folder)
    for made in reversed(record.measurements):
        if made.artefacts and made.artefacts == found:
            return made
    tag, number = record.experiment.tag, record.id
    if record.state != "closed" or not record.experiment.commit:
        raise UserError(f"experiment {number} was not measured to its end: `harness log --tag {tag}` lists the ones that were")
    again = f"`harness replicate {number} --tag {tag}` makes it again"
    if not any(made.artefacts for made in record.measurements):
        kept = record.verdict and record.verdict.status == "keep"
        raise UserError(
            f"the runs of experiment {number} left nothing to export" + ("" if kept else f": it was not kept; {again}")
        )
    if found:
        raise UserError(f"what experiment {number} made was changed since it was measured ({folder}): {again}")
    raise UserError(f"what experiment {number} made is not on this machine any more: {again}")


def check_sample(repo: git.Repo, task: str, possible: bool, gpu: bool) -> None:
    """A UserError where nothing can be sampled, or not now."""
    if not possible:
        raise UserError(f"the task {task!r} has no `export` program that could sample: leave --sample out")
    if gpu and any(locks.held(repo, tag) for tag in locks.tags(repo)):
        raise UserError("a night is at work on the GPU, and a sample would disturb its runs: leave --sample out, or wait")


def request(bench: Bench, record: Record, made: Measurement, work: Path) -> Request:
    """What a referee would be asked, with the files of the commit that was run in the folder `work`."""
    commit = made.commit or record.experiment.base
    bench.export(commit, work / "tree")
    return Request(
        task=bench.task,
        tree=work / "tree",
        work=work,
        commit=commit,
        seed=made.seed,
        sandbox=bench.sandbox,
        hidden=list(bench.hidden),
        readable=list(bench.readable),
    )


def by_program(bench: Bench, asked: Export, cancel: Cancel) -> str | None:
    """Have the task's program fill the folder; what it printed. Its last line is the error when it fails."""
    file, log = asked.request.work / "export.json", asked.request.work / "export.log"
    file.write_text(asked.model_dump_json())
    with gpus.lease(bench.task) as lease:
        env = clean_env(PYTHONPATH=str(PACKAGE.parent), **lease.env)
        launch = Launch((*python(bench.task.export), str(file)), env, bench.state.trusted(bench.repo, bench.start, MEASURE))
        ended = run(launch, log, LIMIT_S, cancel)
    if ended.cancelled:
        return None
    lines = ended.tail.strip().splitlines() or ["it printed nothing"]
    if ended.code:
        raise UserError(f"nothing was exported: {'it took too long' if ended.timed_out else lines[-1]}")
    return ended.tail


def by_copy(asked: Export) -> str:
    """Copy what the run left beside the editable files of its commit."""
    tree, names = asked.request.tree, [str(path.relative_to(asked.request.tree)) for path in asked.request.tree.rglob("*")]
    files = [(tree / name, name) for name in editable_files(asked.request.task.editable, names) if (tree / name).is_file()]
    files += [(asked.artefacts / name, name) for name in asked.measurement.artefacts]
    for source, name in files:
        (asked.to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, asked.to / name)
    return ""
