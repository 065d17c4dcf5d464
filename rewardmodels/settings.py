"""What a saved hidden-state reward model must remember: `reward_config.json`.

Scores are given as (raw - mean) / std, fitted on calibration prompts, so they are comparable between models;
P(a is better) = sigmoid((score a - score b) / temperature), and a difference up to `tie_threshold` reads as a tie.
Imports no torch.

Legend: D dimensions.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

SCHEMA = "mmalign.reward/1"
LATER = frozenset(
    (
        "head_options",
        "more_templates",
        "overall",
        "overall_weights",
        "overall_powers",
        "overall_mean",
        "overall_std",
        "tie_width",
    )
)
"""Keys that older files lack; their defaults are what such models do."""


def record_of(path: Path) -> dict[str, Any]:
    """What a saved reward's JSON says; ValueError where there is none."""
    if not path.is_file():
        raise ValueError(
            f"{path.parent} holds no {path.name}: give the folder that `mmalign train-reward` wrote"
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise ValueError(f"{path} is not valid JSON ({problem}): save the reward again") from problem
    if not isinstance(record, dict):
        raise ValueError(f"{path} must hold a JSON object: save the reward again")
    return record


@dataclass(frozen=True)
class RewardSettings:
    """Everything beside weights and tokenizer that decides a score."""

    name: str
    template: str
    positions: Literal["mrope", "sequential"] = "mrope"
    head: str = "linear"
    dimensions: tuple[str, ...] = ("overall",)
    modalities: tuple[str, ...] = ("image",)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    temperature: float = 1.0
    tie_threshold: float = 0.0
    max_prompt_tokens: int = 512
    head_options: Mapping[str, Any] = field(default_factory=dict)
    more_templates: tuple[str, ...] = ()
    """Further prompts, each a forward pass with a head of its own."""
    overall: Literal["mean", "sum", "min", "product"] = "mean"
    overall_weights: tuple[float, ...] = ()
    """Weights of the normalised dimensions in the overall score; none: the rule `overall`."""
    overall_powers: tuple[float, ...] = ()
    """Exponents of the dimensions where `overall` is `product`; none: equal ones."""
    overall_mean: float = 0.0
    overall_std: float = 1.0
    tie_width: tuple[float, ...] = ()
    """theta of Rao and Kupper's law, or nu of Davidson's, by label dimension, where training learned it."""
    quality: Mapping[str, Any] = field(default_factory=dict)
    """What was measured after training; shown to users, never used."""

    def __post_init__(self) -> None:
        if not len(self.dimensions) == len(self.mean) == len(self.std):
            raise ValueError(f"{len(self.dimensions)} dimensions need as many means and stds")
        if self.overall_weights and len(self.overall_weights) != len(self.dimensions):
            raise ValueError(f"{len(self.dimensions)} dimensions need as many overall_weights, or none")
        if self.overall_powers:
            if len(self.overall_powers) != len(self.dimensions) or min(self.overall_powers) <= 0:
                raise ValueError(
                    f"overall_powers are {len(self.dimensions)} numbers above 0, one a dimension"
                )
            if self.overall != "product":
                raise ValueError(f"overall_powers belong to product, not to {self.overall}")
        if min(self.std) <= 0 or self.temperature <= 0 or self.overall_std <= 0:
            raise ValueError("std and temperature must be above 0")

    def save(self, path: Path) -> None:
        """Write as JSON."""
        record = {"schema": SCHEMA, "family": "hidden-state", **dataclasses.asdict(self)}
        path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> RewardSettings:
        """From JSON; unknown and missing keys are errors, since any could change the scores."""
        record = record_of(path)
        if record.get("schema") != SCHEMA or record.get("family") != "hidden-state":
            raise ValueError(f"{path} is not a {SCHEMA} hidden-state reward: retrain it, or update mmalign")
        known = {item.name for item in dataclasses.fields(cls)}
        given = {key: value for key, value in record.items() if key not in ("schema", "family")}
        wrong = sorted(known.symmetric_difference(given) - (LATER - given.keys()))
        if wrong:
            raise ValueError(f"{path}: missing or unknown keys {', '.join(wrong)}")
        fixed: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
        return cls(**fixed)
