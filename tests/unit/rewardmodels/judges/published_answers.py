"""Answers about two candidates in the published formats, with sentences of our own."""

from __future__ import annotations

import json
from typing import Any

from rewardmodels.judges.winners import PARTS

THINK = """<think>
1. Semantic consistency:
    Image 1 (9/10) - the fox is there. Image 1 is better;
    Image 2 (7/10) - its hat is missing
2. Aesthetics:
    Image 1 (6/10) - flat;
    Image 2 (8/10) - warm light
3. Authenticity:
    Image 1 (5/10) - six legs;
    Image 2 (8/10) - as in a photograph
Total score:
Image 1: 9+6+5=20
Image 2: 7+8+8=23
</think>
<answer>{answer}</answer>"""


def flex(winner: Any, *won: Any, noun: str = "Image") -> str:
    """One JSON object in a code fence, as the model writes it; `won` are the winners of its categories."""
    dims = [{"name": "hat", "reason_1": "red", "reason_2": "none", "score_1": 8, "score_2": 2}]
    categories = [
        {"name": f"{'ABCD'[k]}. Category", "dims": dims, "cat_reason": "so", "cat_winner": f"{noun} {one}"}
        for k, one in enumerate(won)
    ]
    record = {"prompt": "a fox", "categories": categories, "reason": "so", "winner": f"{noun} {winner}"}
    return f"```json\n{json.dumps(record, indent=2)}\n```"


def shares(*first: float, noun: str = "Image", digits: int = 4) -> str:
    """What UnifiedReward-2.0 says: the first's share in each respect, and what is left for the second."""
    rows = [
        f"{respect.capitalize()} Score:\n {noun} 1: {share:.{digits}f}\n {noun} 2: {1 - share:.{digits}f}"
        for respect, share in zip(PARTS["shares"], first, strict=False)
    ]
    return "\n\n".join(rows)
