"""The report in a real browser: what a person sees, clicks and types; hostile texts; and ten thousand experiments."""

from __future__ import annotations

import base64
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import long_night
import pytest
from browser import Browser, browser, needs_axe, needs_browser

from harness import git, prompt
from harness.ledger import Ledger
from harness.models import Record, Review
from harness.report.page import page

pytestmark = needs_browser
PAYLOAD = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
HOSTILE = f"</title></script>{PAYLOAD}\x1b[31mred\x1b]0;owned\x07 \u202egnp.exe {{{{ 7 * 7 }}}} ${{7}} javascript:alert(1)"


@dataclass
class Night:
    """A report, and the records that it was made from."""

    path: Path
    records: list[Record]
    repo: git.Repo


def report(folder: Path, *args: object, **kwargs: object) -> Night:
    long_night.make(folder / "lab", *args, **kwargs)  # type: ignore[arg-type]
    ledger = Ledger(git.open_repo(folder / "lab"), "t")
    path = folder / "report.html"
    path.write_text(page(ledger), "utf-8")
    return Night(path, ledger.records(), ledger.repo)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    return report(tmp_path_factory.mktemp("night"), 120, 20)


@pytest.fixture
def shown(chromium: Browser, night: Night) -> Browser:
    chromium.view()
    chromium.open(night.path)
    return chromium


def ids(shown: Browser) -> list[str]:
    return shown.texts("#table tbody td.id")


def test_it_opens_without_a_complaint_and_asks_for_nothing(shown: Browser, night: Night) -> None:
    assert shown.said == []
    assert shown.js("return performance.getEntriesByType('resource').map((each) => each.name)") == []
    assert shown.texts("h1") == [f"loss {night.records[0].metric.shown(1.0)} → {best(night).metric.shown(best(night).value)}"]
    assert ids(shown)[:3] == ["0000", "0001", "0002"]
    assert shown.texts("#count") == ["121 experiments, with the baseline"]
    assert len(shown.texts(".merges li")) == len(kept(night)) > 15
    assert shown.js("return [...document.querySelectorAll('.bars tbody tr')].length") >= 4


def kept(night: Night) -> list[Record]:
    return [r for r in night.records[1:] if r.verdict and r.verdict.status == "keep"]


def best(night: Night) -> Record:
    return kept(night)[-1]


def test_it_sorts_by_any_column_both_ways(shown: Browser, night: Night) -> None:
    gains = {r.id: r.verdict.gain for r in night.records if r.verdict and r.verdict.gain is not None}
    shown.js("document.querySelector('#table th.gain button').click()")
    assert ids(shown)[:5] == sorted(gains, key=lambda id: -gains[id])[:5]
    assert shown.js("return document.querySelector('#table th.gain').getAttribute('aria-sort')") == "descending"
    shown.js("document.querySelector('#table th.gain button').click()")
    assert ids(shown)[:5] == sorted(gains, key=gains.__getitem__)[:5]
    assert shown.js("return document.querySelectorAll('[aria-sort]').length") == 1
    shown.js("document.querySelector('#table th.title button').click()")
    titles = shown.texts("#table tbody td.title")
    assert titles[0] == "baseline"
    assert titles == sorted(titles, key=lambda title: [int(p) if p.isdigit() else p.lower() for p in re.split(r"(\d+)", title)])


def test_it_filters_by_status_agent_and_text(shown: Browser, night: Night) -> None:
    shown.js("document.querySelector('#statuses input[value=crash]').click()")
    crashed = [r.id for r in night.records if r.verdict and r.verdict.status == "crash"]
    assert ids(shown) == crashed
    assert shown.texts("#count") == [f"{len(crashed)} of 121"]
    shown.js("document.querySelector('#statuses input[value=keep]').click()")
    assert set(ids(shown)) == {*crashed, "0000", *(r.id for r in kept(night))}
    select(shown, "codex")
    assert set(ids(shown)) == {r.id for r in night.records if r.id in ids(shown) and r.experiment.agent == "codex"} != set()
    shown.js("document.querySelectorAll('#statuses input:checked').forEach((each) => each.click())")
    select(shown, "")
    write(shown, "rotary BLOCK 5")
    found = [r.id for r in night.records if r.proposal and "rotary" in r.proposal.title and "block 5" in r.proposal.title]
    assert set(found) <= set(ids(shown))
    assert 0 < len(ids(shown)) < 20
    write(shown, "no experiment says this")
    assert (ids(shown), shown.texts("#count")) == ([], ["0 of 121"])


