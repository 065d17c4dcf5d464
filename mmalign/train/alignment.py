"""Fine-tuning a generator as a task of the loop: gather experience, give credit, yield updates.

Online, an iteration is: prompts, rollouts under the method's sampler, decoding, rewards, credit over the gathered
groups, updates. Offline, stored pairs or samples take the place of all that. Which method it is shows only in
the record it looks up (`mmalign.train.methods`).

Shape legend: `B` micro-batch, `N` samples of an iteration, `R` rewards, `K` recorded steps, `J` draws a sample.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from mmalign.config import Recipe
from mmalign.data.prompts import Plan, Prompt, PromptSource, plan
from mmalign.method_options import Grpo
from mmalign.pending import Pending
from mmalign.policies.base import Policy
from mmalign.train import credit
from mmalign.train.distributed import Processes
from mmalign.train.evaluation import Examination
from mmalign.train.experience import Batch, RewardFunction, Rollouts, as_samples, encode, judge_later
from mmalign.train.loop import Report, Update
from mmalign.train.methods import METHODS, Context, keep_copies
from mmalign.train.noising import Draw, draw, dropped, levels_for
from mmalign.train.skips import Skips
from mmalign.train.stored import Stored
from mmalign.types import Loss, Scores

EMA = "ema"
Chunks = list[list[Batch]]


class Alignment:
    """The task. `reward` judges samples online; `stored` replaces rollouts and rewards offline."""

    def __init__(
        self,
        policy: Policy,
        recipe: Recipe,
        *,
        processes: Processes,
        prompts: PromptSource | None = None,
        reward: RewardFunction | None = None,
        stored: Stored | None = None,
        examination: Examination | None = None,
    ) -> None:
        if (stored is None) == (reward is None or prompts is None):
            raise ValueError("give either stored data, or prompts and a reward")
        self.policy, self.recipe, self.processes = policy, recipe, processes
        self.prompts, self.reward, self.stored, self.examination = prompts, reward, stored, examination
        self.method = METHODS[recipe.method.name]
        self.context = Context(policy, recipe)
        self.plan = plan_of(recipe, processes)
        if self.method.pairs and stored is None and not self.plan.whole_groups:
            raise ValueError(
                "pairs are made within a group, so a group must lie on one process: choose "
                "rollout.groups_per_iteration as a multiple of budget.updates_per_iteration x processes"
            )
        for name in self.method.copies(recipe.method):
            policy.weights.add(name)
        if recipe.ema is not None:
            policy.weights.add(EMA)
        self.numbers: dict[str, float] = {}

    # ------------------------------------------------------------ what the loop calls

    def parameters(self) -> list[nn.Parameter]:
        return self.policy.weights.trainable()

    def updates(self, iteration: int) -> Iterator[Update]:
        chunks = self._stored(iteration) if self.stored is not None else self._gather(iteration)
        for number in range(self.recipe.budget.passes):
            stream = (self.recipe.seed, iteration, number)
            for batches in chunks:
                yield (
                    self._by_steps(batches)
                    if self.method.unit == "steps"
                    else self._by_levels(batches, stream)
                )

    def finish(self, iteration: int, num_updates: int) -> Mapping[str, float]:
        numbers = dict(self.numbers)
        numbers |= keep_copies(self.policy, self.recipe.method, iteration=iteration, num_updates=num_updates)
        if self.recipe.ema is not None:
            self.policy.weights.blend(EMA, "policy", self.recipe.ema.decay)
        if self.skips is not None:
            last = iteration + 1 == self.recipe.budget.iterations
            numbers |= self.skips.finish(
                self.stored_name, last=last, num_updates=num_updates, processes=self.processes
            )
        return numbers

    def evaluate(self, iteration: int) -> Report:
        return Report() if self.examination is None else self.examination.run(self.best_weights)

    def state_dict(self) -> dict[str, Tensor]:
        counts = {} if self.skips is None else self.skips.state()
        return {**self.policy.weights.state_dict(), **counts}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        if self.skips is not None:
            self.skips.restore(state)
            state = self.skips.without(state)
        self.policy.weights.load_state_dict(state)

    def save(self, folder: Path) -> None:
        """`lora/pytorch_lora_weights.safetensors`, or the whole pipeline under `model/`; and what it is for."""
        lora = self.recipe.model.weights == "lora"
        if lora:
            self.policy.weights.save_lora(folder / "lora", self.best_weights)
        else:
            with self.policy.weights.using(self.best_weights):
                self.policy.pipeline.save_pretrained(folder / "model")
        about = {
            "base": self.recipe.model.path,
            "method": self.recipe.method.name,
            "role": "negative" if self.recipe.method.negative else "policy",
            "weights": "lora" if lora else "model",
        }
        (folder / "result.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")

    @property
    def stored_name(self) -> str:
        """The file of stored data."""
        return str(self.recipe.data.pairs or self.recipe.data.samples)

    @property
    def skips(self) -> Skips | None:
        """What was left out of stored data."""
        return None if self.stored is None else self.stored.skips

    @property
    def best_weights(self) -> str:
        """The weights that are evaluated and saved."""
        return "policy" if self.recipe.ema is None else EMA

    # ------------------------------------------------------------ experience

    def _stored(self, iteration: int) -> Chunks:
        assert self.stored is not None
        num = self.plan.num_samples
        made = [
            [self.stored.batch(iteration, index, num) for index in batches] for batches in self.plan.batches
        ]
        return [[batch for batch in batches if batch is not None] for batches in made]

    def _gather(self, iteration: int) -> Chunks:
        """Rollouts of this process, rewards where possible meanwhile, then credit from those of all processes."""
        assert self.prompts is not None
        chunks: Chunks = []
        scores: list[Pending] = []
        prompts = self.prompts.draw(self.plan.num_groups, seed=self.recipe.seed, iteration=iteration)
        for indices in self.plan.batches:
            chunk = []
            for index in indices:
                batch, judged = self._rollout(iteration, index, prompts)
                chunk.append(batch)
                scores.append(judged)
            chunks.append(chunk)
        return self._with_credit(chunks, Scores.cat([pending.result() for pending in scores]))

    def _rollout(self, iteration: int, index: Sequence[int], prompts: list[Prompt]) -> tuple[Batch, Pending]:
        assert self.reward is not None
        groups = self.plan.groups_of(index)
        asked = sorted(set(groups))
        guidance = max(self.recipe.rollout.guidance, self.recipe.method.encoded_guidance)
        encoded = encode(self.policy, [prompts[g] for g in asked], self.recipe.model, guidance=guidance)
        conditions = encoded.select([asked.index(g) for g in groups])
        rollouts = Rollouts(self.policy, self.recipe, self.method.sampler)
        trajectory = rollouts.draw(iteration, index, conditions, groups)
        clean = trajectory.clean
        names = [f"{iteration}-{i}" for i in index]
        samples, _ = as_samples(self.policy, clean, [prompts[g] for g in groups], names)
        scores = judge_later(self.reward, samples)
        kept = trajectory if self.method.unit == "steps" else None
        return Batch(torch.tensor(index), clean, conditions, torch.zeros(len(index)), trajectory=kept), scores

    def _with_credit(self, chunks: Chunks, scores: Scores) -> Chunks:
        """Rewards of all processes, in the order of the sample numbers, make the credit of each."""
        own = torch.cat([batch.index for chunk in chunks for batch in chunk])
        table = torch.cat([scores.overall.cpu()[:, None], scores.values.cpu()], dim=1)
        order = self.processes.gather(own).argsort()
        table = self.processes.gather(table)[order]
        groups = torch.arange(self.plan.num_samples) // self.plan.group_size
        rewards = credit.combined(table[:, 1:], table[:, 0], groups, self.recipe)
        given = self.method.credit(rewards, groups, self.recipe.method)
        if self.plan.group_size > 1:
            given = credit.without_ties(given, rewards, groups)
        self.numbers = credit.summary(table[:, 0], table[:, 1:], scores.names, groups)
        return [[self._credited(batch, given) for batch in chunk] for chunk in chunks]

    def _credited(self, batch: Batch, given: Tensor) -> Batch:
        return Batch(
            batch.index,
            batch.clean,
            batch.conditions,
            given[batch.index].to(batch.clean.device),
            trajectory=batch.trajectory,
        )

    # ------------------------------------------------------------ updates

    def _by_steps(self, batches: list[Batch]) -> Update:
        """Whole micro-batches as they were rolled out, at each recorded step; all-excluded ones are passed by."""
        taught = [batch for batch in batches if bool(torch.isfinite(batch.credit).any())]
        moments = [(batch, slot) for batch in taught for slot in range(num_slots(batch))]
        rows = sum(int(torch.isfinite(batch.credit).sum()) * num_slots(batch) for batch in taught)
        return Update(rows, self._losses(moments))

    def _by_levels(self, batches: list[Batch], stream: tuple[int, ...]) -> Update:
        """The samples that have credit, in micro-batches of the planned size, at each drawn level."""
        options, process = self.recipe.method, self.policy.process
        assert not isinstance(options, Grpo)
        if not batches:  # nothing of them could be read
            return Update(0, [])
        settings = options.levels
        pool = Batch.cat(batches)
        if self.method.pairs and self.stored is None:
            pool = paired(pool, self.plan.group_size)
        pool = pool.select(torch.nonzero(torch.isfinite(pool.credit.cpu())).flatten())
        if options.prompt_dropout > 0:
            lost = dropped(self.plan.num_samples, options.prompt_dropout, stream=stream)
            pool = replace(pool, conditions=pool.conditions.without_prompt(lost[pool.index.cpu()]))
        schedule = self.policy.schedule(self.recipe.rollout.num_steps, pool.clean)
        levels = levels_for(settings, process, schedule, num=self.plan.num_samples, stream=stream)
        size = max(1, self.plan.batch_size // 2) if self.method.pairs else self.plan.batch_size
        moments = (
            (batch, draw(process, levels, batch.clean, batch.index, which=which, stream=stream))
            for batch in pool.split(size)
            if len(batch.index)
            for which in range(settings.per_sample)
        )
        return Update(len(pool.index) * settings.per_sample, self._losses(moments))

    def _losses(self, moments: Iterable[tuple[Batch, Draw | int]]) -> Iterator[Callable[[], Loss]]:
        for batch, moment in moments:
            yield partial(self.method.loss, self.context, batch, moment)


def num_slots(batch: Batch) -> int:
    """Recorded steps of a batch."""
    return 0 if batch.trajectory is None else len(batch.trajectory.steps)


def plan_of(recipe: Recipe, processes: Processes) -> Plan:
    """The batch arithmetic of a recipe on these processes."""
    settings = recipe.rollout
    return plan(
        num_groups=settings.groups_per_iteration,
        group_size=settings.group_size,
        num_updates=recipe.budget.updates_per_iteration,
        num_processes=processes.num,
        rank=processes.rank,
        batch_size=settings.batch_size,
    )


def paired(pool: Batch, group_size: int) -> Batch:
    """Best and worst of each group side by side; the pair keeps the number of its winner."""
    winners = torch.nonzero(pool.credit.cpu() > 0).flatten()
    losers = torch.nonzero(pool.credit.cpu() < 0).flatten()
    groups = pool.index // group_size
    if not torch.equal(groups[winners], groups[losers]):
        by_group = {int(groups[row]): row for row in losers}
        losers = torch.tensor([int(by_group[int(groups[row])]) for row in winners], dtype=torch.long)
    chosen = pool.select(winners)
    return Batch(
        chosen.index,
        chosen.clean,
        chosen.conditions,
        chosen.credit,
        loser=pool.clean[losers.to(pool.clean.device)],
    )
