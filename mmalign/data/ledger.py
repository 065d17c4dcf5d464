"""What a check must remember of a million comparisons, on disk: a temporary SQLite file that vanishes with the process.

Rows are marks (64-bit hashes) with the little that is shown of them. Memory holds one batch and SQLite's page cache.

Legend: a *mark* is a hash; *outcome* 0 the first of a pair (in order of their media) won, 1 the second, 2 a tie.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from typing import Any

BATCH = 5000
CACHE_KB = 16_000
_TABLES = {
    "ids": "name TEXT",
    "contents": "mark INTEGER, id TEXT",
    "prompts": "mark INTEGER, split TEXT, shown TEXT",
    "media": "mark INTEGER, split TEXT, shown TEXT",
    "said": "dim TEXT, mark INTEGER, outcome INTEGER, votes REAL, summary INTEGER, id TEXT",
    "rated": "dim TEXT, mark INTEGER, value REAL",
}


def mark(*parts: Any) -> int:
    """A 63-bit hash of what was said."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


class Ledger:
    """Append rows, then ask."""

    def __init__(self) -> None:
        self.database = sqlite3.connect("")  # "" is a temporary file of its own
        self.database.execute(f"PRAGMA cache_size = -{CACHE_KB}")
        self.database.execute("PRAGMA journal_mode = OFF")
        self.database.execute("PRAGMA synchronous = OFF")
        for name, columns in _TABLES.items():
            self.database.execute(f"CREATE TABLE {name} ({columns})")
        self.database.execute("CREATE TABLE examined (uri TEXT PRIMARY KEY, digest TEXT) WITHOUT ROWID")
        self.waiting: dict[str, list[tuple[Any, ...]]] = {name: [] for name in _TABLES}

    def add(self, table: str, *row: Any) -> None:
        """One row more."""
        rows = self.waiting[table]
        rows.append(row)
        if len(rows) >= BATCH:
            self._flush(table)

    def examined(self, uri: str) -> tuple[bool, str | None]:
        """Whether a medium was looked at, and its digest if it could be read."""
        found = self.database.execute("SELECT digest FROM examined WHERE uri = ?", (uri,)).fetchone()
        return found is not None, found[0] if found is not None else None

    def note_examined(self, uri: str, digest: str | None) -> None:
        """A medium was looked at."""
        self.database.execute("INSERT OR REPLACE INTO examined VALUES (?, ?)", (uri, digest))

    def repeated_ids(self) -> Iterator[tuple[str, int]]:
        """Ids used more than once, and how often."""
        yield from self._ask(
            "SELECT name, COUNT(*) FROM ids GROUP BY name HAVING COUNT(*) > 1 ORDER BY MIN(rowid)"
        )

    def repeated_contents(self) -> Iterator[tuple[str, str]]:
        """(id, id of the comparison that it repeats)."""
        yield from self._ask(
            "SELECT c.id, f.id FROM contents c JOIN (SELECT mark, MIN(rowid) AS first FROM contents GROUP BY mark "
            "HAVING COUNT(*) > 1) m ON c.mark = m.mark AND c.rowid > m.first JOIN contents f ON f.rowid = m.first "
            "ORDER BY c.rowid"
        )

    def leaks(self, table: str) -> Iterator[tuple[str, str]]:
        """What stands in several splits: how it is shown, and the splits."""
        yield from self._ask(
            f"SELECT MIN(shown), GROUP_CONCAT(split, ', ') FROM (SELECT DISTINCT mark, split, MIN(shown) AS shown "
            f"FROM {table} GROUP BY mark, split ORDER BY mark, split) GROUP BY mark HAVING COUNT(*) > 1"
        )

    def dimensions(self, table: str) -> list[str]:
        """The dimensions that were judged."""
        return [dim for (dim,) in self._ask(f"SELECT DISTINCT dim FROM {table} ORDER BY dim")]

    def units(self, dim: str) -> Iterator[dict[int, float]]:
        """Votes of every pair that was judged on a dimension, by outcome."""
        yield from self._units("SELECT mark, outcome, SUM(votes) FROM said WHERE dim = ? AND summary < 2 "
                               "GROUP BY mark, outcome ORDER BY mark", dim)  # fmt: skip

    def ratings(self, dim: str) -> Iterator[dict[float, float]]:
        """Ratings of every candidate on a dimension, by value."""
        yield from self._units("SELECT mark, value, COUNT(*) FROM rated WHERE dim = ? GROUP BY mark, value "
                               "ORDER BY mark", dim)  # fmt: skip

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """(dimension, ids) of pairs that different comparisons decide in opposite ways."""
        yield from self._ask(
            "SELECT dim, GROUP_CONCAT(DISTINCT id) FROM said WHERE summary > 0 AND outcome < 2 GROUP BY dim, mark "
            "HAVING COUNT(DISTINCT outcome) > 1 AND COUNT(DISTINCT id) > 1 ORDER BY MIN(rowid)"
        )

    def _units(self, question: str, dim: str) -> Iterator[dict[Any, float]]:
        last: int | None = None
        counts: dict[Any, float] = {}
        for mark_, value, votes in self._ask(question, dim):
            if mark_ != last and counts:
                yield counts
                counts = {}
            last = mark_
            counts[value] = votes
        if counts:
            yield counts

    def _ask(self, question: str, *values: Any) -> Iterator[Any]:
        for table in self.waiting:
            self._flush(table)
        yield from self.database.execute(question, values)

    def _flush(self, table: str) -> None:
        rows = self.waiting[table]
        if rows:
            places = ", ".join("?" * len(rows[0]))
            self.database.executemany(f"INSERT INTO {table} VALUES ({places})", rows)
            rows.clear()
