"""Sampling trajectories from a policy, and replaying their steps under other weights.

One function, `transition`, makes every stochastic step: a rollout lets it draw the outcome, a replay hands it the
recorded one. With the same weights and the same batch the replayed log-probability equals the recorded one to the
last bit, so the importance ratio before the first update is exactly 1. Keep a rollout's batch together in replays:
kernels may round differently for another batch.

Shape legend: `B` samples, `S` steps, `K` recorded (stochastic) steps, `...` the shape of one latent.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmalign.policies.base import Policy
from mmalign.process import Sde
from mmalign.rollout.guidance import predict
from mmalign.types import Conditions, Trajectory, Transition

Generators = torch.Generator | Sequence[torch.Generator] | None


def transition(
    policy: Policy,
    noisy: Tensor,
    levels: tuple[Tensor, Tensor],
    conditions: Conditions,
    *,
    sde: Sde,
    guidance: float = 1.0,
    negative: str | None = None,
    network: nn.Module | None = None,
    next: Tensor | None = None,
    generator: Generators = None,
) -> Transition:
    """One stochastic step between two levels; with `next`, the log-probability of that outcome."""
    level, next_level = levels
    prediction = predict(
        policy, noisy, level, conditions, guidance=guidance, negative=negative, network=network
    )
    return policy.process.transition(
        noisy, prediction, level, next_level, sde=sde, next=next, generator=generator
    )


def stochastic_steps(policy: Policy, levels: Tensor, sde: Sde | None, window: range | None) -> list[int]:
    """The steps of a schedule that add noise: those in the window whose standard deviation is not 0."""
    if sde is None:
        return []
    num_steps = len(levels) - 1
    inside = range(num_steps) if window is None else window
    if len(inside) == 0 or min(inside) < 0 or max(inside) >= num_steps:
        raise ValueError(f"the window {inside} does not lie within the {num_steps} steps of the rollout")
    std = policy.process.transition_std(levels[:-1].cpu(), levels[1:].cpu(), sde=sde)
    return [step for step in inside if float(std[step]) > 0]


@torch.no_grad()
def rollout(
    policy: Policy,
    conditions: Conditions,
    latents: Tensor,
    *,
    num_steps: int,
    guidance: float = 1.0,
    sde: Sde | None = None,
    window: range | None = None,
    groups: Tensor | None = None,
    generators: Generators = None,
    negative: str | None = None,
    network: nn.Module | None = None,
    record: bool = True,
) -> Trajectory:
    """Denoise `latents` (B, ...) through `num_steps` levels.

    Without `sde` every step is the stock scheduler's. With it, steps in `window` (default: all) draw noise from
    `generators` (one, or a list of one per sample) and are recorded with their log-probabilities; the others stay
    deterministic. Steps that cannot add noise (std 0) are never recorded. Without `record` only the final latents
    are kept. `groups` (B,) says which samples belong together (default: each on its own).
    """
    levels = policy.schedule(num_steps, latents)
    steps = stochastic_steps(policy, levels, sde, window)
    states, made, noisy = [latents], [], latents
    for step in range(num_steps):
        level, next_level = levels[step], levels[step + 1]
        if sde is not None and step in steps:
            move = transition(
                policy,
                noisy,
                (level, next_level),
                conditions,
                sde=sde,
                guidance=guidance,
                negative=negative,
                network=network,
                generator=generators,
            )
            noisy = move.next
            made.append(move)
        else:
            prediction = predict(
                policy, noisy, level, conditions, guidance=guidance, negative=negative, network=network
            )
            noisy = policy.process.step(noisy, prediction, level, next_level)
        states.append(noisy)
    if groups is None:
        groups = torch.arange(latents.shape[0])
    return _trajectory(
        states if record else [noisy], levels, steps if record else [], made, conditions, groups
    )


def _trajectory(
    states: list[Tensor],
    levels: Tensor,
    steps: list[int],
    made: list[Transition],
    conditions: Conditions,
    groups: Tensor,
) -> Trajectory:
    device, num = states[-1].device, states[-1].shape[0]
    kept = made if steps else []
    log_probs = torch.zeros(num, 0, device=device)
    if kept:
        log_probs = torch.stack([move.log_prob for move in kept], dim=1)
    return Trajectory(
        latents=torch.stack(states, dim=1),
        levels=levels,
        steps=torch.tensor(steps, dtype=torch.long),
        log_probs=log_probs,
        means=torch.stack([move.mean for move in kept], dim=1) if kept else None,
        stds=torch.stack([move.std for move in kept]) if kept else torch.zeros(0, device=device),
        conditions=conditions,
        groups=groups.to(device=device, dtype=torch.long),
    )


def replay(
    policy: Policy,
    trajectory: Trajectory,
    step: int,
    *,
    sde: Sde,
    guidance: float = 1.0,
    negative: str | None = None,
    network: nn.Module | None = None,
) -> Transition:
    """Judge step `step` (an entry of `trajectory.steps`) again, with gradient: same outcome, present weights."""
    levels = trajectory.levels[step], trajectory.levels[step + 1]
    return transition(
        policy,
        trajectory.latents[:, step],
        levels,
        trajectory.conditions,
        sde=sde,
        guidance=guidance,
        negative=negative,
        network=network,
        next=trajectory.latents[:, step + 1],
    )
