"""The source image of an edit, brought to a size that a policy can work with.

Shapes: an image is (3, H, W) in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mmalign.policies.base import Policy, Size


def fitted(source: Tensor, policy: Policy, area: Size | None = None) -> Tensor:
    """`source` as (1, 3, H', W') with the area the policy works at (or `area`) and sides it can divide."""
    height, width = source.shape[-2:]
    size = fitted_size((height, width), policy, area)
    resized: Tensor = F.interpolate(source[None], size=size, mode="bicubic", antialias=True)
    return torch.clamp(resized, 0, 1)


def fitted_size(size: Size, policy: Policy, area: Size | None = None) -> Size:
    """The (height, width) that `fitted` gives a source of this one."""
    wanted = area or policy.size
    multiple = 2 * int(policy.pipeline.vae_scale_factor)
    scale = (wanted[0] * wanted[1] / (size[0] * size[1])) ** 0.5
    height, width = (max(multiple, round(side * scale / multiple) * multiple) for side in size)
    return height, width
