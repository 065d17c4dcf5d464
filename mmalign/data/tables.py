"""Rows of parquet and arrow files, one after the other, and single bytes out of their columns. Needs no torch.

Columns of raw bytes (pictures, as Hugging Face stores them: plain, {bytes, path}, or lists of these) are not read with
the rows: in their place stand `Embedded` uris, by which `uris.MediaStore` fetches one medium when it is wanted. So a
file of a hundred gigabytes of pictures is listed in seconds.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

BATCH = 256
"""Rows that are in memory at a time."""
KEPT_BYTES = 256 * 2**20
"""How much of a parquet file `RowGroups` keeps in memory."""
_LOCK = threading.Lock()


class Embedded(str):
    """The member part `ROW/COLUMN` of a `table://` uri."""


def read_rows(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a .parquet or .arrow file, bytes left where they are."""
    if file.suffix == ".arrow":
        yield from _arrow_rows(file)
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            light = [leaf.path for leaf in _leaves(table) if not _is_raw(leaf)]
            raw = {field.name: field.type for field in table.schema_arrow if _holds_bytes(field.type)}
            position = 0
            for batch in table.iter_batches(batch_size=BATCH, columns=light):
                for row in batch.to_pylist():
                    yield _with_places(row, raw, position)
                    position += 1
    except pa.ArrowInvalid as problem:
        raise ValueError(
            f"{file} is no parquet file that can be read ({problem}); fetch it again"
        ) from problem


class RowGroups:
    """The rows of a parquet file in any order, bytes left where they are.

    A row is read with its row group; the groups read last are kept, compact, up to `KEPT_BYTES`.
    """

    def __init__(self, file: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.file = file
        try:
            with pq.ParquetFile(file) as table:
                self._light = [leaf.path for leaf in _leaves(table) if not _is_raw(leaf)]
                self._raw = {f.name: f.type for f in table.schema_arrow if _holds_bytes(f.type)}
                sizes = [table.metadata.row_group(k).num_rows for k in range(table.num_row_groups)]
        except pa.ArrowInvalid as problem:
            raise ValueError(
                f"{file} is no parquet file that can be read ({problem}); fetch it again"
            ) from problem
        self._ends = [sum(sizes[: k + 1]) for k in range(len(sizes))]
        self._kept: dict[int, Any] = {}

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def row(self, position: int) -> dict[str, Any]:
        """The row at a position; ValueError where its group is damaged."""
        number = bisect_right(self._ends, position)
        start = self._ends[number - 1] if number else 0
        (found,) = self._group(number).slice(position - start, 1).to_pylist()
        return _with_places(found, self._raw, position)

    def _group(self, number: int) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if number not in self._kept:
            try:
                with pq.ParquetFile(self.file) as table:
                    found = table.read_row_group(number, columns=self._light)
            except (pa.ArrowInvalid, OSError) as problem:
                raise ValueError(
                    f"row group {number} cannot be read ({problem}); fetch it again"
                ) from problem
            self._kept[number] = found
            while len(self._kept) > 1 and sum(one.nbytes for one in self._kept.values()) > KEPT_BYTES:
                del self._kept[next(iter(self._kept))]
        else:
            self._kept[number] = self._kept.pop(number)  # read last
        return self._kept[number]


def columns_of(file: Path) -> list[str]:
    """The column names of a .parquet or .arrow file."""
    if file.suffix == ".arrow":
        return list(_arrow(file, file.stat().st_mtime_ns).column_names)
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_schema(file).names)
    except pa.ArrowInvalid as problem:
        raise ValueError(
            f"{file} is no parquet file that can be read ({problem}); fetch it again"
        ) from problem


def value(file: Path, row: int, column: str) -> bytes:
    """The bytes in `column` (perhaps `column/1`, an element of a list) of a row."""
    name, *inside = column.split("/")
    found = _cell(file, row, name)
    for step in inside:
        if not isinstance(found, (list, tuple)) or not step.isdigit() or int(step) >= len(found):
            raise ValueError(f"{file}: row {row} has no {column!r}")
        found = found[int(step)]
    if isinstance(found, Mapping):
        found = found.get("bytes")
    if not isinstance(found, bytes) or not found:
        raise ValueError(f"{file}: row {row} holds no bytes in {column!r}")
    return found


