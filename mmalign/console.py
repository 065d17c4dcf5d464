"""A calm terminal: what libraries say that helps nobody who runs a verb is left out; errors still come through.

Tables keep their names and figures whole in 80 columns where they can.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import ModuleType

from rich import box
from rich.markup import escape
from rich.table import Column, Table

ROOM = 44
"""Characters of a line of 80 that names may take without leaving too few to the figures."""


def hide_hints() -> None:
    """No hints from xformers, diffusers and transformers below errors. Call it before they are imported."""
    logging.getLogger("xformers").setLevel(logging.ERROR)
    for log in _logs():
        log.set_verbosity_error()


def hide_bars() -> None:
    """No progress bars while small models are loaded."""
    for log in _logs():
        log.disable_progress_bar()


def table(names: Mapping[str, Sequence[str]], figures: Mapping[str, Sequence[str]]) -> Table:
    """A table of what stands below each heading: no name is broken while there is room for all, no lone figure ever."""
    room_for_all = sum(max(map(len, (heading, *shown))) for heading, shown in names.items()) <= ROOM
    found = [Column(heading, no_wrap=room_for_all, overflow="fold") for heading in names]
    for heading, shown in figures.items():
        lone = not any(" " in cell for cell in shown)
        found.append(
            Column(escape(heading.replace(" ", "\n") if lone else heading), no_wrap=lone, overflow="fold")
        )
    made = Table(*found, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for row in zip(*names.values(), *figures.values(), strict=True):
        made.add_row(*map(escape, row))
    return made


def _logs() -> tuple[ModuleType, ModuleType]:
    import diffusers.utils.logging as diffusers_log
    import transformers.utils.logging as transformers_log

    return diffusers_log, transformers_log
