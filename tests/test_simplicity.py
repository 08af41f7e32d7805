"""Code is counted in tokens, and nothing that is not code counts."""

from __future__ import annotations

from harness.simplicity import tokens

DRESSED = '''"""A module."""

# a comment
def area(
    width, height
):  # why
    """What it is."""

    return width * height
'''
CODE = b"def area(width, height):\n    return width * height\n"


def test_comments_docstrings_and_layout_are_not_code() -> None:
    dressed = DRESSED.encode()
    assert tokens("a.py", dressed) == tokens("a.py", CODE) == 12


def test_strings_that_do_something_are_code() -> None:
    assert tokens("a.py", b'print("hello")\n') == 4
    assert tokens("a.py", b'x = "hello"\n') == 3


def test_what_is_no_python_counts_its_words_and_marks() -> None:
    assert tokens("a.c", b"int x = 3;") == 5
    assert tokens("a.py", b"def broken(:\n  '''") > 3
    assert tokens("a.py", None) == 0
