"""GenEval as a reward: detect, name colours where they are asked for, judge by the rules.

Legend: B samples, C H W.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from mmalign.types import Modality, Sample, Scores
from rewardmodels.batching import Prepared, score
from rewardmodels.functions import find
from rewardmodels.geneval import detectors
from rewardmodels.geneval.colors import TEMPLATES, ByClip, ColorNamer, Cut, by_mean
from rewardmodels.geneval.detectors import Detector, read_detections
from rewardmodels.geneval.prompts import read_file, rules_of
from rewardmodels.geneval.rules import Found, Rules, judge, keep

Measure = Literal["correct", "fraction"]


@dataclass(frozen=True)
class Limits:
    """GenEval's thresholds; counting asks for surer detections."""

    threshold: float = 0.3
    counting_threshold: float = 0.9
    max_objects: int = 16
    max_overlap: float = 1.0


@dataclass(frozen=True, eq=False)
class GenEvalReward:
    """`correct` is 1 where every clause holds, `fraction` the share of clauses that do."""

    detector: Detector
    namer: ColorNamer
    measure: Measure = "correct"
    by_prompt: Mapping[str, Rules] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    batch_size: int = 16
    name: str = "geneval"
    modalities: frozenset[Modality] = frozenset({"image"})
    dimensions: tuple[str, ...] = ("correct", "fraction")
    differentiable: bool = False

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        """Scores in [0, 1]; a sample whose rules are not known is NaN with a reason."""
        chosen = self.dimensions.index(self.measure)
        return score(
            samples, self._judge, names=self.dimensions, modalities=self.modalities, batch_size=self.batch_size,
            overall=lambda values: values[:, chosen], fit=self._check,
        )  # fmt: skip

    def _rules(self, ready: Prepared) -> Rules:
        return rules_of(ready.prompt, ready.metadata, self.by_prompt)

    def _check(self, ready: Prepared) -> Prepared:
        self._rules(ready)
        return ready

    @torch.no_grad()
    def _judge(self, batch: Sequence[Prepared]) -> Tensor:
        images = torch.stack([one.frames[0] for one in batch]).clamp(0, 1)
        rules = [self._rules(one) for one in batch]
        outputs = self.detector(images, [asked.things() for asked in rules])
        kept = [
            keep(
                found, max_objects=self.limits.max_objects, max_overlap=self.limits.max_overlap,
                threshold=self.limits.counting_threshold if asked.counting else self.limits.threshold,
            )
            for found, asked in zip(read_detections(outputs, len(batch)), rules, strict=True)
        ]  # fmt: skip
        colors = self._colors(images, kept, rules)

        def named(objects: Sequence[Found], _: str) -> list[str | None]:
            return [colors.get(id(one), one.color) for one in objects]

        verdicts = [judge(found, asked, named) for found, asked in zip(kept, rules, strict=True)]
        return torch.tensor([[float(verdict.correct), verdict.fraction] for verdict in verdicts])

    def _colors(
        self, images: Tensor, kept: Sequence[Mapping[str, Sequence[Found]]], rules: Sequence[Rules]
    ) -> dict[int, str]:
        """By identity, the colour of every detection that a clause asks about; all cuts are named at once."""
        asked: dict[int, Cut] = {}
        for image, found, rule in zip(images, kept, rules, strict=True):
            for clause in rule.include:
                if clause.color is None:
                    continue
                for one in found.get(clause.thing, ())[: clause.count]:
                    if one.color is None:
                        asked[id(one)] = cut_out(image, one)
        return dict(zip(asked, self.namer(list(asked.values())), strict=True)) if asked else {}


def cut_out(image: Tensor, found: Found) -> Cut:
    """The thing's box out of (3, H, W), borders rounded, at least one pixel."""
    height, width = image.shape[-2:]
    left, top, right, bottom = (round(side) for side in found.box)
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    right, bottom = max(min(right, width), left + 1), max(min(bottom, height), top + 1)
    mask = None if found.mask is None else found.mask.to(image.device)[top:bottom, left:right]
    return Cut(found.label, image[:, top:bottom, left:right], mask)


def geneval(
    *,
    detector: str = "facebook/mask2former-swin-small-coco-instance",
    colors: str = "mean",
    clip: str = "openai/clip-vit-large-patch14",
    architecture: str = "",
    templates: Sequence[str] = TEMPLATES,
    rules: str = "",
    measure: Measure = "correct",
    threshold: float = 0.3,
    counting_threshold: float = 0.9,
    max_objects: int = 16,
    max_overlap: float = 1.0,
    batch_size: int = 16,
    device: str | torch.device = "cpu",
) -> GenEvalReward:
    """GenEval-like judge.

    `detector`: a function `module:name` (see `detectors`), the folder or hub id of a stock one (see `stock`), or
    `shapes`. `colors`: `mean`, or `clip` (with `clip` the
    model and `templates` its sentences); a detector that names colours itself goes before both.
    `rules`: a JSONL file by prompt, for prompts whose samples bring no metadata.
    """
    if measure not in ("correct", "fraction"):
        raise ValueError(f"option measure of geneval must be 'correct' or 'fraction', got {measure!r}")
    limits = Limits(threshold, counting_threshold, max_objects, max_overlap)
    namer = _namer(colors, clip, architecture, templates, batch_size, device)
    return GenEvalReward(
        _detector(detector, device), namer, measure, read_file(rules) if rules else {}, limits, batch_size
    )


def _detector(name: str, device: str | torch.device) -> Detector:
    if name == "shapes":
        return detectors.shapes
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name):
        function: Any = find(name, arguments="images, things")
        made: Detector = function
        return made
    from rewardmodels.geneval.stock import StockDetector

    return StockDetector(name, device=device)


def _namer(
    name: str,
    clip: str,
    architecture: str,
    templates: Sequence[str],
    batch_size: int,
    device: str | torch.device,
) -> ColorNamer:
    if name == "mean":
        return by_mean
    if name == "clip":
        from rewardmodels.clip.towers import load_towers

        return ByClip(
            load_towers(clip, architecture=architecture, device=device),
            templates=templates,
            batch_size=batch_size,
        )
    raise ValueError(f"option colors of geneval must be mean or clip, got '{name}'")
