"""Published preference formats as comparisons: one record a format (`formats.Format`), told by name or by its columns.

>>> known("hpdv3").about
'json list: path1 preferred, choice_dist votes give p'
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from mmalign.data.importing import arenas, edits, images, texts, videos
from mmalign.data.importing.formats import Format

FORMATS: Mapping[str, Format] = {
    one.name: one
    for one in (*images.FORMATS, *edits.FORMATS, *videos.FORMATS, *arenas.FORMATS, *texts.FORMATS)
}


def known(name: str) -> Format:
    """The format of that name; a mistake names its nearest neighbour."""
    if name in FORMATS:
        return FORMATS[name]
    near = difflib.get_close_matches(name, FORMATS, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'?" if near else ""
    raise ValueError(f"no format '{name}': {hint} There are {', '.join(FORMATS)}, and auto")


def listing() -> list[tuple[str, str]]:
    """Names of all formats, and a line about each."""
    marks = {True: "", False: " (layout not verified)"}
    return [(one.name, one.about + marks[one.verified]) for one in FORMATS.values()]
