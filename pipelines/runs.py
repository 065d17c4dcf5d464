"""What the verbs that train rewards and judges share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rewardmodels.skips import Skips

Say = Callable[[str], None]


def report_left_out(skips: Skips | None, quality: dict[str, Any], say: Say) -> None:
    """What was left out of the files of a run, among its figures and told."""
    if skips is None:
        return
    quality["left_out"] = skips.as_dict()
    if skips.bad:
        say(skips.summary())
