"""What runs now, as plain values for the page's script, which sets them as text."""

from __future__ import annotations

from typing import Any

from harness import view
from harness.live import Live, Work
from harness.report import text
from harness.summary import duration


def now(live: Live) -> dict[str, Any]:
    """Each experiment under way with the share of its phase that is over, 0 to 1 or None if unknown; and how it stands."""
    return {"running": live.running, "now": [_line(each) for each in live.now], "state": f"{_state(live)}."}


def _state(live: Live) -> str:
    if not live.running:
        why = {"ended": f"Ended: {live.reason}", "killed": "Killed; `harness resume` goes on"}
        return text.line(why.get(live.state, "Not running"), 300)
    parts = ["At work", f"{view.dollars(live.usd)} USD so far" if live.usd else ""]
    parts += [f"ends in {duration(live.left_s)} at the latest" if live.left_s else ""]
    parts += [f"the experiments that are left take about {duration(live.eta_s)}" if live.eta_s else ""]
    return ", ".join(filter(None, parts))


def _line(each: Work) -> dict[str, Any]:
    parts = [f"{each.agent}: {each.phase}" if each.agent else each.phase]
    parts += [duration(each.elapsed_s)] if each.elapsed_s else []
    parts += [f"{duration(max(0.0, each.left_s))} left"] if each.left_s is not None else []
    parts += [f"loss {each.loss:.4f}"] if each.loss is not None else []
    share = None if each.share is None else min(1.0, max(0.0, each.share))
    title = text.line(each.title, 120).replace("->", "→").strip("-")
    return {
        "experiment": text.line(each.experiment, 40),
        "title": title,
        "told": text.line(", ".join(parts), 200),
        "share": share,
    }
