"""Files of comparisons, read and written one after the other, so a million rows never sit in memory.

`mmalign.pref/1` as JSONL (`.jsonl`) or parquet (`.parquet`, `columns.py`); the suffix decides. Importers of published
formats (`importing/`) yield `Comparison`s too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmalign.comparison import Comparison
from mmalign.data.records import from_record, to_record

Complaint = Callable[[int, str], None]
SUFFIXES = (".jsonl", ".parquet")
BROKEN = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError)
"""What reading a record of any content may raise."""
_ENCODER = json.JSONEncoder(ensure_ascii=False)


def read(
    path: str | Path, *, on_error: Complaint | None = None, shuffle: int | None = None
) -> Iterator[Comparison]:
    """The comparisons of a .jsonl or .parquet file; `shuffle` is a seed that orders the candidates of each anew.

    A bad line is a ValueError with its number, or is left out and told to `on_error(line, reason)` if given.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"no such file: {file}")
    if file.suffix == ".parquet":
        from mmalign.data.columns import read_records

        found = _comparisons(read_records(file), file, on_error)
    else:
        found = read_jsonl(file, on_error=on_error)
    if shuffle is None:
        yield from found
        return
    from mmalign.data.comparisons import shuffled

    yield from (shuffled(comparison, seed=shuffle) for comparison in found)


def write(path: str | Path, comparisons: Iterable[Comparison]) -> int:
    """Write comparisons as .jsonl or .parquet; the file appears whole or not at all. Returns how many."""
    file = Path(path)
    if file.suffix not in SUFFIXES:
        raise ValueError(
            f"{file}: comparisons are written as {' or '.join(SUFFIXES)}; choose one by its suffix"
        )
    if file.suffix == ".parquet":
        from mmalign.data.columns import write_parquet

        return write_parquet(file, comparisons)
    return write_jsonl(file, comparisons)


def read_jsonl(path: str | Path, *, on_error: Complaint | None = None) -> Iterator[Comparison]:
    """The comparisons of a JSONL file, one after the other; see `read` for what becomes of bad lines."""
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"no such file: {file}")
    yield from _comparisons(_lines(file), file, on_error)


def write_jsonl(path: str | Path, comparisons: Iterable[Comparison]) -> int:
    """Write comparisons as JSONL; the file appears whole or not at all. Returns how many were written."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}.part")
    num = 0
    try:
        with partial.open("w", encoding="utf-8") as lines:
            for comparison in comparisons:
                lines.write(_ENCODER.encode(to_record(comparison)) + "\n")
                num += 1
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
    return num


def parsed(record: bytes | Mapping[str, Any]) -> Comparison:
    """The comparison of a line of JSON, or of an object; ValueError says in one line what is wrong with it."""
    try:
        if isinstance(record, bytes):
            record = json.loads(record)
        if not isinstance(record, Mapping):
            raise ValueError("a line must hold one JSON object")
        return from_record(record)
    except BROKEN as problem:
        raise ValueError(in_words(problem)) from problem


def in_words(problem: BaseException) -> str:
    """One line that says what was wrong with a record."""
    if isinstance(problem, json.JSONDecodeError):
        broken = "; a record is one line" if problem.pos >= len(problem.doc.rstrip()) else ""
        return f"not valid JSON ({problem.msg} at character {problem.pos}{broken})"
    if isinstance(problem, RecursionError):
        return "not valid JSON (nested too deep)"
    if isinstance(problem, UnicodeDecodeError):
        return f"not UTF-8 text (byte {problem.start + 1}): save the file as UTF-8"
    text = " ".join(str(problem).split())
    return f"{text} is missing" if isinstance(problem, KeyError) else text or type(problem).__name__


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, line


def _comparisons(
    records: Iterable[tuple[int, bytes | Mapping[str, Any]]], file: Path, on_error: Complaint | None
) -> Iterator[Comparison]:
    for number, record in records:
        try:
            comparison = parsed(record)
        except ValueError as error:
            reason = f"{file.name}:{number}: {error}"
            if on_error is None:
                raise ValueError(reason) from error
            on_error(number, reason)
            continue
        yield comparison
