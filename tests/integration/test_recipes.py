"""Every method runs on both processes and with both kinds of weights, learns in the right direction, and skips
what teaches nothing; `validate` says what a recipe comes to."""

import json
from dataclasses import replace

import pytest
import torch
from diffusers import DiffusionPipeline

from mmalign.config import available_recipes, load_recipe
from mmalign.data.prompts import Prompt
from mmalign.media import write
from mmalign.train.loop import learning_rate
from mmalign.train.stored import Stored, read_pairs, read_samples
from mmalign.train.trackers import read_metrics
from mmalign.types import Scores
from pipelines import validate
from tests.contract import tiny_pipelines
from tests.integration.tiny_run import METHODS, build, redness, tiny_recipe

CASES = [
    *((name, "sd3", "lora") for name in METHODS),
    ("grpo", "sd", "lora"),
    ("nft", "sd", "lora"),
    ("nft", "sd3", "full"),
    ("dpo", "sd", "full"),
    *((name, family, "lora") for family in ("sdxl", "flux_kontext", "wan") for name in ("grpo", "nft")),
]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _train(folder, name, pipeline="sd3", weights="lora", iterations=1, reward=redness, **changes):
    changes = {"budget": {"iterations": iterations}, "evaluation": {"every": None}} | changes
    recipe = tiny_recipe(name, pipeline, model={"path": pipeline, "weights": weights}, **changes)
    prompts = ["make the circle red", "make the square green"]
    if pipeline == "flux_kontext":
        source = write(folder / "source.png", torch.rand(1, 3, 24, 16))
        prompts = [Prompt(text, source) for text in prompts]
    trainer = build(recipe, folder, reward=reward, prompts=prompts)
    before = [p.detach().clone() for p in trainer.parameters]
    counters = trainer.train()
    moved = any(not torch.equal(old, new) for old, new in zip(before, trainer.parameters, strict=True))
    return counters, moved, read_metrics(folder)


@pytest.mark.parametrize("name,pipeline,weights", CASES)
def test_a_method_takes_a_step(tmp_path, name, pipeline, weights):
    counters, moved, rows = _train(tmp_path, name, pipeline, weights)
    assert counters.updates == 1
    assert moved
    assert rows[-1]["loss"] is not None
    assert rows[-1]["grad_norm"] > 0
    if METHODS[name]["name"] == "grpo":
        assert rows[-1]["first_ratio_deviation"] == 0.0
    expected = "lora/pytorch_lora_weights.safetensors" if weights == "lora" else "model/model_index.json"
    assert (tmp_path / expected).is_file()


def test_the_saved_lora_loads_into_the_stock_pipeline(tmp_path):
    _train(tmp_path, "sft", "sd")
    pipeline = tiny_pipelines.sd()
    pipeline.load_lora_weights(str(tmp_path / "lora"))
    assert pipeline.get_active_adapters()


def test_the_saved_model_loads_as_a_stock_pipeline(tmp_path):
    _train(tmp_path, "sft", "sd", "full")
    assert type(DiffusionPipeline.from_pretrained(tmp_path / "model")).__name__ == "StableDiffusionPipeline"


@pytest.mark.parametrize("name", ["grpo", "nft", "dpo", "rwr", "sft"])
def test_tied_groups_teach_nothing(tmp_path, name):
    def same(samples):
        return Scores.of(torch.ones(len(samples), 1), ("same",))

    counters, moved, rows = _train(tmp_path, name, reward=same)
    assert not moved
    assert counters.updates == 0
    assert rows[-1]["kept_groups"] == 0.0
    assert rows[-1]["empty_updates"] == 1.0


@pytest.mark.parametrize("name", ["grpo", "nft", "rwr"])
def test_a_failed_judgement_is_left_out_and_counted(tmp_path, name):
    def fails_once(samples):
        scores = redness(samples)
        valid = torch.tensor([sample.id != "0-0" for sample in samples])
        reasons = tuple(None if good else "broken" for good in valid.tolist())
        return Scores(scores.values, scores.names, scores.overall, valid, reasons)

    counters, moved, rows = _train(tmp_path, name, reward=fails_once)
    assert (counters.updates, moved) == (1, True)
    assert rows[-1]["not_judged"] == 1.0
    assert rows[-1]["kept_groups"] == 0.5  # the other sample of that group has nobody to be compared with


def test_a_reward_with_the_wrong_number_of_scores_is_named(tmp_path):
    def short(samples):
        return redness(samples[:-1])

    with pytest.raises(ValueError, match="gave 1 scores for 2 samples"):
        _train(tmp_path, "sft", reward=short)


def test_a_step_of_grpo_makes_good_samples_likelier(tmp_path):
    """The surrogate -A ratio is exactly the mean advantage before the first step, and lower after it."""
    method = {"name": "grpo", "clip_range": 0.5, "advantages": "group"}
    _, _, rows = _train(tmp_path, "grpo", method=method, budget={"iterations": 1, "passes": 2})
    assert rows[-1]["first_ratio_deviation"] == 0.0
    assert rows[-1]["ratio_deviation_max"] > 0.0  # the second pass sees changed weights
    assert rows[-1]["loss"] < 0.0  # mean of 0 before and less after


def test_an_untrained_negative_model_is_plain_guidance(tmp_path):
    guided = {"every": 4, "num_prompts": 2, "seeds_per_prompt": 1, "num_steps": 2, "guidance": 3.0}
    _, _, negative = _train(tmp_path / "npo", "npo", evaluation=guided)
    _, _, plain = _train(tmp_path / "sft", "sft", evaluation=guided)
    assert negative[0]["eval/reward"] == pytest.approx(plain[0]["eval/reward"], abs=1e-6)
    assert negative[-1]["eval/reward"] != negative[0]["eval/reward"]


