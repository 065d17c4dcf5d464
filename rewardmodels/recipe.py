"""The recipe of `mmalign train-reward`: model, pairs, loss, optimiser, budget, calibration. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from mmalign.config import Checkpoint, Optimizer, Section
from rewardmodels.model_recipe import Model

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
WORLDS: Mapping[str, Literal["image", "edit", "video"]] = {
    "shapes": "image", "shapes-edits": "edit", "shapes-videos": "video"
}  # fmt: skip
"""What the built-in worlds hold, by their names (`mmalign.shapes.worlds`, which imports torch)."""


class Stage(Section):
    """Up to a share of the run: these categories, and this share of damaged pictures."""

    until: Fraction
    categories: tuple[str, ...] | None = None
    damage: Fraction = 0.5


class Shapes(Section):
    """The endless stream of shapes pairs, drawn when needed; every bundle has `families` of twin prompts.

    `temperature` and `theta` (1: no ties) are the annotator's law, `careless` the share of blind answers. Ratings are
    levels 1 to `levels`, the mean of `raters`. A bundle also holds `causal`, `neutral` and `contrast` pairs
    (`mmalign.shapes.neutral`): one cause changed (must rank), one spurious factor (must tie), one prompt (must rank).
    """

    families: PositiveInt = 16
    prompts: PositiveInt = 4
    images: PositiveInt = 4
    cross: NonNegativeInt = 192
    temperature: PositiveFloat = 0.1
    theta: Annotated[float, Field(ge=1.0)] = 1.0
    careless: Fraction = 0.0
    levels: Annotated[int, Field(ge=2)] = 4
    raters: PositiveInt = 1
    causal: NonNegativeInt = 0
    neutral: NonNegativeInt = 0
    contrast: NonNegativeInt = 0
    stages: tuple[Stage, ...] = (Stage(until=1.0),)

    @model_validator(mode="after")
    def _to_the_end(self) -> Shapes:
        ends = [stage.until for stage in self.stages]
        if not ends or ends != sorted(ends) or ends[-1] < 1.0:
            raise ValueError("stages must be in order and the last must have until: 1.0")
        return self


class PairData(Section):
    """`shapes`, `shapes-edits`, `shapes-videos`, or files of comparisons (mmalign.pref/1 JSONL or parquet) to learn
    from and to measure on; `heldout: null` measures nothing. What learns from a file is measured on a file.
    """

    pairs: str = "shapes"
    heldout: str | None = "shapes"
    comparisons_per_bundle: PositiveInt = 32
    shapes: Shapes = Shapes()


class Data(PairData):
    """Pairs or ratings to learn from, to measure and to calibrate on.

    Calibration prompts are not the held-out ones; of one file for both, each gets half of the prompts. `calibration:
    null` leaves scores as they come, at temperature 1 and without ties. `binary`
    labels single items as good or bad and makes pairs of any two, also across prompts (SoliReward); the loss `binary`
    and `method.absolute` read these labels themselves. Other losses of ratings read ratings whatever is said here.

    A bundle of a file also holds `neutral` pairs of a picture and its twin with a spurious factor changed (must tie),
    and `contrast` pairs of a sample under its own and another prompt of the file (`rewardmodels.twins`).
    """

    labels: Literal["pairs", "binary"] = "pairs"
    calibration: str | None = "shapes"
    neutral: NonNegativeInt = 0
    contrast: NonNegativeInt = 0

    @model_validator(mode="after")
    def _added_to_pairs(self) -> Data:
        if (self.neutral or self.contrast) and self.pairs in WORLDS:
            raise ValueError(
                "neutral and contrast are made of a file of pairs: of the built-in world set shapes.neutral and "
                "shapes.contrast"
            )
        if (self.neutral or self.contrast) and self.labels == "binary":
            raise ValueError("neutral and contrast are added to preferences: set labels: pairs")
        if self.pairs not in WORLDS and (self.shapes.causal or self.shapes.neutral or self.shapes.contrast):
            raise ValueError(
                "shapes.causal, shapes.neutral and shapes.contrast draw from the built-in world: of a file set neutral "
                "and contrast"
            )
        return self


class RewardData(Data):
    """The same for a reward with a head, which with `critiques` reads what the files' critiques say of each candidate
    after its prompt (MM-RLHF-Reward), in training and when it is measured.
    """

    critiques: bool = False

    @model_validator(mode="after")
    def _written(self) -> RewardData:
        drawn = [f"data.{key}={name}" for key, name in places_of(self).items() if name in WORLDS]
        if self.critiques and drawn:
            raise ValueError(
                f"critiques are read from files, and the worlds have none ({', '.join(drawn)}): name files of "
                "comparisons (null measures nothing), or leave critiques out"
            )
        return self


def places_of(data: PairData) -> dict[str, str]:
    """The worlds or files that data name, by their keys."""
    places = {"pairs": data.pairs, "heldout": data.heldout}
    if isinstance(data, Data):
        places["calibration"] = data.calibration
    return {key: name for key, name in places.items() if name is not None}


def require_own(data: PairData) -> None:
    """ValueError for pairs of a file that would be measured or calibrated on toys: their figures would say nothing."""
    if data.pairs in WORLDS:
        return
    toys = [f"data.{key}={name}" for key, name in places_of(data).items() if name in WORLDS]
    if toys:
        both = " (one file for both is split by prompt)" if isinstance(data, Data) else ""
        raise ValueError(
            f"data.pairs={data.pairs} is a file, and {' and '.join(toys)} would be drawn from a built-in world of "
            f"toys: name a file of pairs that training does not hold{both}, or null to leave it out"
        )


def require_judged(data: PairData, kinds: Collection[str], mend: str, *, who: str = "the judge") -> None:
    """ValueError for a built-in world whose media `who` judges these kinds does not judge; `mend` is what to change."""
    for key, name in places_of(data).items():
        if name in WORLDS and WORLDS[name] not in kinds:
            raise ValueError(
                f"data.{key}={name} holds the kind '{WORLDS[name]}', and {who} judges {' and '.join(kinds)}: "
                f"change {mend}"
            )


PAIR_LOSSES = ("bradley_terry", "rao_kupper", "davidson", "win_tie", "gaussian")
LIST_LOSSES = ("plackett_luce", "all_pairs", "choice")
LEVEL_LOSSES = ("corn", "coral", "mse", "huber")
RATING_LOSSES = ("binary", *LEVEL_LOSSES)
PROMPTED = ("overall", "instruction_following", "text_alignment", "alignment")
"""The dimensions in which a wrong prompt must lose."""
OPTIONS = {
    "label_smoothing": ("bradley_terry",),
    "label_noise": ("bradley_terry",),
    "center": ("bradley_terry",),
    "margin": ("bradley_terry", "win_tie", "gaussian"),
    "rating_center": ("mse", "huber"),
}
"""The losses that know an option; elsewhere it would do nothing."""


class Gaussian(Section):
    """How the expectation over two uncertain scores is taken: without noise, in closed form, or over draws."""

    method: Literal["hermite", "probit", "mackay", "monte_carlo"] = "hermite"
    points: PositiveInt = 32


class Absolute(Section):
    """Single items labelled good or bad: `weight` of their binary cross-entropy beside the loss of pairs (SoliReward).

    `bad` and `good` are the ratings that say so; one in between is the share of raters who said good.
    """

    weight: NonNegativeFloat = 0.0
    bad: float = 1.0
    good: float = 2.0
    label_smoothing: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.0

    @model_validator(mode="after")
    def _in_order(self) -> Absolute:
        if self.bad >= self.good:
            raise ValueError(f"good must be above bad, got {self.good:g} and {self.bad:g}")
        return self


class Method(Section):
    """The loss, and what is known of the labels.

    Pairs: `bradley_terry`; `rao_kupper` and `davidson` for labels with ties, `win_tie` with `margin` (SoliReward);
    `gaussian` for heads that say how sure they are. All candidates of a prompt: `plackett_luce` (ListMLE),
    `all_pairs`, `choice` (N-way cross entropy). Ratings: `corn`, `coral`, `mse`, `huber`; `binary` for single items
    that are good or bad, which `absolute` adds to a loss of pairs.
    """

    name: Literal["reward"] = "reward"
    loss: Literal[
        "bradley_terry", "rao_kupper", "davidson", "win_tie", "gaussian", "plackett_luce", "all_pairs", "choice",
        "binary", "corn", "coral", "mse", "huber",
    ] = "bradley_terry"  # fmt: skip
    label_smoothing: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.0
    label_noise: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.0
    margin: NonNegativeFloat = 0.0
    center: NonNegativeFloat = 0.0
    tie_width: PositiveFloat = 5.0
    learn_tie_width: bool = False
    gaussian: Gaussian = Gaussian()
    absolute: Absolute = Absolute()
    huber_delta: PositiveFloat = 1.0
    rating_center: float = 0.0
    """What `mse` and `huber` take off a rating before the score learns it (VideoAlign 3, EditReward 4.5)."""
    dimensions: tuple[str, ...] = ("overall",)
    train_overall: bool = False
    """Whether the fused score of several dimensions learns from the labels called "overall" too."""
    fit_overall: bool = False
    """Whether the weights of the dimensions in the overall score are fitted on the calibration pairs."""
    average: Fraction = 0.0
    """Decay of the averaged weights that are evaluated and saved; 0 saves the last ones."""

    @model_validator(mode="after")
    def _fits(self) -> Method:
        if self.learn_tie_width and self.loss not in ("rao_kupper", "davidson"):
            raise ValueError(f"learn_tie_width belongs to rao_kupper and davidson, not to {self.loss}")
        for option, losses in OPTIONS.items():
            if getattr(self, option) and self.loss not in losses:
                raise ValueError(
                    f"{option} belongs to {' and '.join(losses)}, not to {self.loss}: leave it at 0"
                )
        if self.loss == "win_tie" and self.margin == 0:
            raise ValueError("win_tie needs a margin above 0: SoliReward's is 3")
        if self.train_overall and self.loss in (*LIST_LOSSES, *RATING_LOSSES):
            raise ValueError(f"train_overall belongs to losses of pairs, not to {self.loss}")
        if self.loss in LIST_LOSSES and len(self.dimensions) != 1:
            raise ValueError(f"{self.loss} ranks by one dimension, got {len(self.dimensions)}")
        if self.absolute.weight and self.loss not in PAIR_LOSSES:
            raise ValueError(f"absolute.weight belongs to losses of pairs, not to {self.loss}")
        return self

    @property
    def label_dimensions(self) -> tuple[str, ...]:
        """The dimensions whose labels are learned from; the fused overall, if it is, comes last."""
        return (*self.dimensions, "overall") if self.train_overall else self.dimensions


class RewardOptimizer(Optimizer):
    """AdamW, or Muon for the matrices (best from scratch)."""

    name: Literal["adamw", "muon"] = "adamw"


class Budget(Section):
    """Updates, each from `bundles_per_update` bundles of pairs, shared out over the processes."""

    updates: PositiveInt = 1000
    bundles_per_update: PositiveInt = 1


class Evaluation(Section):
    """Held-out pair accuracy every so many updates on `num_prompts`, at the end on `final_prompts`; calibration is on
    as many. Of a file these are at most so many of its prompts, drawn once and for all: every time, and in every run,
    the same.
    """

    every: PositiveInt | None = 100
    num_prompts: PositiveInt = 56
    final_prompts: PositiveInt = 1400


class RewardRecipe(Section):
    """A whole run of reward training."""

    model: Model
    data: RewardData = RewardData()
    method: Method = Method()
    optimizer: RewardOptimizer = RewardOptimizer()
    budget: Budget = Budget()
    evaluation: Evaluation = Evaluation()
    checkpoint: Checkpoint = Checkpoint()
    save_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    seed: int = 0
    output: str = "runs/reward"
    trackers: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _labels_fit(self) -> RewardRecipe:
        asked = "method.loss: binary" if self.method.loss == "binary" else "method.absolute"
        if (self.method.loss == "binary" or self.method.absolute.weight) and self.data.labels != "binary":
            raise ValueError(f"{asked} learns from single items: set data.labels: binary")
        reads_prompt = self.model.template.partition("/")[0] != "media"
        require_added(self.data, self.method.loss, self.method.label_dimensions, reads_prompt=reads_prompt)
        return self


def require_added(data: Data, loss: str, dimensions: Collection[str], *, reads_prompt: bool) -> None:
    """ValueError for pairs added to those of a file from which the loss or the model learns nothing."""
    if data.neutral and loss not in PAIR_LOSSES:
        raise ValueError(
            f"data.neutral adds ties of two pictures, from which {loss} cannot learn: set it to 0, or method.loss to "
            f"{' or '.join(PAIR_LOSSES)}"
        )
    if data.contrast and loss in RATING_LOSSES:
        raise ValueError(f"data.contrast adds pairs, and {loss} learns from ratings: set it to 0")
    if data.contrast and not reads_prompt:
        raise ValueError("data.contrast changes the prompt, which this model does not read: set it to 0")
    if data.contrast and not set(dimensions) & set(PROMPTED):
        raise ValueError(
            f"data.contrast says something of {', '.join(PROMPTED)}, and what is learned is {', '.join(dimensions)}: "
            "set it to 0"
        )
