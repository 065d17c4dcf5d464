"""The method section of a recipe: one class a method, chosen by `name`; variants of a method are options.

Imports no torch.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from mmalign.strict import Section

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Levels(Section):
    """Noise levels at which denoising losses are taken; `schedule` draws from the rollout's own levels.

    `steps` keeps only those steps of the schedule, first to last: rewards of what is in a picture are decided early,
    so [0, 4] of 8 steps learns from the levels where the gradient says most about the reward.
    """

    density: Literal["uniform", "logit_normal", "schedule"] = "logit_normal"
    per_sample: PositiveInt = 4
    steps: tuple[NonNegativeInt, PositiveInt] | None = None

    @model_validator(mode="after")
    def _only_of_a_schedule(self) -> Levels:
        if self.steps is not None and self.density != "schedule":
            raise ValueError(
                "steps are those of the rollout's schedule: set density=schedule, or leave steps out"
            )
        if self.steps is not None and self.steps[0] >= self.steps[1]:
            raise ValueError(f"steps {list(self.steps)} are none: give the first and the one after the last")
        return self


class MethodOptions(Section):
    """What every method has: guidance inside the loss, and labels turned to train a negative model.

    `prompt_dropout` is the share of samples whose loss is taken under the negative (empty) prompt, so that the
    unconditional half of guidance learns too; a negative model is used in that half alone.
    """

    guidance: Annotated[float, Field(ge=0.0)] = 1.0
    negative: bool = False
    prompt_dropout: Fraction = 0.0

    @property
    def encoded_guidance(self) -> float:
        """The guidance that prompts must be encoded for: any above 1 gives the negative prompt as well."""
        return max(self.guidance, 2.0) if self.prompt_dropout > 0 else self.guidance


class Sft(MethodOptions):
    """Supervised fine-tuning on the best of every group (or on `data.samples`)."""

    name: Literal["sft"]
    levels: Levels = Levels()


class Rwr(MethodOptions):
    """Reward-weighted regression; weights have mean one and are capped."""

    name: Literal["rwr"]
    levels: Levels = Levels()
    weighting: Literal["softmax", "exp", "raw"] = "softmax"
    temperature: PositiveFloat = 0.3
    max_weight: Annotated[float, Field(gt=1.0)] = 5.0


class Dpo(MethodOptions):
    """Preference pairs: `data.pairs`, or best against worst of every group by reward."""

    name: Literal["dpo"]
    levels: Levels = Levels()
    beta: PositiveFloat = 500.0
    variant: Literal["sigmoid", "robust", "ipo", "hinge", "simpo"] = "sigmoid"
    label_smoothing: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.0
    gamma: NonNegativeFloat = 0.0
    penalty: NonNegativeFloat = 0.0
    anchor: NonNegativeFloat = 0.0
    update_reference_every: PositiveInt | None = None


class Npo(Dpo):
    """The pair losses with winner and loser exchanged: trains the negative branch of guidance."""

    name: Literal["npo"]  # type: ignore[assignment]
    negative: bool = True


class Grpo(MethodOptions):
    """Policy gradient on stochastic rollouts with group-relative advantages."""

    name: Literal["grpo"]
    variant: Literal["clip", "guard"] = "clip"
    clip_range: PositiveFloat = 1e-3
    advantages: Literal["group", "global", "none"] = "group"
    advantage_clip: PositiveFloat = 5.0
    kl: NonNegativeFloat = 0.0
    kl_form: Literal["exact", "flow_grpo"] = "exact"


class Decay(Section):
    """How the behaviour copy follows the policy after every iteration: old <- d old + (1 - d) policy.

    `type` 0: d = 0; 1: min(.001 n, .5); 2: 0 until 75, then min(.0075 (n - 75), .999); "ema": d = `value`;
    n counts optimiser updates.
    """

    type: Literal[0, 1, 2, "ema"] = 1
    value: Fraction = 0.5


class Nft(MethodOptions):
    """DiffusionNFT: contrast of positive and negative implicit policies around the behaviour policy.

    With `extremes` only so many of the best and of the worst of every group are learned from (as DanceGRPO does,
    arXiv 2505.07818): samples are cheap beside updates, and the middle of a group says little.
    """

    name: Literal["nft"]
    levels: Levels = Levels(density="schedule")
    beta: PositiveFloat = 1.0
    scale: PositiveFloat = 5.0
    kl: NonNegativeFloat = 1e-4
    advantages: Literal["group", "global", "none"] = "global"
    advantage_clip: PositiveFloat = 5.0
    extremes: PositiveInt | None = None
    decay: Decay = Decay()


Method = Annotated[Sft | Rwr | Dpo | Npo | Grpo | Nft, Field(discriminator="name")]
