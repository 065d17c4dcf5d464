"""A checklist as a reward: yes/no questions about the picture, and weights learned from preferences.

VisionReward (arXiv 2412.21059): each answer is +1 or -1, the score is linear in them, and the weights are those of a
logistic regression that predicts from the difference of two answer sheets which picture people prefer. Questions whose
subject is absent (no face, no hands) count 0. For pictures the prompt comes in as one term more, VQAScore's P(yes) that
the picture shows it, on [0, 1] and weighing 2.354 (`probability` of a check); for videos three questions of the list
itself hold the prompt, none shuts another, and the published score is a mean, not a sum: weights are a 29th of theirs.

Differences from the paper: answers are 2 P(yes) - 1 unless `hard`; the questions are ours (`published_checklist` reads
theirs from their repository); alignment is asked of the same model (theirs: CLIP-FlanT5-XXL); until weights are
learned, our other questions share the total of theirs equally; a video is shown as 8 frames from first to last (theirs:
one a second, at most 24).

Legend: B samples, P pairs, Q questions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mmalign.types import PreferencePair, Sample
from rewardmodels.judges.calibration import UNFITTED, Calibration, probability
from rewardmodels.judges.chat import Engine, Review, Words
from rewardmodels.judges.settings import Checklist, JudgeFile
from rewardmodels.judges.speaking import (
    Shown,
    own_modalities,
    own_name,
    own_reads_files,
    question,
    reviews,
    scores,
    share_of,
)
from rewardmodels.judges.wording import Wording

DECODED = 256
"""So many samples are decoded at a time when weights are learned."""


@dataclass(eq=False)
class ChecklistReward:
    """Answers to Q questions, in [-1, 1] or P(yes), overall their weighted sum. A question that cannot be answered
    makes the whole sheet unusable.
    """

    engine: Engine
    settings: JudgeFile
    checklist: Checklist
    wording: Wording
    weights: tuple[float, ...] = ()
    differentiable: bool = False
    calibration: Calibration = UNFITTED

    name, modalities, reads_files = own_name, own_modalities, own_reads_files
    review, __call__, probability = reviews, scores, probability

    def __post_init__(self) -> None:
        if not self.weights:
            self.weights = tuple(check.weight for check in self.checklist.checks)
        if len(self.weights) != len(self.checklist.checks):
            raise ValueError(
                f"{len(self.weights)} weights for {len(self.checklist.checks)} checks: refit them"
            )

    @property
    def dimensions(self) -> tuple[str, ...]:
        """A name a question."""
        return tuple(check.name for check in self.checklist.checks)

    def sheets(self, *, samples: Sequence[Sample]) -> Tensor:
        """Answers (B, Q) in [-1, 1], those that are probabilities in [0, 1]; NaN rows could not be answered."""
        return self(samples=samples).values

    def judge(self, shown: Sequence[Shown], samples: Sequence[Sample]) -> list[Review]:
        checks = self.checklist.checks
        asked = [
            question(
                self.wording,
                one,
                self.checklist.shows,
                question=check.question.replace("{prompt}", one.prompt),
            )
            for one in shown
            for check in checks
        ]
        words = self.engine.first_words(asked, (self.checklist.yes, self.checklist.no))
        num = len(checks)
        return [self._review(words[i * num : (i + 1) * num]) for i in range(len(shown))]

    def _review(self, words: Sequence[Words]) -> Review:
        answers: dict[str, float] = {}
        agreed: dict[str, bool] = {}
        for check, found in zip(self.checklist.checks, words, strict=True):
            shares = share_of(found, self.checklist.min_mass)
            if isinstance(shares, str):
                return Review(reason=f"{check.name}: {shares}")
            sure = math.copysign(1.0, shares[0] - 0.5) if self.checklist.hard else 2 * shares[0] - 1
            answers[check.name], agreed[check.name] = shares[0] if check.probability else sure, sure > 0
        sheet = {
            check.name: answers[check.name] if check.where is None or agreed[check.where] else 0.0
            for check in self.checklist.checks
        }
        total = math.fsum(w * value for w, value in zip(self.weights, sheet.values(), strict=True))
        return Review(sheet, total, details={"mass": min(found.mass for found in words)})

    def learn(
        self, pairs: Sequence[PreferencePair], *, dimension: str = "overall", ridge: float = 1.0
    ) -> int:
        """Fit the weights to pairs; those without a label or a full sheet are left out. Gives how many were used."""
        known = [pair for pair in pairs if dimension in pair.labels]
        if not known:
            raise ValueError(f"no pair has a label of '{dimension}': nothing to learn weights from")
        samples = list({id(s): s for pair in known for s in (pair.a, pair.b)}.values())
        place = {id(sample): i for i, sample in enumerate(samples)}
        parts = (samples[start : start + DECODED] for start in range(0, len(samples), DECODED))
        sheets = torch.cat([self.sheets(samples=part) for part in parts])
        first = sheets[[place[id(pair.a)] for pair in known]]
        second = sheets[[place[id(pair.b)] for pair in known]]
        label = torch.tensor([pair.labels[dimension] for pair in known], dtype=torch.float64)
        full = torch.isfinite(first - second).all(1)
        if not bool(full.any()):
            raise ValueError("no pair has answers for both of its pictures: nothing to learn weights from")
        self.weights = tuple(fit_weights(first[full], second[full], label[full], ridge=ridge).tolist())
        return int(full.sum())

    def save_weights(self, path: str | Path) -> None:
        """Weights by question, as JSON; `load_judge(..., weights_file=)` reads them."""
        record = dict(zip(self.dimensions, self.weights, strict=True))
        Path(path).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read_weights(path: str | Path, checklist: Checklist) -> tuple[float, ...]:
    """What `save_weights` wrote; its questions must be those of the checklist."""
    record = json.loads(Path(path).read_text(encoding="utf-8"))
    if isinstance(record, list) or "coef" in record:
        raise ValueError(
            f"{path} has VisionReward's own weights, for its own questions: give checklist_file too"
        )
    names = [check.name for check in checklist.checks]
    if not isinstance(record, dict) or sorted(record) != sorted(names):
        raise ValueError(f"{path} must hold one weight for each of {', '.join(names)}")
    return tuple(float(record[name]) for name in names)


def fit_weights(first: Tensor, second: Tensor, label: Tensor, *, ridge: float = 1.0) -> Tensor:
    """Weights (Q,) of the logistic regression of p(first is better) (P,) on the difference of two sheets (P, Q).

    No intercept: swapping a pair mirrors it. `ridge` / 2 |w|^2 keeps separable data finite. Newton's method to
    convergence in float64.

    >>> fit_weights(torch.tensor([[1.0], [1.0]]), torch.tensor([[0.0], [0.0]]), torch.tensor([1.0, 1.0])).shape
    torch.Size([1])
    """
    if ridge <= 0:
        raise ValueError(f"ridge must be above 0, got {ridge}")
    gap, label = (first - second).double(), label.double()
    weights = torch.zeros(gap.shape[1], dtype=torch.float64)
    eye = torch.eye(gap.shape[1], dtype=torch.float64)

    def loss(w: Tensor) -> Tensor:
        logits = gap @ w
        return torch.nn.functional.softplus(logits).sum() - label @ logits + ridge / 2 * w @ w

    for _ in range(100):
        chance = torch.sigmoid(gap @ weights)
        slope = gap.T @ (chance - label) + ridge * weights
        curve = gap.T @ (gap * (chance * (1 - chance))[:, None]) + ridge * eye
        step = torch.linalg.solve(curve, slope)
        size = 1.0
        while loss(weights - size * step) > loss(weights) and size > 1e-8:
            size /= 2
        weights = weights - size * step
        if float(step.abs().max()) < 1e-10:
            break
    return weights
