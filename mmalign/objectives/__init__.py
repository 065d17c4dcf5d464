"""Pure losses: tensors by role in, a loss per sample and metrics out. They know no device, rank, config or
logger.

Shape legend: `B` samples or pairs. An excluded sample (NaN weight, advantage, label; `where` false) has
loss 0.
"""

from __future__ import annotations

from mmalign.objectives.advantages import combined_advantages, group_advantages, whiten
from mmalign.objectives.dpo import dpo, margin_beta, npo
from mmalign.objectives.grpo import gaussian_kl, guard, ppo_clip
from mmalign.objectives.nft import behavior_decay, nft, optimality
from mmalign.objectives.ordinal import coral, corn, corn_survival, regression
from mmalign.objectives.ranking import choice, plackett_luce
from mmalign.objectives.reward import bradley_terry, davidson, gaussian, rao_kupper
from mmalign.objectives.rwr import reward_weights, rwr
from mmalign.objectives.sft import best_of_group, denoising_error, sft
from mmalign.objectives.shaping import clip_rewards, log_sigmoid, log_tame, rank_rewards

__all__ = [
    "behavior_decay",
    "best_of_group",
    "bradley_terry",
    "choice",
    "clip_rewards",
    "combined_advantages",
    "coral",
    "corn",
    "corn_survival",
    "davidson",
    "denoising_error",
    "dpo",
    "gaussian",
    "gaussian_kl",
    "group_advantages",
    "guard",
    "log_sigmoid",
    "log_tame",
    "margin_beta",
    "nft",
    "npo",
    "optimality",
    "plackett_luce",
    "ppo_clip",
    "rank_rewards",
    "rao_kupper",
    "regression",
    "reward_weights",
    "rwr",
    "sft",
    "whiten",
]
