"""Reinforcement learning of judges that answer in words: rewards of a verdict, and the loss on its tokens.

Shape legend: `B` answers of L tokens (`where` marks the real ones), `P` pairs, `N` drawn answers a sample.

    rule_reward     f [readable] + [right] (1 + c [consistent])             R1-Reward (arXiv 2505.02835)
    out_scored      share of the loser's answers below a winner's, of the winner's above a loser's
                                                                            GCPO, Edit-R1 (2604.27505)
    within_sigmas   standardised advantages, those beyond 3 left out        StableReinforce (2505.02835)
    answer_policy   -min(rho A, clip(rho, 1 +- c) A) + k (e^d - d - 1), rho = e^(logp - old), d = ref - logp, mean
                    over the tokens of an answer                            GRPO (2402.03300)
      pre_clip      log rho is held in [log low, log high] before the exponential    StableReinforce
    answer_likelihood      mean CE over the tokens of an answer
    first_token_weighted   a CE(first) + (1 - a) mean CE(rest)              PaCo-Reward (2512.04784)

Differences from the papers: an answer that cannot be read earns 0 and is no opponent (GCPO does not say); R1-Reward's
code gave 1 when its checker failed. PaCo's code divides the first token's share by the answer's length, which leaves it
a / L: `published` repeats that.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmalign.objectives.masks import fill, known, masked_mean
from mmalign.types import Loss


def rule_reward(
    *, readable: Tensor, right: Tensor, consistent: Tensor | None = None, format_weight: float = 0.5,
    consistency_weight: float = 0.5,
) -> Tensor:  # fmt: skip
    """Rewards (B,) of verdicts from flags (B,): only a readable answer can be right.

    >>> rule_reward(readable=torch.tensor([1, 1, 0]), right=torch.tensor([1, 0, 0])).tolist()
    [1.5, 0.5, 0.0]
    """
    readable, right = readable.bool(), right.bool()
    if bool((right & ~readable).any()):
        raise ValueError("an answer that cannot be read cannot be right")
    bonus = 1.0 if consistent is None else 1.0 + consistency_weight * consistent.float()
    return format_weight * readable.float() + right.float() * bonus


def out_scored(*, winner: Tensor, loser: Tensor) -> tuple[Tensor, Tensor]:
    """Scores read from N answers for the better and M for the worse sample, (P, N) and (P, M) -> rewards in [0, 1].

    NaN is an answer that cannot be read. Where the other side has no readable answer, rewards are NaN: unknown.

    >>> [r.tolist() for r in out_scored(winner=torch.tensor([[3.0, 1.0]]), loser=torch.tensor([[2.0, 1.0]]))]
    [[[1.0, 0.0]], [[0.5, 0.5]]]
    """
    above = (winner[:, :, None] > loser[:, None, :]).float()  # false for NaN
    up = above.sum(2) / torch.isfinite(loser).sum(1, keepdim=True)
    down = above.sum(1) / torch.isfinite(winner).sum(1, keepdim=True)
    return up, down  # 0 / 0 is NaN


def within_sigmas(advantage: Tensor, *, limit: float = 3.0) -> Tensor:
    """Advantages (B,) standardised over all known entries; NaN, which excludes, beyond `limit` deviations.

    >>> within_sigmas(torch.tensor([1.0, -1.0, float("nan")])).tolist()
    [1.0, -1.0, nan]
    """
    mask = torch.isfinite(advantage)
    if not bool(mask.any()):
        return advantage
    values = advantage[mask].double()
    std = values.std(correction=0)
    scaled = (advantage - values.mean()) / std if float(std) > 0 else torch.zeros_like(advantage)
    keep = mask & (scaled.abs() <= limit)
    return torch.where(keep, scaled, torch.full_like(scaled, torch.nan)).float()


def answer_policy(
    *,
    log_prob: Tensor,
    old_log_prob: Tensor,
    advantage: Tensor,
    where: Tensor | None = None,
    clip_range: float | tuple[float, float] = 0.2,
    pre_clip: tuple[float, float] | None = None,
    reference_log_prob: Tensor | None = None,
    kl: float = 0.0,
) -> Loss:
    """The loss (B,) of answers from log-probabilities of their tokens (B, L); a NaN advantage excludes an answer.

    `pre_clip` is (low, high) for the ratio, e.g. (1e-3, 1e3): without it one unlikely token can overflow.
    """
    tokens = torch.ones_like(log_prob, dtype=torch.bool) if where is None else where.bool()
    mask = known(None, advantage)
    change = torch.where(tokens, log_prob.float() - old_log_prob.detach().float(), 0.0)
    if pre_clip is not None:
        change = change.clamp(math.log(pre_clip[0]), math.log(pre_clip[1]))
    ratio = change.exp()
    below, above = clip_range if isinstance(clip_range, tuple) else (clip_range, clip_range)
    gain = fill(advantage.detach(), mask)[:, None]
    loss = -torch.minimum(gain * ratio, gain * ratio.clamp(1 - below, 1 + above))
    metrics = {
        "ratio_deviation_max": torch.where(tokens & mask[:, None], (ratio.detach() - 1).abs(), 0.0).amax(),
        "clip_fraction": masked_mean(
            ((ratio > 1 + above) | (ratio < 1 - below)).float(), tokens & mask[:, None]
        ),
    }
    if reference_log_prob is not None:
        apart = torch.where(tokens, reference_log_prob.detach().float() - log_prob.float(), 0.0)
        divergence = apart.exp() - apart - 1
        metrics["kl"] = masked_mean(divergence, tokens & mask[:, None])
        loss = loss + kl * divergence
    per_answer = (loss * tokens).sum(1) / tokens.sum(1).clamp(min=1)
    return Loss(torch.where(mask, per_answer, torch.zeros_like(per_answer)), metrics)


def answer_likelihood(*, log_prob: Tensor, where: Tensor | None = None) -> Loss:
    """Cross entropy (B,) of given answers (B, L): the mean over the tokens of each.

    >>> answer_likelihood(log_prob=torch.tensor([[-1.0, -3.0]]), where=torch.tensor([[1, 0]])).per_sample.tolist()
    [1.0]
    """
    tokens = torch.ones_like(log_prob, dtype=torch.bool) if where is None else where.bool()
    kept = torch.where(tokens, log_prob.float(), 0.0)
    return Loss(-kept.sum(1) / tokens.sum(1).clamp(min=1), {"token": masked_mean(kept.exp(), tokens)})


def first_token_weighted(
    *, log_prob: Tensor, where: Tensor | None = None, share: float = 0.1, published: bool = False
) -> Loss:
    """Cross entropy (B,) of given answers (B, L) with `share` of the weight on the first token, the verdict.

    An answer of one token has all its weight there (`published`, the weights of PaCo's code: none).
    """
    tokens = torch.ones_like(log_prob, dtype=torch.bool) if where is None else where.bool()
    count = tokens.sum(1).float()
    lone, on_first = (0.0, share / count) if published else (1.0, torch.full_like(count, share))
    on_first = torch.where(count == 1, torch.full_like(count, lone), on_first)
    on_rest = (1 - share) / (count - 1).clamp(min=1)
    kept = torch.where(tokens, log_prob.float(), 0.0)
    loss = -on_first * kept[:, 0] - on_rest * kept[:, 1:].sum(1)
    return Loss(loss, {"first_token": masked_mean(kept[:, 0].exp(), tokens[:, 0])})