def _cell(file: Path, row: int, column: str) -> Any:
    stamp = file.stat().st_mtime_ns
    if file.suffix == ".arrow":
        table = _arrow(file, stamp)
        if column not in table.column_names or row >= table.num_rows:
            raise ValueError(f"{file} has no row {row} or no column {column!r}")
        return table.column(column)[row].as_py()
    with _LOCK:
        return _cursor(file, stamp, column, os.getpid()).at(row)


@lru_cache(maxsize=4)
def _arrow(file: Path, stamp: int) -> Any:
    """The table of an arrow file, mapped, not read."""
    import pyarrow as pa

    source = pa.memory_map(str(file))
    try:
        return pa.ipc.open_stream(source).read_all()
    except pa.ArrowInvalid:
        return pa.ipc.open_file(source).read_all()


def _arrow_rows(file: Path) -> Iterator[dict[str, Any]]:
    table = _arrow(file, file.stat().st_mtime_ns)
    raw = {field.name: field.type for field in table.schema if _holds_bytes(field.type)}
    light = table.select([name for name in table.column_names if name not in raw])
    position = 0
    for batch in light.to_batches(max_chunksize=BATCH):
        rows = batch.to_pylist() if batch.num_columns else [{} for _ in range(batch.num_rows)]
        for row in rows:
            for name in raw:
                cell = table.column(name)[position]
                row[name] = [None] * len(cell) if hasattr(cell.type, "value_type") and cell.is_valid else None
            yield _with_places(row, raw, position)
            position += 1


class _Cursor:
    """One column of a parquet file, read forward in small batches; going back starts at the row group."""

    def __init__(self, file: Path, column: str) -> None:
        import pyarrow.parquet as pq

        self.table = pq.ParquetFile(file, memory_map=True)
        if column not in self.table.schema_arrow.names:
            raise ValueError(
                f"{file} has no column {column!r}: it has {', '.join(self.table.schema_arrow.names)}"
            )
        self.file, self.column = file, column
        self.start, self.values = 0, []  # type: int, list[Any]
        self.batches: Iterator[Any] = iter(())

    def at(self, row: int) -> Any:
        if row >= self.table.metadata.num_rows:
            raise ValueError(f"{self.file} has {self.table.metadata.num_rows} rows, so no row {row}")
        if not self.values or row < self.start or row >= self.start + len(self.values) + 64:
            self._rewind(row)
        while row >= self.start + len(self.values):
            self.start += len(self.values)
            self.values = next(self.batches).column(0).to_pylist()
        return self.values[row - self.start]

    def _rewind(self, row: int) -> None:
        first, group = 0, 0
        while first + self.table.metadata.row_group(group).num_rows <= row:
            first += self.table.metadata.row_group(group).num_rows
            group += 1
        groups = list(range(group, self.table.num_row_groups))
        self.batches = self.table.iter_batches(batch_size=16, row_groups=groups, columns=[self.column])
        self.start, self.values = first, []


@lru_cache(maxsize=6)
def _cursor(file: Path, stamp: int, column: str, process: int) -> _Cursor:
    return _Cursor(file, column)


def _leaves(table: Any) -> Iterator[Any]:
    return (table.schema.column(k) for k in range(len(table.schema)))


def _is_raw(leaf: Any) -> bool:
    return leaf.physical_type == "BYTE_ARRAY" and leaf.logical_type.type == "NONE"


def _holds_bytes(kind: Any) -> bool:
    """Whether a column is bytes, {bytes, ...} or a list of these."""
    import pyarrow as pa

    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _holds_bytes(kind.value_type)
    if pa.types.is_struct(kind):
        return any(kind.field(k).name == "bytes" for k in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _with_places(row: dict[str, Any], raw: Mapping[str, Any], position: int) -> dict[str, Any]:
    """The row with a place instead of every column of bytes."""
    for name, kind in raw.items():
        if hasattr(kind, "value_type"):
            row[name] = [Embedded(f"{position}/{name}/{k}") for k in range(len(row.get(name) or ()))]
        else:
            row[name] = Embedded(f"{position}/{name}")
    return row
