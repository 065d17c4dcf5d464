"""A calm terminal: what libraries say that helps nobody who runs a verb is left out; errors still come through.

Tables keep their names and figures whole in 80 columns where they can.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType

from rich import box
from rich.markup import escape
from rich.table import Column, Table

LOADING = "mmalign: loading PyTorch, which takes some seconds"
ROOM = 44
"""Characters of a line of 80 that names may take without leaving too few to the figures."""


class LoadingNotice(MetaPathFinder):
    """Says a line on stderr when PyTorch begins to be imported, once; it finds no module itself."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Called for every import that is new."""
        if name == "torch":
            sys.meta_path.remove(self)
            print(LOADING, file=sys.stderr, flush=True)


def tell_loading() -> None:
    """A line on stderr, if that is a terminal, as soon as PyTorch is loaded; of several processes the first says it."""
    first = os.environ.get("LOCAL_RANK", "0") == "0"
    if first and sys.stderr.isatty() and "torch" not in sys.modules:
        sys.meta_path.insert(0, LoadingNotice())


def counted(num: int, noun: str, several: str = "") -> str:
    """A number with its noun.

    >>> counted(1, "pair"), counted(2000, "prompt"), counted(2, "process", "processes")
    ('1 pair', '2,000 prompts', '2 processes')
    """
    return f"{num:,} {noun if num == 1 else several or f'{noun}s'}"


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
