"""Why a published row cannot be used, in words: which field is laid out otherwise than its format has it.

Converters check what is likely to be wrong, and say so. Of a row of any other shape Python's own words come back
("'list' object has no attribute 'get'"), which tell nothing to whoever has the file: here they become the field that
was looked at, what stands there, and what the format expects. Needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, ItemsView, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from mmalign.data.formats import BROKEN
from mmalign.data.importing.formats import Format, Row

SHOWN = 80
"""Characters of a value that are shown."""
_PYTHONS = re.compile(
    r"could not convert|invalid literal|to unpack|cannot convert float|object (has|is|does|cannot)|unhashable|"
    r"not supported between|unsupported operand|must be (a )?(real number|str|string)|indices must be|out of range|"
    r"argument|can only concatenate"
)


def in_words(problem: Exception, row: Row, chosen: Format, attempt: Callable[[Row], object]) -> str:
    """What a person can mend in the row, of which `attempt` raised the problem."""
    if type(problem) is ValueError and str(problem) and not _PYTHONS.search(str(problem)):
        return str(problem)
    expected = f"{chosen.name} has it so: {_expected(chosen)}"
    name = _looked_at(row, attempt)
    if name is None:
        return f"a field is laid out in another way ({problem}); {expected}"
    value = row.data.get(name)
    if value is None:
        return f"'{name}' is empty; {expected}"
    shown = repr(value)
    shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."
    return f"'{name}' is {shown}, which is laid out in another way; {expected}"


def _expected(chosen: Format) -> str:
    """What the converter says of the layout."""
    said = getattr(chosen.convert, "func", chosen.convert).__doc__
    return " ".join((said or chosen.about).split()).rstrip(".")


def _looked_at(row: Row, attempt: Callable[[Row], object]) -> str | None:
    """The field that was asked for last before it went wrong; None where it goes well."""
    watched = _Watched(row.data)
    with suppress(*BROKEN):
        attempt(replace(row, data=watched))
        return None
    return watched.last


class _Watched(Mapping[str, Any]):
    """The fields of a row; `last` is the one asked for last by its name."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data
        self.last: str | None = None

    def __getitem__(self, name: str) -> Any:
        self.last = name
        return self.data[name]

    def __contains__(self, name: object) -> bool:
        return name in self.data

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def items(self) -> ItemsView[str, Any]:
        return self.data.items()
