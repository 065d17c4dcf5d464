"""The part of a reward's recipe that says which model is trained and what of it. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from mmalign.config import Section


class Scratch(Section):
    """A new Qwen3-VL with these sizes and a tokenizer of the shapes world's words."""

    width: PositiveInt = 128
    layers: PositiveInt = 3
    heads: PositiveInt = 4
    vision_width: PositiveInt = 64
    vision_layers: PositiveInt = 2
    patch_size: PositiveInt = 4
    image_size: PositiveInt = 32


class Lora(Section):
    """Low-rank adapters on every linear map of the language model; they are merged when the model is saved."""

    rank: PositiveInt = 64
    alpha: PositiveFloat = 128.0
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0


class Frames(Section):
    """How videos are read: frames a second, how many, and the most pixels of each."""

    fps: PositiveFloat = 2.0
    min_frames: PositiveInt = 4
    max_frames: PositiveInt = 64
    max_pixels: PositiveInt = 448 * 448


class Model(Section):
    """The reward model and what of it is trained: a folder or bundled reward to go on from (`path`), a stock VLM of any
    family with a new head (`backbone`, a folder or hub id), or a new small one (`scratch`).

    `embeddings: special` trains only the rows of the template's special tokens. `vision: lora` puts adapters on the
    vision tower too.
    """

    name: str
    path: str | None = None
    backbone: str | None = None
    scratch: Scratch | None = None
    pixels: tuple[PositiveInt, PositiveInt] | None = None
    """Least and most pixels of a picture, for backbones that read any size; by default the backbone's own."""
    frames: Frames = Frames()
    template: str = "media-prompt/1"
    positions: Literal["mrope", "sequential"] = "mrope"
    head: str = "linear"
    head_options: dict[str, Any] = Field(default_factory=dict)
    more_templates: tuple[str, ...] = ()
    overall: Literal["mean", "sum", "min", "product"] = "mean"

    modalities: tuple[Literal["image", "edit", "video"], ...] = ()
    """What it judges; by default what its training pairs hold."""
    weights: Literal["full", "lora"] = "full"
    lora: Lora = Lora()
    vision: Literal["trained", "frozen", "lora"] = "trained"
    embeddings: Literal["trained", "special", "frozen"] = "trained"
    checkpointing: bool = False
    """Recompute activations in the backward pass (non-reentrant), for less memory."""

    @model_validator(mode="after")
    def _one_start(self) -> Model:
        if sum(start is not None for start in (self.path, self.backbone, self.scratch)) != 1:
            raise ValueError(
                "give one of path (a saved reward model), backbone (a stock VLM) and scratch (sizes of a new one)"
            )
        if self.backbone is None and (self.pixels is not None or self.frames != Frames()):
            raise ValueError(
                "pixels and frames belong to a backbone: a saved reward reads media as it was trained to, a new one at "
                "its scratch.image_size"
            )
        return self
