"""Rewards of sets (DRAGON, arXiv 2504.15217): a feature map and, but for diversity, an exemplar set define a reward.

    reward = rewardmodels.load("set-vendi", features="mine:embed", over="group")        # a prompt's samples differ
    reward = rewardmodels.load("set-frechet", features="pixels", reference="photos/")   # together they look alike
    reward = rewardmodels.load("exemplars", features="clip@FOLDER", reference="photos/", measure="nearest")

`features` is `pixels` (8 x 8 colours), `clip@` with a CLIP folder or hub id (image embeddings), a function
`module:name` of (images, prompts) to (B, F), any reward with a method `features(samples=...)`, or a reward with several
dimensions, which are then the features. `reference` is a folder of pictures or a .safetensors file with a tensor
`features` (M, F).

`set-*` judge a set, the samples of a prompt (`over: group`) or of a call (`over: call`), and give each sample what the
set would lose without it; the value of the whole is the second dimension. `exemplars` judges each sample alone.

Legend: B samples, F features, M exemplars.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmalign.stats import sets
from mmalign.types import Modality, RewardModel, Sample, Scores
from rewardmodels.batching import Prepared, prepare, score
from rewardmodels.combine import group_ids

FeatureMap = Callable[[Sequence[Sample]], Scores]
"""Samples -> features as `values` (B, F) of `Scores`: what cannot be read is not valid, with a reason."""
Closeness = Literal["nearest", "kernel", "mahalanobis"]
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass(frozen=True, eq=False)
class SetReward:
    """A measure of a set as a reward of its samples."""

    name: str
    features: FeatureMap
    measure: Callable[[np.ndarray], float]
    over: Literal["group", "call"] = "group"
    modalities: frozenset[Modality] = frozenset({"image", "edit", "video"})
    dimensions: tuple[str, ...] = ("credit", "set")
    differentiable: bool = False
    needs_group: bool = True

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        """Overall is the credit: measure(set) - measure(set without the sample)."""
        found = self.features(samples)
        reasons = list(found.reasons)
        values = torch.full((len(samples), 2), float("nan"))
        sets_of = group_ids(samples) if self.over == "group" else torch.zeros(len(samples), dtype=torch.long)
        for number in sets_of.unique().tolist():
            rows = [i for i in torch.nonzero(sets_of == number).flatten().tolist() if reasons[i] is None]
            try:
                values[rows] = self._judge(found.values[rows])
            except ValueError as problem:
                for i in rows:
                    reasons[i] = str(problem)
        valid = torch.tensor([reason is None for reason in reasons], dtype=torch.bool)
        return Scores(values, self.dimensions, values[:, 0], valid, tuple(reasons))

    def _judge(self, features: Tensor) -> Tensor:
        if len(features) < 3:
            raise ValueError(f"a set needs three or more samples that can be judged, got {len(features)}")
        rows = features.double().numpy()
        credit = torch.from_numpy(sets.leave_one_out(self.measure, rows))
        return torch.stack([credit, torch.full_like(credit, self.measure(rows))], dim=1).float()


@dataclass(frozen=True, eq=False)
class ExemplarReward:
    """How close each sample is to an exemplar set."""

    name: str
    features: FeatureMap
    closeness: Callable[[np.ndarray], np.ndarray]
    modalities: frozenset[Modality] = frozenset({"image", "edit", "video"})
    dimensions: tuple[str, ...] = ("closeness",)
    differentiable: bool = False

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        """One number a sample, whatever else is in the call."""
        found = self.features(samples)
        made = torch.full((len(samples),), float("nan"))
        if bool(found.valid.any()):
            close = self.closeness(found.values[found.valid].double().numpy())
            made[found.valid] = torch.from_numpy(np.asarray(close)).float()
        return Scores(made[:, None], self.dimensions, made, found.valid, found.reasons)


def vendi(
    *, features: str = "pixels", over: Literal["group", "call"] = "group", order: float = 1.0
) -> SetReward:
    """Diversity: the Vendi score of each set."""
    _require_over(over)
    return SetReward(
        "set-vendi", feature_map(features), lambda rows: float(sets.vendi(rows, order=order)), over
    )


def frechet(
    *, reference: str, features: str = "pixels", over: Literal["group", "call"] = "call"
) -> SetReward:
    """Minus the Frechet distance of each set to the reference."""
    _require_over(over)
    find = feature_map(features)
    target = sets.Gaussian.of(reference_features(reference, find))
    return SetReward("set-frechet", find, lambda rows: -sets.frechet_to(rows, target), over)


def exemplars(
    *, reference: str, features: str = "pixels", measure: Closeness = "nearest", num: int = 5
) -> ExemplarReward:
    """Closeness to the reference: nearest (mean cosine to the `num` nearest), kernel or mahalanobis."""
    find = feature_map(features)
    known = reference_features(reference, find)
    if measure == "mahalanobis":
        target = sets.Gaussian.of(known)
        return ExemplarReward("exemplars", find, lambda rows: sets.mahalanobis(rows, target))
    if measure == "kernel":
        return ExemplarReward("exemplars", find, lambda rows: sets.kernel(rows, known))
    if measure != "nearest":
        raise ValueError(f"measure '{measure}' is unknown: use nearest, kernel or mahalanobis")
    return ExemplarReward("exemplars", find, lambda rows: sets.nearest(rows, known, num=num))


def feature_map(name: str) -> FeatureMap:
    """The features called `name`; see the module."""
    from rewardmodels.catalog import load
    from rewardmodels.functions import find

    if name == "pixels":
        return pixels
    if name.startswith("clip@"):
        return clip_images(name.removeprefix("clip@"))
    if ":" in name:
        function = find(name)
        return lambda samples: _of_function(function, samples, name)
    return of_reward(load(name))


def of_reward(reward: RewardModel) -> FeatureMap:
    """The features of a reward: its method `features(samples=...)`, or else its several dimensions."""
    own = getattr(reward, "features", None)
    if callable(own):
        return lambda samples: own(samples=samples)
    if len(reward.dimensions) < 2:
        raise ValueError(
            f"reward '{reward.name}' has one dimension and no features: name an encoder or a function module:name"
        )
    return lambda samples: reward(samples=samples)


def pixels(samples: Sequence[Sample], *, side: int = 8) -> Scores:
    """The mean colours of side x side cells, frames averaged: (B, 3 side side)."""

    def read(batch: Sequence[Prepared]) -> Tensor:
        frames = torch.stack([one.frames.mean(dim=0) for one in batch])
        return F.adaptive_avg_pool2d(frames.detach(), side).flatten(1)

    names = tuple(f"f{k}" for k in range(3 * side * side))
    kinds: frozenset[Modality] = frozenset({"image", "edit", "video"})
    return score(samples, read, names=names, modalities=kinds, batch_size=64)


def clip_images(path: str, *, device: str = "cpu") -> FeatureMap:
    """Image embeddings (B, E) of a CLIP folder or hub id; a video's is the mean over its frames."""
    from rewardmodels.clip.frames import FrameReward
    from rewardmodels.clip.towers import load_towers

    towers = load_towers(path, device=device)

    def look(pictures: Tensor, prompts: Sequence[str]) -> Tensor:
        with torch.no_grad():
            return towers.images(pictures)

    names = tuple(f"f{k}" for k in range(towers.width))
    return of_reward(
        FrameReward("clip", names, frozenset({"image", "video"}), look, towers.rule, device=device)
    )


