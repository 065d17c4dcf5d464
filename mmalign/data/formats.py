"""Files of comparisons: a reader and a writer a format, streaming, so a million rows never sit in memory.

`mmalign.pref/1` JSONL is the canonical form; importers of published formats yield `Comparison`s too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mmalign.data.comparisons import from_record, to_record
from mmalign.types import Comparison

Complaint = Callable[[int, str], None]


def read_jsonl(path: str | Path, *, on_error: Complaint | None = None) -> Iterator[Comparison]:
    """The comparisons of a JSONL file, one after the other.

    A bad line is a ValueError with its number, or is left out and told to `on_error(line, reason)` if given.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"no such file: {file}")
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise ValueError("a line must hold one JSON object")
                comparison = from_record(record)
            except (ValueError, KeyError, TypeError) as error:
                reason = f"{file.name}:{number}: {' '.join(str(error).split())}"
                if on_error is None:
                    raise ValueError(reason) from error
                on_error(number, reason)
                continue
            yield comparison


def write_jsonl(path: str | Path, comparisons: Iterable[Comparison]) -> int:
    """Write comparisons as JSONL; the file appears whole or not at all. Returns how many were written."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}.part")
    num = 0
    try:
        with partial.open("w", encoding="utf-8") as lines:
            for comparison in comparisons:
                lines.write(json.dumps(to_record(comparison), ensure_ascii=False) + "\n")
                num += 1
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
    return num
