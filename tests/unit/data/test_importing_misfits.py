"""Rows of any layout: the importers say which field is wrong and what was expected, in no words of Python's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmalign.data.importing import FORMATS, reading
from mmalign.data.importing.misfits import _PYTHONS
from tests.unit.data.layouts import write_lines

RUBBISH: tuple[Any, ...] = (
    3, -0.5, 1e400, "x", "", True, None, [], {}, [1, 2], ["a", "b"], [[1, 2], [2, 1]], {"a": {"b": [1]}},
    [{"a": 1}, {"a": 2}], "[1, 2]", '{"a": [1]}', [None, None], [{"rank": 3}, 4],
)  # fmt: skip


def reasons(path: Path, format: str) -> list[str]:
    outcome = reading.Outcome()
    list(reading.read(path, format=format, root=path.parent, split="test", outcome=outcome))
    return outcome.bad


HPDV2 = {"prompt": "p", "image_path": ["a.jpg", "b.jpg"], "rank": [1, 2]}


@pytest.mark.parametrize(
    "value", [[[1, 2], [2, 1]], [{"rank": [1, 2]}, "x"], [{"rank": 3}], 7, [{"rank": ["a", 1]}]]
)
def test_the_field_and_what_was_expected_are_named(value: Any, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "test.jsonl", [HPDV2 | {"raw_annotations": value}])
    (reason,) = reasons(path, "hpdv2-test")
    assert reason.startswith("test.jsonl:1: 'raw_annotations' is ") and not _PYTHONS.search(reason)
    assert "hpdv2-test has it so: " in reason and "raw_annotations the ranks of each annotator" in reason


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_no_layout_is_answered_in_words_of_pythons(name: str, tmp_path: Path) -> None:
    chosen = FORMATS[name]
    fields = [sorted(columns | chosen.optional) for columns in chosen.columns]
    rows = [dict.fromkeys(some, value) for some in fields for value in RUBBISH]
    rows += [
        {field: RUBBISH[(k + n) % len(RUBBISH)] for k, field in enumerate(some)}
        for some in fields
        for n in range(len(RUBBISH))
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "[" * 100_000 + "\n")
    found = reasons(path, name)
    assert found
    wrong = [reason for reason in found if _PYTHONS.search(reason) or reason.endswith(": ")]
    assert not wrong, wrong[:3]
