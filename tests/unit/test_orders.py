"""Comparisons of three or more candidates are right as wholes, or not."""

from __future__ import annotations

from itertools import combinations

import torch

from mmalign.types import PreferencePair, Sample
from pipelines.orders import whole_orders


def pairs_of(num: int) -> list[PreferencePair]:
    """All pairs of so many candidates, of which each is better than those behind it."""
    samples = [Sample("p", torch.zeros(3, 2, 2)) for _ in range(num)]
    return [PreferencePair("p", a, b, {"overall": 1.0}) for a, b in combinations(samples, 2)]


def test_one_wrong_pair_spoils_a_whole_and_pairs_alone_do_not_count() -> None:
    first, second, lone = pairs_of(3), pairs_of(4), pairs_of(2)
    found = [*first, *second, *lone]
    difference = [1.0] * 3 + [1.0, 1.0, 1.0, 1.0, 1.0, -0.1] + [-1.0]
    result = whole_orders(found, found, difference, [1] * 10)
    assert result is not None and (result["accuracy"], result["n"]) == (0.5, 2)
    assert whole_orders(lone, lone, [1.0], [1]) is None


def test_ties_need_equal_scores_and_what_is_not_whole_is_left_out() -> None:
    tied, partly, star = pairs_of(3), pairs_of(3), pairs_of(3)[:2]
    found = [*tied, *partly, *star]
    judged = [*tied, *partly[:2], *star]
    result = whole_orders(found, judged, [1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0], [1, 1, 0, 1, 1, 1, 1])
    assert result is not None and (result["accuracy"], result["n"], result["ties_labelled"]) == (1.0, 1, 1)
