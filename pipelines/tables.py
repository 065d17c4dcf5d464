"""CSV tables in, JSON results out, for the verbs that only compute statistics."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmalign.stats.intervals import Interval

Rows = list[dict[str, str]]
MISSING = frozenset({"", "nan", "na", "n/a", "none", "null", "-"})

MOST_BAD = 0.2
"""The share of rows that may be unreadable; they are left out, counted and named."""
SHOWN = 5
"""Rows of a kind that are named."""


def is_missing(text: str) -> bool:
    """Whether a cell says nothing."""
    return text.strip().lower() in MISSING


def read_table(path: Path, columns: Sequence[str]) -> Rows:
    """The rows of a CSV file that has these columns."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        rows = _rows(path, columns)
    except UnicodeDecodeError as problem:
        raise ValueError(
            f"{path} is not UTF-8 text (byte {problem.object[problem.start]:#04x}): save the table as CSV in UTF-8"
        ) from problem
    except csv.Error as problem:
        raise ValueError(f"{path} is no CSV table ({problem}): save it as CSV in UTF-8") from problem
    if not rows:
        raise ValueError(f"{path} holds no rows")
    return rows


def _rows(path: Path, columns: Sequence[str]) -> Rows:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        there = reader.fieldnames or []
        for column in columns:
            if column not in there:
                raise ValueError(f"{path} has no column '{column}'; its columns are {', '.join(there)}")
        return [{key: (value or "").strip() for key, value in row.items() if key} for row in reader]


def require_few(bad: Sequence[str], num: int, mend: str) -> None:
    """ValueError where more than `MOST_BAD` of `num` rows cannot be read: then it is not they that are wrong."""
    if len(bad) > MOST_BAD * num:
        raise ValueError(f"{len(bad)} of {num} rows cannot be used: {'; '.join(bad[:2])}. {mend}")


def as_json(value: float) -> float | None:
    """A number JSON can hold: None where it is not finite."""
    return float(value) if math.isfinite(value) else None


def estimate(found: Interval) -> dict[str, Any]:
    """An interval as `{"value", "low", "high", "n"}`."""
    return {
        "value": as_json(found.mean),
        "low": as_json(found.low),
        "high": as_json(found.high),
        "n": found.n,
    }


def write_json(result: Mapping[str, Any], output: Path) -> None:
    """Strict JSON, two spaces, in a folder that is made when missing."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(
        json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
