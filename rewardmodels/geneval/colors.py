"""Naming the colour of a thing that was cut out of a picture: by CLIP as GenEval does, or by its mean colour.

Legend: N cuts, H W pixels, E embedding width.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rewardmodels.clip.squares import square
from rewardmodels.clip.towers import Towers

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
GREY = 0x99 / 255
"""What is around a thing whose outline is known."""
TEMPLATES = ("a photo of a {color} {thing}", "a {thing} that is {color}", "something {color}")
"""Of the same kind as GenEval's three, in our words."""


@dataclass(frozen=True, eq=False)
class Cut:
    """A thing cut out along its box."""

    thing: str
    pixels: Tensor  # (3, H, W) in [0, 1]
    mask: Tensor | None = None  # (H, W) bool

    def on_grey(self) -> Tensor:
        """The pixels with grey outside the mask."""
        return self.pixels if self.mask is None else torch.where(self.mask, self.pixels, GREY)

    def inside(self) -> Tensor:
        """The colours (3, pixels) within the mask; all of them where there is none, or an empty one."""
        if self.mask is None or not bool(self.mask.any()):
            return self.pixels.flatten(1)
        return self.pixels[:, self.mask]


ColorNamer = Callable[[Sequence[Cut]], list[str]]


def by_mean(cuts: Sequence[Cut]) -> list[str]:
    """The colour word of each mean colour, inside the mask where there is one; for plain, flat things."""
    means = [cut.inside().mean(1) for cut in cuts]
    return [color_word(*mean.tolist()) for mean in means]


def color_word(red: float, green: float, blue: float) -> str:
    """The word of `COLORS` for an RGB colour.

    >>> color_word(0.9, 0.1, 0.1), color_word(0.5, 0.3, 0.1), color_word(1.0, 0.6, 0.7), color_word(0.1, 0.1, 0.1)
    ('red', 'brown', 'pink', 'black')
    """
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    if value < 0.2 or (saturation < 0.15 and value < 0.5):
        return "black"
    if saturation < 0.15:
        return "white"
    degrees = hue * 360
    if degrees < 15 or degrees >= 345:
        return "pink" if saturation < 0.55 and value > 0.7 else "red"
    if degrees < 45:
        return "brown" if value < 0.65 else "orange"
    for end, name in ((70, "yellow"), (165, "green"), (255, "blue"), (310, "purple")):
        if degrees < end:
            return name
    return "pink"


class ByClip:
    """The colour whose sentences are nearest to the cut in a CLIP space."""

    def __init__(self, towers: Towers, *, templates: Sequence[str] = TEMPLATES, batch_size: int = 32) -> None:
        self.towers, self.templates, self.batch_size = towers, tuple(templates), batch_size
        self.weights: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(self, cuts: Sequence[Cut]) -> list[str]:
        """A word of `COLORS` for each cut."""
        seen = [square(cut.on_grey()[None], self.towers.rule) for cut in cuts]
        names = []
        for start in range(0, len(cuts), self.batch_size):
            images = F.normalize(self.towers.images(torch.cat(seen[start : start + self.batch_size])), dim=-1)
            for image, cut in zip(images, cuts[start : start + self.batch_size], strict=True):
                names.append(COLORS[int((self._sentences(cut.thing) @ image).argmax())])
        return names

    def _sentences(self, thing: str) -> Tensor:
        """Mean embedding of the templates of each colour (10, E), made once a thing."""
        if thing not in self.weights:
            texts = [line.format(color=color, thing=thing) for color in COLORS for line in self.templates]
            each = F.normalize(self.towers.texts(texts), dim=-1).unflatten(0, (len(COLORS), -1))
            self.weights[thing] = F.normalize(each.mean(1), dim=-1)
        return self.weights[thing]
