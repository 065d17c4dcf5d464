"""`finetune` on stored pairs and samples with bad lines and broken media: left out and told, refused past the limit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mmalign.media import write
from mmalign.train.loop import Trainer
from mmalign.train.skips import Skips
from mmalign.train.stored import Row, Stored, read_pairs, read_samples
from mmalign.train.trackers import read_metrics
from pipelines import train
from tests.integration.tiny_run import build, tiny_recipe

NUM = 8
BROKEN = 3
"""The line, from 0, whose picture is no picture."""


def pair(number: int) -> dict[str, Any]:
    note = {"dim": "overall", "kind": "pair", "i": 0, "j": 1, "label": "i"}
    candidates = [{"id": "a", "uri": f"{number}.png"}, {"id": "b", "uri": "worse.png"}]
    return {"schema": "mmalign.pref/1", "id": str(number), "prompt": f"a circle {number}",
            "candidates": candidates, "annotations": [note]}  # fmt: skip


def sample(number: int) -> dict[str, Any]:
    return {"prompt": f"a circle {number}", "media": f"{number}.png", "reward": number}


@pytest.fixture(params=["pairs", "samples"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file of `NUM` items, one of them with a broken picture, and one line that is none."""
    for name in [*map(str, range(NUM)), "worse"]:
        write(tmp_path / f"{name}.png", torch.rand(1, 3, 32, 32))
    (tmp_path / f"{BROKEN}.png").write_text("no picture")
    rows = [json.dumps((pair if request.param == "pairs" else sample)(k)) for k in range(NUM)]
    path = tmp_path / f"{request.param}.jsonl"
    path.write_text("\n".join([*rows, '{"prompt": "no', ""]))
    return path


def recipe_of(file: Path, iterations: int = 4) -> Any:
    return tiny_recipe(
        "dpo" if file.stem == "pairs" else "sft", data={file.stem: str(file)}, rewards=[],
        evaluation={"every": None}, budget={"iterations": iterations},
        optimizer={"lr": 1e-2, "schedule": "constant"},
    )  # fmt: skip


def rows_of(file: Path, skips: Skips | None) -> list[Row]:
    return read_pairs(file, skips)[0] if file.stem == "pairs" else read_samples(file, recipe_of(file), skips)


def trainer_of(file: Path, folder: Path, iterations: int = 4) -> tuple[Trainer, Skips]:
    skips, recipe = Skips(), recipe_of(file, iterations)
    rows = rows_of(file, skips)
    return build(recipe, folder, stored=lambda policy: Stored(rows, policy, recipe, skips)), skips


def test_a_bad_line_and_a_broken_picture_cost_themselves_only(file: Path, tmp_path: Path) -> None:
    trainer, skips = trainer_of(file, tmp_path / "run")
    assert trainer.train().updates == 4
    assert skips.lines == 1 and skips.media > 0
    assert any(reason.startswith(f"{file.name}:{BROKEN + 1}: ") for reason in skips.reasons)
    assert any(reason.startswith(f"{file.name}:{NUM + 1}: not valid JSON") for reason in skips.reasons)
    last = read_metrics(tmp_path / "run")[-1]
    assert (last["skipped_lines"], last["skipped_media"]) == (1, skips.media)


def test_a_stopped_run_goes_on_with_the_same_bits_and_counts(file: Path, tmp_path: Path) -> None:
    whole, expected = trainer_of(file, tmp_path / "whole")
    whole.train()
    for iterations in (2, 4):
        parts, found = trainer_of(file, tmp_path / "parts", iterations)
        parts.train()
    assert found.as_dict() == expected.as_dict()
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters, parts.parameters, strict=True))


def test_the_others_of_a_batch_are_as_without_it_and_nothing_makes_no_batch(
    file: Path, tmp_path: Path
) -> None:
    trainer, _ = trainer_of(file, tmp_path / "run")
    stored: Stored = trainer.task.stored  # type: ignore[attr-defined]
    order = stored.order(0, NUM)
    good = tuple(i for i in range(NUM) if order[i] != BROKEN)
    bad = tuple(i for i in range(NUM) if order[i] == BROKEN)
    batch, alone = stored.batch(0, tuple(range(NUM)), NUM), stored.batch(0, good, NUM)
    assert batch is not None and alone is not None
    assert batch.index.tolist() == list(good)
    assert torch.equal(batch.clean, alone.clean) and torch.equal(batch.credit, alone.credit)
    assert stored.batch(0, bad, NUM) is None
    trainer.task.stored = Stored([stored.rows[BROKEN]], stored.policy, stored.recipe, Skips())  # type: ignore[attr-defined]
    (update,) = trainer.task.updates(0)
    assert update.num_losses == 0 and not list(update.losses)


def test_without_counting_each_is_an_error(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"{file.stem}\.jsonl:{NUM + 1}: not valid JSON"):
        rows_of(file, None)
    file.write_text("\n".join(file.read_text().splitlines()[:NUM]))
    recipe = recipe_of(file)
    rows = rows_of(file, None)
    trainer = build(recipe, tmp_path / "run", stored=lambda policy: Stored(rows, policy, recipe))
    with pytest.raises(ValueError, match=rf"{BROKEN}\.png"):
        trainer.train()


def test_finetune_tells_what_was_left_out(file: Path, tmp_path: Path) -> None:
    told: list[str] = []
    method = "dpo" if file.stem == "pairs" else "sft"
    train.run(f"{method}/shapes-flow", [
        f"data.{file.stem}={file}", "rewards=[]", f"output={tmp_path / 'run'}", "evaluation.every=null",
        "budget.iterations=1", "budget.updates_per_iteration=1", "rollout.groups_per_iteration=1",
        "rollout.group_size=8", "rollout.batch_size=8", "method.levels.per_sample=1",
    ], say=told.append)  # fmt: skip
    noun = "comparisons" if file.stem == "pairs" else "samples"
    assert any(line.startswith(f"left out 2 of 17 {noun} read (1 bad line, 1 with media") for line in told)


def test_a_file_that_is_mostly_bad_is_refused(file: Path) -> None:
    file.write_text(file.read_text() + "{\n" * 15)
    with pytest.raises(ValueError, match=rf"{file.stem}\.jsonl: 16 of 24 \w+ cannot be used"):
        rows_of(file, Skips())
