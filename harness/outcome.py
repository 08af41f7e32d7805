"""How an agent's work ended, in one word: by the harvested file first, then by what the CLI said, then by its exit code.

The exit code comes last because several CLIs exit with 0 after a failure. What a message means is told by the entry's own
`errors`, then by the words that are common to providers and their clients; an agent without a provider has none to wait for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.agentspec import AgentSpec, ErrorRule, Kind, OutputSpec, Select
from harness.models import Outcome
from harness.protocols import Exit

TEXT_CHARS = 2000
SEARCHED_CHARS = 6000  # of plain text, from its end: an error that comes earlier was overcome
MOST_LINE_BYTES = 4 << 20

# From the most particular to the most general: a used up quota is a 429 as well, and many a network's error a timeout.
WORDS: dict[Kind, tuple[str, ...]] = {
    "quota": (
        r"insufficient_quota|exceeded your current quota|quota exceeded|(hit|reached) your (\w+ )?limit|usage limit",
        r"credit balance is too low|payment required|\b402\b|spending limit|quota is used up",
    ),
    "context": (r"prompt is too long|context.?length|context window|maximum context|input token count|too many tokens",),
    "auth": (
        r"\b401\b|\b403\b|invalid.{0,3}(x-)?api.?key|incorrect api key|api key not valid|unauthori[sz]ed|no api key",
        r"authentication.?(error|failed)|not (logged|signed) in|please run /login|permission_denied",
    ),
    "rate_limited": (
        r"\b429\b|rate.?limit|too many requests|overloaded|\b529\b|\b50[03]\b|service unavailable|high demand",
        r"resource.{0,10}exhausted|internal server error|server_error|try again later",
    ),
    "network": (
        r"\b50[24]\b|cannot be reached|ECONN\w+|EAI_AGAIN|ENOTFOUND|socket hang up|fetch failed|network",
        r"connection.{0,20}(error|refused|reset|lost)",
        r"stream (disconnected|error|closed|ended)|terminated|incomplete chunked|peer closed|premature|unexpected end",
    ),
    "refused": (r"\bI (can't|cannot|can not|won't|am unable to) (help|assist|do that|comply)|stop_reason.{0,5}refusal",),
}
COMMON = tuple(ErrorRule(match="|".join(words), kind=kind) for kind, words in WORDS.items())

MEANING: dict[Kind, str] = {
    "refused": "the model refused to work",
    "rate_limited": "the provider was too busy or limits the rate",
    "auth": "the provider refused the key",
    "quota": "the account's quota is used up",
    "network": "the connection to the provider failed",
    "context": "the prompt was too long for the model",
    "crashed": "the agent failed",
}


@dataclass(frozen=True)
class Said:
    """What a CLI said: its last message, its errors in order, and the id of its session where it named one."""

    text: str = ""
    errors: list[str] = field(default_factory=list)
    session: str = ""


def read(output: OutputSpec, log: Path, tail: str) -> Said:
    """What the output says. `log` holds its beginning, bounded; `tail` its end."""
    if output.format == "text":
        message = re.search(output.pattern, tail) if output.pattern else None
        return Said(message[1].strip() if message else "" if output.pattern else tail.strip()[-TEXT_CHARS:])
    texts: list[str] = []
    errors: list[str] = []
    session = ""
    for line in _objects(_lines(log, tail)):
        if output.text and (found := select(output.text, line)) is not None:
            texts = [*texts, found] if output.text.join else [found]
        errors += [found for each in output.errors if (found := select(each, line)) is not None]
        session = (output.session and select(output.session, line)) or session
    return Said("".join(texts).strip(), errors, session)


def select(asked: Select, line: Any) -> str | None:
    """The text that a line has for a Select, if the line is one that it means."""
    if any(_at(line, path) != value for path, value in asked.where.items()):
        return None
    found = _at(line, asked.take)
    return None if found is None else found if isinstance(found, str) else json.dumps(found)


def _at(value: Any, path: str) -> Any:
    """What lies at a dotted path; None where there is nothing."""
    for part in path.split("."):
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and re.fullmatch(r"-?\d+", part) and -len(value) <= int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def _lines(log: Path, tail: str) -> Iterator[str]:
    """The lines of an output of which the log may lack the end, and the tail the beginning."""
    last = ""
    with log.open("rb") as file:
        while line := file.readline(MOST_LINE_BYTES):
            last = line.decode("utf-8", "replace")
            yield last
    if not tail.endswith(last) or not last:
        yield from tail.splitlines()[1:]


def _objects(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if line.lstrip().startswith("{"):
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict):
                yield found


def outcome(spec: AgentSpec, ended: Exit, said: Said, changed: bool) -> Outcome:
    """The outcome and its reason in words."""
    if changed:
        return Outcome(kind="changed")
    if ended.exceeded:
        return Outcome(kind="crashed", reason=f"the agent {ended.exceeded}")
    failed = ended.code not in spec.ok_exit_codes
    told = said.errors[-1] if said.errors else ""
    plain = "" if spec.output.format == "json_lines" and told else ended.tail[-SEARCHED_CHARS:]
    kind = _kind(spec.errors, told or plain)
    if not kind and spec.patience and (told or failed or ended.timed_out):
        kind = _kind(COMMON, told or plain)
    if not kind and spec.patience and not failed:
        kind = _kind([rule for rule in COMMON if rule.kind == "refused"], said.text)
    if kind:
        return Outcome(kind=kind, reason=f"{MEANING[kind]}: {_words(told or _matching(spec, plain) or said.text)}")
    if ended.timed_out:
        return Outcome(kind="timeout", reason=f"the agent changed nothing within {ended.seconds:.0f} s")
    if failed or told:
        exit_code = f"the agent failed with exit code {ended.code}"
        return Outcome(kind="crashed", reason=f"{exit_code}: {_words(told or _last(ended.tail))}")
    return Outcome(kind="unchanged", reason="the agent changed nothing")


def _kind(rules: Iterable[ErrorRule], text: str) -> Kind | None:
    flat = " ".join(text.split())
    return next((rule.kind for rule in rules if re.search(rule.match, flat, re.IGNORECASE)), None)


def _matching(spec: AgentSpec, text: str) -> str:
    """The last line in which a rule finds something."""
    lines = [line for line in text.splitlines() if _kind((*spec.errors, *COMMON), line)]
    return lines[-1] if lines else ""


def _last(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "it printed nothing")


def _words(text: str) -> str:
    """A message on one line, bounded."""
    return " ".join(text.split())[:300]