def select(shown: Browser, agent: str) -> None:
    shown.js("const s = document.getElementById('agent'); s.value = args[0]; s.dispatchEvent(new Event('change'))", agent)


def write(shown: Browser, text: str) -> None:
    shown.js("const s = document.getElementById('text'); s.value = args[0]; s.dispatchEvent(new Event('input'))", text)


def panel(shown: Browser, heading: str) -> None:
    shown.until(lambda: shown.texts("dialog[open] nav .id") == [heading])


def test_a_click_shows_the_diff_the_curves_and_the_evidence(shown: Browser, night: Night) -> None:
    chosen = next(r for r in night.records[40:] if r.verdict and r.verdict.status == "discard")
    shown.js(
        "[...document.querySelectorAll('#table tbody tr')].find((row) => row.cells[0].textContent === args[0]).click()", chosen.id
    )
    panel(shown, chosen.id)
    patch = git.diff(night.repo, chosen.experiment.base, chosen.experiment.commit or "").splitlines()
    assert shown.texts("dialog .diff .add") == [line[1:].strip() for line in patch if line.startswith("+") and line[1:2] != "+"]
    assert shown.texts("dialog .diff .del") == [line[1:].strip() for line in patch if line.startswith("-") and line[1:2] != "-"]
    assert shown.texts("dialog .diff .add .m.mark, dialog .diff .add .mark")
    assert "loss 0.98 against 0.99" in shown.texts("dialog .reason")[0]
    assert shown.texts("dialog .legend span")[1].startswith("the incumbent, 00")
    assert shown.js("return document.querySelector('dialog .curve canvas').width") > 300
    assert "audit passed, 144 cuts" in shown.texts("dialog td.passed")
    assert shown.said == []

    shown.js("document.querySelector('dialog button[aria-label^=Next]').click()")
    panel(shown, f"{int(chosen.id) + 1:04d}")
    assert shown.js("return location.hash") == f"#{int(chosen.id) + 1:04d}"
    shown.js("[...document.querySelectorAll('dialog button')].at(-1).click()")
    shown.until(lambda: not shown.js("return document.getElementById('detail').open || location.hash"))


def test_an_address_with_an_id_opens_that_experiment(chromium: Browser, night: Night) -> None:
    chromium.open(night.path, "0007")
    panel(chromium, "0007")
    assert chromium.texts("#notebook pre")[0].startswith("## 0007")


def test_a_point_of_the_picture_tells_what_it_is_and_opens_it(shown: Browser, night: Night) -> None:
    hover = """
    const over = document.querySelector("#chart .u-over"), box = over.getBoundingClientRect();
    for (let y = 3; y < box.height; y += 6) for (let x = 3; x < box.width; x += 6) {
      over.dispatchEvent(new MouseEvent("mousemove", { clientX: box.left + x, clientY: box.top + y, bubbles: true }));
      const tip = document.querySelector("#chart .tip");
      if (tip.hidden || tip.querySelector(".status").textContent !== args[0]) continue;
      return [tip.textContent, tip.querySelector(".quiet").textContent, box.left + x, box.top + y];
    }"""
    for status in ("keep", "discard", "crash"):
        text, who, x, y = shown.js(hover, status)
        number = who[:4]
        told = night.records[int(number)]
        assert told.verdict
        assert told.verdict.status == status
        assert (told.proposal.title if told.proposal else "baseline") in text
    for event in ("mouseMoved", "mousePressed", "mouseReleased"):
        shown.cdp("Input.dispatchMouseEvent", type=event, x=x, y=y, button="left", clickCount=1)
    panel(shown, number)


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone(chromium: Browser, night: Night, dark: bool) -> None:
    chromium.view(390, 844, dark)
    chromium.open(night.path)
    fits = "return [document.documentElement.scrollWidth, document.getElementById('detail').scrollWidth]"
    assert chromium.js(fits)[0] == 390
    assert chromium.js("return document.querySelector('#chart canvas').getBoundingClientRect().right") <= 390
    assert chromium.js("return document.querySelector('#table td.title').getBoundingClientRect().width") > 120
    chromium.js("location.hash = '0011'")
    panel(chromium, "0011")
    assert max(chromium.js(fits)) <= 390


