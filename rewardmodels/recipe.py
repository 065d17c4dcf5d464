"""The recipe of `mmalign train-reward`: model, pairs, loss, optimiser, budget, calibration. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from mmalign.config import Checkpoint, Optimizer, Section

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Scratch(Section):
    """A new Qwen3-VL with these sizes and a tokenizer of the shapes world's words."""

    width: PositiveInt = 128
    layers: PositiveInt = 3
    heads: PositiveInt = 4
    vision_width: PositiveInt = 64
    vision_layers: PositiveInt = 2
    patch_size: PositiveInt = 4
    image_size: PositiveInt = 32


class Model(Section):
    """The reward model: a folder to go on from (`path`), or a new one (`scratch`)."""

    name: str
    path: str | None = None
    scratch: Scratch | None = None
    template: str = "media-prompt/1"
    positions: Literal["mrope", "sequential"] = "mrope"
    head: str = "linear"
    head_options: dict[str, Any] = Field(default_factory=dict)
    more_templates: tuple[str, ...] = ()
    overall: Literal["mean", "sum", "min", "product"] = "mean"

    @model_validator(mode="after")
    def _one_start(self) -> Model:
        if (self.path is None) == (self.scratch is None):
            raise ValueError("give either path (a saved reward model) or scratch (sizes of a new one)")
        return self


class Stage(Section):
    """Up to a share of the run: these categories, and this share of damaged pictures."""

    until: Fraction
    categories: tuple[str, ...] | None = None
    damage: Fraction = 0.5


class Shapes(Section):
    """The endless stream of shapes pairs, drawn when needed; every bundle has `families` of twin prompts."""

    families: PositiveInt = 16
    prompts: PositiveInt = 4
    images: PositiveInt = 4
    cross: NonNegativeInt = 192
    temperature: PositiveFloat = 0.1
    stages: tuple[Stage, ...] = (Stage(until=1.0),)

    @model_validator(mode="after")
    def _to_the_end(self) -> Shapes:
        ends = [stage.until for stage in self.stages]
        if not ends or ends != sorted(ends) or ends[-1] < 1.0:
            raise ValueError("stages must be in order and the last must have until: 1.0")
        return self


class Data(Section):
    """`shapes`, or files of comparisons (mmalign.pref/1 JSONL); calibration prompts are not the held-out ones."""

    pairs: str = "shapes"
    heldout: str | None = "shapes"
    calibration: str | None = "shapes"
    comparisons_per_bundle: PositiveInt = 32
    shapes: Shapes = Shapes()


class Method(Section):
    """Bradley-Terry, or Rao-Kupper and Davidson for labels with ties."""

    name: Literal["reward"] = "reward"
    loss: Literal["bradley_terry", "rao_kupper", "davidson"] = "bradley_terry"
    label_smoothing: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.0
    center: NonNegativeFloat = 0.0
    tie_width: PositiveFloat = 5.0
    dimensions: tuple[str, ...] = ("overall",)
    average: Fraction = 0.0
    """Decay of the averaged weights that are evaluated and saved; 0 saves the last ones."""


class RewardOptimizer(Optimizer):
    """AdamW, or Muon for the matrices (best from scratch)."""

    name: Literal["adamw", "muon"] = "adamw"


class Budget(Section):
    """Updates, each from `bundles_per_update` bundles of pairs, shared out over the processes."""

    updates: PositiveInt = 1000
    bundles_per_update: PositiveInt = 1


class Evaluation(Section):
    """Held-out pair accuracy every so many updates on `num_prompts`, at the end on `final_prompts`."""

    every: PositiveInt | None = 100
    num_prompts: PositiveInt = 56
    final_prompts: PositiveInt = 1400


class RewardRecipe(Section):
    """A whole run of reward training."""

    model: Model
    data: Data = Data()
    method: Method = Method()
    optimizer: RewardOptimizer = RewardOptimizer()
    budget: Budget = Budget()
    evaluation: Evaluation = Evaluation()
    checkpoint: Checkpoint = Checkpoint()
    save_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    seed: int = 0
    output: str = "runs/reward"
    trackers: tuple[str, ...] = ()
