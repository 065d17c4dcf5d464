"""From the rewards of an iteration to what each sample is worth to its method: one number a sample.

NaN means "leave this sample out": it could not be judged, or its group is tied and teaches nothing.

Shape legend: `N` samples of an iteration on all processes, `R` rewards, groups (N,) integers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmalign.arithmetic import apply_rule
from mmalign.composition import labels
from mmalign.config import Recipe
from mmalign.method_options import Grpo, MethodOptions, Nft, Rwr
from mmalign.objectives.advantages import combined_advantages
from mmalign.objectives.rwr import reward_weights
from mmalign.objectives.sft import best_of_group
from mmalign.rules import rule_needs_group


def combined(values: Tensor, overall: Tensor, groups: Tensor, recipe: Recipe) -> Tensor:
    """One reward (N,) from (N, R): `overall`, or a rule over whole groups; turned round for a negative model."""
    if not rule_needs_group(recipe.combine) or values.shape[1] < 2:
        reward = overall
    else:
        weights = [reward.weight for reward in recipe.rewards]
        reward = apply_rule(recipe.combine, values, weights, groups, labels(recipe.rewards))
        reward = reward.masked_fill(~torch.isfinite(overall), float("nan"))
    return -reward if recipe.method.negative and recipe.method.name not in ("dpo", "npo") else reward


def spread(rewards: Tensor, groups: Tensor) -> Tensor:
    """Highest minus lowest judged reward of each sample's group (N,); 0 where fewer than two were judged.

    >>> spread(torch.tensor([1.0, 3.0, 2.0, 2.0]), torch.tensor([0, 0, 1, 1]))
    tensor([2., 2., 0., 0.])
    """
    valid = torch.isfinite(rewards)
    names, index = groups.unique(return_inverse=True)
    ends = []
    for sign in (1.0, -1.0):
        start = torch.full((names.shape[0],), -torch.inf)
        values = torch.where(valid, sign * rewards, torch.full_like(rewards, -torch.inf))
        ends.append(start.scatter_reduce(0, index, values, reduce="amax"))
    return torch.where(torch.isinf(ends[0]), torch.zeros_like(ends[0]), ends[0] + ends[1])[index]


def best(rewards: Tensor, groups: Tensor, options: MethodOptions) -> Tensor:
    """1 for the best of every group, NaN for the rest."""
    chosen = best_of_group(rewards, groups)
    return torch.where(chosen > 0, chosen, torch.full_like(chosen, torch.nan))


def weights(rewards: Tensor, groups: Tensor, options: MethodOptions) -> Tensor:
    """Weights of reward-weighted regression, NaN where not judged."""
    assert isinstance(options, Rwr)
    made = reward_weights(
        rewards, groups, temperature=options.temperature, kind=options.weighting, cap=options.max_weight
    )
    return torch.where(torch.isfinite(rewards), made, torch.full_like(made, torch.nan))


def advantages(rewards: Tensor, groups: Tensor, options: MethodOptions) -> Tensor:
    """Group-relative advantages, NaN where not judged or, with `extremes`, in the middle of a group."""
    assert isinstance(options, (Grpo, Nft))
    made = combined_advantages(
        rewards[:, None], groups, scale=options.advantages, clip=options.advantage_clip
    )
    kept = torch.isfinite(rewards)
    if isinstance(options, Nft) and options.extremes is not None:
        kept &= outermost(rewards, groups, options.extremes)
    return torch.where(kept, made, torch.full_like(made, torch.nan))


def outermost(rewards: Tensor, groups: Tensor, num: int) -> Tensor:
    """Whether a sample is among the `num` best or `num` worst judged of its group (N,); the first of equals.

    >>> outermost(torch.tensor([0.0, 3.0, 1.0, 2.0]), torch.tensor([0, 0, 0, 0]), 1)
    tensor([ True,  True, False, False])
    """
    chosen = torch.zeros_like(rewards, dtype=torch.bool)
    for group in groups.unique().tolist():
        rows = torch.nonzero((groups == group) & torch.isfinite(rewards)).flatten()
        for descending in (True, False):
            order = rewards[rows].argsort(descending=descending, stable=True)
            chosen[rows[order[:num]]] = True
    return chosen


def extremes(rewards: Tensor, groups: Tensor, options: MethodOptions) -> Tensor:
    """1 for the best and -1 for the worst sample of every group (the first of equals), NaN for the rest."""
    credit = torch.full_like(rewards, torch.nan)
    for group in groups.unique().tolist():
        rows = torch.nonzero((groups == group) & torch.isfinite(rewards)).flatten()
        if len(rows) >= 2:
            credit[rows[rewards[rows].argmax()]] = 1.0
            credit[rows[rewards[rows].argmin()]] = -1.0
    return credit


def without_ties(credit: Tensor, rewards: Tensor, groups: Tensor) -> Tensor:
    """NaN for every sample of a group whose judged rewards are all the same."""
    return torch.where(spread(rewards, groups) > 0, credit, torch.full_like(credit, torch.nan))


def summary(rewards: Tensor, values: Tensor, names: Sequence[str], groups: Tensor) -> dict[str, float]:
    """What to log of the rewards of an iteration."""
    valid = torch.isfinite(rewards)
    kept = spread(rewards, groups) > 0
    known = rewards[valid]
    row = {
        "reward": float(known.mean()) if len(known) else float("nan"),
        "reward_std": float(known.std(unbiased=False)) if len(known) else float("nan"),
        "kept_groups": float(kept.float().mean()),
        "not_judged": float((~valid).sum()),
    }
    if len(names) > 1:
        means = values.nanmean(dim=0)
        row |= {f"reward/{name}": float(mean) for name, mean in zip(names, means, strict=True)}
    return row
