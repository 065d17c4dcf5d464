"""Pixels to things: what is drawn in a picture, read without knowing the scene.

A pixel's displacement from the picture's own background is projected on the line from the
background to each palette colour; how far along it lies is its coverage. Connected covered pixels
are one blob. A blob's colour is the mean of its well covered pixels; its shape is the one whose
ideal outline, of the same area and centroid, differs least in (soft, sub-pixel) coverage.

Legend: B pictures, H W side, K blobs of all pictures together, P side of the patch around a blob.
Lengths of a `Detected` are in unit coordinates, as in a scene.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from mmalign.shapes.drawing import signed_distance
from mmalign.shapes.scene import (
    AREA_FACTOR,
    BACKGROUND,
    COLORS,
    PALETTE,
    RADIUS_SPLIT,
    SHAPES,
    TRIANGLE_HALF_HEIGHT,
)

Array = NDArray[np.floating[Any]]
Index = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]

COVERED = 0.45
"""Least coverage of a pixel that belongs to a blob."""
CORE = 0.8
"""Least coverage of a pixel that tells a blob's colour."""
SPECK_AREA = 8.0 / 1024
"""A blob below this part of the picture is a speck, not a thing."""
COLOR_TOLERANCE = 0.19
"""Largest distance (RGB) of a thing's mean colour from the palette colour it is called."""
PURITY = 0.75
"""Least part of a thing's core that shows the thing's colour."""
SHAPE_TOLERANCE = 0.3
"""Largest coverage difference from the ideal outline, as a part of the area."""
RADIUS_RANGE = (2.3 / 32, 8.0 / 32)

_PLAIN = np.array(BACKGROUND, np.float32)
_TINTS = np.array([PALETTE[c] for c in COLORS], np.float32) - _PLAIN
_NORMS = (_TINTS**2).sum(1)
_CONNECT = np.zeros((3, 3, 3), bool)
_CONNECT[1] = [[False, True, False], [True, True, True], [False, True, False]]


@dataclass(frozen=True)
class Detected:
    """A thing as seen; an attribute that cannot be told is None, with its evidence beside it.

    `color_distance` and `shape_error` are in the order of `COLORS` and `SHAPES` (0 is perfect);
    `tint` is the mean RGB on the true background.
    """

    color: str | None
    shape: str | None
    size: str | None
    x: float
    y: float
    radius: float
    tint: tuple[float, float, float]
    purity: float
    color_distance: tuple[float, ...]
    shape_error: tuple[float, ...]


@dataclass(frozen=True)
class Sight:
    """All that was seen in one picture; the four measures are 0 for a perfect drawing.

    `noise` is the mean displacement of the background from plain, `unevenness` that of things from
    their own mean colour, `roughness` the mean outline error, `specks` the area of tiny blobs
    (part of the picture). `readable` is false for values that are not finite.
    """

    things: tuple[Detected, ...]
    noise: float
    unevenness: float
    roughness: float
    specks: float
    readable: bool = True

    @property
    def visual_quality(self) -> float:
        """Clean background, flat colours, sharp edges and no specks, together in [0, 1]."""
        if not self.readable:
            return 0.0
        worst = max(0.0, self.noise - 0.01) / 0.12 + max(0.0, self.unevenness - 0.03) / 0.25
        worst += max(0.0, self.roughness - 0.08) / 0.5 + self.specks / 0.01
        return float(np.exp(-worst))


def detect(images: Tensor, chunk: int = 256) -> list[Sight]:
    """What is seen in each picture of (B, 3, H, W), values in [0, 1]; never fails on odd pixels.

    Raises ValueError for a tensor of another form.
    """
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
        raise ValueError(
            f"expected square RGB pictures (B, 3, H, W), got {tuple(images.shape)}: crop or pad them to a square"
        )
    pixels = images.detach().to("cpu", torch.float32).permute(0, 2, 3, 1).numpy()
    return [s for i in range(0, len(pixels), chunk) for s in _detect(pixels[i : i + chunk])]


