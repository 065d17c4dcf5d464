"""The verb `finetune`: a recipe becomes a policy, rewards, a task and a run of the one training loop.

Output folder: `config.yaml` (resolved), `metrics.jsonl`, `samples/`, `checkpoints/`, and the result:
`lora/pytorch_lora_weights.safetensors` (or `model/` for full weights) with `result.json`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mmalign.composition import Reward, labels
from mmalign.config import Recipe, load_recipe
from mmalign.console import counted
from mmalign.data.prompts import prompt_source
from mmalign.pending import Judging
from mmalign.policies.base import Policy
from mmalign.policies.registry import load as load_policy
from mmalign.policies.sources import fitted_size
from mmalign.rules import Sum, rule_needs_group
from mmalign.seeds import seed_of
from mmalign.shapes.bundle import model_path
from mmalign.train.alignment import Alignment, plan_of
from mmalign.train.distributed import Processes
from mmalign.train.evaluation import Examination
from mmalign.train.experience import RewardFunction
from mmalign.train.loop import HALF_LOSS_SCALE, Counters, Trainer
from mmalign.train.sizes import Size
from mmalign.train.stored import Stored, describe_rows, read_rows
from mmalign.types import RewardModel
from pipelines import checks, runs
from rewardmodels.combine import Combined, build, needs_group

Say = Callable[[str], None]
Watch = Callable[[int, Mapping[str, float]], None]


def load_rewards(rewards: Sequence[Reward]) -> list[tuple[str, float, RewardModel]]:
    """The rewards of a recipe, loaded; names are made different where one is used twice."""
    names = labels(tuple(rewards))
    return [(name, reward.weight, build(reward)) for name, reward in zip(names, rewards, strict=True)]


def require_whole_groups(model: RewardModel, recipe: Recipe, processes: Processes) -> None:
    """A reward that compares the samples of a group must see them in one micro-batch."""
    if recipe.offline or not needs_group(model):
        return
    size = recipe.rollout.group_size
    for index in (index for indices in plan_of(recipe, processes).batches for index in indices):
        groups = [number // size for number in index]
        if any(groups.count(group) < size for group in set(groups)):
            raise ValueError(
                "a reward (its scale, rule or set) compares the samples of a group, and rollout.batch_size cuts "
                f"groups of {size} apart: make it a multiple of rollout.group_size, or combine at the top of the recipe"
            )


def build_policy(recipe: Recipe, *, device: torch.device | str) -> Policy:
    """The generator of a recipe with its trainable weights."""
    model = recipe.model
    return load_policy(
        model_path(model.path),
        family=None if model.family == "auto" else model.family,
        dtype=model.dtype,
        device=device,
        weights=model.weights,
        rank=model.lora.rank,
        alpha=model.lora.alpha,
        targets=model.lora.targets,
        attention=model.attention,
        size=model.size,
        num_frames=model.num_frames,
        seed=seed_of(recipe.seed, "lora") % 2**32,
    )


def build_task(recipe: Recipe, policy: Policy, processes: Processes, *, say: Say) -> Alignment:
    """Rewards, prompts or stored data, and the examination, put together."""
    reward: RewardFunction | None = None
    if recipe.rewards:  # a rule that looks at groups, if asked for, is applied later to all of them
        rule = Sum() if rule_needs_group(recipe.combine) else recipe.combine
        model = Combined(load_rewards(recipe.rewards), rule=rule)
        require_whole_groups(model, recipe, processes)
        reward = Judging(model)
    examination = None
    if recipe.evaluation.every is not None and recipe.data.heldout is not None:
        heldout = load_rewards(recipe.evaluation.rewards)
        asked = prompt_source(recipe.data.heldout).draw(recipe.evaluation.num_prompts, seed=0, iteration=0)
        examination = Examination(
            policy,
            recipe,
            asked,
            processes,
            proxy=reward,
            heldout={name: Judging(model) for name, _, model in heldout},
        )
    if recipe.offline:
        stored = stored_data(recipe, policy, say=say)
        return Alignment(policy, recipe, processes=processes, stored=stored, examination=examination)
    source = prompt_source(recipe.data.prompts)
    return Alignment(
        policy, recipe, processes=processes, prompts=source, reward=reward, examination=examination
    )


def stored_data(recipe: Recipe, policy: Policy, *, say: Say) -> Stored:
    """The rows of `data.pairs` or `data.samples`."""

    def fitted(size: Size) -> Size:
        return (1, *fitted_size(size[1:], policy, recipe.model.size))

    rows, ties, skips = read_rows(recipe, fitted)
    say(describe_rows(recipe, rows, ties, skips))
    return Stored(rows, policy, recipe, skips)


def finetune(recipe: Recipe, *, watch: Watch | None = None, say: Say | None = None) -> Counters:
    """Run a recipe to its end (or on from its newest checkpoint)."""
    trainer, task = compose(recipe, watch=watch, say=say)
    counters = trainer.train()
    if trainer.processes.is_main:
        seconds, tell = counters.seconds, say if say is not None else print
        if task.skips is not None and task.skips.bad:
            tell(task.skips.summary(task.stored_name))
        spent = f"{counted(counters.iteration, 'iteration')}, {counted(counters.updates, 'update')}"
        tell(f"done: {spent} in {seconds:.0f} s; {recipe.output}")
    if task.skips is not None:
        task.skips.conclude(task.stored_name, Path(recipe.output))
    return counters


def compose(
    recipe: Recipe, *, watch: Watch | None = None, say: Say | None = None
) -> tuple[Trainer, Alignment]:
    """Everything a recipe names, loaded and put together, ready to train; and the task it trains."""
    checks.recipe_rewards(recipe)
    checks.recipe_files(recipe)
    processes, speak = runs.begin(recipe, say if say is not None else print)
    policy = build_policy(recipe, device=processes.device)
    task = build_task(recipe, policy, processes, say=speak)
    num_trained = sum(parameter.numel() for parameter in task.parameters())
    speak(
        f"{recipe.method.name} on {recipe.model.path}: {num_trained:,} trained parameters ({recipe.model.weights}), "
        f"{processes.describe()}, attention {recipe.model.attention}"
    )
    speak(task.plan.describe())
    if processes.is_main:
        runs.write_config(recipe, Path(recipe.output))
    budget = recipe.budget
    run = runs.plan(
        recipe,
        recipe.method.name,
        budget.iterations,
        updates_each=budget.updates_per_iteration * budget.passes,
        watch=watch,
        loss_scale=HALF_LOSS_SCALE if recipe.model.dtype == "float16" else 1.0,
    )
    return Trainer(task, run, processes), task


def run(config: str | Path, overrides: Sequence[str] = (), **options: Any) -> Counters:
    """The recipe in a file or shipped under a name, with overrides, run to its end."""
    return finetune(load_recipe(config, overrides), **options)
