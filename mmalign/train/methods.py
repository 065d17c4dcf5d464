"""The methods: each a record of what it needs, and one small function from a micro-batch to a loss.

| method | rollout | kept | further weights | objective |
|---|---|---|---|---|
| sft | ODE of the reference, or stored | best clean samples | - | denoising error |
| rwr | ODE of the reference, or stored | clean samples, weights | - | weighted denoising error |
| dpo | ODE or stored | clean pairs | reference (simpo: none) | errors of both, same noise and level |
| npo | ODE of the reference, or stored | clean pairs | reference (simpo: none) | as dpo, with labels turned |
| grpo | SDE | trajectory | reference if KL | clipped ratio of step log-probs |
| nft | ODE | clean samples, advantages | old (the sampler), reference | implicit positive and negative policy |

The loop knows none of these names. `negative` turns the labels of any of them (`credit.combined`, `npo`).

Differences from the papers: those of `mmalign.objectives`; besides, stochastic rollouts leave out the last step
of Flow-SDE and Dance-SDE unless the window says otherwise (their samples then end clean), tied groups give no
gradient in any method, and losses are means over the samples kept.

Shape legend: `B` micro-batch, `K` recorded steps, `...` the shape of one latent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from mmalign.config import Recipe
from mmalign.method_options import Dpo, Grpo, MethodOptions, Nft
from mmalign.objectives.dpo import dpo, npo
from mmalign.objectives.grpo import gaussian_kl, guard, ppo_clip
from mmalign.objectives.nft import behavior_decay, nft, optimality
from mmalign.objectives.rwr import rwr
from mmalign.objectives.sft import denoising_error, sft
from mmalign.policies.base import Policy
from mmalign.rollout import replay
from mmalign.train import credit
from mmalign.train.experience import Batch, sde_of
from mmalign.train.noising import Draw
from mmalign.types import Conditions, Loss

OLD, ANCHOR = "old", "anchor"


@dataclass(frozen=True, eq=False)
class Context:
    """What a loss may look at beside its micro-batch."""

    policy: Policy
    recipe: Recipe

    @property
    def options(self) -> Any:
        return self.recipe.method

    def predict(
        self, noisy: Tensor, draw: Draw, conditions: Conditions, *, weights: str = "policy"
    ) -> Tensor:
        """The network's prediction; gradients flow for the policy's own weights only."""
        guidance = self.options.guidance
        with torch.set_grad_enabled(weights == "policy"), self.policy.weights.using(weights):
            return self.policy.predict(noisy, draw.level, conditions, guidance=guidance)

    def error(self, clean: Tensor, draw: Draw, conditions: Conditions, *, weights: str = "policy") -> Tensor:
        """The denoising error (B,)."""
        prediction = self.predict(draw.noisy(clean), draw, conditions, weights=weights)
        return denoising_error(prediction=prediction, target=draw.target(clean))


# ---------------------------------------------------------------- one function a method


def sft_loss(context: Context, batch: Batch, draw: Draw) -> Loss:
    return sft(error=context.error(batch.clean, draw, batch.conditions), weight=batch.credit)


def rwr_loss(context: Context, batch: Batch, draw: Draw) -> Loss:
    return rwr(error=context.error(batch.clean, draw, batch.conditions), weight=batch.credit)


def pair_loss(context: Context, batch: Batch, draw: Draw) -> Loss:
    """Winner and loser share noise and level, and go through the network together."""
    options = context.options
    assert isinstance(options, Dpo)
    assert batch.loser is not None
    num = batch.clean.shape[0]
    both = torch.cat([batch.clean, batch.loser])
    shared = replace(draw, level=draw.level.repeat(2), noise=torch.cat([draw.noise, draw.noise]))
    conditions = Conditions.cat([batch.conditions, batch.conditions])
    errors = context.error(both, shared, conditions)
    reference: tuple[Tensor | None, Tensor | None] = (None, None)
    if options.variant != "simpo":
        known = context.error(both, shared, conditions, weights=reference_name(options))
        reference = known[:num], known[num:]
    objective = npo if options.negative else dpo
    return objective(
        policy_winner=errors[:num],
        policy_loser=errors[num:],
        reference_winner=reference[0],
        reference_loser=reference[1],
        beta=options.beta,
        variant=options.variant,
        label=batch.credit,
        label_smoothing=options.label_smoothing,
        gamma=options.gamma,
        penalty=options.penalty,
        anchor=options.anchor,
    )


def grpo_loss(context: Context, batch: Batch, slot: int) -> Loss:
    """The recorded step number `slot` judged again by the present weights."""
    options, trajectory, sde = context.options, batch.trajectory, sde_of(context.recipe)
    assert isinstance(options, Grpo)
    assert trajectory is not None
    assert sde is not None
    step = int(trajectory.steps[slot])
    now = replay(context.policy, trajectory, step, sde=sde, guidance=options.guidance)
    dt = trajectory.levels[step + 1] - trajectory.levels[step]
    shared: dict[str, Any] = {
        "log_prob": now.log_prob,
        "old_log_prob": trajectory.log_probs[:, slot],
        "advantage": batch.credit,
        "clip_range": options.clip_range,
        "advantage_clip": options.advantage_clip,
    }
    if options.variant == "guard":
        assert trajectory.means is not None
        flow_dt = dt if context.policy.process.kind == "flow" else None
        old_mean = trajectory.means[:, slot]
        loss = guard(mean=now.mean, old_mean=old_mean, std=now.std, dt=flow_dt, **shared)
    else:
        loss = ppo_clip(**shared)
    metrics = {key: value for key, value in loss.metrics.items() if key != "ratio_deviation"}
    metrics["ratio_deviation_max"] = loss.metrics["ratio_deviation"]
    per_sample = loss.per_sample
    if options.kl > 0:
        with torch.no_grad(), context.policy.weights.using("reference"):
            reference = replay(context.policy, trajectory, step, sde=sde, guidance=options.guidance)
        kl = gaussian_kl(
            mean=now.mean, reference_mean=reference.mean, std=now.std, form=options.kl_form, dt=dt
        )
        per_sample = per_sample + options.kl * torch.where(
            torch.isfinite(batch.credit), kl, torch.zeros_like(kl)
        )
        metrics["kl"] = kl.detach().mean()
    return Loss(per_sample, metrics)


def nft_loss(context: Context, batch: Batch, draw: Draw) -> Loss:
    """Policy, behaviour and reference predict from the same noisy latents."""
    options, process = context.options, context.policy.process
    assert isinstance(options, Nft)
    noisy = draw.noisy(batch.clean)
    prediction = context.predict(noisy, draw, batch.conditions)
    behavior = context.predict(noisy, draw, batch.conditions, weights=OLD)
    kl = None
    if options.kl > 0:
        reference = context.predict(noisy, draw, batch.conditions, weights="reference")
        kl = denoising_error(prediction=prediction, target=reference)
    return nft(
        prediction_clean=process.predict_clean(noisy, prediction, draw.level),
        behavior_clean=process.predict_clean(noisy, behavior, draw.level),
        clean=batch.clean,
        optimality=optimality(batch.credit, clip=options.advantage_clip),
        beta=options.beta,
        scale=options.scale,
        kl=kl,
        kl_weight=options.kl,
    )


# ---------------------------------------------------------------- further weights


def reference_name(options: Dpo) -> str:
    """The fixed reference, or a copy that follows the policy."""
    return "reference" if options.update_reference_every is None else ANCHOR


def no_copies(options: MethodOptions) -> tuple[str, ...]:
    return ()


def old_copy(options: MethodOptions) -> tuple[str, ...]:
    return (OLD,)


def anchor_copy(options: MethodOptions) -> tuple[str, ...]:
    assert isinstance(options, Dpo)
    return () if options.update_reference_every is None else (ANCHOR,)


def keep_copies(
    policy: Policy, options: MethodOptions, *, iteration: int, num_updates: int
) -> dict[str, float]:
    """After an iteration: the old policy follows, a moving reference jumps. Numbers to log."""
    if isinstance(options, Nft):
        decay = decay_of(options, num_updates)
        policy.weights.blend(OLD, "policy", decay)
        return {"old_decay": decay}
    every = options.update_reference_every if isinstance(options, Dpo) else None
    if every is not None and (iteration + 1) % every == 0:
        policy.weights.copy("policy", ANCHOR)
    return {}


def decay_of(options: Nft, num_updates: int) -> float:
    """How much of the old policy stays.

    >>> decay_of(Nft(name="nft"), 200)
    0.2
    """
    kind = options.decay.type
    if kind == "ema":
        return options.decay.value
    kinds: tuple[Literal["copy"], Literal["slow"], Literal["late"]] = ("copy", "slow", "late")
    return behavior_decay(num_updates, kind=kinds[kind])


# ---------------------------------------------------------------- the records


@dataclass(frozen=True)
class Method:
    """What a method needs. `unit` is what a loss is taken at: sampled levels, or recorded steps."""

    unit: Literal["levels", "steps"]
    credit: Callable[[Tensor, Tensor, MethodOptions], Tensor]
    loss: Callable[[Context, Batch, Any], Loss]
    pairs: bool = False
    sampler: str = "policy"
    copies: Callable[[MethodOptions], tuple[str, ...]] = no_copies


_PAIRS = Method("levels", credit.extremes, pair_loss, pairs=True, copies=anchor_copy)
METHODS: dict[str, Method] = {
    # without a contrast, samples of an Euler solver narrow the model that is trained on them: the base draws
    "sft": Method("levels", credit.best, sft_loss, sampler="reference"),
    "rwr": Method("levels", credit.weights, rwr_loss, sampler="reference"),
    "dpo": _PAIRS,
    "npo": replace(_PAIRS, sampler="reference"),  # the negative model itself never draws
    "grpo": Method("steps", credit.advantages, grpo_loss),
    "nft": Method("levels", credit.advantages, nft_loss, sampler=OLD, copies=old_copy),
}
