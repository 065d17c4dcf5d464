"""`validate` and the training verbs look at the files of a recipe before anything heavy loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mmalign import media
from pipelines.ls import VERBS
from tests.integration.test_train_reward import OWN
from tests.integration.told import PAIR, RATING, TIE, call, comparison, told, write


@pytest.mark.parametrize(
    ("recipe", "key", "rows", "sentence"),
    [
        ("dpo/shapes-flow", "data.pairs", [], "no such file"),
        ("dpo/shapes-flow", "data.pairs", ["{"], "holds no judged comparison that can be read: data.jsonl:1"),
        (
            "dpo/shapes-flow",
            "data.pairs",
            [comparison(RATING)],
            "no preferences with a winner of overall; it has quality (rating)",
        ),
        (
            "sft/shapes-flow",
            "data.samples",
            [{"prompt": "x", "image": "a.png"}],
            "text in the field 'media'; it has",
        ),
        (
            "rwr/shapes-flow",
            "data.samples",
            [{"prompt": "x", "media": "a", "reward": "1"}],
            "a number in the field 'r",
        ),
        (
            "grpo/shapes-flow",
            "data.prompts",
            [{"text": "a"}],
            "'data.prompts': data.jsonl:1 must have text in the fi",
        ),
        (
            "grpo/shapes-flow",
            "data.heldout",
            ["a red circle"],
            "'data.heldout': data.jsonl:1 is not valid JSON",
        ),
        ("grpo/shapes-flow", "data.heldout", [""], "data.jsonl is empty"),
        ("reward/shapes", "data.pairs", [comparison(RATING)], "no preferences of overall"),
        (
            "reward/shapes",
            "data.calibration",
            [comparison(RATING)],
            "'data.calibration': data.jsonl holds no pref",
        ),
        ("reward/vefx-like", "data.pairs", [comparison(PAIR)], "holds no ratings of"),
        ("clip/pick-like", "data.heldout", ["no json", comparison(RATING)], "no preferences of overall"),
        (
            "clip/aesthetic-like",
            "data.pairs",
            [comparison(PAIR)],
            "no ratings of visual_quality; it has overall (pair)",
        ),
        (
            "judge/paco-like",
            "data.heldout",
            [comparison(RATING)],
            "'data.heldout': data.jsonl holds no preferences",
        ),
        ("judge/checklist-like", "data.pairs", ["[]"], "holds no judged comparison"),
        ("judge/paco-like", "data.pairs", [comparison(TIE)], "no preferences with a winner of overall"),
        ("dpo/shapes-flow", "data.pairs", [comparison(TIE)], "no preferences with a winner of overall"),
        ("plural/shapes", "data.votes", [comparison(PAIR)], "no votes that name their annotators of overall"),
    ],
)
def test_data_are_looked_at_before_anything_is_trained(
    recipe: str,
    key: str,
    rows: list[Any],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if rows:
        write(tmp_path / "data.jsonl", *rows)
    for words in (["validate"], [VERBS.get(recipe.split("/")[0], "finetune")]):
        more = ["rewards=[]"] if recipe.startswith(("dpo", "sft", "rwr")) else []
        assert sentence in told([*words, recipe, f"{key}=data.jsonl", *more], capsys)
    assert [path.name for path in tmp_path.iterdir()] == (["data.jsonl"] if rows else [])


def test_good_files_pass_and_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(
        tmp_path / "data.jsonl", *[comparison(PAIR | {"annotator": "ann"}, id=str(k)) for k in range(10)]
    )
    assert call("validate", "reward/shapes", f"data.pairs={file}", *OWN, "data.comparisons_per_bundle=8",
                "budget.updates=20", "budget.bundles_per_update=2") == 0  # fmt: skip
    said = capsys.readouterr().out
    assert "an update learns from 2 bundles of 8 comparisons" in said
    assert "20 updates, 320 comparisons: 32.0 times the 10 of data.jsonl" in said
    assert call("validate", "judge/paco-like", f"data.pairs={file}", OWN[0], "data.comparisons_per_bundle=5",
                "budget.iterations=4") == 0  # fmt: skip
    assert "4 updates, 20 comparisons: 2.0 times" in capsys.readouterr().out
    for name in "ab":
        media.write(tmp_path / f"{name}.png", torch.rand(3, 32, 32))
    for recipe, key in (("dpo/shapes-flow", "data.pairs"), ("plural/shapes", "data.votes")):
        more = ["rewards=[]"] if recipe.startswith("dpo") else []
        assert call("validate", recipe, f"{key}={file}", *more) == 0
        assert not more or "data: 10 decided pairs, 0 ties" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("recipe", "words", "toys"),
    [
        ("reward/base-reward-like", [], "data.heldout=shapes and data.calibration=shapes would"),
        ("reward/base-reward-like", ["data.heldout=data.jsonl"], "a file, and data.calibration=shapes would"),
        ("clip/pick-like", ["data.calibration=null"], "a file, and data.heldout=shapes would"),
        ("judge/shapes", ["warm_up.updates=0"], "a file, and data.heldout=shapes would"),
        ("judge/paco-like", [], "a file, and data.heldout=shapes would"),
        ("judge/checklist-like", [], "a file, and data.heldout=shapes would"),
        ("judge/unifiedreward-like", ["warm_up.scale=[1,5]"], "a file, and data.heldout=shapes would"),
    ],
)
def test_own_pairs_are_never_measured_or_calibrated_on_toys(
    recipe: str, words: list[str], toys: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Recipes name the world of shapes: overriding the pairs alone must not leave its figures behind."""
    monkeypatch.chdir(tmp_path)
    said = [PAIR, RATING, RATING | {"dim": "overall"}]
    write(tmp_path / "data.jsonl", *[comparison(*said)] * 3)
    for verb in ("validate", VERBS[recipe.split("/")[0]]):
        error = told([verb, recipe, "data.pairs=data.jsonl", *words], capsys)
        assert toys in error and "name a file of pairs that training does not hold" in error
        assert ("one file for both" in error) == (not recipe.startswith("judge"))
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]


