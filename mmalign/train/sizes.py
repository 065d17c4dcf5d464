"""Stored media must be of one size to stand in one batch: which do not, by their headers, before anything is decoded.

A size is (T, H, W): frames, height and width as displayed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from mmalign import media
from mmalign.data.formats import in_words

Size = tuple[int, int, int]


def odd_ones(
    rows: Sequence[Sequence[Path]], mend: str, fitted: Callable[[Size], Size] = lambda size: size
) -> dict[int, str]:
    """By position of a row why its files do not fit: one cannot be read, or is not of the size that most rows have.

    `fitted` is what a size becomes before it meets the others; `mend` says what to do.
    """
    known: dict[Path, Size | str] = {file: _size(file) for row in rows for file in row}
    sizes = Counter(
        fitted(size) for row in rows for size in {known[file] for file in row} if not isinstance(size, str)
    )
    if not sizes:
        return {k: str(known[row[0]]) for k, row in enumerate(rows) if row}
    usual = sizes.most_common(1)[0][0]
    found: dict[int, str] = {}
    for k, row in enumerate(rows):
        for file in row:
            size = known[file]
            if isinstance(size, str):
                found.setdefault(k, size)
            elif fitted(size) != usual:
                found.setdefault(k, f"{file} is {_words(size)}, most are {_words(usual)}: {mend}")
    return found


def _size(file: Path) -> Size | str:
    """The size by the header, or why there is none."""
    try:
        info = media.probe(file)
    except (ValueError, OSError) as problem:
        return in_words(problem)
    return info.num_frames, info.height, info.width


def _words(size: Size) -> str:
    """For people.

    >>> _words((1, 480, 640)), _words((16, 480, 640))
    ('640 x 480', '16 frames of 640 x 480')
    """
    frames, height, width = size
    return f"{width} x {height}" if frames == 1 else f"{frames} frames of {width} x {height}"
