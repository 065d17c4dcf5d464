"""`train-reward` on files with bad lines and broken media: they are left out, told, and cost nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mmalign.config import load_config
from mmalign.data.columns import write_parquet
from mmalign.data.formats import read_jsonl
from mmalign.data.uris import MediaStore
from mmalign.shapes import Law
from mmalign.shapes.pairs import write_pairs
from mmalign.train.distributed import Processes
from mmalign.train.loop import Update
from mmalign.train.skips import SHOWN, Skips
from mmalign.train.trackers import read_metrics
from pipelines import plans, train_reward
from rewardmodels.recipe import RewardRecipe
from rewardmodels.sources import FileSource, PairSource
from rewardmodels.training import RewardTraining
from tests.integration.test_train_reward import OWN, RECIPE, TINY, quiet, weights
from tests.unit.rewardmodels.test_training import recipe as small_recipe
from tests.unit.rewardmodels.tiny import tiny_reward


def drawn(folder: Path, num: int = 12) -> Path:
    return write_pairs(folder, "train", num_prompts=num, law=Law(temperature=0.1), num_images=2)


def spoiled(path: Path) -> dict[int, str]:
    """Line 3 is no JSON, one picture of line 5 is missing, one of line 8 is cut short; the lines with something bad."""
    lines = path.read_text().splitlines()
    missing, cut = (json.loads(lines[k])["candidates"][0]["uri"] for k in (4, 7))
    (path.parent / missing).unlink()
    picture = path.parent / cut
    picture.write_bytes(picture.read_bytes()[:60])
    lines[2] = lines[2][:40]
    path.write_text("\n".join(lines) + "\n")
    return {3: "line", 5: "missing", 8: "cut"}


def options(path: Path, *more: str) -> list[str]:
    return [*TINY, *OWN, f"data.pairs={path}", "data.comparisons_per_bundle=3", *more]


def test_a_bad_line_and_two_broken_pictures_cost_themselves_only(tmp_path: Path) -> None:
    path = drawn(tmp_path / "data")
    spoiled(path)
    told: list[str] = []
    quality = train_reward.run(RECIPE, options(path, f"output={tmp_path / 'run'}"), say=told.append)
    left_out = quality["left_out"]  # 4 updates of 3 comparisons are one epoch
    assert (left_out["read"], left_out["lines"], left_out["media"]) == (12, 1, 2)
    assert [reason.split(": ")[0] for reason in sorted(left_out["first"])] == [
        "train.jsonl:3", "train.jsonl:5", "train.jsonl:8",
    ]  # fmt: skip
    assert left_out["file"] == str(path)
    (end,) = (line for line in told if "left out 3 of 12 comparisons" in line)
    assert f" in {path}:\n" in end and "no such file" in end
    last = read_metrics(tmp_path / "run")[-1]
    assert last["skipped_lines"] == 1 and last["skipped_media"] == 2
    assert json.loads((tmp_path / "run" / "quality.json").read_text())["left_out"] == left_out


def test_validate_tells_the_lines_that_will_be_left_out(tmp_path: Path) -> None:
    path = drawn(tmp_path / "data", 4)
    lines = path.read_text().splitlines()
    lines[1] = lines[1].replace('"label": "i"', '"label": "left"').replace('"label": "j"', '"label": "left"')
    path.write_text("\n".join([*lines, "not json", ""]))
    told = plans.arithmetic(load_config(RECIPE, options(path, "data.heldout=shapes"), RewardRecipe))
    assert f"data.pairs: 2 bad lines will be left out ({path.name}:2: " in told
    assert f"{path.name}:5: not valid JSON" in told and "data.heldout" not in told
    path.write_text("\n".join(lines[2:]))
    assert "bad line" not in plans.arithmetic(load_config(RECIPE, options(path), RewardRecipe))


def test_what_is_left_out_is_the_same_after_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = drawn(tmp_path / "data")
    spoiled(path)
    whole = train_reward.run(RECIPE, options(path, f"output={tmp_path / 'whole'}"), say=quiet)
    updates = RewardTraining.updates

    def stop(self: RewardTraining, iteration: int) -> Iterator[Update]:
        if iteration == 3:
            raise KeyboardInterrupt
        return updates(self, iteration)

    again = options(path, f"output={tmp_path / 'parts'}")
    with monkeypatch.context() as patch:
        patch.setattr(RewardTraining, "updates", stop)
        with pytest.raises(KeyboardInterrupt):
            train_reward.run(RECIPE, again, say=quiet)
    parts = train_reward.run(RECIPE, again, say=quiet)
    assert parts["left_out"] == whole["left_out"]
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_file_that_is_mostly_bad_is_refused(tmp_path: Path) -> None:
    path = drawn(tmp_path / "data")
    for line in path.read_text().splitlines()[:6]:
        (path.parent / json.loads(line)["candidates"][1]["uri"]).unlink()
    with pytest.raises(ValueError, match=r"comparisons cannot be used \(train.jsonl:\d+: .*no such file"):
        train_reward.run(RECIPE, options(path, "budget.updates=40", f"output={tmp_path / 'a'}"), say=quiet)
    path.write_text("\n".join(["{"] * 9))
    with pytest.raises(ValueError, match="9 of 9 comparisons cannot be used"):
        train_reward.run(RECIPE, options(path, f"output={tmp_path / 'b'}"), say=quiet)


def test_what_the_rest_of_a_mostly_bad_file_taught_is_saved_before_it_is_refused(tmp_path: Path) -> None:
    """The last update reads what makes it too much: the training is done, and must not be lost."""
    path = drawn(tmp_path / "data")
    for line in path.read_text().splitlines()[:7]:
        (path.parent / json.loads(line)["candidates"][1]["uri"]).unlink()
    again = options(path, f"output={tmp_path / 'run'}")
    for _ in range(2):  # a finished run is refused as it was
        with pytest.raises(
            ValueError, match=r"7 of 12 comparisons cannot be used .*is saved in .*run.reward"
        ):
            train_reward.run(RECIPE, again, say=quiet)
    assert weights(tmp_path / "run")
    quality = json.loads((tmp_path / "run" / "quality.json").read_text())
    assert quality["left_out"]["media"] == 7 and quality["updates"] > 0


def test_heldout_lines_are_left_out_and_told(tmp_path: Path) -> None:
    path = drawn(tmp_path / "data")
    other = drawn(tmp_path / "other", 6)
    spoiled_lines = other.read_text().splitlines()
    other.write_text("\n".join([*spoiled_lines, "no json"]))
    more = [f"data.heldout={other}", "data.calibration=null", f"output={tmp_path / 'run'}"]
    quality = train_reward.run(RECIPE, options(path, *more), say=quiet)
    assert quality["heldout_left_out"] == {"lines": 1, "labels": 0} and quality["num_pairs"] == 6
    other.write_text("no json\n" * 3)
    with pytest.raises(ValueError, match="3 of 3 comparisons cannot be used"):
        train_reward.run(RECIPE, options(path, *more[:2], f"output={tmp_path / 'again'}"), say=quiet)


def test_the_rest_of_a_bundle_has_the_gradient_it_has_alone(tmp_path: Path) -> None:
    path = drawn(tmp_path / "data", 8)
    bad = spoiled(path)
    made = small_recipe()
    skips = Skips()
    task = RewardTraining(
        tiny_reward(), made, FileSource(path, 8, 0, ("overall",), skips=skips), Processes(), skips=skips
    )
    (update,) = task.updates(0)
    (loss,) = [make() for make in update.losses]
    good = tmp_path / "data" / "good.jsonl"
    lines = path.read_text().splitlines()
    good.write_text("\n".join(line for n, line in enumerate(lines, 1) if n not in bad))
    (alone,) = RewardTraining(tiny_reward(), made, FileSource(good, 5, 0, ("overall",)), Processes()).updates(
        0
    )
    (expected,) = [make() for make in alone.losses]
    assert update.num_losses == 7 and len(loss.per_sample) == 5
    # which side is shown first is drawn by place, which the logistic loss does not see
    torch.testing.assert_close(
        loss.per_sample.sort().values, expected.per_sample.sort().values, atol=1e-5, rtol=1e-5
    )


def test_a_bundle_of_nothing_is_an_update_of_nothing(tmp_path: Path) -> None:
    path = drawn(tmp_path / "data", 20)
    line = json.loads(path.read_text().splitlines()[0])
    (path.parent / line["candidates"][0]["uri"]).unlink()
    more = ["data.comparisons_per_bundle=1", "budget.updates=20", f"output={tmp_path / 'run'}"]
    quality = train_reward.run(RECIPE, options(path, *more), say=quiet)
    assert quality["left_out"]["media"] == 1 and quality["updates"] == 19


@pytest.mark.parametrize("loss", ["plackett_luce", "binary"])
def test_lists_and_ratings_bear_it_too(loss: str, tmp_path: Path) -> None:
    path = drawn(tmp_path / "data")
    if loss == "binary":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            line["annotations"] = [{"dim": "overall", "kind": "rating", "scores": [1, 2], "min": 1, "max": 2}]
        path.write_text("\n".join(map(json.dumps, lines)))
    spoiled(path)
    more = ["data.labels=binary"] if loss == "binary" else []
    quality = train_reward.run(
        RECIPE, options(path, f"method.loss={loss}", *more, f"output={tmp_path / 'run'}"), say=quiet
    )
    assert (quality["left_out"]["lines"], quality["left_out"]["media"]) == (1, 2)


def test_a_prompt_that_is_too_long_and_a_missing_source_are_told(tmp_path: Path) -> None:
    path = drawn(tmp_path / "data", 8)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1]["prompt"] = "a red circle " * 2000
    lines[4]["inputs"] = [{"role": "source", "uri": lines[4]["candidates"][0]["uri"]}]
    path.write_text("\n".join(map(json.dumps, lines)))
    skips = Skips()
    source = FileSource(path, 8, 0, ("overall",), skips=skips)
    task = RewardTraining(tiny_reward(), small_recipe(), source, Processes(), skips=skips)
    (update,) = task.updates(0)
    (loss,) = [make() for make in update.losses]
    task.finish(0, 0)
    assert len(loss.per_sample) == 6 and skips.media == 2
    assert "split the data by task" in skips.summary() and "is longer than" in skips.summary()


def bundles(source: PairSource) -> list[list[tuple[str, float]]]:
    return [[(p.a.id, p.labels["overall"]) for p in source.bundle(n, 0.0)] for n in range(6)]


def test_parquet_is_read_in_the_order_of_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = drawn(tmp_path / "data", 11)
    monkeypatch.setattr("mmalign.data.columns.ROWS", 3)
    monkeypatch.setattr("mmalign.data.tables.KEPT_BYTES", 1)  # one row group at a time
    table = tmp_path / "data" / "pairs.parquet"
    write_parquet(table, read_jsonl(path))
    lines, rows = (FileSource(file, 4, 3, ("overall",)) for file in (path, table))
    assert bundles(lines) == bundles(rows)
    assert [pair.labels for pair in lines.heldout()] == [pair.labels for pair in rows.heldout()]
    assert len(rows.rows._groups._kept) == 1  # type: ignore[attr-defined]


def test_training_from_parquet_is_training_from_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drawn(tmp_path / "data")
    table, full = tmp_path / "data" / "pairs.parquet", tmp_path / "full.parquet"
    write_parquet(table, read_jsonl(path))
    write_parquet(full, read_jsonl(path), embed=MediaStore(path.parent))
    monkeypatch.setenv("MMALIGN_CACHE", str(tmp_path / "cache"))
    found = []
    for file in (path, table, full):
        out = tmp_path / f"run-{file.stem}{file.suffix}"
        more = [f"data.heldout={file}", f"data.calibration={file}", "evaluation.every=null", f"output={out}"]
        train_reward.run(RECIPE, options(file, *more), say=quiet)
        found.append(weights(out))
    for other in found[1:]:
        assert all(torch.equal(found[0][key], other[key]) for key in found[0])


def test_lines_of_any_rubbish_are_one_reason_each(tmp_path: Path) -> None:
    path = drawn(tmp_path / "data", 3)
    good = path.read_text().splitlines()
    pair = {"id": "1", "prompt": "a", "candidates": [{"uri": "a"}, {"uri": "b"}]}
    rubbish = [
        "[]", "null", "3", "[" * 100_000, "{}", '{"id": 1}',
        json.dumps(pair | {"annotations": [{"kind": "pair", "i": float("inf"), "j": 1, "label": "i"}]}),
        json.dumps(pair | {"annotations": [{"kind": "rank", "ranks": ["a", "b"]}]}),
        json.dumps(pair | {"annotations": 3, "meta": 5}), json.dumps(pair | {"annotations": [], "meta": 5}),
    ]  # fmt: skip
    path.write_bytes("\n".join([*good, "", *rubbish]).encode() + b"\n\xff\xfe{")
    skips = Skips()
    source = FileSource(path, 20, 0, ("overall",), skips=skips)
    assert len(source.heldout()) == 3
    skips.settle()
    assert skips.read == 14 and skips.lines == 11 and skips.reasons[-1].startswith("train.jsonl:")
    with pytest.raises(ValueError, match=r"train.jsonl:5: .*find all bad lines"):
        FileSource(path, 20, 0, ("overall",)).heldout()


def test_counts_are_added_up_over_processes() -> None:
    class Two:
        def sum(self, values: list[float]) -> list[float]:
            return [2 * value for value in values]

        def union(self, names: list[str]) -> list[str]:
            return sorted({*names, "line\x00a.jsonl:1\x00of the other"})

    skips = Skips()
    for _ in range(4):
        skips.saw()
    skips.bad_line("a.jsonl:2", "no JSON")
    skips.bad_media([("a.jsonl:3", "x.png: no such file"), ("a.jsonl:3", "y.png: no such file")])
    skips.settle(Two())  # type: ignore[arg-type]
    assert (skips.read, skips.lines, skips.media) == (8, 2, 1)
    skips.bad_line("a.jsonl:2", "no JSON")  # in the next epoch, or on another process
    skips.bad_media([("a.jsonl:3", "y.png: no such file")])
    skips.settle()
    assert (skips.read, skips.lines, skips.media) == (8, 2, 1)
    assert skips.reasons == [
        "a.jsonl:1: of the other", "a.jsonl:2: no JSON", "a.jsonl:3: x.png: no such file",
    ]  # fmt: skip
    again = Skips()
    again.restore(skips.state())
    again.bad_line("a.jsonl:2", "no JSON")
    again.settle()
    assert again.as_dict() == skips.as_dict()


def test_many_bad_lines_leave_room_for_media_that_cannot_be_used() -> None:
    skips = Skips()
    for number in range(1, 9):
        skips.bad_line(f"a.jsonl:{number}", "no JSON")
    skips.settle()
    again = Skips()
    again.restore(skips.state())
    for one in (skips, again):
        one.bad_media([("a.jsonl:9", "x.png: no such file")])
        one.settle()
    assert skips.reasons == again.reasons and len(skips.reasons) == SHOWN + 1
    assert "a.jsonl:9: x.png: no such file" in skips.as_dict()["first"] and "x.png" in skips.summary()
