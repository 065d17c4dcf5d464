"""A fine-tuning run on a tiny random pipeline, as a function and as a process that can be killed or launched.

The reward is how red a picture is. `python tests/integration/tiny_run.py FOLDER OPTIONS_AS_JSON` runs it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from mmalign.config import Recipe
from mmalign.data.prompts import ListedPrompts, Prompt
from mmalign.policies.flux_kontext import FluxKontext
from mmalign.policies.registry import from_pipeline
from mmalign.policies.wan import Wan
from mmalign.strict import validate
from mmalign.train.alignment import Alignment
from mmalign.train.distributed import Processes
from mmalign.train.evaluation import Examination
from mmalign.train.loop import Run, Trainer
from mmalign.types import Scores
from tests.contract import tiny_pipelines

PROMPTS = ("a red circle", "a green square", "a big circle", "a small square")
FAMILIES: dict[str, dict[str, Any]] = {
    "flux_kontext": {"family": FluxKontext(text_length=8), "size": (24, 16)},
    "wan": {"family": Wan(text_length=8), "size": (32, 16), "num_frames": 5},
}
METHODS: dict[str, dict[str, Any]] = {
    "sft": {"name": "sft", "levels": {"per_sample": 1}},
    "rwr": {"name": "rwr", "levels": {"per_sample": 1}},
    "dpo": {"name": "dpo", "levels": {"per_sample": 1}, "update_reference_every": 2},
    "npo": {"name": "npo", "levels": {"per_sample": 1}},
    "grpo": {"name": "grpo", "kl": 0.01},
    "guard": {"name": "grpo", "variant": "guard"},
    "nft": {"name": "nft", "levels": {"density": "schedule", "per_sample": 1}},
}


def redness(samples) -> Scores:
    """Red minus green, averaged."""
    frames = [sample.frames() for sample in samples]
    values = torch.stack([f[:, 0].mean() - f[:, 1].mean() for f in frames]).cpu()
    return Scores.of(values[:, None], ("redness",))


def tiny_recipe(name: str = "grpo", pipeline: str = "sd3", **changes: Any) -> Recipe:
    """A recipe of a few steps; `changes` replace whole sections."""
    chosen = changes.get("method", METHODS[name])
    sde = None
    if chosen["name"] == "grpo":
        sde = {"kind": "ddim", "noise": 1.0} if pipeline in ("sd", "sdxl") else {"kind": "flow", "noise": 0.7}
    rollout = {"num_steps": 3, "group_size": 2, "groups_per_iteration": 2, "batch_size": 2, "sde": sde}
    negative = chosen["name"] == "npo"
    data: dict[str, Any] = {
        "model": {"path": pipeline},
        "rewards": [{"name": "redness"}],
        "method": chosen,
        "rollout": rollout,
        "optimizer": {"lr": 1e-3},
        "budget": {"iterations": 2},
        "evaluation": {
            "every": 4, "num_prompts": 2, "seeds_per_prompt": 1, "num_steps": 2, "guidance": 3.0 if negative else 1.0,
        },
        "checkpoint": {"every": 1, "keep": 2},
        "trackers": [],
    }  # fmt: skip
    return validate(data | changes, Recipe)


def build(
    recipe: Recipe, folder: Path, reward=redness, prompts=PROMPTS, stored=None, **options: Any
) -> Trainer:
    """The trainer of a recipe on its tiny pipeline; `stored` makes offline data for the policy."""
    torch.manual_seed(0)
    pipeline = getattr(tiny_pipelines, recipe.model.path)()
    options_of_family = FAMILIES.get(recipe.model.path, {})
    policy = from_pipeline(pipeline, weights=recipe.model.weights, rank=4, alpha=8.0, **options_of_family)
    processes = Processes()
    asked = tuple(Prompt(p) if isinstance(p, str) else p for p in prompts)
    examination = Examination(policy, recipe, asked[:2], processes, proxy=redness)
    data: dict[str, Any] = {"prompts": ListedPrompts(asked), "reward": reward}
    if stored is not None:
        data = {"stored": stored(policy)}
    task = Alignment(policy, recipe, processes=processes, examination=examination, **data)
    budget = recipe.budget
    run = Run(
        folder, budget.iterations, budget.iterations, recipe.optimizer, recipe.checkpoint, recipe.evaluation.every,
        recipe.model_dump(mode="json"), **options,
    )  # fmt: skip
    return Trainer(task, run, processes)


def record_gradients(trainer: Trainer, folder: Path) -> None:
    """Before every optimiser step the main process writes the gradients it is about to follow."""
    names = [f"{number:04d}" for number in range(len(trainer.parameters))]

    def write(*_: Any) -> None:
        gradients = {
            name: p.grad.clone()
            for name, p in zip(names, trainer.parameters, strict=True)
            if p.grad is not None
        }
        if trainer.processes.is_main:
            save_file(gradients, folder / f"gradients-{trainer.counters.updates}.safetensors")

    trainer.optimizer.register_step_pre_hook(write)


def main() -> None:
    """The process: trains, and with `gradients` in the options records them."""
    torch.set_num_threads(1)
    folder, options = Path(sys.argv[1]), json.loads(sys.argv[2])
    recipe = tiny_recipe(**options)
    trainer = build(recipe, folder)
    folder.mkdir(parents=True, exist_ok=True)
    record_gradients(trainer, folder)
    (folder / f"plan-{trainer.processes.rank}.json").write_text(json.dumps(trainer.task.plan.batches))
    trainer.train()


if __name__ == "__main__":
    main()
