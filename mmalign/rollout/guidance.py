"""Guidance: how the predictions for a prompt and for the negative prompt are joined.

Plain classifier-free guidance is `Policy.predict(guidance=w)`: both halves in one batch. Negative-model guidance
(Diffusion-NPO, arXiv 2505.11245) predicts the negative half under other weights:

    e = e_neg(x, uncond) + w * (e_pos(x, cond) - e_neg(x, uncond))

The same number of network evaluations as plain guidance, in two calls because the weights differ. It holds for
velocities as for noise. The paper's weights are theta_neg = theta + alpha * eta + beta * delta, eta the preference
offset of the policy and delta that of the NPO training: `Weights.merge_negative`.

Shape legend: `B` samples, `...` the shape of one latent.
"""

from __future__ import annotations

from torch import Tensor, nn

from mmalign.policies.base import Policy
from mmalign.types import Conditions


def predict(
    policy: Policy,
    noisy: Tensor,
    level: Tensor,
    conditions: Conditions,
    *,
    guidance: float = 1.0,
    negative: str | None = None,
    network: nn.Module | None = None,
) -> Tensor:
    """The policy's prediction (B, ...), its negative half under the weights called `negative` if given."""
    if negative is None or guidance <= 1.0:
        return policy.predict(noisy, level, conditions, guidance=guidance, network=network)
    if conditions.negative is None:
        raise ValueError(f"guidance {guidance} needs a negative side: encode(..., guidance={guidance})")
    given = policy.predict(noisy, level, conditions, network=network)
    with policy.weights.using(negative):
        without = policy.predict(noisy, level, negative_side(conditions), network=network)
    return without + guidance * (given - without)


def negative_side(conditions: Conditions) -> Conditions:
    """Conditions that tell the negative prompt, and otherwise the same."""
    return Conditions({**conditions.tensors, **(conditions.negative or {})})
