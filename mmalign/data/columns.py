"""`mmalign.pref/1` in columns: parquet files with the record's nested structs, and Hugging Face `datasets` folders.

Every field of the record is a field of the struct; what has no fixed shape (`meta`, further keys of an annotation, an
input, an annotator) is JSON text in a field beside. Reading gives back equal records: null and absent mean the same,
and whole numbers are integers again.

With `embed`, the media themselves are in the column `media` of their row and the uris are `bytes:0`, `bytes:1`, ...;
read back they are `table://` uris into the file.

Rows are written in groups of `ROWS`, so neither way holds more than one group in memory.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from mmalign.comparison import Comparison
from mmalign.data import tables
from mmalign.data.formats import Complaint
from mmalign.data.records import INPUT_META, to_record
from mmalign.data.uris import MediaStore

ROWS = 1024
ROWS_WITH_MEDIA = 64
_NUMBERS = ("p", "strength", "min", "max")
_NUMBER_LISTS = ("counts", "ranks", "scores", "std", "answers")
_WORDS = ("dim", "kind", "label", "tie_kind", "question", "annotator")
_PLAIN = ("schema", "id", "source", "split", "license", "group", "task", "prompt")


@lru_cache(maxsize=2)
def schema(media: bool = False) -> Any:
    """The arrow schema; with `media` there is a column for their bytes."""
    import pyarrow as pa

    text, number, whole = pa.string(), pa.float64(), pa.int64()
    note = [(key, text) for key in _WORDS] + [("i", whole), ("j", whole), ("ordinal", pa.bool_())]
    note += [(key, number) for key in _NUMBERS] + [(key, pa.list_(number)) for key in _NUMBER_LISTS]
    note += [("texts", pa.list_(text)), ("extra", text)]
    part = [("type", text), ("value", text), ("media", whole)]
    item = [("role", text), ("type", text), ("uri", text), ("sha256", text), ("width", whole)]
    item += [("height", whole), ("fps", number), ("num_frames", number), ("extra", text)]
    candidate = [("id", text), ("type", text), ("uri", text), ("uris", pa.list_(text)), ("text", text)]
    candidate += [("model", text), ("seed", whole), ("sha256", text), ("meta", text)]
    fields = [(key, text) for key in _PLAIN]
    fields += [
        ("prompt_parts", pa.list_(pa.struct(part))),
        ("inputs", pa.list_(pa.struct(item))),
        ("candidates", pa.list_(pa.struct(candidate))),
        ("annotations", pa.list_(pa.struct(note))),
        ("annotator", pa.struct([("type", text), ("name", text), ("n", whole), ("extra", text)])),
        ("weight", number),
        ("meta", text),
    ]
    if media:
        fields.append(("media", pa.list_(pa.binary())))
    return pa.schema(fields)


def write_parquet(
    path: Path,
    comparisons: Iterable[Comparison],
    *,
    embed: MediaStore | None = None,
    on_error: Complaint | None = None,
) -> int:
    """Write comparisons as parquet, whole or not at all; `embed` is where the media to be put in are found.

    A comparison whose media are not there is a ValueError or OSError, or is left out and told to `on_error`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    form, num = schema(embed is not None), 0
    rows = _rows(comparisons, embed, on_error)
    try:
        with pq.ParquetWriter(partial, form, compression="zstd") as out:
            while group := list(islice(rows, ROWS if embed is None else ROWS_WITH_MEDIA)):
                out.write_table(pa.Table.from_pylist(group, schema=form))
                num += len(group)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return num


def write_dataset(
    folder: Path,
    comparisons: Iterable[Comparison],
    *,
    embed: MediaStore | None = None,
    on_error: Complaint | None = None,
) -> int:
    """The same rows as a folder that `datasets.load_from_disk` opens, whole or not at all. Returns how many.

    Without any row there is no folder.
    """
    import datasets

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not an empty folder: name a new one")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    partial.mkdir(parents=True, exist_ok=True)
    features = datasets.Features.from_arrow_schema(schema(embed is not None))
    try:
        num = _fill_dataset(partial, features, _rows(comparisons, embed, on_error))
        if num:
            if folder.is_dir():
                folder.rmdir()
            os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return num


def _fill_dataset(folder: Path, features: Any, rows: Iterable[dict[str, Any]]) -> int:
    """What `load_from_disk` reads, in a folder that is there; how many rows."""
    import datasets
    from datasets.arrow_writer import ArrowWriter

    name = "data-00000-of-00001.arrow"
    with ArrowWriter(path=str(folder / name), features=features, writer_batch_size=ROWS_WITH_MEDIA) as writer:
        for row in rows:
            writer.write(row)
        num, _ = writer.finalize()
    state: dict[str, Any] = {"_data_files": [{"filename": name}], "_fingerprint": "mmalign", "_format_columns": None,
             "_format_kwargs": {}, "_format_type": None, "_output_all_columns": False, "_split": None}  # fmt: skip
    (folder / "state.json").write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    info = datasets.DatasetInfo(features=features, description="Comparisons, mmalign.pref/1")
    info.write_to_directory(str(folder))
    return int(num)


