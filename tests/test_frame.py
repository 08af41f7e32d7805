"""A frame of the live view: no text and no size break it, and what agents wrote is shown and obeyed by nobody."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from harness.cells import plain
from harness.frame import frame
from harness.live import Best, Closed, Live, Work
from harness.models import Stop
from harness.plots import Line, Range, plot

HOSTILE = (
    "\x1b[2J\x1b[31mgone \x07\x9b2J\u202egnp.exe\u2066 [red]markup[/red] [/] \u200bwide 漢字 a\u0301\u0302\u0303 "
    "\U0001f468\u200d\U0001f469 \r\n x"
)


def busy(title: str, works: int = 2) -> Live:
    """A night in which everything that could be text is `title`."""
    reader = Live.model_validate(BUSY)
    curve = [(n / 50, 9 / (n + 1)) for n in range(50)]
    now = [
        Work(
            experiment=f"{n:04d}",
            title=title,
            agent=title,
            phase=title,
            run=n < 3,
            limited=n > 1,
            elapsed_s=1e9,
            left_s=12.5,
            share=0.4,
        ).model_copy(update={"loss": float("nan") if n else 3.25, "curve": [*curve, (0.7, 1e300), (0.8, -1e300)]})
        for n in range(works)
    ]
    closed = [
        Closed(id=f"{n:04d}", agent=title, title=title, status="discard", reason=title, shown="1.25", believed="-0.1")
        for n in range(40)
    ]
    best = Best(id="0001", title=title, value=1.0, curve=curve)
    told = {"task": title, "profile": title, "latest": closed, "best": best, "tried": [(n, 1 + n % 7) for n in range(90)]}
    history = reader.history.model_copy(update={**told, "kept": [(2, 1.5), (9, 1.0)], "counts": {"discard": 37, "keep": 2}})
    return reader.model_copy(
        update={"now": now, "history": history, "reason": title if works % 2 else "", "usd": 3.2, "stop": Stop(cost_usd=5)}
    )


BUSY = {
    **{
        "tag": "t",
        "running": True,
        "state": "running",
        "since": "2026-11-22T01:00:00+00:00",
        "reason": "",
        "now": [],
        "workers": 2,
    },
    **{"slots": 4, "stop": None, "usd": None, "left_s": 7200.0, "eta_s": 9000.0, "summary": ""},
    "history": {
        **{
            "task": "toy",
            "profile": "cpu",
            "metric": {"name": "loss"},
            "baseline": 2.0,
            "best": {"id": "0", "title": "", "value": 1.0},
        },
        **{"counts": {}, "done": 39, "kept": [], "tried": [], "latest": [], "ends": []},
    },
}


def drawn(lines: list[Text], width: int) -> str:
    """What a terminal is sent."""
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None, highlight=False, markup=False, emoji=False)
    for line in lines:
        console.print(line, no_wrap=True, overflow="crop", crop=True, soft_wrap=True)
    return out.getvalue()


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("works", [0, 1, 2, 9])
def test_no_text_and_no_size_break_a_frame(works: int, ascii_only: bool) -> None:
    for title in (HOSTILE * 3, "漢" * 200, "", "\u0645\u0631\u062d\u0628\u0627 " * 30):
        live = busy(title, works)
        for width, height in ((40, 10), (41, 11), (79, 24), (100, 30), (139, 14), (300, 80), (1, 1), (12, 3)):
            lines = frame(live, width, height, "q quits", ascii_only)
            assert len(lines) == height or height < 4
            assert max(line.cell_len for line in lines) <= width
            sent = drawn(lines, width)
            assert sent.count("\n") == len(lines)
            assert not set(sent) & {
                chr(code) for code in (*range(10), *range(11, 32), *range(127, 160), 0x202E, 0x2066, 0x200B, 0x200D)
            }
            assert sent.isascii() or not ascii_only


def test_what_agents_wrote_is_shown_and_obeyed_by_nobody() -> None:
    """The control shows what each of these would do where it is printed as it is."""
    sent = drawn([Text(HOSTILE)], 200)
    assert "\x1b[2J" in sent
    assert "\u202e" in sent
    markup = io.StringIO()
    Console(file=markup, width=100).print("[red]markup[/red]")
    assert markup.getvalue() == "markup\n"
    shown = "".join(line.plain for line in frame(busy(HOSTILE), 160, 40, "q"))
    assert "␛[2J␛[31mgone ␇" in shown
    assert "[red]markup[/red] [/]" in shown
    assert plain("a\u0301\u0302\u0303") == "\u00e1\u0302"
    assert plain("\u202egnp") == "\ufffdgnp"


def test_curves_are_where_they_belong() -> None:
    shown = Range(0.0, 1.0, 0.0, 1.0)
    rising = plot([Line([(0.0, 0.0), (1.0, 1.0)], "cyan")], shown, 8, 4, ascii_only=True)
    assert ["".join(char for char, _ in row) for row in rising] == ["      **", "    **  ", "  **    ", "**      "]
    both = plot([Line([(0.0, 0.5), (1.0, 0.5)], "yellow", "dotted"), Line([(0.0, 0.5), (0.5, 0.5)], "cyan")], shown, 8, 3)
    middle = [style for _, style in both[1]]
    assert middle[:4] == ["cyan"] * 4
    assert set(middle[5:]) <= {"yellow", ""}
    assert "yellow" in middle
    outside = plot([Line([(0.0, 5.0), (1.0, 7.0)], "cyan")], shown, 8, 3)
    assert all(char == " " for row in outside for char, _ in row)
