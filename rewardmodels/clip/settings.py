"""What a saved CLIP- or BLIP-type reward must remember beside its weights: `reward_config.json`. Imports no torch.

Scores are given as (raw - mean) / std, fitted on calibration prompts; P(a is better) = sigmoid((score a - score b) /
temperature), and a difference up to `tie_threshold` reads as a tie: the same as of other trained rewards.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewardmodels.clip.recipe import Score
from rewardmodels.settings import SCHEMA, record_of

if TYPE_CHECKING:
    from mmalign.types import Modality

FAMILY = "clip"


@dataclass(frozen=True)
class ClipSettings:
    """Everything beside weights and tokenizer that decides a score; `pictures` are the fields of a `SquareRule`."""

    name: str
    score: Score
    dimensions: tuple[str, ...] = ("overall",)
    modalities: tuple[Modality, ...] = ("image", "video")
    pictures: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""
    activation: str = "none"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    temperature: float = 1.0
    tie_threshold: float = 0.0
    quality: Mapping[str, Any] = field(default_factory=dict)
    """What was measured after training; shown to users, never used."""

    def __post_init__(self) -> None:
        if not len(self.dimensions) == len(self.mean) == len(self.std) == 1:
            raise ValueError("a CLIP reward has one dimension, with a mean and a std")
        if self.std[0] <= 0 or self.temperature <= 0:
            raise ValueError("std and temperature must be above 0")

    def save(self, path: Path) -> None:
        """Write as JSON."""
        record = {"schema": SCHEMA, "family": FAMILY, **dataclasses.asdict(self)}
        path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> ClipSettings:
        """From JSON; unknown and missing keys are errors, since any could change the scores."""
        record = record_of(path)
        if record.get("schema") != SCHEMA or record.get("family") != FAMILY:
            raise ValueError(f"{path} is not a {SCHEMA} reward of the family {FAMILY}")
        given = {key: value for key, value in record.items() if key not in ("schema", "family")}
        wrong = sorted({item.name for item in dataclasses.fields(cls)}.symmetric_difference(given))
        if wrong:
            raise ValueError(f"{path}: missing or unknown keys {', '.join(wrong)}")
        fixed: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in given.items()}
        return cls(**fixed)