def _of_function(
    function: Callable[[Tensor, list[str]], object], samples: Sequence[Sample], name: str
) -> Scores:
    """Features of first frames by a function; it is asked for the first readable sample alone to learn their number."""
    kinds: frozenset[Modality] = frozenset({"image", "edit", "video"})

    def read(batch: Sequence[Prepared]) -> Tensor:
        images = torch.stack([one.frames[0].detach() for one in batch])
        made = torch.as_tensor(function(images, [one.prompt for one in batch])).detach().float().cpu()
        if made.ndim != 2 or len(made) != len(batch):
            raise TypeError(f"{name} returned shape {tuple(made.shape)}: features are (B, F)")
        return made

    width = 1
    for sample in samples:
        try:
            width = read([prepare(sample, kinds)]).shape[1]
            break
        except (ValueError, OSError):  # told as the reason of this sample below
            continue
    names = tuple(f"f{k}" for k in range(width))
    return score(samples, read, names=names, modalities=kinds, batch_size=64)


def reference_features(reference: str, find: FeatureMap) -> np.ndarray:
    """Features (M, F) of a folder of pictures, or a tensor `features` in a .safetensors file."""
    path = Path(reference)
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        held = load_file(path)
        if "features" not in held:
            raise ValueError(
                f"{path} holds no tensor 'features' (M, F); it has {', '.join(held) or 'nothing'}"
            )
        return sets.matrix(held["features"].double().numpy())
    files = (
        sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES) if path.is_dir() else []
    )
    if not files:
        raise ValueError(f"reference {reference} is neither a folder with pictures nor a .safetensors file")
    found = find([Sample("", file) for file in files])
    bad = [f"{file.name}: {why}" for file, why in zip(files, found.reasons, strict=True) if why is not None]
    if bad:
        raise ValueError(f"{len(bad)} pictures of {reference} cannot be read: {'; '.join(bad[:3])}")
    return sets.matrix(found.values.double().numpy())


def _require_over(over: str) -> None:
    if over not in ("group", "call"):
        raise ValueError(f"over must be group (the samples of a prompt) or call, got {over!r}")
