"""Judges in words for the contract: a tiny model where probabilities are read, a scripted engine where text is."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewardmodels.judges.chat import Answer, Question, Sampling, Words
from tests.unit.rewardmodels.judges import tiny_chat
from tests.unit.rewardmodels.tiny import tiny_reward


@dataclass
class Certain:
    """Answers every question, in all formats at once, by numbers that depend on its words and pictures alone."""

    num_scores: int = 2
    name: str = "certain"

    def generate(self, questions: Sequence[Question], sampling: Sequence[Sampling]) -> list[Answer]:
        return [
            Answer(_text(int(question.digest, 16) % 997 / 997, self.num_scores)) for question in questions
        ]

    def first_words(
        self, questions: Sequence[Question], words: Sequence[str], *, variants: bool = True
    ) -> list[Words]:
        shares = [(1 + int(question.digest, 16) % 997) / 1000 for question in questions]
        return [Words((math.log(share), math.log(1 - share))) for share in shares]


def _text(share: float, num_scores: int) -> str:
    mark = 1 + 3 * share
    labels = (
        "Text faithfulness", "Image faithfulness", "Physical quality", "Text rendering", "Alignment", "Consistency",
        "Motion", "Quality", "Factuality", "Final score",
    )  # fmt: skip
    lines = [f"{label}: {mark:.3f}" for label in labels]
    checks = [f"[{kind}] to a degree of {mark:.3f}" for kind in ("follow", "keep", "quality")]
    tags = [f"<score>{mark:.3f}</score>", f"<answer>{('yes', 'no', 'partly')[int(97 * share) % 3]}</answer>"]
    score = [mark, 5 * mark] if num_scores == 2 else [mark] * num_scores
    return "\n".join([*lines, *checks, *tags, rf"\boxed{{{mark:.3f}}}", json.dumps({"score": score})])


def _model(folder: Path) -> dict[str, Any]:
    return {"path": str(tiny_chat.qwen(folder / "model"))}


def _said(folder: Path) -> dict[str, Any]:
    return {"engine": Certain()}


class Colourful:
    """Says of every picture that it is of a colour, which depends on its words and pixels alone."""

    name = "colourful"

    def generate(self, questions: Sequence[Question], sampling: Sequence[Sampling]) -> list[Answer]:
        colours = ("red", "green", "blue", "yellow")
        return [Answer(f"a {colours[int(question.digest, 16) % 4]} circle") for question in questions]


def _critiqued(folder: Path) -> dict[str, Any]:
    return {"engine": Colourful(), "scorer": str(tiny_reward().save(folder / "scorer"))}


TINY: dict[str, Callable[[Path], dict[str, Any]]] = {
    "judge": lambda folder: {"config": "vqascore", "min_mass": 0.0, **_model(folder)},
    "vqascore": lambda folder: {"min_mass": 0.0, **_model(folder)},
    "paco-reward": lambda folder: {"min_mass": 0.0, **_model(folder)},
    "promptecho": _model,
    "visionreward": _said,
    "visionreward-video": _said,
    "unifiedreward-image": _said,
    "unifiedreward-video": _said,
    "rationalrewards-t2i": _said,
    "critique-then-mark": _said,
    "critique-then-score": _critiqued,
    "firm-gen": lambda folder: {"engine": Certain(num_scores=3)},
    "editscore": _said,
    "unifiedreward-edit": _said,
    "rationalrewards-edit": _said,
    "firm-edit": lambda folder: {"engine": Certain(num_scores=1)},
    "edit-principles": _said,
    "uniworld-v2": lambda folder: {"min_mass": 0.0, **_model(folder)},
}