def _detect(raw: Array) -> list[Sight]:
    readable = [bool(np.isfinite(picture).all()) for picture in raw]
    pixels = np.clip(np.nan_to_num(raw), 0.0, 1.0)
    offset = pixels - _background(pixels)
    along = offset @ _TINTS.T / _NORMS
    nearest = _nearest_color(offset, along)
    cover = np.take_along_axis(along, nearest[..., None], -1)[..., 0]
    labels, count = ndimage.label(cover > COVERED, _CONNECT)
    spread = np.where(labels > 0, labels, ndimage.maximum_filter(labels, size=(1, 3, 3)))
    batch, side = labels.shape[0], labels.shape[1]
    background = spread == 0
    deviation = np.sqrt((offset**2).sum(-1))
    noise = (deviation * background).sum((1, 2)) / np.maximum(background.sum((1, 2)), 1)
    noise = np.where(background.mean((1, 2)) < 0.2, 1.0, noise)
    things: list[list[Detected]] = [[] for _ in range(batch)]
    uneven, rough, specks = np.zeros(batch), np.zeros(batch), np.zeros(batch)
    if count:
        image, blobs, flat, error, speck = _describe(labels, spread, offset, along, count, side)
        for i, blob in zip(image[~speck].tolist(), blobs, strict=True):
            things[i].append(blob)
        solid = image[~speck]
        num = np.maximum(np.bincount(solid, minlength=batch), 1)
        uneven = np.bincount(solid, flat[~speck], batch) / num
        rough = np.bincount(solid, error[~speck], batch) / num
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:] / side**2
        specks = np.bincount(image[speck], sizes[speck], batch)
    return [
        Sight(tuple(things[i]), float(noise[i]), float(uneven[i]), float(rough[i]),
              float(specks[i]), readable[i])
        for i in range(batch)
    ]  # fmt: skip


def _background(pixels: Array) -> Array:
    """The median colour of each picture where it is near the true background, else the true one."""
    median = np.median(pixels.reshape(len(pixels), -1, 3), axis=1)
    near = np.abs(median - _PLAIN).max(-1, keepdims=True) < 0.15
    return np.where(near, median, _PLAIN).astype(np.float32)[:, None, None, :]


def _nearest_color(offset: Array, along: Array) -> Index:
    """Index of the palette colour whose line from the background passes closest to each pixel."""
    reach = np.clip(along, 0.0, 1.1)
    residual = _NORMS * reach * (reach - 2.0 * along)
    return residual.argmin(-1)


def _describe(
    labels: Index, spread: Index, offset: Array, along: Array,
    count: int, side: int,
) -> tuple[Index, list[Detected], Array, Array, Mask]:  # fmt: skip
    """Picture index, things, unevenness, outline error, and which are specks, of each blob."""
    index = np.flatnonzero(spread)
    owner = spread.ravel()[index] - 1
    member = labels.ravel()[index] > 0
    image_of, row, column = np.unravel_index(index, spread.shape)
    offsets, lines = offset.reshape(-1, 3)[index], along.reshape(-1, len(COLORS))[index]

    def total(weight: Array) -> Array:
        return np.bincount(owner, weight, count).astype(np.float32)

    image = np.zeros(count, np.int64)
    image[owner] = image_of
    core = member & (lines.max(1) > CORE)
    core |= member & (total(core.astype(np.float32)) < 1)[owner]
    weight = core.astype(np.float32)
    number = np.maximum(total(weight), 1.0)
    tint = np.stack([total(weight * offsets[:, k]) / number for k in range(3)], 1)
    distance = _color_distance(tint)
    color = distance.argmin(1)
    shown = ((offsets[:, None, :] - _TINTS) ** 2).sum(-1).argmin(1)
    purity = total(weight * (shown == color[owner])) / number
    flat = total(weight * np.sqrt(((offsets - tint[owner]) ** 2).sum(1))) / number

    strength = np.maximum((tint * _TINTS[color]).sum(1) / _NORMS[color], 0.3)
    cover = lines[np.arange(len(owner)), color[owner]] / strength[owner]
    cover = np.clip(cover, -0.2, 1.0).astype(np.float32)
    area = np.maximum(total(cover), 1e-3)
    x = total(cover * (column + 0.5)) / area
    y = total(cover * (row + 0.5)) / area
    speck = area < SPECK_AREA * side**2
    sharp, errors, radii = _outline_errors(owner, row, column, cover, area, x, y, side)
    shape, best = errors.argmin(1), errors.min(1)
    radius = radii[np.arange(count), shape] / side
    rough = sharp[np.arange(count), shape]
    centre_y = y / side - np.where(shape == SHAPES.index("triangle"), 1.0, 0.0) * (
        TRIANGLE_HALF_HEIGHT / 3 * radius
    )
    blobs: list[Detected] = []
    for k in np.flatnonzero(~speck):
        good_shape = best[k] < SHAPE_TOLERANCE and RADIUS_RANGE[0] < radius[k] < RADIUS_RANGE[1]
        good_color = distance[k, color[k]] < COLOR_TOLERANCE and purity[k] >= PURITY
        blobs.append(
            Detected(
                COLORS[color[k]] if good_color else None,
                SHAPES[shape[k]] if good_shape else None,
                ("small" if radius[k] < RADIUS_SPLIT else "large") if good_shape else None,
                float(x[k] / side), float(centre_y[k]), float(radius[k]),
                tuple((tint[k] + _PLAIN).tolist()), float(purity[k]),
                tuple(distance[k].tolist()), tuple(errors[k].tolist()),
            )
        )  # fmt: skip
    return image, blobs, flat, rough, speck


