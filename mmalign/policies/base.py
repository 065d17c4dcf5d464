"""What a policy is, and what a model family must say about itself to become one.

A *policy* encodes prompts, predicts, decodes; it knows no sampler and no loss. A *family* is a small record that
names the inputs of one pipeline class; everything else is shared (`mmalign.policies.pipeline.PipelinePolicy`).
Latents are always spatial, (B, C, H, W) or (B, C, T, H, W): a family whose network takes packed tokens packs them
inside `forward`.

Shape legend: `B` samples, `S` steps, `T` frames, `C H W` channels and size (of pixels or of latents), `L` tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mmalign.policies.weights import Weights
from mmalign.process import Process
from mmalign.types import Conditions, Modality

Tensors = dict[str, Tensor]
Size = tuple[int, int]
Generators = torch.Generator | Sequence[torch.Generator] | None


class Policy(Protocol):
    """A generator that can be trained."""

    @property
    def pipeline(self) -> Any: ...

    @property
    def process(self) -> Process: ...

    @property
    def network(self) -> nn.Module: ...

    @property
    def weights(self) -> Weights: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def modality(self) -> Modality: ...

    @property
    def size(self) -> Size:
        """Height and width of what is generated unless a call says otherwise."""
        ...

    def encode(
        self,
        prompts: Sequence[str],
        *,
        negative_prompts: Sequence[str] | None = None,
        sources: Tensor | None = None,
        size: Size | None = None,
        num_frames: int | None = None,
        guidance: float = 1.0,
    ) -> Conditions:
        """What the network is told, without gradient. A negative side only if guidance > 1 needs one."""
        ...

    def initial_latents(
        self, num: int, *, generators: Generators, size: Size | None = None, num_frames: int | None = None
    ) -> Tensor:
        """Noise: the numbers the stock pipeline draws from the same generator, or list of one per sample."""
        ...

    def predict(
        self,
        noisy: Tensor,
        level: Tensor,
        conditions: Conditions,
        *,
        guidance: float = 1.0,
        network: nn.Module | None = None,
    ) -> Tensor:
        """One network call, float32 out; with guidance > 1 on the doubled batch. `level` is a scalar or (B,)."""
        ...

    def decode(self, latents: Tensor, *, with_grad: bool = False) -> Tensor:
        """Latents to media (B, T, C, H, W) in [0, 1]."""
        ...

    def encode_media(self, media: Tensor) -> Tensor:
        """Media (B, T, C, H, W) in [0, 1] to latents: mode of the posterior, scaled."""
        ...

    def schedule(self, num_steps: int, latents: Tensor) -> Tensor:
        """The levels (S+1,) that the stock pipeline visits for latents of this size."""
        ...


class Family(Protocol):
    """The inputs of one pipeline class. Records; `mmalign.policies.registry` lists them."""

    @property
    def name(self) -> str: ...

    @property
    def pipeline_class(self) -> str: ...

    @property
    def component(self) -> str:
        """The pipeline's attribute that holds the network: `transformer` or `unet`."""
        ...

    @property
    def modality(self) -> Modality: ...

    @property
    def lora_targets(self) -> tuple[str, ...]:
        """Suffixes of the modules that get a LoRA by default."""
        ...

    @property
    def uniform_sigmas(self) -> bool:
        """True when the pipeline hands linspace(1, 1/S, S) to its scheduler."""
        ...

    @property
    def noise_dtype(self) -> torch.dtype | None:
        """The precision in which the stock pipeline draws its noise (None: the network's)."""
        ...

    @property
    def num_frames(self) -> int:
        """Frames of a sample unless a call says otherwise."""
        ...

    @property
    def load_options(self) -> Mapping[str, Any]:
        """Further arguments of `from_pretrained`."""
        ...

    def check(self, pipeline: Any) -> None:
        """ValueError for a variant of the pipeline that is not supported."""
        ...

    def default_size(self, pipeline: Any) -> Size: ...

    def latent_shape(self, pipeline: Any, size: Size, num_frames: int) -> tuple[int, ...]:
        """Shape of one sample's latents."""
        ...

    def num_tokens(self, pipeline: Any, latents: Tensor) -> int:
        """The image's tokens, by which some schedulers shift their schedule."""
        ...

    def encode_text(
        self, pipeline: Any, prompts: list[str], negative_prompts: list[str] | None, *, guided: bool
    ) -> tuple[Tensors, Tensors]:
        """Text embeddings of the prompts and, if guided, of the negative prompts (None: the pipeline's own)."""
        ...

    def context(self, pipeline: Any, num: int, size: Size, source: Tensor | None) -> Tensors:
        """Inputs (B, ...) beside the text; `source` holds encoded source media."""
        ...

    def forward(
        self, network: nn.Module, noisy: Tensor, time: Tensor, inputs: Mapping[str, Tensor]
    ) -> Tensor:
        """Call the network on (B, ...) latents at times (B,) in the scheduler's units."""
        ...
