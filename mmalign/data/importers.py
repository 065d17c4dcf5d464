"""Published preference formats as comparisons: one reader a format, found by its columns.

| format | file | labels |
|---|---|---|
| `videoalign` | CSV: path_A, path_B, prompt, VQ, MQ, TA, perhaps Overall, A_model, fps_A, num_frames_A | A, B, same |

Media paths of the file are relative to its folder.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mmalign.comparison import Annotation, Candidate, Comparison

Importer = Callable[[Path, Path, str], Iterator[Comparison]]

VIDEOALIGN_DIMENSIONS = {
    "VQ": "visual_quality",
    "MQ": "motion_quality",
    "TA": "text_alignment",
    "Overall": "overall",
}
_VIDEOALIGN_LABELS = {"a": "i", "b": "j", "same": "tie"}


def read(path: Path, *, format: str, root: Path, split: str) -> Iterator[Comparison]:
    """The comparisons of a published file; `root` is the folder that media paths will be relative to."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    known = ", ".join(IMPORTERS)
    if format == "auto":
        format = _recognize(path)
    if format not in IMPORTERS:
        raise ValueError(f"no importer '{format}': there are {known}")
    return IMPORTERS[format](path, root, split)


def read_videoalign(path: Path, root: Path, split: str) -> Iterator[Comparison]:
    """VideoAlign's training layout; exactly repeated rows come once."""
    seen: set[str] = set()
    with path.open(encoding="utf-8-sig", newline="") as file:
        for line, row in enumerate(csv.DictReader(file), start=2):
            where = f"{path}:{line}"
            first, second = (_needed(row, key, where) for key in ("path_A", "path_B"))
            prompt = _needed(row, "prompt", where)
            notes = tuple(
                Annotation(name, "pair", {"i": 0, "j": 1, "label": _label(row[column], column, where)})
                for column, name in VIDEOALIGN_DIMENSIONS.items()
                if (row.get(column) or "").strip()
            )
            if not notes:
                raise ValueError(f"{where}: no label in any of {', '.join(VIDEOALIGN_DIMENSIONS)}")
            key = _hash(str(sorted((k, v) for k, v in row.items() if k)))
            if key in seen:
                continue
            seen.add(key)
            yield Comparison(
                id=f"videoalign-{key}",
                prompt=prompt,
                candidates=(
                    _video(row, "A", _relative(first, path.parent, root)),
                    _video(row, "B", _relative(second, path.parent, root)),
                ),
                annotations=notes,
                split=split,
                task="t2v",
                source="videoalign",
                annotator={"type": "human"},
            )


IMPORTERS: Mapping[str, Importer] = {"videoalign": read_videoalign}


def _recognize(path: Path) -> str:
    with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
        columns = set(next(csv.reader(file), []))
    if {"path_A", "path_B", "prompt"} <= columns:
        return "videoalign"
    raise ValueError(f"{path} is of no format known here ({', '.join(IMPORTERS)}): name one with --format")


def _video(row: Mapping[str, str], side: str, uri: str) -> Candidate:
    meta: dict[str, Any] = {}
    for name in ("fps", "num_frames"):
        if (row.get(f"{name}_{side}") or "").strip():
            meta[name] = float(row[f"{name}_{side}"])
    return Candidate(id=side, uri=uri, type="video", model=row.get(f"{side}_model") or None, meta=meta)


def _label(text: str, column: str, where: str) -> str:
    label = _VIDEOALIGN_LABELS.get(text.strip().lower())
    if label is None:
        raise ValueError(f"{where}: {column} is '{text}', which is none of A, B, same")
    return label


def _needed(row: Mapping[str, str | None], key: str, where: str) -> str:
    value = (row.get(key) or "").strip()
    if not value:
        raise ValueError(f"{where}: '{key}' is empty")
    return value


def _relative(uri: str, folder: Path, root: Path) -> str:
    """The media path from `root`; absolute where the file lies elsewhere."""
    file = folder / PurePosixPath(uri)
    try:
        return Path(os.path.normpath(file.resolve())).relative_to(root.resolve()).as_posix()
    except ValueError:
        return file.resolve().as_posix()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
