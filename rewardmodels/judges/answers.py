"""Answers kept on disk, so that nothing is asked (and paid for) twice, and a broken-off run goes on where it stopped.

One SQLite file: key -> record. A key names everything that decides an answer (`chat.key_of`); failures are not kept.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path
from typing import Any


class Answers:
    """A store of records by key; without a path it lasts as long as the object. Several processes may share a file."""

    def __init__(self, path: str | Path | None = None) -> None:
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._file = sqlite3.connect(
                ":memory:" if path is None else path, timeout=60, check_same_thread=False
            )
            with self._file:
                self._file.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, record TEXT)")
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{path} is not a file of answers ({error}): name another cache file") from error
        self._lock = threading.Lock()

    def get(self, key: str) -> dict[str, Any] | None:
        """The record of a key, or None."""
        with self._lock:
            row = self._file.execute("SELECT record FROM answers WHERE key = ?", (key,)).fetchone()
        return None if row is None else dict(json.loads(row[0]))

    def put(self, key: str, record: dict[str, Any]) -> None:
        """Keep a record; it is on disk when this returns."""
        with self._lock, self._file:
            self._file.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, json.dumps(record)))

    def __len__(self) -> int:
        with self._lock:
            return int(self._file.execute("SELECT COUNT(*) FROM answers").fetchone()[0])

    def close(self) -> None:
        """Give the file back."""
        self._file.close()
