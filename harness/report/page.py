"""The report: a night as one HTML file that needs nothing else, neither network nor server.

To try it: `Path("report.html").write_text(page(Ledger(repo, tag)))`. Text of agents reaches the page in two ways only: escaped by
Jinja, or in packed data blocks that the page's script sets as text. A Content-Security-Policy names the hashes of our one style
and one script, so that anything else is not executed even if it got in, and nothing is ever loaded or sent.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from itertools import zip_longest
from typing import Any

import jinja2
from markupsafe import Markup

from harness import __version__, prompt, refs, view
from harness.certificates import Certificates, openings
from harness.ledger import Ledger
from harness.models import Record, UserError
from harness.outline import Remembered
from harness.report import bundle, detail, headline, sealed, sections, text
from harness.report.lineage import Lineage, lineage
from harness.report.progress import Picture, prepare
from harness.report.spent import spent
from harness.report.still import still

ASSETS = files("harness.report") / "assets"
STYLES = ("uplot.css", "report.css", "parts.css")
SCRIPTS = ("uplot.js", "base.js", "progress.js", "table.js", "detail.js", "main.js")
LIVE = ("live.js",)
BLOCK = 500  # experiments, whose rows of the table are packed together


def page(ledger: Ledger) -> str:
    """The whole page as HTML."""
    return Page(ledger).html()


class Page:
    """Makes the page of a night, again and again: of what is made of one record alone, only what belongs to those that changed.

    `lineage` is that of the last one made.
    """

    def __init__(self, ledger: Ledger) -> None:
        """Nothing is made yet."""
        self.ledger, self.lineage = ledger, Lineage({}, {})
        self._cells, self._packed = Remembered(detail.cells), list[tuple[list[detail.Cells], str]]()

    def html(self, version: str = "") -> str:
        """The page. One with a `version`, any text, is for a server: beside its own address it asks at `live` what the version is
        now and what runs, and takes over the content of a later page; at `experiment/ID` it asks for what is opened.
        """
        records = self.ledger.records()
        if not records:
            tag = self.ledger.tag
            raise UserError(f"there is no experiment in {tag!r} yet: start one with `harness run --tag {tag}`")
        tip = refs.resolve(self.ledger.repo, self.ledger.lab)
        self.lineage = lineage(self.ledger, records, tip)
        found = own(bool(version)) | context(self.ledger, records, self.lineage, tip)
        chunks = [] if version else bundle.chunks(detail.details(self.ledger, records, self.lineage))
        return _template().render(found | {"version": version, "rows": self._rows(records), "chunks": chunks})

    def _rows(self, records: list[Record]) -> list[str]:
        """The table in packed blocks; one more experiment changes the last of them."""
        cells, before = self._cells.of(records), self._packed
        blocks = [cells[start : start + BLOCK] for start in range(0, len(cells), BLOCK)]
        self._packed = [
            old if old and old[0] == block else (block, bundle.pack(detail.columns(block)))
            for block, old in zip_longest(blocks, before[: len(blocks)])
        ]
        return [text for _, text in self._packed]


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string((ASSETS / "report.html").read_text("utf-8"))


@cache
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


def context(ledger: Ledger, records: list[Record], line: Lineage, tip: str | None) -> dict[str, Any]:
    """What the template names, but for the table and what belongs to single experiments."""
    time, first = spent(records), records[0]
    certificates = Certificates(ledger.repo, ledger.tag).all()
    picture = _picture(records, list(reversed(line.merge)))
    gains = {f"{kept.number:04d}": kept.gain for kept in picture.kept[1:]} if picture else {}
    return {
        "tag": ledger.tag,
        "task": text.line(first.task, 80),
        "metric": text.line(first.metric.name, 60),
        "lower": first.metric.direction == "minimize",
        "when": sections.when(records),
        "headline": headline.headline(picture, headline.certified(certificates, tip)) if picture and gains else None,
        "nothing": "" if gains else headline.nothing(records, picture),
        "baseline": first.metric.shown(first.value),
        "figures": headline.figures(records, time),
        "noisy": bool(picture and any(kept.sigma for kept in picture.kept)),
        "failures": bool(picture and picture.failed),
        "kept": [sections.merged(ledger.get(name), gain) for name, gain in gains.items()],
        "waiting": [sections.near(record) for record in records if record.status == "waiting"],
        "near": [] if gains else [sections.near(record) for record in headline.nearest(records)],
        "learnt": [] if gains else headline.learnt(records),
        "certificates": [(each.id, sealed.sentence(each)) for each in certificates],
        "shelf": sealed.certificates(certificates, openings(ledger.repo, first.task, first.profile)),
        "time": sections.shares(time),
        "agents": sections.agents(records, gains),
        "programs": sections.programs(ledger, records, gains),
        "paid": any(view.usage(record) for record in records),
        "groups": sections.groups(records),
        "notebook": text.prose(prompt.notebook(records), prompt.NOTEBOOK_CHARS),
        "total": len(records),
        "chunk": bundle.CHUNK,
        "picture": bundle.pack(sections.drawn(picture)) if picture else "",
        "still": still(picture) if picture else None,
        "made_by": f"harness {__version__}",
        "conditions": sections.conditions(first),
    }


def _picture(records: list[Record], merged: list[str]) -> Picture | None:
    """What is to be drawn; None when there is no baseline to compare with."""
    try:
        return prepare(records, merged)
    except UserError:
        return None
