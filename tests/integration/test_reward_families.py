"""The recipes of the families end to end on tiny models: continued bit by bit, scored by the command, tabulated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import rewardmodels
from benchmarks import reward_families
from benchmarks.ceilings import ceiling, editscore
from benchmarks.families import FAMILIES
from mmalign.media import write
from mmalign.shapes.worlds import WORLDS
from mmalign.train.loop import Update
from mmalign.types import Sample
from pipelines import score, train_reward
from pipelines.settings import Score
from rewardmodels.judges.text import OVERALL
from rewardmodels.sources import FileSource
from rewardmodels.training import RewardTraining

TINY = [
    "model.scratch={width: 32, layers: 1, heads: 2, vision_width: 16, vision_layers: 1}", "data.shapes.families=3",
    "data.shapes.prompts=2", "data.shapes.images=2", "data.shapes.cross=4", "evaluation.num_prompts=6",
    "optimizer.warmup=1", "checkpoint.every=1",
]  # fmt: skip
NOISY = [
    "model.head_options={hidden: [16, 8], dropout: 0.2}", "method.gaussian={method: monte_carlo, points: 4}",
    "budget.updates=3", "evaluation.every=null", "evaluation.final_prompts=6", "model.weights=lora",
    "model.embeddings=special", "model.lora={rank: 2, alpha: 4, dropout: 0.1}",
]  # fmt: skip


PROMPTS = ("a red circle", "a blue square", "a green cross", "a yellow triangle")


def test_a_sum_of_exact_dimensions_reaches_the_best_only_where_worth_is_one() -> None:
    law = reward_families.LAW
    found = {name: ceiling(world, law, 60) for name, world in WORLDS.items()}
    assert found["shapes-edits"] < min(found["shapes"], found["shapes-videos"]) and max(found.values()) <= 1
    assert min(found.values()) > 0.95, found
    asked = ceiling(WORLDS["shapes-edits"], law, 60, ("instruction_following", "visual_quality"))
    assert asked < found["shapes-edits"] - 0.05  # what was preserved matters
    assert ceiling(WORLDS["shapes"], law, 60, ("overall",), lambda known: known["overall"]) == pytest.approx(
        1
    )
    assert 0.5 < ceiling(WORLDS["shapes-edits"], law, 60, (), editscore) < found["shapes-edits"] - 0.05


def test_the_formula_of_a_ceiling_is_that_of_the_judge() -> None:
    known = {"instruction_following": 0.8, "preservation": 0.4, "visual_quality": 0.9}
    said = {"success": 20.0, "preservation": 10.0, "naturalness": 22.5, "cleanness": 22.5}
    ours = editscore({name: torch.tensor(value) for name, value in known.items()})
    assert 10 * float(ours) == pytest.approx(OVERALL["editscore"](said, dict.fromkeys(said, (0.0, 25.0))))
    assert float(ours) == pytest.approx(0.6)


def test_results_of_earlier_versions_stand_in_the_table(tmp_path: Path) -> None:
    kept = list((Path(reward_families.__file__).parent / "results" / "reward_families").glob("*-like.json"))
    for file in kept:
        (tmp_path / file.name).write_text(file.read_text())
    reward_families.write_table(tmp_path)
    head, rule, *rows = (tmp_path / "table.md").read_text().splitlines()
    assert len(rows) == len(kept) > 10 and {line.count(" | ") for line in (head, rule, *rows)} == {
        len(reward_families.HEADINGS) - 1
    }


def quiet(words: str) -> None:
    """Say nothing."""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found = load_file(folder / "reward" / "model.safetensors")
    return found | load_file(folder / "reward" / "reward_head.safetensors")


def test_dropout_draws_and_adapters_go_on_bit_by_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_reward.run("reward/hpsv3-like", [*TINY, *NOISY, f"output={whole}"], say=quiet)
    updates = RewardTraining.updates

    def stop(self: RewardTraining, iteration: int) -> Iterator[Update]:
        if iteration == 1:
            raise KeyboardInterrupt
        torch.rand(7)  # other draws of the process must not matter
        return updates(self, iteration)

    with monkeypatch.context() as patch:
        patch.setattr(RewardTraining, "updates", stop)
        with pytest.raises(KeyboardInterrupt):
            train_reward.run("reward/hpsv3-like", [*TINY, *NOISY, f"output={parts}"], say=quiet)
    train_reward.run("reward/hpsv3-like", [*TINY, *NOISY, f"output={parts}"], say=quiet)
    one, two = weights(whole), weights(parts)
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_the_benchmark_trains_measures_and_tabulates_and_the_command_scores(tmp_path: Path) -> None:
    arguments = [
        "--worlds", "videos", "--families", "video-reward-like", "--updates", "2", "--num-prompts", "12",
        "--num-probes", "6", "--threads", "1", "--output", str(tmp_path / "table"), "--fresh-starts",
        "--start-updates", "2", "--set-start", *TINY[:-1], "--set", *TINY[1:-1],
    ]  # fmt: skip
    reward_families.main(arguments)
    result = json.loads((tmp_path / "table" / "videos-video-reward-like.json").read_text())
    assert set(result["probes"]) == {"wrong_prompt", "still_video"}
    assert 0 < result["quality"]["three_way"]["ratio"] <= 1
    assert 0 < result["quality"]["many_ties"]["ratio"] <= 1
    assert len(result["quality"]["dimensions"]) == 3
    reward_families.main(arguments)  # nothing is run again
    assert (tmp_path / "table" / "table.md").read_text().count("| videos |") == 1
    folder = tmp_path / "table" / "videos-video-reward-like" / "reward"
    config = json.loads((folder / "reward_config.json").read_text())
    assert (
        len(config["overall_weights"]) == 3
        and len(config["tie_width"]) == 3
        and config["modalities"] == ["video"]
    )
    block = WORLDS["shapes-videos"].make("heldout", 0, 0, num_families=1, num_prompts=1, num_images=2)
    for k in range(2):
        write(tmp_path / "clips" / f"{k}.mp4", block.images[0, k])
    settings = Score.model_validate(
        {
            "input": str(tmp_path / "clips"), "rewards": ({"name": str(folder)},), "prompt": block.prompts[0][0],
            "output": str(tmp_path / "scores"),
        }
    )  # fmt: skip
    outcome = score.run(settings)
    assert outcome.num_items == 2 and outcome.unscored == 0


def test_judges_of_token_probabilities_stand_in_the_same_table(tmp_path: Path) -> None:
    few = [one for one in TINY if one.startswith(("data", "evaluation", "checkpoint"))]
    reward_families.main(
        [
            "--worlds", "edits", "--families", "paco-like", "rewarddance-like", "--updates", "2", "--num-prompts", "8",
            "--num-probes", "4", "--threads", "1", "--output", str(tmp_path), "--fresh-starts", "--start-updates", "1",
            "--start-rounds", "1", "--set-start", *TINY, "--set", *few, "judge.batch_size=24",
        ]
    )  # fmt: skip
    for family in ("paco-like", "rewarddance-like"):
        result = json.loads((tmp_path / f"edits-{family}.json").read_text())
        assert set(result["probes"]) == {"wrong_prompt", "identity_edit"}
        quality, times = result["quality"], FAMILIES[family].longer.get("edits", 1)
        assert quality["updates"] == 2 * times
        assert all(0 < one["ratio"] <= 1 for one in (quality, quality["three_way"], quality["many_ties"]))
    assert (tmp_path / "table.md").read_text().count("| edits |") == 2


def test_so_do_judges_that_write(tmp_path: Path) -> None:
    few = [one for one in TINY if one.startswith(("data", "evaluation", "checkpoint"))]
    reward_families.main(
        [
            "--worlds", "images", "--families", "unifiedreward-like", "--updates", "2", "--num-prompts", "8",
            "--num-probes", "4", "--threads", "1", "--output", str(tmp_path), "--set", *few, "judge.batch_size=24",
        ]
    )  # fmt: skip
    quality = json.loads((tmp_path / "images-unifiedreward-like.json").read_text())["quality"]
    times = FAMILIES["unifiedreward-like"].longer["images"]
    assert quality["updates"] == 2 * times and "threshold" in quality["three_way"]
    assert all(0 < one["ratio"] <= 1 for one in (quality, quality["three_way"], quality["many_ties"]))
    assert len((tmp_path / "table.md").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    "words",
    [["method.absolute.weight=0.2"], ["method.loss=binary", "method.margin=0"]],
    ids=["beside", "alone"],
)
def test_items_that_are_good_or_bad_teach_beside_pairs_or_alone(words: list[str], tmp_path: Path) -> None:
    few = [
        "budget.updates=2",
        "evaluation.every=null",
        "evaluation.final_prompts=6",
        f"output={tmp_path / 'run'}",
    ]
    quality = train_reward.run(
        "reward/soli-reward-like",
        [*TINY, "model.head_options={layers: [0, 1], num_heads: 2}", *few, *words],
        say=quiet,
    )
    config = json.loads((tmp_path / "run" / "reward" / "reward_config.json").read_text())
    assert config["std"] != [1.0] and config["temperature"] > 0
    assert quality["num_pairs"] == 36 and quality["calibration_error"] >= 0
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any("absolute_accuracy" in key for key in logged[0]) == (len(words) == 1)


ASPECTS = ["instruction_following", "visual_quality", "preservation"]


@pytest.mark.parametrize(
    ("recipe", "dimensions"), [("coral-like", ASPECTS), ("docreward-like", ["visual_quality"])]
)
def test_recipes_beside_others_train_save_and_score(
    recipe: str, dimensions: list[str], tmp_path: Path
) -> None:
    few = ["budget.updates=2", "evaluation.every=null", "evaluation.final_prompts=6"]
    quality = train_reward.run(f"reward/{recipe}", [*TINY, *few, f"output={tmp_path / 'run'}"], say=quiet)
    assert quality["num_pairs"] > 0
    reward = rewardmodels.load(str(tmp_path / "run" / "reward"))
    image = torch.rand(3, 32, 32)
    source = image.flip(2) if recipe == "coral-like" else None
    scores = reward(samples=[Sample(prompt, image, source) for prompt in PROMPTS[:2]])
    assert list(scores.names) == dimensions and bool(scores.valid.all())
    blind = torch.allclose(scores.values[0], scores.values[1], atol=1e-6)
    assert blind == (recipe == "docreward-like")  # a page is judged without a prompt


def test_ratings_are_read_from_files(tmp_path: Path) -> None:
    images = WORLDS["shapes"].make("train", 0, 0, num_families=4, num_prompts=1, num_images=2).images
    lines = []
    for f in range(4):
        uris = [f"{f}-{k}.png" for k in range(2)]
        for k, uri in enumerate(uris):
            write(tmp_path / uri, images[f, k])
        lines.append(
            {
                "schema": "mmalign.pref/1", "id": str(f), "prompt": PROMPTS[f],
                "candidates": [{"id": uri, "uri": uri} for uri in uris],
                "annotations": [
                    {"dim": "overall", "kind": "rating", "scores": [1 + f, 4 - f], "min": 1, "max": 4}
                ],
            }
        )  # fmt: skip
    path = tmp_path / "ratings.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    (first, *_) = FileSource(path, 4, 0, ("overall",)).rated(0, 0.0)
    assert first.metadata["ratings"]["overall"] in (1.0, 2.0, 3.0, 4.0)
    quality = train_reward.run(
        "reward/vefx-like",
        [
            *TINY, "model.template=source-media-prompt/1", "method.dimensions=[overall]", "method.fit_overall=false",
            f"data.pairs={path}", f"data.heldout={path}", f"data.calibration={path}", "budget.updates=2",
            "data.comparisons_per_bundle=3", f"output={tmp_path / 'run'}",
        ],
        say=quiet,
    )  # fmt: skip
    assert 0 < quality["num_pairs"] < 4  # one file for both: the other prompts calibrate
    with pytest.raises(ValueError, match="no ratings of beauty"):
        FileSource(path, 2, 0, ("beauty",)).rated(0, 0.0)
