"""From a published file to comparisons: rows one after the other, each converted, checked, and counted.

A file is CSV, JSON (a list, or an object of records), JSONL, parquet or arrow; a folder is its files of one kind in
order. Memory holds a block of rows, a 64-bit mark of every row (so that an exactly repeated one comes once), and the
open groups of formats whose comparisons span rows. Needs no torch.
"""

from __future__ import annotations

import csv
import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmalign.comparison import Comparison
from mmalign.data import importing, jsonstream, tables
from mmalign.data.formats import BROKEN
from mmalign.data.importing.formats import Format, Place, Row, as_number, joined
from mmalign.data.importing.misfits import in_words
from mmalign.data.records import validate

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".arrow")
MAX_TOLD = 1000
"""Bad rows that are kept with their reasons; further ones are counted."""
_LIST_INSIDE = re.compile(r'\s*\{\s*"(\w+)"\s*:\s*\[\s*[{\]]')


@dataclass
class Outcome:
    """What became of the rows."""

    format: str = ""
    num_rows: int = 0
    num_comparisons: int = 0
    num_bad: int = 0
    num_repeated: int = 0
    num_not_for_rewards: int = 0
    """Of the comparisons."""
    bad: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    unknown_columns: set[str] = field(default_factory=set)

    def complain(self, where: str, reason: str) -> None:
        """A row that cannot be used."""
        self.num_bad += 1
        if len(self.bad) < MAX_TOLD:
            self.bad.append(f"{where}: {' '.join(reason.split())}")


def read(
    path: Path,
    *,
    format: str,
    root: Path,
    split: str,
    media: Path | None = None,
    min_confidence: float | None = None,
    outcome: Outcome | None = None,
) -> Iterator[Comparison]:
    """The comparisons of a published file or folder.

    `format` is a name of `importing.FORMATS` or "auto"; `root` is the folder that media uris will start from; `media`
    the one the published paths start from (the file's own without); rows that state a `confidence` below
    `min_confidence` are left out (HPSv3 trains on those above .95). Without `outcome` the first bad row is a
    ValueError with its file and line; with it bad rows are counted there.
    """
    files = files_of(path)
    chosen = recognize(files[0]) if format == "auto" else importing.known(format)
    told = outcome if outcome is not None else Outcome()
    told.format = chosen.name
    place = Place(media or (path if path.is_dir() else path.parent), root, split)
    return _comparisons(files, chosen, place, told, min_confidence or 0.0, strict=outcome is None)


def files_of(path: Path) -> list[Path]:
    """The data files of a path: itself, or those of one kind in a folder."""
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise ValueError(f"{path}: read are {' '.join(SUFFIXES)}; unpack or convert it first")
        return [path]
    if not path.is_dir():
        raise ValueError(f"{path}: no such file")
    found = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and file.name != "state.json")
    found = [file for file in found if file.name != "dataset_info.json"]
    kinds = sorted({file.suffix for file in found})
    if len(kinds) != 1:
        what = f"files of several kinds ({', '.join(kinds)})" if kinds else "no data file"
        raise ValueError(f"{path} holds {what}: name one file")
    return found


def recognize(file: Path) -> Format:
    """The format whose columns a file has; of several the one that knows most of them, then the most particular."""
    fields = _fields(file)
    fitting = [one for one in importing.FORMATS.values() if one.fits(fields)]
    if not fitting:
        shown = ", ".join(fields[:12]) or "nothing"
        raise ValueError(
            f"{file} is of no format known here: it has {shown}. Name one of {', '.join(importing.FORMATS)}"
        )
    there = set(fields)
    return min(
        fitting, key=lambda one: (len(there - one.known), -max(len(n) for n in one.columns if n <= there))
    )


def rows(file: Path, inside: str | None, complain: Callable[[str, str], None]) -> Iterator[Row]:
    """The rows of one file; what is no row is told to `complain(where, reason)`."""
    if file.suffix in (".parquet", ".arrow"):
        for number, data in enumerate(tables.read_rows(file), start=1):
            yield Row(data, file, number)
    elif file.suffix in (".csv", ".tsv"):
        yield from _csv_rows(file)
    elif file.suffix == ".jsonl" or _is_lines(file):
        yield from _line_rows(file, complain)
    else:
        yield from _json_rows(file, inside, complain)


