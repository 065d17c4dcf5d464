"""What the input builder must know of a VLM family: its tokens, its pixels, and its model arguments.

A backbone is a record of functions without state. The builder asks it to `encode` media of one shape, to say which
`pieces` of text stand for a medium, and to `collate` everything into the keyword arguments of the stock model.

Legend: B rows, M media of one shape, T frames, C H W.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from rewardmodels.clips import Clip, VideoRule

Layout = Hashable
"""How a medium lies after encoding, enough to write its placeholders: sizes, grids, times."""


@dataclass(frozen=True)
class Text:
    """Words, tokenised together with the words beside them; special tokens in them stay text."""

    words: str


@dataclass(frozen=True)
class Token:
    """One special token."""

    name: str


@dataclass(frozen=True)
class Span:
    """Placeholders that the model replaces by visual features.

    With a `grid` (time, height, width) they have three positions each; a step in time counts `interval`.
    """

    token: str
    count: int
    grid: tuple[int, int, int] | None = None
    interval: float = 1.0


Piece = Text | Token | Span


@dataclass(frozen=True, eq=False)
class Encoded:
    """One medium, ready for the vision tower."""

    values: Tensor
    layout: Layout


class Backbone(Protocol):
    """A VLM family; see `rewardmodels/backbones/qwen.py` for the reference."""

    @property
    def model_types(self) -> tuple[str, ...]:
        """The `model_type`s of configurations it serves."""
        ...

    @property
    def mrope(self) -> bool:
        """Whether positions have three axes."""
        ...

    @property
    def image_token(self) -> str:
        """The placeholder of pictures."""
        ...

    @property
    def tokens(self) -> tuple[str, ...]:
        """Special tokens that a tokenizer must have."""
        ...

    @property
    def processor(self) -> str:
        """The stock image processor that a saved folder names."""
        ...

    def read_rule(self, record: Mapping[str, Any], config: Any) -> Any:
        """The pixel rule in a `preprocessor_config.json` and the model's configuration."""
        ...

    def write_rule(self, rule: Any) -> dict[str, Any]:
        """The rule as the fields of a stock `preprocessor_config.json`."""
        ...

    def encode(self, clips: Sequence[Clip], rule: Any, video: VideoRule, *, alone: bool) -> list[Encoded]:
        """Media of one shape; `alone` says that each is the only medium of its row."""
        ...

    def pieces(self, layout: Any, rule: Any) -> tuple[Piece, ...]:
        """What stands in the text for a medium."""
        ...

    def collate(self, rows: Sequence[Sequence[Encoded]], rule: Any) -> dict[str, Tensor]:
        """Keyword arguments of the stock model for the media of B rows."""
        ...


def values_of(rows: Sequence[Sequence[Encoded]]) -> list[Encoded]:
    """All media of all rows in order."""
    return [item for row in rows for item in row]
