"""The command in this process: its exit code, and its one line about a mistake; comparisons to write into files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mmalign.__main__ import main

PROMPTS = ("a red circle", "two blue squares", "a green cross")
CANDIDATES = [{"id": "a", "uri": "a.png"}, {"id": "b", "uri": "b.png"}]
PAIR = {"dim": "overall", "kind": "pair", "i": 0, "j": 1, "label": "i"}
TIE = PAIR | {"label": "tie"}
RATING = {"dim": "quality", "kind": "rating", "scores": [1, 2], "min": 1, "max": 4}


def call(*words: object) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return int(stop.value.code or 0)


def told(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a mistake."""
    assert call(*words) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("mmalign: ") and "\n" not in error
    return error


def rows(path: Path) -> list[dict[str, Any]]:
    """A JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def comparison(*notes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"schema": "mmalign.pref/1", "id": "1", "prompt": "a red circle", "candidates": CANDIDATES,
            "annotations": list(notes)} | more  # fmt: skip
