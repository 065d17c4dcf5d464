"""Rows of `score` without ids: a picture may stand under several prompts, and keeps its name from run to run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mmalign.media import write
from pipelines import manifest
from tests.integration.told import call
from tests.integration.told import write as write_lines

REWARD = f"{__name__}:length"
ASKED: list[str] = []


def length(images: Sequence[Tensor], prompts: Sequence[str]) -> Tensor:
    """How long the prompt is."""
    ASKED.extend(prompts)
    return torch.tensor([float(len(prompt)) for prompt in prompts])


def overall(folder: Path) -> dict[str, float | None]:
    lines = map(json.loads, (folder / "scores.jsonl").read_text().splitlines())
    return {row["id"]: row["scores"][REWARD]["overall"] for row in lines}


def test_one_picture_under_several_prompts_is_scored_under_each(tmp_path: Path) -> None:
    write(tmp_path / "a.png", torch.zeros(3, 8, 8))
    path = write_lines(
        tmp_path / "x.jsonl", {"image": "a.png", "prompt": "one"}, {"image": "a.png", "prompt": "three"},
        {"image": "a.png", "prompt": "a", "id": None}, {"image": "a.png", "prompt": "seventh", "id": "a.png#2"},
    )  # fmt: skip
    words = ("score", str(path), "--reward", REWARD, "-o", str(tmp_path / "out"))
    expected = {"a.png": 3.0, "a.png#3": 5.0, "a.png#4": 1.0, "a.png#2": 7.0}
    assert call(*words) == 0 and overall(tmp_path / "out") == expected
    ASKED.clear()
    assert call(*words) == 0 and overall(tmp_path / "out") == expected and ASKED == []


def test_ids_that_were_given_twice_stay_a_mistake(tmp_path: Path) -> None:
    row = {"image": "a.png", "prompt": "x"}
    path = write_lines(tmp_path / "x.jsonl", row | {"id": "t"}, row | {"id": "t"}, row, row)
    items = manifest.read(path)
    assert [item.id for item in items] == ["t", "t (again, 2)", "a.png", "a.png#2"]
    assert ["occurs more than once" in str(item.problem) for item in items] == [False, True, False, False]