def _comparisons(
    files: Iterable[Path], chosen: Format, place: Place, told: Outcome, floor: float, *, strict: bool
) -> Iterator[Comparison]:
    def complain(where: str, reason: str) -> None:
        if strict:
            raise ValueError(f"{where}: {' '.join(reason.split())}")
        told.complain(where, reason)

    seen: set[int] = set()
    found = itertools.chain.from_iterable(rows(file, chosen.inside, complain) for file in files)
    for row in _gathered(_counted(found, chosen, told), chosen, complain):
        mark = int(row.digest(), 16)
        if mark in seen:
            told.num_repeated += 1
            continue
        seen.add(mark)
        try:
            made = chosen.convert(row, place)
            sure = None if isinstance(made, str) else made.meta.get("confidence")
            if sure is not None and as_number(sure, "confidence") < floor:
                made = "is less certain than asked"
            if isinstance(made, str):
                told.left_out[made] += 1
                continue
            made = replace(
                made, source=chosen.name, license=chosen.license, split=place.split, group=_group_of(made)
            )
            validate(made)
        except BROKEN as problem:
            complain(row.where, in_words(problem, row, chosen, lambda one: chosen.convert(one, place)))
            continue
        told.num_comparisons += 1
        told.num_not_for_rewards += not made.is_for_rewards
        yield made


def _group_of(made: Comparison) -> str:
    """What a row says, or "" for its prompt and inputs; without any of them it has nothing in common with others."""
    return made.group or ("" if made.prompt or made.inputs else made.id)


def _counted(found: Iterable[Row], chosen: Format, told: Outcome) -> Iterator[Row]:
    known = chosen.known
    for row in found:
        told.num_rows += 1
        if not chosen.any_fields and not row.data.keys() <= known:
            told.unknown_columns |= {str(name) for name in row.data.keys() - known if name}
        yield row


def _gathered(found: Iterator[Row], chosen: Format, complain: Callable[[str, str], None]) -> Iterator[Row]:
    """Rows that belong together, joined: as soon as they are complete, the rest at the end."""
    if chosen.gather is None:
        yield from found
        return
    waiting: dict[str, list[Row]] = {}
    for row in found:
        try:
            name, total = chosen.gather(row)
        except BROKEN as problem:
            complain(row.where, in_words(problem, row, chosen, chosen.gather))
            continue
        together = waiting.setdefault(name, [])
        together.append(row)
        if len(together) == total:
            yield joined(waiting.pop(name))
    yield from (joined(together) for together in waiting.values())


def _csv_rows(file: Path) -> Iterator[Row]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    # bytes that are no UTF-8 stay recognizable, so that their row is refused and no other
    with file.open(encoding="utf-8-sig", newline="", errors="surrogateescape") as stream:
        reader = csv.DictReader(stream, delimiter="\t" if file.suffix == ".tsv" else ",")
        for data in reader:
            yield Row({k: v for k, v in data.items() if k}, file, reader.line_num)


def _line_rows(file: Path, complain: Callable[[str, str], None]) -> Iterator[Row]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                data = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as problem:
                complain(f"{file.name}:{number}", f"is not valid JSON ({problem})")
                continue
            if isinstance(data, dict):
                yield Row(data, file, number)
            else:
                complain(f"{file.name}:{number}", "is no JSON object")


def _json_rows(file: Path, inside: str | None, complain: Callable[[str, str], None]) -> Iterator[Row]:
    with file.open(encoding="utf-8-sig", errors="surrogateescape") as stream:
        start = _LIST_INSIDE.match(stream.read(4096))
        stream.seek(0)
        name = start.group(1) if start else inside
        try:
            for found in jsonstream.records(stream, inside=name):
                if isinstance(found.value, dict):
                    yield Row(found.value, file, found.line, found.key)
                else:
                    complain(f"{file.name}:{found.line}", "is no JSON object")
        except ValueError as problem:
            complain(file.name, f"cannot be read on: {problem}")


def _is_lines(file: Path) -> bool:
    """Whether a .json file holds an object a line."""
    with file.open(encoding="utf-8-sig", errors="replace") as stream:
        first, second = stream.readline(), stream.readline()
    try:
        return second.strip().startswith("{") and isinstance(json.loads(first), dict)
    except json.JSONDecodeError:
        return False


def _fields(file: Path) -> list[str]:
    if file.suffix in (".parquet", ".arrow"):
        return tables.columns_of(file)

    def ignore(where: str, reason: str) -> None:
        return None

    first: Any = next(iter(rows(file, None, ignore)), None)
    return [] if first is None else [str(name) for name in first.data]
