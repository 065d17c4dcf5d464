"""The recipe of a CLIP- or BLIP-type reward (`mmalign train-reward clip/pick-like`). Imports no torch.

It shares data, optimiser, budget and evaluation with other reward training (`rewardmodels.recipe`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from mmalign.config import Checkpoint, Section
from rewardmodels.model_recipe import Lora
from rewardmodels.recipe import Budget, Data, Evaluation, Fraction, RewardOptimizer, require_added

if TYPE_CHECKING:
    from mmalign.types import Modality

Score = Literal["logit", "cosine", "head", "blip"]
Part = Literal["all", "frozen", "lora"] | PositiveInt
"""What of a tower is trained; a number is that many last blocks and what comes after them."""
PAIR_LOSSES = ("bradley_terry", "triplet")
RATING_LOSSES = ("mse", "huber")
OPTIONS = {"label_smoothing": ("bradley_terry",), "margin": ("triplet",), "rating_center": RATING_LOSSES}


class ClipScratch(Section):
    """New towers with these sizes and a tokenizer of the shapes world's words."""

    width: PositiveInt = 64
    embedding: PositiveInt = 64
    heads: PositiveInt = 4
    image_layers: PositiveInt = 2
    text_layers: PositiveInt = 2
    patch_size: PositiveInt = 8
    image_size: PositiveInt = 32
    tokens: PositiveInt = 14


class Head(Section):
    """A chain of linear maps to one number; `widths` are those between. LAION's and ImageReward's have no activation.

    `reads`: the picture alone, or the picture followed by the prompt (`score: head` only).
    """

    widths: tuple[PositiveInt, ...] = (1024, 128, 64, 16)
    activation: Literal["none", "relu", "gelu", "silu", "tanh"] = "none"
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    reads: Literal["picture", "picture-prompt"] = "picture"


class ClipModel(Section):
    """The reward and what of it is trained.

    `score`: `logit` is exp(logit_scale) times the cosine (PickScore), `cosine` (HPSv2, Social Reward), `head` a small
    network on embeddings of length 1 (LAION), `blip` BLIP's text encoder looking at the picture (ImageReward).

    The start: `path`, published files or a folder that this training wrote (with `architecture` and `inside` for
    open_clip files, `tokenizer`, `head_file`), or `scratch`. A new head may stand on the towers of a saved cosine, and
    a saved `logit` may go on as a `cosine`, or the other way round.
    `squares: pad` pads pictures as HPSv2 does. Of a saved reward pictures, prefix and head are as they were.
    """

    name: str
    score: Score
    path: str | None = None
    architecture: str = ""
    inside: str | None = None
    tokenizer: str = ""
    head_file: str | None = None
    scratch: ClipScratch | None = None
    squares: Literal["crop", "pad"] = "crop"
    prefix: str = ""
    head: Head = Head()
    images: Part = "all"
    texts: Part = "all"
    scale: bool = True
    """Whether the factor of cosines is learned; like CLIP's it stays between 1 and 100."""
    lora: Lora = Lora()

    @model_validator(mode="after")
    def _coherent(self) -> ClipModel:
        if (self.path is None) == (self.scratch is None):
            raise ValueError(
                "give one of path (published files, or a saved reward) and scratch (sizes of new towers)"
            )
        if self.head_file is not None and (self.score != "head" or self.path is None):
            raise ValueError(
                "head_file is a head to go on from: it belongs to score: head with the path of its CLIP"
            )
        if not self.reads_prompt and self.texts != "frozen":
            raise ValueError("this head reads no prompt: set texts: frozen, or head.reads: picture-prompt")
        if self.prefix and self.score not in ("logit", "cosine"):
            raise ValueError(f"prefix belongs to logit and cosine, not to {self.score}")
        return self

    @property
    def reads_prompt(self) -> bool:
        """Whether prompts matter to the score."""
        return self.score != "head" or self.head.reads == "picture-prompt"

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """What it judges: no source is seen, so only a head on the picture alone can be of edits."""
        return ("image", "video") if self.reads_prompt else ("image", "edit", "video")


class ClipMethod(Section):
    """The loss, on labels or ratings of one dimension.

    `bradley_terry`: cross entropy over the two of a pair with soft labels, a tie half and half (PickScore, HPSv2,
    ImageReward). `choice`: over all candidates of a prompt, each with its share of the votes. Both read cosines times
    the learned factor. `triplet`: the better cosine must lead by `margin` (Social Reward). `mse`, `huber`: ratings
    (LAION).
    """

    name: Literal["clip"] = "clip"
    loss: Literal["bradley_terry", "choice", "triplet", "mse", "huber"] = "bradley_terry"
    dimension: str = "overall"
    label_smoothing: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.0
    margin: NonNegativeFloat = 0.0
    huber_delta: PositiveFloat = 1.0
    rating_center: float = 0.0
    """What `mse` and `huber` take off a rating before the head learns it."""
    average: Fraction = 0.0
    """Decay of the averaged weights that are evaluated and saved; 0 saves the last ones."""

    @model_validator(mode="after")
    def _fits(self) -> ClipMethod:
        for option, losses in OPTIONS.items():
            if getattr(self, option) and self.loss not in losses:
                raise ValueError(
                    f"{option} belongs to {' and '.join(losses)}, not to {self.loss}: leave it at 0"
                )
        if self.loss == "triplet" and self.margin == 0:
            raise ValueError(
                "triplet needs a margin above 0, as a difference of cosines: 0.1 to 0.3 are usual"
            )
        return self

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The one dimension, as other reward training asks for it."""
        return (self.dimension,)

    @property
    def label_dimensions(self) -> tuple[str, ...]:
        """The dimensions whose labels are learned from."""
        return self.dimensions


class ClipRecipe(Section):
    """A whole run."""

    model: ClipModel
    data: Data = Data()
    method: ClipMethod = ClipMethod()
    optimizer: RewardOptimizer = RewardOptimizer()
    budget: Budget = Budget()
    evaluation: Evaluation = Evaluation()
    checkpoint: Checkpoint = Checkpoint()
    seed: int = 0
    output: str = "runs/clip"
    trackers: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _goes_together(self) -> ClipRecipe:
        score, loss = self.model.score, self.method.loss
        embeds = score in ("logit", "cosine")
        if loss in RATING_LOSSES and embeds:
            raise ValueError(
                f"{loss} learns ratings, which a {score} does not reach: use score: head or blip"
            )
        if loss == "triplet" and not embeds:
            raise ValueError(f"triplet compares cosines: use score: cosine or logit, not {score}")
        if self.data.pairs == "shapes-edits" and self.model.reads_prompt:
            raise ValueError(
                "a CLIP reward sees no source, so it cannot learn edits: only a head on the picture can"
            )
        if self.data.labels == "binary" and loss == "choice":
            raise ValueError("pairs of good and bad items are no lists of candidates: use bradley_terry")
        require_added(self.data, loss, self.method.label_dimensions, reads_prompt=self.model.reads_prompt)
        return self