def _color_distance(tint: Array) -> Array:
    """Distance of mean displacements (K, 3) from the palette's, a little paleness forgiven."""
    reach = np.clip(tint @ _TINTS.T / _NORMS, 0.88, 1.1)
    return np.sqrt(((tint[:, None, :] - reach[..., None] * _TINTS) ** 2).sum(-1))


def _outline_errors(
    owner: Index, row: Index, column: Index, cover: Array,
    area: Array, x: Array, y: Array, side: int,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Coverage difference from each ideal outline over the area, (K, 4), and its radius in pixels.

    The difference is given for the exact ideal, and for the better one of exact and blurred.
    Blobs too large for any outline keep the error 1; pixels outside the patch count as errors.
    """
    count, half = len(area), int(np.ceil(RADIUS_RANGE[1] * side)) + 2
    sharp, soft = np.ones((2, count, len(SHAPES)), np.float32)
    radii = np.stack([np.sqrt(area / AREA_FACTOR[shape]) for shape in SHAPES], 1)
    left, top = np.round(x).astype(int) - half, np.round(y).astype(int) - half
    fits = (area > SPECK_AREA * side**2) & (radii.min(1) < RADIUS_RANGE[1] * side * 1.2)
    if not fits.any():
        return sharp, soft, radii
    slot = np.cumsum(fits) - 1
    wide = 2 * half
    u, v = column - left[owner], row - top[owner]
    seen = fits[owner] & (u >= 0) & (v >= 0) & (u < wide) & (v < wide)
    lost = np.bincount(owner, np.abs(cover) * (fits[owner] & ~seen), count)[fits]
    patch = np.zeros((int(fits.sum()), wide, wide), np.float32)
    patch[slot[owner[seen]], v[seen], u[seen]] = cover[seen]
    drawn = torch.from_numpy(patch)
    grid = torch.arange(wide, dtype=torch.float32) + 0.5
    dx = grid.view(1, 1, -1) - torch.from_numpy((x - left)[fits].astype(np.float32)).view(-1, 1, 1)
    dy = grid.view(1, -1, 1) - torch.from_numpy((y - top)[fits].astype(np.float32)).view(-1, 1, 1)
    for k, shape in enumerate(SHAPES):
        radius = torch.from_numpy(radii[fits, k].astype(np.float32)).view(-1, 1, 1)
        lift = TRIANGLE_HALF_HEIGHT / 3 * radius if shape == "triangle" else 0.0
        exact = (0.5 - signed_distance(shape, dx, dy + lift, radius)).clamp(0.0, 1.0)
        for errors, ideal in ((sharp, exact), (soft, _blur(exact))):
            gap = (drawn - ideal).abs().sum((1, 2)).numpy() + lost
            errors[fits, k] = gap / area[fits]
    return sharp, np.minimum(sharp, soft), radii


def _blur(patches: Tensor) -> Tensor:
    """Blur (K, P, P) by 0.7 pixels: weights 1, 2, 1 along both axes, borders taken as empty."""
    for axis in (1, 2):
        inner = patches.narrow(axis, 1, patches.shape[axis] - 2) * 0.5
        inner += 0.25 * patches.narrow(axis, 0, patches.shape[axis] - 2)
        inner += 0.25 * patches.narrow(axis, 2, patches.shape[axis] - 2)
        pad = (0, 0, 1, 1) if axis == 1 else (1, 1)
        patches = torch.nn.functional.pad(inner, pad)
    return patches
