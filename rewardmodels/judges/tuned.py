"""The model of a judge as it is trained: what of it learns, how it becomes plain weights again, and how likely given
answers are.

Legend: Q questions, L tokens of the longest answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mmalign.seeds import seed_of
from rewardmodels.judges.chat import Question
from rewardmodels.judges.local import LocalEngine
from rewardmodels.judges.packed import answer_logits
from rewardmodels.judges.probability_recipe import Start
from rewardmodels.tuning import VISION, add_adapters, merged


@dataclass(frozen=True, eq=False)
class Tuned:
    """A local model of which all weights learn, or adapters, as the settings say."""

    engine: LocalEngine
    settings: Start
    seed: int = 0

    def __post_init__(self) -> None:
        full, vision = self.settings.weights == "full", self.settings.vision == "trained"
        for name, parameter in self.vlm.named_parameters():
            parameter.requires_grad_(vision and full if _is_vision(name) else full)
        if not full:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed_of(self.seed, "adapters"))
                add_adapters(cast(Any, self), self.settings.lora, language=True, vision=vision)

    @property
    def vlm(self) -> PreTrainedModel:
        """The model."""
        return self.engine.model

    @contextmanager
    def finished(self) -> Iterator[None]:
        """Inside, adapters are part of the weights, and no weight asks for a gradient, which can change the last bits
        of a score.
        """
        trained = [parameter for parameter in self.vlm.parameters() if parameter.requires_grad]
        with merged(cast(Any, self)):
            self.vlm.requires_grad_(False)
            try:
                yield
            finally:
                for parameter in trained:
                    parameter.requires_grad_(True)

    def log_probs(
        self, questions: Sequence[Question], answers: Sequence[Sequence[int]], *, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities (Q, L) of the tokens of answers in float32, with gradients, and where there are any."""
        logits = answer_logits(self.engine, questions, answers)
        width = logits.shape[1]
        rows = [[*answer, *[self.engine.pad] * (width - len(answer))] for answer in answers]
        tokens = torch.tensor(rows, device=logits.device)
        lengths = torch.tensor([len(answer) for answer in answers], device=logits.device)
        where = torch.arange(width, device=logits.device) < lengths[:, None]
        return (logits / temperature).log_softmax(-1).gather(2, tokens[:, :, None])[..., 0], where


def _is_vision(name: str) -> bool:
    return any(part in VISION for part in name.split("."))
