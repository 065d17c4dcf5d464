"""What is to be scored: a folder, a manifest or a JSONL file as an explicit list of items.

A JSONL row is `{"image" (or "video", "media", "file"): path, "prompt": text}` with optional `id` (else the path, then
`path#2`, `path#3` for further rows of it), `source` (of an edit), `reference` (a picture that some rewards compare
with), `group` (who is compared with whom, where a reward compares; else those of one prompt and source) and anything
else, which rewards see as metadata, be it in the row or in its `metadata`; paths are relative to the file. A folder
with `manifest.jsonl` is read by it. In any other folder every picture and video is an item, its prompt a text file of
the same name or the one given.
A row that cannot be used stays in the list, with its problem.
"""

from __future__ import annotations

import json
from codecs import BOM_UTF8 as BOM
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

from mmalign import media
from mmalign.data.formats import in_words

MANIFEST = "manifest.jsonl"
FILE_KEYS = ("media", "image", "video", "file", "path")
OWN_KEYS = frozenset({*FILE_KEYS, "id", "prompt", "source"})
REFERENCE = "reference"
"""The key of a picture that some rewards compare with; a file of that name is looked for beside the JSONL."""


@dataclass(frozen=True)
class Item:
    """One thing to score; `problem` says why it cannot be."""

    id: str
    file: Path | None
    prompt: str = ""
    source: Path | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None
    named: bool = False
    """Whether whoever wrote the row gave it this id."""

    @property
    def fingerprint(self) -> str:
        """Changes when the file, its source or the prompt does; part of what makes an item done."""
        beside = self.metadata.get(REFERENCE)
        known = [_mark(Path(beside))] if isinstance(beside, str) and beside else []
        return "|".join([self.prompt, _mark(self.file), _mark(self.source), *filter(None, known)])

    @property
    def group(self) -> str:
        """Equal for items that a reward may compare: those of one `group`, or else of one prompt and source."""
        own = self.metadata.get("group")
        source = None if self.source is None else self.source.as_posix()
        return json.dumps([self.prompt, source] if own is None else [own], sort_keys=True)


def _mark(path: Path | None) -> str:
    """Size and time of a file; empty for none, and for a name that no file can have."""
    try:
        stat = None if path is None else path.stat()
    except (OSError, ValueError):
        stat = None
    return "" if stat is None else f"{stat.st_size}-{stat.st_mtime_ns}"


def read(path: Path | str, *, prompt: str | None = None) -> list[Item]:
    """The items of a folder or JSONL file; none at all is an error."""
    place = Path(path)
    if place.is_dir() and (place / MANIFEST).is_file():
        items = _read_rows(place / MANIFEST, prompt)
    elif place.is_dir():
        items = [_from_file(file, place, prompt) for file in media.find(place)]
    elif place.suffix.lower() in (".jsonl", ".json") and place.is_file():
        items = _read_rows(place, prompt)
    elif place.is_file() and media.is_media(place):
        items = [_from_file(place, place.parent, prompt)]
    elif place.exists():
        raise ValueError(f"{place} is neither a folder, a JSONL file nor a picture or video")
    else:
        raise ValueError(f"{place}: no such file or folder")
    if not items:
        raise ValueError(f"{place} holds nothing to score: no picture or video matched")
    return _without_twins(items)


def _from_file(file: Path, root: Path, prompt: str | None) -> Item:
    beside = file.with_suffix(".txt")
    name = file.relative_to(root).as_posix()
    try:
        own = beside.read_text(encoding="utf-8-sig").strip() if beside.is_file() else None
    except UnicodeDecodeError:
        return Item(name, file, problem=f"its prompt {beside.name} is not UTF-8 text: save it as UTF-8")
    return Item(name, file, own or prompt or "")


def _read_rows(path: Path, prompt: str | None) -> list[Item]:
    """One item a line. Lines end with a line feed only: texts may hold every other separator that Unicode knows."""
    with path.open("rb") as file:
        lines = [line.removeprefix(BOM).strip(b" \t\r\n") for line in file]
    return [_from_line(line, number, path, prompt) for number, line in enumerate(lines, 1) if line]


def _from_line(line: bytes, number: int, path: Path, prompt: str | None) -> Item:
    unnamed = f"line {number}"
    try:
        row = json.loads(line.decode("utf-8"))
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError:
        return Item(unnamed, None, problem=f"{path.name}:{number} is not UTF-8 text: save the file as UTF-8")
    except (json.JSONDecodeError, RecursionError) as problem:
        return Item(unnamed, None, problem=f"{path.name}:{number} is {in_words(problem)}")
    except UnicodeEncodeError:
        return Item(unnamed, None, problem=f"{path.name}:{number} is not text: it holds half a character")
    if not isinstance(row, dict):
        return Item(unnamed, None, problem=f"{path.name}:{number} is not an object")
    name = next((row[key] for key in FILE_KEYS if isinstance(row.get(key), str)), None)
    own = row.get("prompt", prompt or "")
    named = row.get("id") is not None
    identity = str(row["id"] if named else unnamed if name is None else name)
    if name is None and {"candidates", "annotations"} <= row.keys():
        why = f"{path.name} holds comparisons: use `mmalign evaluate reward` with them"
    elif name is None:
        why = f"{path.name}:{number} names no file: it needs one of {', '.join(FILE_KEYS)}"
    elif not isinstance(own, str):
        why = f"{path.name}:{number} has a prompt that is not text"
    elif not isinstance(row.get("source"), str | None):
        why = f"{path.name}:{number} has a source that is not the name of a file"
    else:
        return _item(row, path, Item(identity, path.parent / name, own, named=named))
    return Item(identity, None, problem=why, named=named)


def _item(row: Mapping[str, Any], path: Path, item: Item) -> Item:
    """With its source and what the row says beside."""
    source = None if row.get("source") is None else path.parent / row["source"]
    rest = _metadata(row)
    beside = rest.get(REFERENCE)
    if isinstance(beside, str) and beside and _mark(path.parent / beside):
        rest[REFERENCE] = (path.parent / beside).as_posix()
    return replace(item, source=source, metadata=rest)


def _metadata(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row says beside its files and words; what it says itself counts more than what its `metadata` does."""
    outer = {key: value for key, value in row.items() if key not in OWN_KEYS}
    if not isinstance(outer.get("metadata"), Mapping):
        return outer
    inner = outer.pop("metadata")
    return {**inner, **{key: value for key, value in outer.items() if value is not None or key not in inner}}


def _without_twins(items: list[Item]) -> list[Item]:
    """A second item of an id that was given is kept under another, with its problem; ids that were not are made
    different.
    """
    taken = {item.id for item in items if item.named}
    seen: dict[str, int] = {}
    made = []
    for item in items:
        seen[item.id] = seen.get(item.id, 0) + 1
        if not item.named:
            item = replace(item, id=_free(item.id, taken))
            taken.add(item.id)
        elif seen[item.id] > 1:
            why = item.problem or f"id '{item.id}' occurs more than once: give every row its own"
            item = replace(item, id=f"{item.id} (again, {seen[item.id]})", problem=why)
        made.append(item)
    return made


def _free(name: str, taken: Collection[str]) -> str:
    """The first of `name`, `name#2`, `name#3` ... that is not taken.

    >>> _free("a.png", {"a.png", "a.png#2"})
    'a.png#3'
    """
    numbered = (f"{name}#{number}" for number in count(2))
    return next(one for one in chain([name], numbered) if one not in taken)