def test_dark_is_dark_and_paper_is_white(chromium: Browser, night: Night) -> None:
    def light() -> tuple[float, float]:
        """Of the page and of its text, 0 to 1."""
        look = "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"
        return tuple(sum(map(int, re.findall(r"\d+", found)[:3])) / 765 for found in chromium.js(look))  # type: ignore[return-value]

    chromium.view(dark=False)
    chromium.open(night.path)
    paper, ink = light()
    assert paper > 0.9
    assert ink < 0.2
    chromium.view(dark=True)
    chromium.open(night.path)
    paper, ink = light()
    assert paper < 0.15
    assert ink > 0.8
    chromium.view(dark=True, media="print")
    assert light()[0] > 0.9
    chromium.view()
    printed = base64.b64decode(chromium.cdp("Page.printToPDF")["data"])
    assert printed.startswith(b"%PDF")
    assert printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") + printed.count(b"/Type /Page/") >= 3


@needs_axe
@pytest.mark.parametrize(("dark", "fragment"), [(False, ""), (False, "0014"), (True, "0014")])
def test_nobody_is_kept_out(chromium: Browser, night: Night, dark: bool, fragment: str) -> None:
    chromium.view(dark=dark)
    chromium.open(night.path, fragment)
    if fragment:
        panel(chromium, fragment)
    assert chromium.faults() == []


def test_without_scripts_it_still_says_what_was_found(chromium: Browser, night: Night) -> None:
    chromium.cdp("Emulation.setScriptExecutionDisabled", value=True)
    try:
        chromium.goto(night.path.as_uri())
        seen = chromium.js("return document.body.innerText")
        drawn = chromium.js("const s = document.querySelector('.still .dots').getBBox(); return [s.width, s.height]")
    finally:
        chromium.cdp("Emulation.setScriptExecutionDisabled", value=False)
    assert min(drawn) > 50
    assert "need a browser that runs" in seen
    assert prompt.title(best(night)) in seen
    assert "Filter" not in seen
    assert "Where the time went" in seen


def test_a_night_without_a_baseline_has_a_table_and_no_picture(chromium: Browser, tmp_path: Path) -> None:
    def begun(record: Record) -> Record:
        return record.model_copy(update={"state": "measuring", "verdict": None, "measurements": []})

    chromium.view()
    chromium.open(report(tmp_path, 2, 0, begun).path)
    assert chromium.said == []
    assert chromium.js("return document.getElementById('progress').hidden")
    assert chromium.texts("#table tbody .status") == ["open", "open", "open"]
    chromium.js("location.hash = '0002'")
    panel(chromium, "0002")
    assert chromium.texts("dialog .reason") == ["open still measuring"]


def test_what_waits_for_a_person_is_shown_apart(chromium: Browser, tmp_path: Path) -> None:
    def waits(record: Record) -> Record:
        return record.model_copy(update={"review": Review()}) if record.id == "0001" else record

    chromium.view()
    chromium.open(report(tmp_path, 12, 4, waits).path, "0001")
    panel(chromium, "0001")
    assert chromium.texts("dialog .reason .status") == ["waiting"]
    assert chromium.texts("[aria-labelledby=waiting-title] li .id") == ["0001"]
    assert chromium.texts("#progress .legend .waiting") == ["waits for review"]
    chromium.js("document.querySelector('#statuses input[value=waiting]').click()")
    assert ids(chromium) == ["0001"]
    assert chromium.said == []


