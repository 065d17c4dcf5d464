"""How the labels of a data set are spread: ties, positions, and what of it would mislead a reward."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

Balance = dict[str, float | int | None]


def balance(counts: Counter[str]) -> Balance:
    """How pairs of a dimension are decided; `first` and `second` by position in the file."""
    decided = counts["first"] + counts["second"]
    total = decided + counts["tie"]
    made: Balance = {
        "pairs": total,
        "first": counts["first"],
        "second": counts["second"],
        "ties": counts["tie"],
        "tie_rate": counts["tie"] / total if total else None,
        "first_wins": counts["first"] / decided if decided else None,
    }
    return made | {key: n for key, n in counts.items() if n and (key == "invalid" or key.startswith("tie_"))}


def warnings(dimensions: Mapping[str, Balance], agreement: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What of balances and agreement by dimension would mislead a reward."""
    made = []
    for dim, found in dimensions.items():
        share, num = found["first_wins"], int(found["first"] or 0) + int(found["second"] or 0)
        if share is not None and num >= 20 and abs(share - 0.5) > 4.0 * math.sqrt(0.25 / num):
            made.append(
                f"'{dim}': the first candidate wins {share:.0%} of {num} decided pairs, so position tells the label: "
                "shuffle candidates when reading (mmalign trains with them shuffled)"
            )
        if found["tie_rate"] is not None and found["tie_rate"] > 0.5:
            made.append(f"'{dim}': {found['tie_rate']:.0%} of the pairs are ties")
    for dim, said in agreement.items():
        if said["alpha"] is not None and said["units"] >= 20 and said["alpha"] < 0.2:
            made.append(
                f"'{dim}': annotators hardly agree (alpha {said['alpha']:.2f} over {said['units']} pairs)"
            )
    return made