def read_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Row numbers from 1, and the records of a parquet or arrow file that `write_parquet`, `write_dataset` made."""
    require_columns(path)
    for number, row in enumerate(tables.read_rows(path), start=1):
        yield number, record_of(row, path, number - 1)


def require_columns(path: Path) -> None:
    """ValueError unless a table may hold comparisons."""
    missing = {"id", "prompt", "candidates", "annotations"} - set(tables.columns_of(path))
    if missing:
        raise ValueError(
            f"{path} has no column {', '.join(sorted(missing))}: it is no mmalign.pref/1; import it with "
            "`mmalign data import`"
        )


def _rows(
    comparisons: Iterable[Comparison], embed: MediaStore | None, on_error: Complaint | None
) -> Iterator[dict[str, Any]]:
    for number, comparison in enumerate(comparisons, start=1):
        try:
            row = _to_row(comparison, embed)
        except (ValueError, OSError) as problem:
            if on_error is None:
                raise
            on_error(number, f"comparison {comparison.id}: {problem}")
        else:
            yield row


def _to_row(comparison: Comparison, embed: MediaStore | None) -> dict[str, Any]:
    record = to_record(comparison)
    row = {key: record[key] for key in (*_PLAIN, "prompt_parts", "weight")}
    row["inputs"] = [_split(item, ("role", "type", "uri", *INPUT_META)) for item in record["inputs"]]
    row["candidates"] = [_candidate_row(one) for one in record["candidates"]]
    known = (*_WORDS, *_NUMBERS, *_NUMBER_LISTS, "i", "j", "ordinal", "texts")
    row["annotations"] = [_split(note, known) for note in record["annotations"]]
    row["annotator"] = _split(record["annotator"], ("type", "name", "n"))
    row["meta"] = _json(record["meta"])
    if embed is not None:
        row["media"] = _embed(row, embed)
    return row


def _candidate_row(one: Mapping[str, Any]) -> dict[str, Any]:
    several = isinstance(one["uri"], (list, tuple))
    return {**one, "uri": None if several else one["uri"], "uris": list(one["uri"]) if several else None,
            "meta": _json(one["meta"])}  # fmt: skip


def _embed(row: dict[str, Any], store: MediaStore) -> list[bytes]:
    """The bytes of a row's media; its uris become their places."""
    media: list[bytes] = []

    def place(uri: str) -> str:
        with store.open(uri) as stream:
            media.append(stream.read())
        return f"bytes:{len(media) - 1}"

    for item in (*row["inputs"], *row["candidates"]):
        if item["uri"] is not None:
            item["uri"] = place(item["uri"])
        if item.get("uris") is not None:
            item["uris"] = [place(uri) for uri in item["uris"]]
    return media


def record_of(row: Mapping[str, Any], path: Path, position: int) -> dict[str, Any]:
    """The record in the row at a position (from 0) of a table that was written here."""

    def place(uri: str | None) -> str | None:
        if uri is None or not uri.startswith("bytes:"):
            return uri
        return f"table://{path.name}::{position}/media/{uri.removeprefix('bytes:')}"

    record = {key: row.get(key) for key in (*_PLAIN, "prompt_parts", "weight")}
    record["inputs"] = [{**_joined(item), "uri": place(item["uri"])} for item in row.get("inputs") or ()]
    record["candidates"] = [_candidate_record(one, place) for one in row["candidates"]]
    record["annotations"] = [_joined(note) for note in row["annotations"]]
    record["annotator"] = _joined(row.get("annotator") or {})
    record["meta"] = json.loads(row.get("meta") or "{}")
    return record


def _candidate_record(one: Mapping[str, Any], place: Any) -> dict[str, Any]:
    made = {key: value for key, value in one.items() if key != "uris"}
    several = one.get("uris")
    made["uri"] = [place(uri) for uri in several] if several is not None else place(one.get("uri"))
    return {**made, "meta": json.loads(one.get("meta") or "{}")}


def _split(record: Mapping[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    """Fields of the struct, and the rest as JSON."""
    rest = {key: value for key, value in record.items() if key not in known}
    return {**{key: record.get(key) for key in known}, "extra": _json(rest)}


def _joined(row: Mapping[str, Any]) -> dict[str, Any]:
    """The struct as it was before `_split`."""
    made = {key: _whole(value) for key, value in row.items() if key != "extra" and value is not None}
    return made | json.loads(row.get("extra") or "{}")


def _whole(value: Any) -> Any:
    """Numbers that are whole as integers, as JSON wrote them."""
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _json(value: Mapping[str, Any]) -> str | None:
    return json.dumps(value, ensure_ascii=False, sort_keys=True) if value else None
