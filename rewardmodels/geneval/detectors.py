"""Detectors: any function that finds things in pictures, the shapes world's own, and stock ones of transformers.

A detector is called with pictures (B, 3, H, W) in [0, 1] and, for each picture, the names that are looked for (open
vocabularies need them, others ignore them). It returns a mapping for each picture: `boxes` (N, 4) as left, top, right,
bottom in pixels, `labels` N names, `scores` N numbers, and perhaps `masks` (N, H, W) and `colors` N words.

Legend: B pictures, N detections, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmalign.shapes.detection import detect
from rewardmodels.geneval.rules import Found

Detector = Callable[[Tensor, Sequence[Sequence[str]]], Sequence[Mapping[str, Any]]]


def read_detections(outputs: Sequence[Mapping[str, Any]], num_images: int) -> list[list[Found]]:
    """What a detector returned, checked; a TypeError says what is wrong with it."""
    if len(outputs) != num_images:
        raise TypeError(
            f"the detector returned {len(outputs)} results for {num_images} pictures: return one for each"
        )
    return [_read(output) for output in outputs]


def _read(output: Mapping[str, Any]) -> list[Found]:
    if not {"boxes", "labels", "scores"} <= set(output):
        raise TypeError(
            f"a detector's result needs boxes, labels and scores, got {', '.join(map(str, output))}"
        )
    labels = [str(label) for label in output["labels"]]
    boxes = torch.as_tensor(output["boxes"], dtype=torch.float32).reshape(-1, 4).tolist()
    scores = torch.as_tensor(output["scores"], dtype=torch.float32).reshape(-1).tolist()
    masks, colors = output.get("masks"), output.get("colors")
    columns = (
        labels,
        boxes,
        scores,
        labels if masks is None else masks,
        labels if colors is None else colors,
    )
    if len({len(column) for column in columns}) != 1:
        raise TypeError(f"a detector's result has columns of lengths {[len(column) for column in columns]}")
    return [
        Found(
            label, tuple(box), score, None if masks is None else torch.as_tensor(masks[k]).bool().cpu(),
            None if colors is None else colors[k],
        )
        for k, (label, box, score) in enumerate(zip(labels, boxes, scores, strict=True))
    ]  # fmt: skip


def shapes(images: Tensor, things: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """The shapes world's detector: labels are shapes, colours are named, and it is always sure."""
    side = images.shape[-1]
    found = []
    for sight in detect(images):
        known = [thing for thing in sight.things if thing.shape is not None]
        found.append(
            {
                "boxes": [
                    [side * (t.x - t.radius), side * (t.y - t.radius), side * (t.x + t.radius), side * (t.y + t.radius)]
                    for t in known
                ],
                "labels": [t.shape for t in known],
                "scores": [1.0] * len(known),
                "colors": [t.color for t in known],
            }
        )  # fmt: skip
    return found
