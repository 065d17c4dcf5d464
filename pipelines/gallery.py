"""Before/after galleries: the same prompt and seed, one panel a generator, as HTML images or as one PNG.

The quickstart's report and the picture in the README are made of these rows.

Shapes: media is (T, C, H, W) or (C, H, W) in [0, 1]; an image has T = 1.

>>> import torch
>>> Panel("base", torch.zeros(3, 2, 2)).uri[:22]
'data:image/png;base64,'
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mmalign.inline import data_uri, images

PASS, FAIL, INK, MUTED, PAPER = "#1b7f4b", "#b3392f", "#1d2330", "#5d6675", "#fbfaf7"


@dataclass(frozen=True)
class Panel:
    """What one generator made: its label, the media, the exact verdict if there is one, and named scores."""

    label: str
    media: Tensor
    passed: bool | None = None
    scores: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def uri(self) -> str:
        """The media as a data URI: a PNG, animated when there is more than one frame."""
        return data_uri(self.media)


@dataclass(frozen=True)
class Row:
    """One prompt and seed with a panel a generator, the first one being the one compared with."""

    prompt: str
    seed: int
    panels: tuple[Panel, ...]

    @property
    def outcome(self) -> str:
        """How the verdict of the last panel differs from that of the first."""
        before, after = self.panels[0].passed, self.panels[-1].passed
        if before is None or after is None:
            return "unjudged"
        return {(False, True): "fixed", (True, False): "broken", (True, True): "kept"}.get(
            (before, after), "missed"
        )


def sheet(rows: Sequence[Row], *, columns: int = 4, height: int = 112) -> Image.Image:
    """One picture of all rows: a card each, its panels side by side under the prompt they were asked for.

    A panel that the judge passed has a green frame and a tick, one that it failed a red frame and a cross.
    Small pictures are enlarged by a whole factor, without smoothing.
    """
    if not rows:
        raise ValueError("a gallery needs at least one row")
    columns = min(columns, len(rows))
    cards = [_card(row, height) for row in rows]
    width, tall = max(card.width for card in cards), max(card.height for card in cards)
    gap = 18
    lines = -(-len(cards) // columns)
    size = (columns * (width + gap) + gap, lines * (tall + gap) + gap)
    page = Image.new("RGB", size, PAPER)
    for index, card in enumerate(cards):
        page.paste(card, (gap + index % columns * (width + gap), gap + index // columns * (tall + gap)))
    return page


def save_sheet(rows: Sequence[Row], path: Path, *, columns: int = 4, height: int = 112) -> Path:
    """Write `sheet(rows)` to `path` as a PNG of few colours, small enough for a repository."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = sheet(rows, columns=columns, height=height)
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    return path


def _card(row: Row, height: int) -> Image.Image:
    pictures = [_enlarged(images(panel.media)[0], height) for panel in row.panels]
    gap, edge, caption = 12, 3, 20
    width = sum(picture.width + 2 * edge for picture in pictures) + gap * (len(pictures) - 1)
    heading = ImageFont.load_default(size=14)
    lines = textwrap.wrap(row.prompt, width=max(12, width // 7))[:2]
    top = 18 * 2 + 6
    body = max(picture.height for picture in pictures) + 2 * edge
    card = Image.new("RGB", (width, top + body + caption), PAPER)
    draw = ImageDraw.Draw(card)
    for number, line in enumerate(lines):
        draw.text((0, 18 * (number + 2 - len(lines))), line, fill=INK, font=heading)
    left = 0
    for panel, picture in zip(row.panels, pictures, strict=True):
        color = {True: PASS, False: FAIL, None: MUTED}[panel.passed]
        box = (left, top, left + picture.width + 2 * edge - 1, top + picture.height + 2 * edge - 1)
        draw.rectangle(box, fill=color)
        card.paste(picture, (left + edge, top + edge))
        _mark(draw, left, top + body + 4, panel, color)
        left += picture.width + 2 * edge + gap
    return card


def _mark(draw: ImageDraw.ImageDraw, left: int, top: int, panel: Panel, color: str) -> None:
    """The tick or cross and the label under a panel."""
    if panel.passed is True:
        draw.line([(left + 1, top + 7), (left + 5, top + 11), (left + 12, top + 2)], fill=color, width=2)
    elif panel.passed is False:
        draw.line([(left + 2, top + 2), (left + 11, top + 11)], fill=color, width=2)
        draw.line([(left + 11, top + 2), (left + 2, top + 11)], fill=color, width=2)
    indent = 0 if panel.passed is None else 18
    draw.text((left + indent, top - 2), panel.label, fill=MUTED, font=ImageFont.load_default(size=13))


def _enlarged(picture: Image.Image, height: int) -> Image.Image:
    factor = max(1, height // picture.height)
    if factor == 1 and picture.height > height:
        width = round(picture.width * height / picture.height)
        return picture.resize((width, height), Image.Resampling.LANCZOS)
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
