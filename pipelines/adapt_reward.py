"""The verb `adapt-reward`: a new person joins a personal reward by a few preference pairs.

Only the person's weights are new: nobody else's scores change, and those of the mean annotator do not either.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rewardmodels import personal
from rewardmodels.personal import Placed


def run(
    folder: Path,
    pairs: Path,
    *,
    annotator: str | None = None,
    output: Path | None = None,
    say: Callable[[str], None] = print,
) -> Placed:
    """Place, save, and say how; what of the file could not be used is told."""
    placed = personal.join(folder, pairs, annotator=annotator, output=output)
    if placed.skips.bad:
        say(placed.skips.summary(str(pairs)))
    say(f"{placed.summary()}; {output or folder}, options: {{annotator: {placed.annotator}}}")
    return placed
