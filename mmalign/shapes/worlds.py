"""The three worlds of shapes, pictures, edits and videos, as sources of judged families, behind one record.

Legend: F families, M prompts, K media of a family.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import lru_cache

from mmalign.shapes.edit_pairs import make_edit_block
from mmalign.shapes.edits import EDIT_KINDS, all_edit_specs, edit_phrasings, parse_edit
from mmalign.shapes.pairs import Block, make_block
from mmalign.shapes.prompts import parse, vocabulary
from mmalign.shapes.specs import CATEGORIES
from mmalign.shapes.video_pairs import make_video_block
from mmalign.shapes.videos import VIDEO_KINDS, all_video_specs, parse_video, video_phrasings
from mmalign.types import Modality


@dataclass(frozen=True)
class World:
    """What can be asked for in a world, and blocks of judged media of it."""

    name: str
    modality: Modality
    kinds: tuple[str, ...]
    dimensions: tuple[str, ...]
    make: Callable[..., Block]
    parse: Callable[[str], Hashable]
    words: Callable[[], tuple[str, ...]]


@lru_cache(maxsize=1)
def edit_words() -> tuple[str, ...]:
    """Every word that an instruction can hold, sorted."""
    texts = (text for spec in all_edit_specs() for text in edit_phrasings(spec))
    return tuple(sorted({word for text in texts for word in text.split()}))


@lru_cache(maxsize=1)
def video_words() -> tuple[str, ...]:
    """Every word that a video prompt can hold, sorted, and what models write between frames to tell the time."""
    texts = (text for spec in all_video_specs() for text in video_phrasings(spec))
    words = sorted({word for text in texts for word in text.split()})
    return (*words, "<", ">", ".", "seconds", *map(str, range(10)))


WORLDS: dict[str, World] = {
    world.name: world
    for world in (
        World(
            "shapes", "image", CATEGORIES, ("instruction_following", "visual_quality"),
            make_block, parse, vocabulary,
        ),
        World(
            "shapes-edits", "edit", EDIT_KINDS, ("instruction_following", "preservation", "visual_quality"),
            make_edit_block, parse_edit, edit_words,
        ),
        World(
            "shapes-videos", "video", VIDEO_KINDS, ("instruction_following", "motion_quality", "visual_quality"),
            make_video_block, parse_video, video_words,
        ),
    )
}  # fmt: skip
