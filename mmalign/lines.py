"""The lines of text files: numbered, without blank ones, in UTF-8.

Lines end with a line feed only. `str.splitlines` also cuts at U+2028, form feeds and other separators that stand inside
prompts, and leaves two halves that are no JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number from 1 and text of every line that is not blank; ValueError where a line is not UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8").strip("\ufeff \t\r\n")
            except UnicodeDecodeError as problem:
                raise ValueError(f"{path}:{number} is not UTF-8 text: save the file as UTF-8") from problem
            if text:
                yield number, text
