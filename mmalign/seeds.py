"""Every random number of a run comes from a named stream, so resuming and distributing change nothing.

A stream is named by values such as (seed, iteration, purpose, sample index). No stream depends on the rank,
on the number of processes or on what was drawn before; a checkpoint needs only the counters.

Shape legend: `B` samples, `...` the shape of one latent.

>>> seed_of(0, "noise", 3) == seed_of(0, "noise", 3), seed_of(0, "noise", 3) == seed_of(0, "noise", 4)
(True, False)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed from the name of a stream; the same on every machine."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator for the stream called `parts`."""
    return torch.Generator().manual_seed(seed_of(*parts))


def generators(*parts: int | str, index: Iterable[int]) -> list[torch.Generator]:
    """One generator a sample: the streams (*parts, i) for every i in `index`."""
    return [generator(*parts, int(i)) for i in index]


def normal(shape: Sequence[int], streams: Sequence[torch.Generator], like: Tensor) -> Tensor:
    """Standard normal (B, *shape) on the device of `like`; row b is drawn from `streams[b]` on the CPU."""
    return torch.stack([torch.randn(tuple(shape), generator=g) for g in streams]).to(like.device)
