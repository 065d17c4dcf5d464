"""The recipes of `mmalign train-judge` for judges of token probabilities: `probability` trains the model, `checklist`
the weights of its questions. Imports no torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from mmalign.config import Checkpoint, Section
from rewardmodels.judges.settings import JudgeFile, read_judge
from rewardmodels.judges.verdict_recipe import (
    Budget,
    Evaluation,
    Fraction,
    JudgedPairs,
)
from rewardmodels.model_recipe import Lora
from rewardmodels.recipe import WORLDS, RewardOptimizer, require_judged


class Start(Section):
    """`path`: an instruction model with pictures (folder or hub id), a judge trained before, or a bundled reward.

    `asks` is the judge: a name of `rewardmodels/judges/files`, a YAML file, or what such a file holds. Trained are all
    weights or LoRA adapters, which are merged when the judge is saved; `batch_size` questions share a forward pass.
    """

    path: str = "shapes-reward"
    asks: str | JudgeFile = "vqascore"
    template_file: str | dict[str, str] | None = None
    """Your text in place of the wording; of a judge with several questions by their names."""
    weights: Literal["full", "lora"] = "full"
    vision: Literal["frozen", "trained"] = "trained"
    lora: Lora = Lora(rank=32, alpha=64.0)
    dtype: Literal["float32", "bfloat16"] = "float32"
    batch_size: PositiveInt = 64

    @property
    def settings(self) -> JudgeFile:
        """The judge file."""
        return read_judge(self.asks) if isinstance(self.asks, str) else self.asks

    def require_precise(self) -> None:
        """ValueError for weights that are trained in a type that would round most updates away."""
        if self.weights == "full" and self.dtype != "float32":
            raise ValueError(
                f"judge.weights=full trains in float32: {self.dtype} would round most updates away; set "
                "judge.dtype=float32, or judge.weights=lora, whose factors stay in float32"
            )

    @model_validator(mode="after")
    def _as_it_is_asked(self) -> Start:
        if self.lora.dropout:
            raise ValueError("judges learn as they are asked, without dropout: leave lora.dropout at 0")
        return self


class ProbabilityMethod(Section):
    """How a pair teaches: its two questions (of each picture, or of both orders) have answers p and 1 - p.

    `first_token`: cross entropy of the whole answer, yes or no with `share` of the weight, and the critique in the data
    behind it (PaCo-Reward; `published`: the weights of its code); `binary`: cross entropy between the two words alone;
    `margin`: Bradley-Terry on the logit margins; `probability`: on the probabilities times `scale` (RewardDance), with
    `anchor` times the binary cross entropy. Cross entropies tell a judge of single pictures who wins on average, and
    little of close calls: `ranking` times the loss of `margin` is added to them.

    A judge of digits says yes with the probability of its score: p is the expected digit on [0, 1], and the margin its
    log-odds, which go on where the scale ends.
    """

    name: Literal["probability"] = "probability"
    loss: Literal["first_token", "binary", "margin", "probability"] = "first_token"
    share: Fraction = 0.1
    published: bool = False
    critiques: bool = False
    """Whether critiques in the data are answers too."""
    scale: PositiveFloat = 1.0
    anchor: NonNegativeFloat = 0.0
    ranking: NonNegativeFloat = 0.0
    average: Fraction = 0.0
    """Decay of the averaged weights that are measured and saved; 0 takes the last ones."""

    @model_validator(mode="after")
    def _known(self) -> ProbabilityMethod:
        if (self.published or self.critiques) and self.loss != "first_token":
            raise ValueError(f"published and critiques belong to first_token, not to {self.loss}")
        if self.published and not self.critiques:
            raise ValueError("published weighs an answer of one token with 0: it needs critiques")
        if self.anchor and self.loss not in ("margin", "probability"):
            raise ValueError(f"anchor belongs to margin and probability, not to {self.loss}")
        if self.scale != 1.0 and self.loss not in ("margin", "probability"):
            raise ValueError(f"scale belongs to margin and probability, not to {self.loss}")
        if self.ranking and (self.critiques or self.loss not in ("first_token", "binary")):
            raise ValueError("ranking belongs to first_token without critiques and to binary: leave it at 0")
        return self


class ProbabilityRecipe(Section):
    """A whole run of training a judge of token probabilities."""

    judge: Start = Start()
    data: JudgedPairs = JudgedPairs()
    method: ProbabilityMethod = ProbabilityMethod()
    optimizer: RewardOptimizer = RewardOptimizer(lr=2e-4)
    budget: Budget = Budget()
    evaluation: Evaluation = Evaluation()
    checkpoint: Checkpoint = Checkpoint()
    seed: int = 0
    output: str = "runs/judge"
    trackers: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _trainable(self) -> ProbabilityRecipe:
        judge = self.judge.settings.judge
        if judge.kind == "yes_no" and judge.reasoning:
            raise ValueError("judges that reason before the verdict are not trained: set reasoning to 0")
        if judge.kind not in ("yes_no", "digits") and not (
            judge.kind == "pair" and judge.style == "probability"
        ):
            raise ValueError("judge.asks must be of kind yes_no or digits, or pair with style probability")
        if self.method.critiques and (judge.kind != "yes_no" or self.data.pairs in WORLDS):
            raise ValueError("critiques are of single pictures, in files: use kind yes_no and data.pairs")
        self.judge.require_precise()
        require_judged(self.data, self.judge.settings.modalities, "one of data and judge.asks.modalities")
        return self


class ChecklistMethod(Section):
    """Logistic regression of the answers' differences; `ridge` / 2 |w|^2 keeps it finite."""

    name: Literal["checklist"] = "checklist"
    ridge: PositiveFloat = 1.0


class ChecklistRecipe(Section):
    """Learning the weights of a checklist; `budget.iterations` bundles of pairs are read."""

    judge: Start = Start(asks="visionreward")
    data: JudgedPairs = JudgedPairs()
    method: ChecklistMethod = ChecklistMethod()
    budget: Budget = Budget(iterations=30)
    evaluation: Evaluation = Evaluation(every=None)
    seed: int = 0
    output: str = "runs/checklist"

    @model_validator(mode="after")
    def _a_checklist(self) -> ChecklistRecipe:
        if self.judge.settings.judge.kind != "checklist":
            raise ValueError("judge.asks must be of kind checklist")
        require_judged(self.data, self.judge.settings.modalities, "one of data and judge.asks.modalities")
        return self