def hostile(record: Record) -> Record:
    """The worst of everything that an agent, its code or its model may have a word in."""
    if record.proposal is None:
        return record
    texts = {"title": HOSTILE, "hypothesis": HOSTILE + "w" * 100_000, "notebook": HOSTILE, "agent_version": HOSTILE}
    proposal = record.proposal.model_copy(update={**texts, "dropped": [HOSTILE] * 500})
    runs = [
        m.model_copy(update={"reason": HOSTILE, "notes": {HOSTILE: HOSTILE}, "figures": {HOSTILE: 1e300}})
        for m in record.measurements
    ]
    verdict = record.verdict.model_copy(update={"reason": HOSTILE}) if record.verdict else None
    experiment = record.experiment.model_copy(update={"agent": HOSTILE[:200]})
    update = {"proposal": proposal, "measurements": runs, "verdict": verdict, "experiment": experiment, "task": HOSTILE}
    return record.model_copy(update=update)


@pytest.fixture(scope="module")
def cursed(tmp_path_factory: pytest.TempPathFactory) -> Night:
    log = f"{HOSTILE}\n{'m' * 1_000_000}\n" + "\u202e\u2066rtl\n" + "progress 1\rprogress 2\n"
    curve = f"x\ty\n0\tnan\n1\tinf\n{HOSTILE}\n2\t1e999\n3\t2.0\n4\t1.5\n"
    return report(tmp_path_factory.mktemp("cursed"), 30, 5, hostile, {"train-1.log": log, "curve-1.tsv": curve})


def test_hostile_texts_are_shown_and_do_nothing(chromium: Browser, cursed: Night) -> None:
    chromium.view()
    chromium.open(cursed.path, "0004")
    panel(chromium, "0004")
    assert chromium.js("return window.hacked") is None
    assert chromium.said == [], "nothing was even tried"
    assert chromium.js("return document.querySelectorAll('main img, dialog img, main script, dialog script').length") == 0
    title = chromium.texts("dialog h2")[0]
    assert title.startswith("</title></script><script>window.hacked")
    assert "{{ 7 * 7 }}" in title
    everything = chromium.js("return document.body.textContent")
    assert not re.search("[\x1b\x07\u202e\u2066]", everything)
    assert "gnp.exe" in everything
    assert "progress 2" in chromium.texts("dialog pre.log")[0]
    assert "progress 1" not in chromium.texts("dialog pre.log")[0]
    assert len(everything) < 2_000_000
    for width in (1280, 900, 390):
        chromium.view(width)
        assert chromium.js("return document.querySelector('.merges a').getBoundingClientRect().width") > 0.3 * width
        assert chromium.js("return document.documentElement.scrollWidth") <= width
        assert chromium.js("return document.getElementById('detail').scrollWidth") <= width


def test_what_got_in_all_the_same_is_not_executed_and_without_the_policy_it_is(
    chromium: Browser, night: Night, tmp_path: Path
) -> None:
    html = night.path.read_text("utf-8").replace("<main>", f"<main>{PAYLOAD}<style>main {{ display: none }}</style>")
    (tmp_path / "guarded.html").write_text(html, "utf-8")
    chromium.view()
    chromium.open(tmp_path / "guarded.html")
    assert chromium.js("return window.hacked") is None
    assert chromium.js("return getComputedStyle(document.querySelector('main')).display") == "block"
    assert any("Content Security Policy" in each for each in chromium.said)
    open_page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
    (tmp_path / "open.html").write_text(open_page, "utf-8")
    chromium.open(tmp_path / "open.html")
    chromium.until(lambda: chromium.js("return window.hacked"))


@pytest.mark.heavy
def test_ten_thousand_experiments_open_soon(chromium: Browser, tmp_path: Path) -> None:
    night = report(tmp_path, 10_000, 60)
    assert night.path.stat().st_size < 20e6
    chromium.view()
    chromium.cdp("Performance.enable", timeDomain="threadTicks")  # the page's own time: others may use this machine, too
    chromium.open(night.path)
    spent = {each["name"]: each["value"] for each in chromium.cdp("Performance.getMetrics")["metrics"]}
    assert spent["TaskDuration"] < 3, spent
    assert chromium.texts("#count") == ["10,001 experiments, with the baseline"]
    write(chromium, "window block 7")
    assert 10 < len(ids(chromium)) <= 200
    chromium.js("location.hash = '9999'")
    panel(chromium, "9999")
    assert chromium.said == []
    assert subprocess.run(["git", "fsck", "--connectivity-only"], cwd=tmp_path / "lab", check=False).returncode == 0
