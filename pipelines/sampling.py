"""Pictures from a generator: which prompt with which seed, and drawing them in batches.

Every request has its own integer seed, derived from the run's seed, the prompt and the number of the picture, so the
same request gives the same noise to every generator, in any batch; `torch.Generator().manual_seed(seed)` gives it to a
stock pipeline too.

Shape legend: `B` requests, `T` frames, `C H W` pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmalign.data.prompts import Prompt, ShapesPrompts, prompt_source, read_prompts
from mmalign.media import read
from mmalign.policies.registry import load as load_policy
from mmalign.policies.sources import fitted
from mmalign.rollout import rollout
from mmalign.seeds import seed_of
from mmalign.shapes.bundle import model_path
from mmalign.types import Sample
from pipelines.settings import Generator, Sampling

NUM_SHAPES_PROMPTS = 64


@dataclass(frozen=True)
class Request:
    """One picture that is wanted."""

    id: str
    prompt: Prompt
    seed: int

    def sample(self, media: Tensor) -> Sample:
        """What rewards judge."""
        source = None if self.prompt.source is None else read(self.prompt.source)
        return Sample(self.prompt.text, media, source, self.id, self.prompt.metadata)


def read_requests(prompts: str, num_prompts: int | None, sampling: Sampling) -> list[Request]:
    """Prompts in the order of their file (or the first draw of the built-in world), each with its seeds."""
    source = prompt_source(prompts)
    if isinstance(source, ShapesPrompts):
        chosen: Sequence[Prompt] = source.draw(num_prompts or NUM_SHAPES_PROMPTS, seed=0, iteration=0)
    else:
        chosen = read_prompts(prompts)[:num_prompts]
    seen: Counter[str] = Counter()
    requests = []
    for number, prompt in enumerate(chosen):
        seen[prompt.text] += 1
        for k in range(sampling.seeds_per_prompt):
            seed = seed_of(sampling.seed, prompt.text, seen[prompt.text], k) % 2**31
            requests.append(Request(f"{number:05d}-{k:02d}", prompt, seed))
    return requests


class Painter:
    """A loaded generator that draws requests."""

    def __init__(self, generator: Generator, sampling: Sampling, *, device: str = "auto") -> None:
        self.generator, self.sampling = generator, sampling
        place = device if device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
        self.policy, self.weights, self.negative = _load(generator, sampling, place)

    def draw(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Tensor]]:
        """Every request with its media (T, C, H, W), in batches of one source size."""
        size = self.sampling.batch_size
        groups: dict[Any, list[tuple[Request, Tensor | None]]] = {}
        for request in requests:
            source = self._source(request)
            groups.setdefault(None if source is None else source.shape, []).append((request, source))
        for group in groups.values():
            for start in range(0, len(group), size):
                yield from self._batch(group[start : start + size])

    @torch.no_grad()
    def _batch(self, batch: Sequence[tuple[Request, Tensor | None]]) -> Iterator[tuple[Request, Tensor]]:
        requests, sampling = [request for request, _ in batch], self.sampling
        given = [source for _, source in batch if source is not None]
        sources = torch.cat(given).to(self.policy.device) if given else None
        size = sampling.size if sources is None else (sources.shape[-2], sources.shape[-1])
        with self.policy.weights.using(self.weights):
            conditions = self.policy.encode(
                [request.prompt.text for request in requests],
                sources=sources,
                size=size,
                num_frames=sampling.num_frames,
                guidance=sampling.guidance,
            )
            noise = [torch.Generator().manual_seed(request.seed) for request in requests]
            latents = self.policy.initial_latents(
                len(requests), generators=noise, size=size, num_frames=sampling.num_frames
            )
            made = rollout(
                self.policy,
                conditions,
                latents,
                num_steps=sampling.num_steps,
                guidance=sampling.guidance,
                negative=self.negative,
                record=False,
            )
            media = self.policy.decode(made.clean).float().cpu()
        yield from zip(requests, media, strict=True)

    def _source(self, request: Request) -> Tensor | None:
        """The source of an edit (1, 3, H, W), of the area the policy works at and sides it can divide."""
        if self.policy.modality != "edit":
            return None
        if request.prompt.source is None:
            raise ValueError(
                f"{self.generator.label} edits pictures: '{request.prompt.text}' names no 'source' to edit"
            )
        return fitted(read(request.prompt.source)[0], self.policy, area=self.sampling.size)


def _load(generator: Generator, sampling: Sampling, device: str) -> tuple[Any, str, str | None]:
    """The policy, the name of the weights that draw, and the name of those of the negative branch."""
    for what, folder in (("lora", generator.lora), ("negative", generator.negative)):
        if folder is not None and not Path(folder).exists():
            raise ValueError(f"generator '{generator.label}': {what} {folder} does not exist")
    if generator.negative is not None and sampling.guidance <= 1.0:
        raise ValueError(
            f"generator '{generator.label}' has a negative branch, used when sampling.guidance is above 1"
        )
    policy = load_policy(
        model_path(generator.model),
        family=None if generator.family == "auto" else generator.family,
        dtype=generator.dtype,
        device=device,
        attention=generator.attention,
        weights="frozen",
        adapter=generator.lora or generator.negative,
        size=sampling.size,
        num_frames=sampling.num_frames,
    )
    if generator.negative is None:
        return policy, "policy", None
    if generator.lora is None:
        return policy, "reference", "policy"
    policy.weights.add_lora("turned", generator.negative)
    policy.weights.merge_negative("negative", offset="turned")
    return policy, "policy", "negative"