# ---------------------------------------------------------------- stored data


@pytest.fixture
def stored_files(tmp_path):
    """Two prompts with a red and a green picture each; the red one is better."""
    red, green = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
    red[:, 0], green[:, 1] = 1.0, 1.0
    write(tmp_path / "red.png", red)
    write(tmp_path / "green.png", green)
    candidates = [{"id": "a", "uri": "green.png"}, {"id": "b", "uri": "red.png"}]
    notes = [("j", None), ("tie", None), ("j", 0.2)]
    pairs = [
        {"schema": "mmalign.pref/1", "id": str(n), "prompt": f"a circle {n}", "candidates": candidates,
         "annotations": [{"dim": "overall", "kind": "pair", "i": 0, "j": 1, "label": label, "p": chance}]}
        for n, (label, chance) in enumerate(notes)
    ]  # fmt: skip
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    samples = [
        {"prompt": "a circle", "media": name, "reward": reward}
        for name, reward in (("red.png", 1), ("green.png", 0))
    ]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in samples))
    return tmp_path


def test_pairs_put_the_better_picture_first_and_count_ties(stored_files):
    rows, left_out = read_pairs(stored_files / "pairs.jsonl")
    assert left_out == 1
    assert [row.media.name for row in rows] == ["red.png", "red.png"]
    assert [row.rejected.name for row in rows] == ["green.png", "green.png"]
    assert [row.credit for row in rows] == [1.0, 0.8]


def test_offline_pairs_and_samples_train(stored_files, tmp_path):
    for name, key in (("dpo", "pairs"), ("npo", "pairs"), ("sft", "samples"), ("rwr", "samples")):
        file = str(stored_files / f"{key}.jsonl")
        recipe = tiny_recipe(
            name, data={key: file}, rewards=[], evaluation={"every": None}, budget={"iterations": 2}
        )
        rows = read_pairs(file)[0] if key == "pairs" else read_samples(file, recipe)
        trainer = build(
            recipe,
            tmp_path / name,
            stored=lambda policy, rows=rows, recipe=recipe: Stored(rows, policy, recipe),
        )
        assert trainer.train().updates == 2


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_without_its_prompt_a_sample_teaches_the_unconditional_half(stored_files, tmp_path, share):
    """With every prompt dropped the loss no longer depends on the words; otherwise it does."""
    losses = []
    for words in ("a circle", "two squares"):
        method = {"name": "sft", "levels": {"per_sample": 1}, "prompt_dropout": share}
        recipe = tiny_recipe("sft", method=method, evaluation={"every": None}, budget={"iterations": 1},
                             data={"samples": str(stored_files / "samples.jsonl")}, rewards=[])  # fmt: skip
        rows = [replace(row, prompt=Prompt(words)) for row in read_samples(recipe.data.samples, recipe)]
        trainer = build(
            recipe, tmp_path / words, stored=lambda policy, r=recipe, w=rows: Stored(w, policy, r)
        )
        trainer.train()
        losses.append(read_metrics(tmp_path / words)[-1]["loss"])
    assert (losses[0] == losses[1]) == (share == 1.0)


def test_mistakes_in_stored_files_name_the_line(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"prompt": "a", "annotations": [{"dim": "overall", "kind": "pair", "label": "i"}]}\n')
    with pytest.raises(ValueError, match=r"pairs.jsonl:1"):
        read_pairs(path)
    path.write_text("not json\n")
    with pytest.raises(ValueError, match=r"pairs.jsonl:1"):
        read_pairs(path)


# ---------------------------------------------------------------- arithmetic


def test_learning_rate_warms_up_and_falls():
    settings = load_recipe(
        "sft/shapes-flow", ["optimizer.warmup=4", "optimizer.schedule=cosine", "optimizer.lr=1.0"]
    ).optimizer
    rates = [learning_rate(settings, update, 12) for update in range(13)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert rates[8] == pytest.approx(0.5)
    assert rates[12] == pytest.approx(0.0)


@pytest.mark.parametrize(
    "name", [n for n in available_recipes() if n.split("/")[0] not in ("reward", "plural", "judge", "clip")]
)
def test_shipped_recipes_divide_on_one_and_two_processes(name):
    recipe = load_recipe(name)
    for num_processes in (1, 2):
        assert "groups whole on a process" in validate.arithmetic(recipe, num_processes=num_processes)


def test_the_memory_estimate_counts_the_real_parameters(tmp_path):
    pipeline = tiny_pipelines.sd3()
    pipeline.save_pretrained(tmp_path)
    shapes = validate.component_shapes(tmp_path / "transformer")
    assert validate.count(shapes) == sum(p.numel() for p in pipeline.transformer.parameters()) + sum(
        b.numel() for name, b in pipeline.transformer.named_buffers() if name in shapes
    )
    recipe = tiny_recipe("nft", model={"path": str(tmp_path), "lora": {"rank": 4, "alpha": 8.0}})
    trainer = build(tiny_recipe("nft"), tmp_path / "run")  # rank 4 on the same pipeline
    memory = validate.estimate(recipe, tmp_path, num_processes=1)
    trained = sum(p.numel() for p in trainer.parameters)
    assert memory.trained == trained
    assert memory.optimizer == 12 * trained
    assert memory.copies == 4 * trained  # the old policy
    assert "together, without activations" in validate.report(recipe)


def test_a_prompt_that_is_asked_again_is_judged_on_further_pictures(tmp_path):
    trainer = build(tiny_recipe("sft"), tmp_path, prompts=("a cat", "a cat"))
    report = trainer.task.evaluate(0)
    assert [(row["prompt"], row["seed"]) for row in report.rows] == [("a cat", 0), ("a cat", 1)]
    assert report.rows[0]["scores"] != report.rows[1]["scores"]
