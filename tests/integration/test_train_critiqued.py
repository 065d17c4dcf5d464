"""`mmalign train-reward` with `data.critiques`: a head reads what files say of candidates, and is measured so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import rewardmodels
from mmalign import media
from mmalign.shapes import render
from mmalign.types import Sample
from pipelines import train_reward
from tests.integration.told import PAIR, call, comparison, told, write

PRAISE, BLAME = "a red circle", "two blue squares"
NOTE = {"dim": "overall", "kind": "critique", "texts": [PRAISE, BLAME]}
TINY = [
    "model.scratch.width=32", "model.scratch.layers=1", "model.scratch.heads=2", "model.scratch.vision_width=16",
    "model.scratch.vision_layers=1", "budget.updates=25", "evaluation.every=null", "data.comparisons_per_bundle=8",
    "checkpoint.every=null", "optimizer.warmup=0", "data.critiques=true",
]  # fmt: skip


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Pairs of one and the same picture: only the words tell which is better."""
    (picture,) = render(["a green cross"], seed=1)
    media.write(tmp_path / "a.png", picture)
    media.write(tmp_path / "b.png", picture)
    rows: list[dict[str, Any]] = []
    for k in range(24):
        one = comparison(PAIR | {"label": "ij"[k % 2]}, id=str(k)) | {"prompt": f"a green cross {k}"}
        texts = [PRAISE, BLAME] if k % 2 == 0 else [BLAME, PRAISE]
        rows.append(one | {"annotations": [*one["annotations"], NOTE | {"texts": texts}]})
    return write(tmp_path / "pairs.jsonl", *rows)


def files(pairs: Path) -> list[str]:
    return [f"data.{key}={pairs}" for key in ("pairs", "heldout", "calibration")]


def test_a_head_learns_from_the_words_and_then_judges_by_them(pairs: Path, tmp_path: Path) -> None:
    with pairs.open("a") as lines:  # one of whose candidates nothing is said
        lines.write(
            pairs.read_text().splitlines()[0].replace(BLAME, "").replace('"id": "0"', '"id": "x"') + "\n"
        )
    out, said = tmp_path / "run", []
    quality = train_reward.run("reward/shapes", [*TINY, *files(pairs), f"output={out}"], say=said.append)
    assert quality["accuracy"]["mean"] == 1.0  # without the words the two score alike, which is never right
    assert quality["left_out"]["media"] == 1
    assert any("metadata['critique'] holds no text" in line for line in said)
    judge = rewardmodels.load("critique-then-score", scorer=str(out / "reward"))
    shown = Sample("a green cross 1", tmp_path / "a.png")
    praised, blamed = (replace(shown, metadata={"critique": words}) for words in (PRAISE, BLAME))
    first, second = judge(samples=[praised, blamed]).overall.tolist()
    assert first > second
    assert "`critique-then-score`" in (out / "reward" / "README.md").read_text()


def test_worlds_and_files_without_critiques_are_refused(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = write(tmp_path / "plain.jsonl", comparison(PAIR))
    for verb in ("validate", "train-reward"):
        words = [verb, "reward/shapes", f"output={tmp_path / 'run'}", "data.critiques=true"]
        assert "critiques are read from files, and the worlds have none (data.pairs=shapes" in told(
            words, capsys
        )
        more = [f"data.pairs={pairs}", "data.calibration=null"]
        assert "have none (data.heldout=shapes)" in told([*words, *more], capsys)
        assert (
            "plain.jsonl holds no critiques beside the preferences of overall; it has overall (pair)"
            in told([*words, *files(plain)], capsys)
        )
    assert not (tmp_path / "run").exists()
    assert call("validate", "reward/shapes", "data.critiques=true", *files(pairs)) == 0
    assert "critiques" in told(["validate", "clip/pick-like", "data.critiques=true"], capsys)
