"""Append-only JSONL shards, a folder a reward, that survive being killed at any moment.

The last record of an id counts. A half-written last line (a killed run) is dropped when the shards are opened.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

ROWS_PER_SHARD = 10_000
Record = dict[str, Any]


class Shards:
    """Records of all rewards by label and id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: dict[str, dict[str, Record]] = {}
        self.files: dict[str, TextIO] = {}
        self.counts: dict[str, int] = {}
        for place in sorted(folder.glob("*/label.txt")):
            label = place.read_text(encoding="utf-8")
            for shard in sorted(place.parent.glob("*.jsonl")):
                self._read(label, shard)

    def __enter__(self) -> Shards:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self.files.values():
            file.close()

    def get(self, label: str, id: str) -> Record | None:
        """The record of an item that was judged or failed; None of one that was not asked for."""
        return self.records.get(label, {}).get(id)

    def has_score(self, label: str, id: str, fingerprint: str) -> bool:
        """Whether the reward has judged this very item and could."""
        record = self.records.get(label, {}).get(id)
        return record is not None and record["reason"] is None and record["fingerprint"] == fingerprint

    def has_any_score(self, label: str) -> bool:
        """Whether the reward has ever judged something."""
        return any(record["reason"] is None for record in self.records.get(label, {}).values())

    def add(self, label: str, record: Record) -> None:
        """Appends a record, unless it says what the last one of its id said."""
        known = self.records.setdefault(label, {})
        if known.get(record["id"]) == record:
            return
        known[record["id"]] = record
        self._file(label).write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
        self.counts[label] += 1

    def flush(self) -> None:
        """Everything written so far reaches the disk."""
        for file in self.files.values():
            file.flush()

    def _file(self, label: str) -> TextIO:
        """The shard that is written now; the next one when it is full."""
        full = self.counts.get(label, 0) >= ROWS_PER_SHARD
        if label in self.files and not full:
            return self.files[label]
        if label in self.files:
            self.files[label].close()
        place = self._place(label)
        place.mkdir(parents=True, exist_ok=True)
        (place / "label.txt").write_text(label, encoding="utf-8")
        shards = sorted(place.glob("*.jsonl"))
        if shards and not full and label not in self.files:
            path = shards[-1]
            with path.open(encoding="utf-8") as file:
                self.counts[label] = sum(1 for _ in file)
        else:
            path = place / f"{len(shards):05d}.jsonl"
            self.counts[label] = 0
        self.files[label] = path.open("a", encoding="utf-8", errors="replace")
        return self.files[label]

    def _place(self, label: str) -> Path:
        """A folder name that any file system takes; labels that would share one are told apart by a number."""
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", label).strip("-.") or "reward"
        place, number = self.folder / name, 2
        while (place / "label.txt").is_file() and (place / "label.txt").read_text(encoding="utf-8") != label:
            place, number = self.folder / f"{name}-{number}", number + 1
        return place

    def _read(self, label: str, shard: Path) -> None:
        text = shard.read_text(encoding="utf-8", errors="replace")
        whole, _, rest = text.rpartition("\n")
        if rest:
            shard.write_text(whole + "\n" if whole else "", encoding="utf-8")
        known = self.records.setdefault(label, {})
        for number, line in enumerate(whole.split("\n") if whole else [], start=1):
            try:
                record = json.loads(line)
                known[record["id"]] = record
            except (json.JSONDecodeError, KeyError, TypeError) as problem:
                raise ValueError(
                    f"{shard}:{number} is damaged ({problem}): delete that line or choose a new --output"
                ) from problem
