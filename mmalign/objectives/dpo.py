"""Preference pairs: Diffusion-DPO and its relatives, and NPO, which is the same with the labels turned.

Shape legend: `B` pairs. All errors are denoising errors (B,), mean over dimensions, taken at the SAME noise
and level for the two samples of a pair and for policy and reference (draw them once).

With Dw = policy_winner - reference_winner and Dl likewise, m = -beta/2 (Dw - Dl):

    sigmoid  -log S(m)          Diffusion-DPO (arXiv 2311.12908, eq. 14); Flow-DPO (2501.13918) with flow errors
             label_smoothing e: -(1-e) log S(m) - e log S(-m), cDPO; `label` p: the same with p for 1-e
    robust   [-(1-e) log S(m) + e log S(-m)] / (1 - 2e)      robust DPO (2403.00409)
    ipo      (z - 1/(2 beta))^2, z = -(Dw - Dl)/2            IPO (2310.12036), its tau is our beta
    hinge    relu(1 - m)                                     SLiC (2305.10425)
    smpo     -log S((2p - 1) m)                              SmPO (2506.02698), needs `label`
    simpo    -log S(beta (err_l - err_w) - gamma)            SimPO (2405.14734), needs no reference
    NPO      DPO with winner and loser exchanged             Diffusion-NPO (2505.11245)

Differences from the papers: T and the weight omega(lambda_t) are absorbed in beta and the squared norm is a
MEAN over dimensions, as in the authors' code (beta 2000-5000). Flow-DPO's theory has beta (1-t)^2, its
practice, and ours, a constant beta. diffusers' SD 1.5 script lacks the 1/2: its beta 2500 is our 5000.
SmPO's code has a further factor 10. `penalty` adds DPO-positive's relu(Dw) (2402.13228) to Dw - Dl;
`anchor` adds anchor * policy_winner to the loss.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mmalign.objectives.masks import known, masked_mean
from mmalign.types import Loss

Variant = Literal["sigmoid", "robust", "ipo", "hinge", "smpo", "simpo"]


def dpo(
    *,
    policy_winner: Tensor,
    policy_loser: Tensor,
    reference_winner: Tensor | None = None,
    reference_loser: Tensor | None = None,
    beta: float | Tensor,
    variant: Variant = "sigmoid",
    label: Tensor | None = None,
    label_smoothing: float = 0.0,
    gamma: float = 0.0,
    penalty: float = 0.0,
    anchor: float = 0.0,
    where: Tensor | None = None,
) -> Loss:
    """Loss per pair; `label` (B,) is the probability that the winner is better (1 if None), NaN excludes
    the pair.
    """
    winner, loser = policy_winner.float(), policy_loser.float()
    if variant == "simpo":
        winner_change, loser_change = winner, loser
        margin = beta * (loser - winner) - gamma
    elif reference_winner is None or reference_loser is None:
        raise ValueError(
            f"dpo variant '{variant}' needs the errors under the reference (only simpo does not)"
        )
    else:
        winner_change = winner - reference_winner.detach().float()
        loser_change = loser - reference_loser.detach().float()
        margin = -0.5 * beta * (winner_change - loser_change + penalty * winner_change.relu())
    chance = torch.ones_like(winner) if label is None else label.detach().float()
    mask = known(where, chance)
    loss = _variant_loss(margin, chance.nan_to_num(0.5), beta, variant, label_smoothing, label is not None)
    per_sample = torch.where(mask, loss + anchor * winner, torch.zeros_like(loss))
    right = (margin > 0).float() + 0.5 * (margin == 0).float()
    metrics = {
        "accuracy": masked_mean(right, mask),
        "margin": masked_mean(margin, mask),
        "winner_change": masked_mean(winner_change, mask),
        "loser_change": masked_mean(loser_change, mask),
    }
    return Loss(per_sample, metrics)


def npo(
    *,
    policy_winner: Tensor,
    policy_loser: Tensor,
    reference_winner: Tensor | None = None,
    reference_loser: Tensor | None = None,
    beta: float | Tensor,
    variant: Variant = "sigmoid",
    label: Tensor | None = None,
    label_smoothing: float = 0.0,
    gamma: float = 0.0,
    penalty: float = 0.0,
    anchor: float = 0.0,
    where: Tensor | None = None,
) -> Loss:
    """Negative preference optimisation: `dpo` toward the loser. The result serves as guidance's negative
    branch.
    """
    return dpo(
        policy_winner=policy_loser,
        policy_loser=policy_winner,
        reference_winner=reference_loser,
        reference_loser=reference_winner,
        beta=beta,
        variant=variant,
        label=label,
        label_smoothing=label_smoothing,
        gamma=gamma,
        penalty=penalty,
        anchor=anchor,
        where=where,
    )


def margin_beta(margin: Tensor, *, beta: float, weight: float = 0.5, rate: float = 0.5) -> Tensor:
    """MM-DPO's beta per pair (arXiv 2502.10391): beta (1 + weight (1 - exp(-rate * reward margin))).

    >>> margin_beta(torch.tensor([0.0]), beta=100.0)
    tensor([100.])
    """
    return beta * (1 + weight * (1 - torch.exp(-rate * margin.detach().float())))


def _variant_loss(
    margin: Tensor, chance: Tensor, beta: float | Tensor, variant: Variant, smoothing: float, labelled: bool
) -> Tensor:
    if not 0 <= smoothing < 0.5:
        raise ValueError(
            f"label_smoothing is {smoothing}: it is the share of wrong labels, use 0 to below 0.5"
        )
    chance = chance * (1 - smoothing) + (1 - chance) * smoothing
    good, bad = -logsigmoid(margin), -logsigmoid(-margin)
    if variant in ("sigmoid", "simpo"):
        return chance * good + (1 - chance) * bad
    if variant == "robust":
        flipped = torch.full_like(chance, smoothing)
        return ((1 - flipped) * good - flipped * bad) / (1 - 2 * smoothing)
    if variant == "ipo":
        return (margin / beta - 1 / (2 * beta)) ** 2
    if variant == "hinge":
        return (1 - margin).relu()
    if variant == "smpo":
        if not labelled:
            raise ValueError("dpo variant 'smpo' needs label: the probability that the winner is better")
        return -logsigmoid((2 * chance - 1) * margin)
    raise ValueError(f"dpo variant '{variant}' is unknown: use sigmoid, robust, ipo, hinge, smpo or simpo")
