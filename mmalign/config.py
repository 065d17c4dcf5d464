"""The recipe of a fine-tuning run: model, data, rewards, method, rollout, optimiser, budget, evaluation.

`load_recipe("grpo/shapes-flow", ["optimizer.lr=1e-4"])` gives a validated `Recipe`; see `mmalign.strict` for
how mistakes are told. The sections serve other schemas too (`load_config(path, overrides, schema)`).

One section a class; defaults are those that work on the bundled models. The sections of the methods are in
`mmalign.method_options`. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from mmalign.composition import Reward, check_rule, spelled_out
from mmalign.method_options import Fraction, Method
from mmalign.rules import Rule, Sum
from mmalign.strict import Section, available_recipes, find_recipe, load_config, to_yaml

__all__ = [
    "Recipe",
    "Reward",
    "Section",
    "available_recipes",
    "find_recipe",
    "load_config",
    "load_recipe",
    "to_yaml",
]


class Lora(Section):
    """Low-rank adapter: `targets` are module-name suffixes (null: those of the model family)."""

    rank: PositiveInt = 16
    alpha: PositiveFloat = 32.0
    targets: tuple[str, ...] | None = None


class Model(Section):
    """The generator: `shapes-flow`, `shapes-epsilon`, a diffusers folder or a hub id."""

    path: str
    family: str = "auto"
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    attention: str = "sdpa"
    weights: Literal["lora", "full"] = "lora"
    lora: Lora = Lora()
    size: tuple[PositiveInt, PositiveInt] | None = None
    num_frames: PositiveInt | None = None


class Data(Section):
    """Prompts: `shapes:train`, `shapes:heldout`, some categories (`shapes:train:counting,position`), .txt or .jsonl.

    `pairs` or `samples` make a run offline.
    """

    prompts: str = "shapes:train"
    heldout: str | None = "shapes:heldout"
    pairs: str | None = None
    samples: str | None = None


class Noise(Section):
    """The stochastic sampler: kind and noise (a of Flow-SDE and CPS, eta of Dance-SDE and DDIM)."""

    kind: Literal["flow", "dance", "cps", "ddim"]
    noise: PositiveFloat


class Window(Section):
    """Only `size` consecutive steps are stochastic and trained, starting inside `range`."""

    size: PositiveInt
    range: tuple[NonNegativeInt, PositiveInt]
    start: Literal["random", "progressive"] = "random"
    advance_every: PositiveInt = 25

    @model_validator(mode="after")
    def _fits(self) -> Window:
        if self.range[0] + self.size > self.range[1]:
            raise ValueError(f"{self.size} steps do not fit into steps {self.range[0]} to {self.range[1]}")
        return self


class Rollout(Section):
    """How samples are drawn: `groups_per_iteration` prompts, each `group_size` times."""

    num_steps: PositiveInt = 10
    guidance: Annotated[float, Field(ge=0.0)] = 1.0
    group_size: PositiveInt = 8
    groups_per_iteration: PositiveInt = 8
    sde: Noise | None = None
    window: Window | None = None
    batch_size: PositiveInt = 64
    same_latent: bool = False


class Optimizer(Section):
    """AdamW; `warmup` counts updates."""

    lr: PositiveFloat = 3e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: NonNegativeFloat = 1e-4
    max_grad_norm: PositiveFloat = 1.0
    warmup: NonNegativeInt = 0
    schedule: Literal["constant", "cosine"] = "constant"


class Budget(Section):
    """Iterations; in each, the samples are split into `updates_per_iteration` updates, `passes` times."""

    iterations: PositiveInt = 100
    updates_per_iteration: PositiveInt = 1
    passes: PositiveInt = 1


class Evaluation(Section):
    """Held-out prompts x fixed seeds, deterministic sampler; `rewards` are never optimised."""

    every: PositiveInt | None = 20
    num_prompts: PositiveInt = 32
    seeds_per_prompt: PositiveInt = 2
    num_steps: PositiveInt = 20
    guidance: Annotated[float, Field(ge=0.0)] = 1.0
    rewards: tuple[Reward, ...] = ()
    batch_size: PositiveInt = 64
    grid: tuple[PositiveInt, PositiveInt] = (4, 8)


class Checkpoint(Section):
    """Saved every so many iterations, the last `keep` are kept; `resume: auto` continues the newest."""

    every: PositiveInt | None = 50
    keep: PositiveInt = 2
    resume: Literal["auto", "never"] = "auto"


class Ema(Section):
    """An averaged copy that is evaluated and saved in place of the last weights."""

    decay: Fraction = 0.9


class Recipe(Section):
    """A whole fine-tuning run."""

    model: Model
    data: Data = Data()
    rewards: tuple[Reward, ...] = ()
    combine: Rule = Sum()
    method: Method
    rollout: Rollout = Rollout()
    optimizer: Optimizer = Optimizer()
    budget: Budget = Budget()
    evaluation: Evaluation = Evaluation()
    checkpoint: Checkpoint = Checkpoint()
    ema: Ema | None = None
    seed: NonNegativeInt = 0
    output: str = "runs/finetune"
    trackers: tuple[Literal["tensorboard", "wandb", "comet_ml", "trackio", "mlflow"], ...] = ("tensorboard",)

    @property
    def offline(self) -> bool:
        """True when the run trains on stored pairs or samples and never draws its own."""
        return self.data.pairs is not None or self.data.samples is not None

    @classmethod
    def spelled_out(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Short forms of rewards written in full."""
        made: dict[str, Any] = spelled_out(data)
        return made

    @model_validator(mode="after")
    def _coherent(self) -> Recipe:
        method, rollout, data = self.method, self.rollout, self.data
        check_rule(self.combine, self.rewards)
        if method.name == "grpo" and rollout.sde is None:
            raise ValueError("grpo needs a stochastic sampler: set rollout.sde={kind: flow, noise: 0.7}")
        if method.name == "grpo" and method.guidance != rollout.guidance:
            raise ValueError("grpo trains what it sampled: method.guidance must equal rollout.guidance")
        if method.name == "grpo" and method.prompt_dropout > 0:
            raise ValueError("grpo trains what it sampled: method.prompt_dropout must be 0")
        if method.prompt_dropout > 0 and method.guidance > 1:
            raise ValueError(
                "a dropped prompt has no guidance: use method.prompt_dropout with method.guidance=1"
            )
        if method.name == "grpo" and method.variant == "guard" and rollout.sde and rollout.sde.kind == "cps":
            raise ValueError(
                "the guard variant needs a Gaussian log-probability: use another rollout.sde than cps"
            )
        if (
            method.name == "grpo"
            and method.kl_form == "flow_grpo"
            and rollout.sde
            and rollout.sde.kind == "ddim"
        ):
            raise ValueError(
                "method.kl_form flow_grpo is made for the step sizes of flow models: use exact with ddim"
            )
        if method.negative and self.evaluation.every is not None and self.evaluation.guidance <= 1:
            raise ValueError("a negative model acts through guidance: set evaluation.guidance above 1")
        if method.name != "grpo" and rollout.window is not None:
            raise ValueError(f"rollout.window is only used by grpo, not by {method.name}")
        if rollout.window is not None and rollout.window.range[1] > rollout.num_steps:
            raise ValueError(f"rollout.window.range ends after the {rollout.num_steps} steps of the rollout")
        if data.pairs is not None and method.name not in ("dpo", "npo"):
            raise ValueError(f"data.pairs is only used by dpo and npo, not by {method.name}")
        if data.samples is not None and method.name not in ("sft", "rwr"):
            raise ValueError(f"data.samples is only used by sft and rwr, not by {method.name}")
        if self.model.weights == "full" and self.model.dtype != "float32":
            raise ValueError(
                f"model.weights=full trains in float32: {self.model.dtype} would round most updates away; set "
                "model.dtype=float32, or model.weights=lora, whose factors stay in float32"
            )
        if not self.offline and not self.rewards:
            raise ValueError("rewards is empty: name at least one reward, e.g. [{name: shapes-verifier}]")
        if not self.offline and method.name != "rwr" and rollout.group_size < 2:
            raise ValueError(f"rollout.group_size must be at least 2: {method.name} compares within groups")
        return self


def load_recipe(path_or_name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file, or shipped under a name such as `grpo/shapes-flow`, after the overrides."""
    return load_config(path_or_name, overrides, Recipe)
