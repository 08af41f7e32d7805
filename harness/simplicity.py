"""How much code a file is: tokens without comments and docstrings, so that neither counts for or against a change."""

from __future__ import annotations

import io
import re
import tokenize

LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.ENCODING,
}
STARTS = {tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING, tokenize.NL, tokenize.COMMENT}


def tokens(name: str, data: bytes | None) -> int:
    """Tokens of code in a file; words and marks where it is not Python that can be read, 0 where there is no file."""
    if data is None:
        return 0
    if name.endswith(".py"):
        try:
            return _python(data)
        except (tokenize.TokenError, SyntaxError, ValueError):
            pass
    return len(re.findall(rb"\w+|[^\w\s]", data))


def _python(data: bytes) -> int:
    found = list(tokenize.tokenize(io.BytesIO(data).readline))
    count, fresh = 0, True
    for token, after in zip(found, [*found[1:], found[-1]], strict=True):
        docstring = token.type == tokenize.STRING and fresh and after.type in (tokenize.NEWLINE, tokenize.COMMENT)
        count += token.type not in LAYOUT and not docstring
        fresh = token.type in STARTS
    return count
