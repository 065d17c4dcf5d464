"""What a published format is: a record of names, columns and one small function from a row to a comparison.

A converter gets the row and a `Place` that turns the row's media into uris. It gives back a comparison, or a sentence
(str) that says why this row has nothing to compare, which is counted; a ValueError is a bad row, which is told with its
file and line. Needs no torch.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmalign.comparison import Annotation, Comparison
from mmalign.data.tables import Embedded


@dataclass(frozen=True)
class Row:
    """A record of a published file: its fields, and where it stands."""

    data: Mapping[str, Any]
    file: Path
    number: int
    key: str | None = None  # its name, where records stand in an object

    @property
    def where(self) -> str:
        """File and line (row, in a table)."""
        return f"{self.file.name}:{self.number}"

    def needed(self, name: str) -> Any:
        """A field that must say something."""
        value = self.data.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            raise ValueError(f"'{name}' is empty")
        return value.strip() if isinstance(value, str) and not isinstance(value, Embedded) else value

    def text(self, name: str) -> str:
        """A field as text, "" where it says nothing."""
        value = self.data.get(name)
        return "" if value is None else str(value).strip()

    def number_of(self, name: str) -> float | None:
        """A field as a number; None where it says nothing."""
        value = self.data.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        return as_number(value, name)

    def list_of(self, name: str, num: int | None = None) -> list[Any]:
        """A field that is a list (of `num`)."""
        value = self.needed(name)
        if not isinstance(value, (list, tuple)) or (num is not None and len(value) != num):
            raise ValueError(
                f"'{name}' must be a list{f' of {num}' if num is not None else ''}, got {value!r}"
            )
        return list(value)

    def digest(self) -> str:
        """A name made of everything the row says."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        said = sorted((str(k), str(v)) for k, v in self.data.items() if not isinstance(v, Embedded))
        at = [str(v) for v in self.data.values() if isinstance(v, Embedded)]
        return hashlib.sha256(repr((self.key, said, at and (self.file.name, at))).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Place:
    """Where media are: `folder` is what the published paths start from, `root` what our uris start from."""

    folder: Path
    root: Path
    split: str = "train"

    def uri(self, value: Any, row: Row) -> str:
        """The uri of a medium: a path, an address, or bytes in the table the row is from."""
        if isinstance(value, Embedded):
            return f"table://{self._relative(str(row.file))}::{value}"
        if isinstance(value, Mapping):
            value = value.get("path")
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"a medium is {value!r} and should be a path")
        name = value.strip()
        if name.startswith(("http://", "https://", "zip://", "tar://")):
            return name
        return self._relative(os.path.join(self._absolute[0], name))

    def _relative(self, file: str) -> str:
        """From `root`; absolute where the file lies elsewhere."""
        place, (_, root) = os.path.abspath(file), self._absolute
        return place[len(root) :] if place.startswith(root) else place

    @cached_property
    def _absolute(self) -> tuple[str, str]:
        """Both folders, absolute, with the separator at the end."""
        return os.path.join(os.path.abspath(self.folder), ""), os.path.join(os.path.abspath(self.root), "")


Converter = Callable[[Row, Place], "Comparison | str"]
Gatherer = Callable[[Row], "tuple[str, int | None]"]


@dataclass(frozen=True)
class Format:
    """A published format. `columns` are alternatives of fields that tell it; `optional` are the further known ones."""

    name: str
    about: str
    columns: tuple[frozenset[str], ...]
    convert: Converter
    optional: frozenset[str] = frozenset()
    license: str | None = None
    inside: str | None = None  # the list inside a JSON object that holds the records
    verified: bool = True
    gather: Gatherer | None = None  # rows of one comparison: their common name, and how many there will be
    any_fields: bool = False  # fields differ from file to file; none is unknown

    @property
    def known(self) -> frozenset[str]:
        """Every field that is understood or knowingly left."""
        return self.optional.union(*self.columns)

    def fits(self, fields: Sequence[str]) -> bool:
        """Whether a row with these fields may be of this format."""
        return any(needed <= set(fields) for needed in self.columns)


def as_number(value: Any, name: str) -> float:
    """What a field says as a number."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as problem:
        raise ValueError(f"'{name}' is {value!r} and should be a number") from problem


def joined(rows: Sequence[Row]) -> Row:
    """Several rows as one, whose fields are lists over them."""
    fields = dict.fromkeys(name for row in rows for name in row.data)
    data = {name: [row.data.get(name) for row in rows] for name in fields}
    return Row(data, rows[0].file, rows[0].number, rows[0].key)


def names(text: str) -> frozenset[str]:
    """Field names from words; `_` inside a word of two parts joined by `~` is a space in the published name.

    >>> sorted(names("prompt text~prompt"))
    ['prompt', 'text prompt']
    """
    return frozenset(word.replace("~", " ") for word in text.split())


def pair(dim: str, label: str, **data: Any) -> Annotation:
    """A judgement of the first two candidates."""
    return Annotation(dim, "pair", {"i": 0, "j": 1, "label": label} | _said(data))


def rating(dim: str, scores: Sequence[float | None], low: float | None, high: float | None) -> Annotation:
    """Ordinal ratings of all candidates."""
    plain = [int(s) if s is not None and float(s).is_integer() else s for s in scores]
    return Annotation(dim, "rating", _said({"scores": plain, "min": low, "max": high, "ordinal": True}))


def chosen(text: str, words: Mapping[str, tuple[str, str | None]], name: str) -> tuple[str, str | None]:
    """Label and kind of tie that a published word means."""
    found = words.get(text.strip().lower())
    if found is None:
        raise ValueError(f"'{name}' is '{text}', which is none of {', '.join(words)}")
    return found


def by_scores(first: float, second: float) -> str:
    """The label that two scores say."""
    return "i" if first > second else "j" if first < second else "tie"


def _said(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value is not None}
