"""What the bundled generators are pretrained with: the error of a prediction at a random noise level.

B pictures, latents z (B, C, 8, 8), tokens (B, L) of prompts; a loss is the mean over all of them.
"""

from __future__ import annotations

import torch
from diffusers import DiffusionPipeline
from torch import Tensor
from torch.nn import functional as F


def flow_loss(pipe: DiffusionPipeline, z: Tensor, tokens: Tensor, generator: torch.Generator) -> Tensor:
    """Velocity error at logit-normal noise levels (Esser et al. 2024, arXiv 2403.03206, eq. 5 and 19)."""
    sigma = torch.randn(len(z), generator=generator).sigmoid()
    noise = torch.randn(z.shape, generator=generator)
    level = sigma.view(-1, 1, 1, 1)
    encoded = [
        encoder(tokens, output_hidden_states=True) for encoder in (pipe.text_encoder, pipe.text_encoder_2)
    ]
    context = torch.cat([e.hidden_states[-2] for e in encoded], dim=-1)
    empty = idle_tokens(generator)
    velocity = pipe.transformer(
        (1 - level) * z + level * noise,
        encoder_hidden_states=F.pad(context, (0, 0, 0, empty)),
        pooled_projections=torch.cat([e.text_embeds for e in encoded], dim=-1),
        timestep=sigma * 1000,
    ).sample
    return F.mse_loss(velocity, noise - z)


def idle_tokens(generator: torch.Generator) -> int:
    """How many all-zero tokens stand where T5 would: mostly none, at times some, rarely the stock 256.

    A pipeline without T5 feeds that many zeros by default; seeing them in training teaches the
    network to look past them, so that leaving them out (16 times fewer tokens) changes nothing.
    """
    draw = float(torch.rand((), generator=generator))
    if draw > 0.04:
        return 0
    return 256 if draw < 0.004 else int(draw * 800)


def epsilon_loss(pipe: DiffusionPipeline, z: Tensor, tokens: Tensor, generator: torch.Generator) -> Tensor:
    """Noise error at uniform timesteps (Ho et al. 2020, arXiv 2006.11239, eq. 14)."""
    timestep = torch.randint(1000, (len(z),), generator=generator)
    noise = torch.randn(z.shape, generator=generator)
    context = pipe.text_encoder(tokens).last_hidden_state
    noisy = pipe.scheduler.add_noise(z, noise, timestep)
    return F.mse_loss(pipe.unet(noisy, timestep, encoder_hidden_states=context).sample, noise)
