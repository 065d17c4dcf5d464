"""Stock detectors of transformers: DETR and its kin, and Mask2Former, the architecture that GenEval itself uses.

`facebook/mask2former-swin-small-coco-instance` has GenEval's classes, backbone and training set; its weights are the
authors' own, not mmdetection's, so scores are close to published ones, not equal.

Legend: B pictures, N detections, H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rewardmodels.clip.weights import locate

FILES = ("*.json", "*.safetensors", "pytorch_model.bin")
COCO_NAMES = {"mouse": "computer mouse", "remote": "tv remote", "keyboard": "computer keyboard"}
"""COCO's name -> the name in GenEval's prompts, where they differ."""
FLOOR = 0.05
"""Detections below this score are dropped at once; GenEval's lowest threshold is 0.3."""


class StockDetector:
    """A folder or hub id with `...ForObjectDetection` or `...ForUniversalSegmentation` and its image processor."""

    def __init__(
        self, path: str, *, names: Mapping[str, str] | None = None, device: str | torch.device = "cpu"
    ) -> None:
        import transformers

        from rewardmodels.vlm import quiet

        place = locate(path, FILES)
        config = transformers.AutoConfig.from_pretrained(place)
        kind = str((config.architectures or [""])[0])
        if not kind.endswith(("ForObjectDetection", "ForUniversalSegmentation")):
            raise ValueError(
                f"{path} holds a {kind or 'model of no name'}, not a detector: see rewardmodels.geneval.stock"
            )
        with quiet():
            model, report = getattr(transformers, kind).from_pretrained(place, output_loading_info=True)
        lacking = sorted(map(str, {*report["missing_keys"], *report["mismatched_keys"]}))
        if lacking:
            raise ValueError(
                f"{path}: the weights do not fit the model: {len(lacking)} missing ({lacking[0]}, ...)"
            )
        self.masks = kind.endswith("ForUniversalSegmentation")
        self.model = model.requires_grad_(False).eval().to(device)
        self.processor = transformers.AutoImageProcessor.from_pretrained(place)
        self.names = dict(COCO_NAMES if names is None else names)
        self.device = device

    @torch.no_grad()
    def __call__(self, images: Tensor, things: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
        """Pictures (B, 3, H, W) in [0, 1] -> boxes, labels, scores and, of Mask2Former, masks; `things` are ignored."""
        levels = (images * 255).round().to("cpu", torch.uint8)
        seen = self.processor(images=list(levels.permute(0, 2, 3, 1).numpy()), return_tensors="pt").to(
            self.device
        )
        outputs = self.model(**seen)
        sizes = [tuple(images.shape[-2:])] * len(images)
        if self.masks:
            made = self.processor.post_process_instance_segmentation(
                outputs, threshold=FLOOR, target_sizes=sizes, return_binary_maps=True
            )
            return [self._instances(one) for one in made]
        found = self.processor.post_process_object_detection(outputs, threshold=FLOOR, target_sizes=sizes)
        return [
            {"boxes": one["boxes"].cpu(), "labels": self._named(one["labels"]), "scores": one["scores"].cpu()}
            for one in found
        ]

    def _named(self, numbers: Any) -> list[str]:
        labels = [str(self.model.config.id2label[int(number)]) for number in numbers]
        return [self.names.get(label, label) for label in labels]

    def _instances(self, one: Mapping[str, Any]) -> dict[str, Any]:
        """Of segments with binary maps, those that cover anything, with the boxes around them."""
        pairs = [
            (info, mask.bool().cpu())
            for info, mask in zip(
                one["segments_info"], one["segmentation"] if one["segments_info"] else (), strict=True
            )
            if bool(mask.any())
        ]
        return {
            "boxes": [box_around(mask) for _, mask in pairs],
            "labels": self._named([info["label_id"] for info, _ in pairs]),
            "scores": [float(info["score"]) for info, _ in pairs],
            "masks": [mask for _, mask in pairs],
        }


def box_around(mask: Tensor) -> list[float]:
    """Left, top, right, bottom of the true pixels of (H, W).

    >>> box_around(torch.tensor([[0, 0, 0], [0, 1, 1]]).bool())
    [1.0, 1.0, 3.0, 2.0]
    """
    rows, columns = (torch.nonzero(mask.any(axis)).flatten() for axis in (1, 0))
    return [float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)]
