"""Policy gradients on stochastic denoising steps: clipped ratios, GRPO-Guard, KL to the reference.

Shape legend: `B` samples at one denoising step each, `...` the shape of one latent. Log-probs (B,) are
means over dimensions (see `mmalign.process`).

Sources: DDPO (arXiv 2305.13301), Flow-GRPO (2505.05470), DanceGRPO (2505.07818): rho = exp(logp -
logp_old), L = max(-A rho, -A clip(rho, 1-c, 1+c)). GRPO-Guard (2510.22319): rho^ = exp((logp - logp_old +
|dmu|^2 / (2 std^2)) std), L / |dt|. KL of two Gaussians with the same std: |mu - mu_ref|^2 / (2 std^2).

Differences from the papers: norms are MEANS over dimensions, as in the authors' code, so c is tiny (1e-3
... 1e-5): a ratio of means over 65k dimensions moves by about 1e-4. flow_grpo's KL omits |dt| in the
variance (form "flow_grpo", equal to the exact KL times |dt|); its Wan script uses the exact one. Guard's
1/|dt| is per sample here; the code divides by the batch mean of sqrt(-dt), squared, the same when all
samples share the step. Flow-Factory leaves it out (`dt=None`). Guard needs Gaussian log-probs: not for CPS.
flow_grpo's newer code detaches the unconditional half of guidance in the replay; here the gradient is the exact
one of the guided field, so learning rates of guided runs do not carry over. Its Wan script's factor
mean(s) / mean(sqrt(-dt)) has no counterpart here.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mmalign.objectives.masks import known, masked_mean
from mmalign.types import Loss


def ppo_clip(
    *,
    log_prob: Tensor,
    old_log_prob: Tensor,
    advantage: Tensor,
    clip_range: float | tuple[float, float],
    advantage_clip: float | None = 5.0,
    where: Tensor | None = None,
) -> Loss:
    """The clipped surrogate per sample; `clip_range` is c or (below, above); a NaN advantage excludes the
    sample.
    """
    change = log_prob.float() - old_log_prob.detach().float()
    return _clipped(change, advantage, clip_range, advantage_clip, where)


def guard(
    *,
    log_prob: Tensor,
    old_log_prob: Tensor,
    mean: Tensor,
    old_mean: Tensor,
    std: Tensor,
    advantage: Tensor,
    clip_range: float | tuple[float, float],
    dt: Tensor | None = None,
    advantage_clip: float | None = 5.0,
    where: Tensor | None = None,
) -> Loss:
    """GRPO-Guard: ratios centred on 1 and evened over steps; `dt` is next level - level, scalar or (B,)."""
    std = std.detach().float()
    shift = (mean.float() - old_mean.detach().float()).square().flatten(1).mean(dim=1) / (2 * std.square())
    change = (log_prob.float() - old_log_prob.detach().float() + shift) * std
    loss = _clipped(change, advantage, clip_range, advantage_clip, where)
    return loss if dt is None else Loss(loss.per_sample / dt.detach().float().abs(), loss.metrics)


def gaussian_kl(
    *,
    mean: Tensor,
    reference_mean: Tensor,
    std: Tensor,
    form: Literal["exact", "flow_grpo"] = "exact",
    dt: Tensor | None = None,
) -> Tensor:
    """KL (B,) from policy to reference step; form "flow_grpo" is the exact one times |dt|."""
    error = (mean.float() - reference_mean.detach().float()).square().flatten(1).mean(dim=1)
    exact = error / (2 * std.detach().float().square())
    if form == "exact":
        return exact
    if dt is None:
        raise ValueError("the flow_grpo form of the KL needs dt, the next level minus the level")
    return exact * dt.detach().float().abs()


def _clipped(
    change: Tensor,
    advantage: Tensor,
    clip_range: float | tuple[float, float],
    advantage_clip: float | None,
    where: Tensor | None,
) -> Loss:
    """max(-A rho, -A clip(rho)) with rho = exp(change)."""
    below, above = clip_range if isinstance(clip_range, tuple) else (clip_range, clip_range)
    advantage = advantage.detach().float()
    mask = known(where, advantage)
    advantage = advantage.nan_to_num(0.0, posinf=0.0, neginf=0.0)
    if advantage_clip is not None:
        advantage = advantage.clamp(-advantage_clip, advantage_clip)
    ratio = change.exp()
    loss = torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - below, 1 + above))
    outside = ((ratio > 1 + above) & (advantage > 0)) | ((ratio < 1 - below) & (advantage < 0))
    deviation = torch.where(mask, (ratio.detach() - 1).abs(), torch.zeros_like(ratio))
    metrics = {
        "ratio": masked_mean(ratio, mask),
        "ratio_deviation": deviation.amax(),
        "clip_fraction": masked_mean(outside.float(), mask),
        "approx_kl": masked_mean(0.5 * change.square(), mask),
    }
    return Loss(torch.where(mask, loss, torch.zeros_like(loss)), metrics)
