"""What drawn verdicts earn, and the advantages that come of it; the same for every judge that is reinforced.

A sample that stands in several pairs is judged once: its verdicts meet those of all its opponents, and the reward is
the mean (with one pair a sample this is GCPO as published).

Legend: S samples, P pairs, N answers each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmalign.objectives import spoken
from mmalign.objectives.advantages import group_advantages
from mmalign.types import PreferencePair
from rewardmodels.judges.verdict_recipe import Reinforcement


def decided(pairs: Sequence[PreferencePair], *, one_prompt: bool) -> list[PreferencePair]:
    """Pairs with a winner, the winner first; those of `one_prompt` only, or a picture under two prompts as well."""
    made = []
    for pair in pairs:
        label = pair.labels.get("overall", 0.5)
        if label != 0.5 and (pair.a.prompt == pair.b.prompt or not one_prompt):
            made.append(pair if label > 0.5 else pair.swapped())
    return made


def by_rule(said: Tensor, truth: Tensor, *, format_weight: float) -> Tensor:
    """Rewards (P, N) of verdicts (P, N), of which the one that equals `truth` (P,) is right; NaN cannot be read.

    >>> by_rule(torch.tensor([[1.0, 0.0, float("nan")]]), torch.tensor([1.0]), format_weight=0.5)
    tensor([[1.5000, 0.5000, 0.0000]])
    """
    readable = torch.isfinite(said)
    right = readable & (said == truth[:, None])
    made = spoken.rule_reward(readable=readable.flatten(), right=right.flatten(), format_weight=format_weight)
    return made.view_as(said)


def by_opponents(said: Tensor, winners: Tensor, losers: Tensor, *, format_weight: float) -> Tensor:
    """Rewards (S, N) of marks (S, N): the mean over a sample's pairs (P,), and the weight of the format. Of a sample
    whose opponents have no readable mark only the format is rewarded, or a judge that lost it could not find it again.

    >>> said = torch.tensor([[3.0, 1.0], [2.0, 2.0]])
    >>> by_opponents(said, torch.tensor([0]), torch.tensor([1]), format_weight=0.0)
    tensor([[1.0000, 0.0000],
            [0.5000, 0.5000]])
    """
    up, down = spoken.out_scored(winner=said[winners], loser=said[losers])
    total, count = torch.zeros_like(said), torch.zeros_like(said)
    for places, gained in ((winners, up), (losers, down)):
        total.index_add_(0, places, gained.nan_to_num(0.0))
        count.index_add_(0, places, torch.isfinite(gained).float())
    readable = torch.isfinite(said).float()
    mean = total / count.clamp(min=1)
    return mean * readable + format_weight * readable


def advantages(reward: Tensor, how: Reinforcement) -> Tensor:
    """Advantages (S * N,) of rewards (S, N) within the answers to one question; NaN is left out."""
    rows = torch.arange(reward.shape[0]).repeat_interleave(reward.shape[1])
    made = group_advantages(reward.flatten(), rows, scale=how.advantages)
    made = torch.where(torch.isfinite(reward.flatten()), made, torch.nan)
    return made if how.filter_sigmas is None else spoken.within_sigmas(made, limit=how.filter_sigmas)


def told(reward: Tensor, said: Tensor, advantage: Tensor) -> dict[str, float]:
    """Numbers to log."""
    return {
        "reward": float(reward[torch.isfinite(reward)].mean()),
        "readable": float(torch.isfinite(said).float().mean()),
        "kept": float(torch.isfinite(advantage).float().mean()),
    }
