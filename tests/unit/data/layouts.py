"""Published layouts, written row by row for the tests of importing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mmalign.comparison import Comparison
from mmalign.data.importing import reading


def png(shade: int) -> bytes:
    """A picture of 4 x 4 pixels of one grey."""
    out = BytesIO()
    Image.new("RGB", (4, 4), (shade, shade, shade)).save(out, format="PNG")
    return out.getvalue()


def hub_image(shade: int) -> dict[str, Any]:
    """A picture as `datasets` stores it."""
    return {"bytes": png(shade), "path": f"{shade}.png"}


def write_json(path: Path, rows: Any) -> Path:
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
    return path


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]], *, group: int = 2) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=group)
    return path


def write_arrow(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    table = pa.Table.from_pylist(list(rows))
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return path


def imported(path: Path, format: str = "auto", expect: str | None = None) -> list[Comparison]:
    """The comparisons of a file; nothing may be bad or unknown, and `expect` is the format that was told."""
    outcome = reading.Outcome()
    found = list(reading.read(path, format=format, root=path.parent, split="test", outcome=outcome))
    assert outcome.bad == []
    assert outcome.unknown_columns == set()
    assert expect is None or outcome.format == expect
    assert all(one.split == "test" and one.source == outcome.format for one in found)
    return found


def said(one: Comparison, dim: str = "overall") -> dict[str, Any]:
    """What the first annotation of a dimension holds."""
    return dict(next(note.data for note in one.annotations if note.dim == dim))