CLIPS = {"candidates": [{"id": "a", "uri": "a.mp4"}, {"id": "b", "uri": "b.mp4"}]}
EDITED = {"inputs": [{"role": "source", "type": "image", "uri": "s.png"}]}


@pytest.mark.parametrize(
    ("recipe", "key", "more", "kind", "judges"),
    [
        ("reward/shapes", "heldout", CLIPS, "video", "the reward judges image"),
        ("reward/shapes", "calibration", EDITED, "edit", "the reward judges image"),
        ("reward/edit-reward-like", "heldout", {}, "image", "the reward judges edit"),
        ("clip/pick-like", "heldout", EDITED, "edit", "the reward judges image and video"),
        ("judge/shapes", "heldout", CLIPS, "video", "the judge judges image"),
        ("judge/paco-like", "heldout", EDITED, "edit", "the judge judges image"),
        ("judge/checklist-like", "pairs", CLIPS, "video", "the judge judges image"),
    ],
)
def test_files_of_another_kind_are_refused_at_the_start(
    recipe: str, key: str, more: dict[str, Any], kind: str, judges: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data.jsonl", "no json", *[comparison(PAIR, **more)] * 3)
    for verb in ("validate", VERBS[recipe.split("/")[0]]):
        more_words = OWN[:1] if key == "pairs" else []
        error = told([verb, recipe, *more_words, f"data.{key}=data.jsonl"], capsys)
        assert f"data.{key}=data.jsonl holds the kind '{kind}' (first in line 2, 3 of 3 comparisons)" in error
        assert f"and {judges}" in error and ": change " in error
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]


def test_a_few_comparisons_of_another_kind_are_left_out_as_ever(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [comparison(PAIR)] * 30 + [comparison(PAIR, **CLIPS)] * 16
    words = ["validate", "reward/shapes", f"data.heldout={tmp_path / 'data.jsonl'}"]
    write(tmp_path / "data.jsonl", *rows)
    assert call(*words) == 0  # no more than 10 and a fifth of them
    write(tmp_path / "data.jsonl", *rows, *[comparison(PAIR, **CLIPS)] * 10)
    assert "(first in line 31, 26 of 56 comparisons)" in told(words, capsys)


@pytest.mark.parametrize(
    ("recipe", "key", "sentence"),
    [
        ("clip/aesthetic-like", "heldout", "holds no preferences of visual_quality; it has overall (pair)"),
        (
            "reward/edit-reward-like",
            "calibration",
            "data.jsonl:2 has a pair without a label of instruction_following",
        ),
    ],
)
def test_dimensions_that_are_missing_are_told_at_the_start(
    recipe: str, key: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every = [PAIR | {"dim": name} for name in ("overall", "instruction_following", "visual_quality")]
    rows = [comparison(*every, **EDITED), comparison(every[0], every[2], **EDITED)]
    if key == "heldout":
        rows = [comparison(PAIR)]
    file = write(tmp_path / "data.jsonl", *rows)
    for verb in ("validate", "train-reward"):
        assert sentence in told([verb, recipe, f"data.{key}={file}"], capsys)
