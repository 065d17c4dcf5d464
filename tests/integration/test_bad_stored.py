"""`finetune` on stored pairs and samples with bad lines and broken media: left out and told, refused past the limit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mmalign import media
from mmalign.data.prompts import Prompt
from mmalign.media import write
from mmalign.train.loop import Trainer
from mmalign.train.skips import Skips
from mmalign.train.stored import Row, Stored, read_pairs, read_rows, read_samples
from mmalign.train.trackers import read_metrics
from pipelines import train, validate
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
    assert (skips.read, skips.lines, skips.media) == (NUM + 1, 1, 1)  # however many epochs met it
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
    assert any(line.startswith(f"left out 2 of 9 {noun}, each counted once (1 bad line, 1 with media")
               for line in told)  # fmt: skip


def test_a_file_that_is_mostly_bad_is_refused(file: Path) -> None:
    file.write_text(file.read_text() + "{\n" * 15)
    with pytest.raises(ValueError, match=rf"{file.stem}\.jsonl: 16 of 24 \w+ cannot be used"):
        rows_of(file, Skips())


def test_a_result_is_saved_before_half_of_its_file_is_refused(file: Path, tmp_path: Path) -> None:
    for k in range(
        NUM // 2 + 1
    ):  # headers are whole, so that the pictures are found broken when they are met
        picture = tmp_path / f"{k}.png"
        write(picture, torch.rand(1, 3, 32, 32))
        picture.write_bytes(picture.read_bytes()[:60])
    method, words = words_of(file)
    with pytest.raises(ValueError, match=r"6 of 9 \w+ cannot be used .* is saved in .*run"):
        train.run(method, [
            *words, f"output={tmp_path / 'run'}", "evaluation.every=null", "checkpoint.every=null",
            "budget.iterations=1", "budget.updates_per_iteration=1", "rollout.groups_per_iteration=1",
            "rollout.group_size=8", "rollout.batch_size=8", "method.levels.per_sample=1",
        ], say=str)  # fmt: skip
    assert (tmp_path / "run" / "result.json").is_file()


def resized(file: Path, numbers: Sequence[int]) -> None:
    for k in numbers:
        write(file.parent / f"{k}.png", torch.rand(1, 3, 32, 40))


def words_of(file: Path) -> tuple[str, list[str]]:
    method = "dpo" if file.stem == "pairs" else "sft"
    return f"{method}/shapes-flow", [f"data.{file.stem}={file}", "rewards=[]"]


def test_media_of_another_size_are_told_before_training_and_left_out(file: Path) -> None:
    resized(file, (1, 5))
    rows, _, skips = read_rows(recipe_of(file))
    assert [row.media.stem for row in rows] == ["0", "2", "4", "6", "7"]
    assert skips.media == 3 and f"{file.name}:2: " in skips.summary()
    assert "1.png is 40 x 32, most are 32 x 32: bring all to one size" in skips.summary()
    told: list[str] = []
    validate.run(*words_of(file), say=told.append)
    assert "left out 4 of 9" in told[0] and f"{file.name}:6: " in told[0]


@pytest.mark.parametrize("weighting", ["softmax", "exp"])
def test_rewards_are_weighed_among_the_samples_that_are_left(tmp_path: Path, weighting: str) -> None:
    """The best of a prompt would take nearly all its weight along if it were left out after they are weighed."""
    rows = [sample(k) | {"prompt": f"a circle {k % 2}"} for k in range(NUM)]
    for k in range(NUM):
        write(tmp_path / f"{k}.png", torch.rand(1, 3, 32, 40 if k == NUM - 1 else 32))
    whole, rest = tmp_path / "whole.jsonl", tmp_path / "rest.jsonl"
    whole.write_text("\n".join(map(json.dumps, rows)))
    rest.write_text("\n".join(map(json.dumps, rows[:-1])))
    found, alone = (
        read_rows(
            tiny_recipe(
                "rwr", method={"name": "rwr", "weighting": weighting, "levels": {"per_sample": 1}},
                data={"samples": str(file)}, rewards=[], evaluation={"every": None},
            )
        )[0]
        for file in (whole, rest)
    )  # fmt: skip
    assert [row.media.stem for row in found] == [str(k) for k in range(NUM - 1)]
    assert [row.credit for row in found] == pytest.approx([row.credit for row in alone])
    assert sum(row.credit for row in found) == pytest.approx(NUM - 1)


def test_a_file_of_many_sizes_is_refused_before_training(file: Path) -> None:
    for k in range(40):
        write(file.parent / f"{k}.png", torch.rand(1, 3, 32, 40 if k % 2 else 32))
    file.write_text("\n".join(json.dumps((pair if file.stem == "pairs" else sample)(k)) for k in range(40)))
    said = r"20 of 40 \w+ cannot be used .*\.jsonl:\d+: .* is \d+ x 32, most are .*: bring all to one size"
    with pytest.raises(ValueError, match=said):
        validate.run(*words_of(file), say=str)


def test_a_source_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.png", torch.rand(1, 3, 32, 32))
    given: list[Any] = []
    policy = SimpleNamespace(
        device="cpu", size=(32, 32), pipeline=SimpleNamespace(vae_scale_factor=8), encode_media=lambda media: media,
        encode=lambda prompts, sources, **_: given.append(sources),
    )  # fmt: skip
    opened: list[Path] = []
    read = media.read
    monkeypatch.setattr("mmalign.media.read", lambda path: opened.append(path) or read(path))
    row = Row(Prompt("redder", tmp_path / "a.png"), tmp_path / "a.png", 1.0)
    for skips in (Skips(), None):
        batch = Stored([row], policy, recipe_of(tmp_path / "samples.jsonl"), skips).batch(0, (0,), 1)  # type: ignore[arg-type]
        assert batch is not None and given.pop().shape == (1, 1, 3, 32, 32) and len(opened) == 2
        opened.clear()


def test_sources_of_several_shapes_and_files_of_two_kinds_are_told(tmp_path: Path) -> None:
    for name, size in (("a", (32, 32)), ("b", (32, 32)), ("wide", (32, 64)), ("large", (64, 64))):
        write(tmp_path / f"{name}.png", torch.rand(1, 3, *size))
    rows = [
        {"prompt": "redder", "media": "a.png", "source": f"{name}.png"}
        for name in ("a", "b", "wide", "large")
    ]
    path = tmp_path / "samples.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    found, _, skips = read_rows(recipe_of(path), lambda size: (1, 32, 32 * size[2] // size[1]))
    assert len(found) == 3 and "wide.png is 64 x 32" in skips.summary()
    path.write_text(path.read_text() + "\n" + json.dumps({"prompt": "red", "media": "a.png"}))
    with pytest.raises(
        ValueError, match=r"4 of 5 rows have a source \(samples.jsonl:1\).*\(samples.jsonl:5\)"
    ):
        read_rows(recipe_of(path))
