"""The report: a night as one HTML file that needs nothing else, neither network nor server.

To try it: `Path("report.html").write_text(page(Ledger(repo, tag)))`. Text of agents reaches the page in two ways only: escaped by
Jinja, or in packed data blocks that the page's script sets as text. A Content-Security-Policy names the hashes of our one style
and one script, so that anything else is not executed even if it got in, and nothing is ever loaded or sent.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from harness import __version__, prompt, refs, view
from harness.certificates import Certificates, openings
from harness.ledger import Ledger
from harness.models import Record, UserError
from harness.report import bundle, detail, headline, sealed, sections, text
from harness.report.lineage import lineage
from harness.report.progress import Picture, prepare
from harness.report.spent import spent
from harness.report.still import still

ASSETS = files("harness.report") / "assets"
STYLES = ("uplot.css", "report.css", "parts.css")
SCRIPTS = ("uplot.js", "base.js", "progress.js", "table.js", "detail.js", "main.js")
LIVE = ("live.js",)


def page(ledger: Ledger, version: str = "") -> str:
    """The whole page as HTML. One with a `version`, any text, is for a server: it asks beside its own address, at `live`, what
    the version is now and what runs, and takes over the content of a later page.
    """
    records = ledger.records()
    if not records:
        raise UserError(f"there is no experiment in {ledger.tag!r} yet: start one with `harness run --tag {ledger.tag}`")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((ASSETS / "report.html").read_text("utf-8"))
    return template.render(own(bool(version)) | context(ledger, records) | {"version": version})


def own(live: bool) -> dict[str, str]:
    """The page's style, script and Content-Security-Policy: not a word of anybody else's."""
    names = (STYLES, SCRIPTS + LIVE if live else SCRIPTS)
    style, script = ("\n".join((ASSETS / name).read_text("utf-8") for name in part) for part in names)
    script = f'(function () {{\n"use strict";\n{script}\n}})();\n'
    return {"style": Markup(style), "script": Markup(script), "policy": policy(style, script, live)}


def policy(style: str, script: str, live: bool = False) -> str:
    """Nothing but our own style and script, by their hashes; no connection but a live page's to where it came from, no form, no
    string that becomes HTML.
    """
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'" for part in (script, style)]
    rules = ["default-src 'none'", f"script-src {hashes[0]}", f"style-src {hashes[1]}", "img-src data:", "base-uri 'none'"]
    rules += ["connect-src 'self'"] if live else []
    return "; ".join([*rules, "form-action 'none'", "trusted-types 'none'", "require-trusted-types-for 'script'"])


def context(ledger: Ledger, records: list[Record]) -> dict[str, Any]:
    """Everything that the template names."""
    tip, time, first = refs.resolve(ledger.repo, ledger.lab), spent(records), records[0]
    certificates = Certificates(ledger.repo, ledger.tag).all()
    line = lineage(ledger, records, tip)
    picture = _picture(records, list(reversed(line.merge)))
    gains = {f"{kept.number:04d}": kept.gain for kept in picture.kept[1:]} if picture else {}
    return {
        "tag": ledger.tag,
        "task": text.line(first.task, 80),
        "metric": text.line(first.metric.name, 60),
        "lower": first.metric.direction == "minimize",
        "when": sections.when(records),
        "headline": headline.headline(picture, headline.certified(certificates, tip)) if picture and gains else None,
        "nothing": headline.nothing(records, picture),
        "baseline": first.metric.shown(first.value),
        "figures": headline.figures(records, time),
        "noisy": bool(picture and any(kept.sigma for kept in picture.kept)),
        "failures": bool(picture and picture.failed),
        "kept": [sections.merged(ledger.get(name), gain) for name, gain in gains.items()],
        "waiting": [sections.near(record) for record in records if record.status == "waiting"],
        "near": [sections.near(record) for record in headline.nearest(records)],
        "learnt": headline.learnt(records),
        "certificates": [(each.id, sealed.sentence(each)) for each in certificates],
        "shelf": sealed.certificates(certificates, openings(ledger.repo, first.task, first.profile)),
        "time": sections.shares(time),
        "agents": sections.agents(records, gains),
        "programs": sections.programs(ledger, records, gains),
        "paid": any(view.usage(record) for record in records),
        "groups": sections.groups(records),
        "notebook": text.prose(prompt.notebook(records), prompt.NOTEBOOK_CHARS),
        "total": len(records),
        "rows": bundle.pack(detail.rows(records) | {"chunk": bundle.CHUNK}),
        "picture": bundle.pack(sections.drawn(picture)) if picture else "",
        "still": still(picture) if picture else None,
        "chunks": bundle.chunks(detail.details(ledger, records, line)),
        "made_by": f"harness {__version__}",
        "conditions": sections.conditions(first),
    }


def _picture(records: list[Record], merged: list[str]) -> Picture | None:
    """What is to be drawn; None when there is no baseline to compare with."""
    try:
        return prepare(records, merged)
    except UserError:
        return None
