"""The comparisons of a file in any order, without holding the file in memory: lines of JSONL, or rows of parquet.

Places count comparisons from 0; a number is what a reader of the file calls the line (from 1, blank lines counted) or
the row (from 1). Of JSONL only the places where lines begin are kept, of parquet the row groups read last. Needs no
torch.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from mmalign.data import columns, tables

Record = bytes | Mapping[str, Any]


class Rows(Protocol):
    """Records by place, as `formats.parsed` takes them."""

    def __len__(self) -> int: ...

    def number(self, place: int) -> int:
        """The line or row in the file, from 1."""
        ...

    def record(self, place: int) -> Record:
        """What stands there; ValueError where it cannot be read."""
        ...


def open_rows(file: Path) -> Rows:
    """The comparisons of a .parquet file, or of a file of JSON lines."""
    if not file.is_file():
        raise ValueError(f"no such file of comparisons: {file}")
    return TableRows(file) if file.suffix == ".parquet" else LineRows(file)


class LineRows:
    """Lines that are not blank."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._starts, self._numbers = array("q"), array("q")
        position = 0
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    self._starts.append(position)
                    self._numbers.append(number)
                position += len(line)

    def __len__(self) -> int:
        return len(self._starts)

    def number(self, place: int) -> int:
        """The line, from 1."""
        return self._numbers[place]

    def record(self, place: int) -> Record:
        """The line's bytes."""
        with self.file.open("rb") as lines:
            lines.seek(self._starts[place])
            return lines.readline()


class TableRows:
    """Rows of a parquet file that `columns.write_parquet` made."""

    def __init__(self, file: Path) -> None:
        columns.require_columns(file)
        self.file, self._groups = file, tables.RowGroups(file)

    def __len__(self) -> int:
        return len(self._groups)

    def number(self, place: int) -> int:
        """The row, from 1."""
        return place + 1

    def record(self, place: int) -> Record:
        """The row as a record."""
        return columns.record_of(self._groups.row(place), self.file, place)
