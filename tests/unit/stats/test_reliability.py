"""Krippendorff's alpha against his own worked example, against hand-computed numbers, and at its ends."""

from __future__ import annotations

from itertools import permutations

import pytest

from mmalign.stats.reliability import agreement, krippendorff

# K. Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), example C: four observers, twelve units
TABLE = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_the_published_example(level: str, alpha: float) -> None:
    assert krippendorff(TABLE, level=level) == pytest.approx(alpha, abs=5e-4)  # type: ignore[arg-type]


def test_two_annotators_by_hand() -> None:
    # coincidences aa 2, bb 2, ab 1, ba 1: observed 2/6, expected 2*3*3/(6*5)
    found = agreement([{"a": 2}, {"a": 1, "b": 1}, {"b": 2}])
    assert found.units == 3
    assert found.raw == pytest.approx(2 / 3)
    assert found.alpha == pytest.approx(1 - (2 / 6) / (18 / 30))


def test_ends_and_nothing() -> None:
    assert agreement([{"a": 3}, {"b": 2}]).alpha == 1.0
    assert agreement([{"a": 1, "b": 1}]).alpha == 0.0
    opposite = agreement([{"a": 1, "b": 1}] * 50)
    assert opposite.raw == 0.0 and opposite.alpha is not None and opposite.alpha < 0.0
    assert agreement([{"a": 2}, {"a": 5}]).alpha is None  # no variety: nothing to be reliable about
    assert agreement([{"a": 1}, {}]).as_dict() == {"units": 0, "raw": None, "alpha": None}


def test_alpha_ignores_the_order_of_annotators_and_names_of_labels() -> None:
    for order in permutations(TABLE):
        assert krippendorff(order) == pytest.approx(krippendorff(TABLE))
    renamed = [[None if v is None else f"label {v}" for v in row] for row in TABLE]
    assert krippendorff(renamed) == pytest.approx(krippendorff(TABLE))


def test_distances_matter_to_ordered_labels_only() -> None:
    near, far = [[1, 1, 3, 3], [1, 2, 3, 3]], [[1, 1, 3, 3], [1, 3, 3, 3]]
    ordered = [krippendorff(t, level="interval") for t in (near, far)]
    assert ordered[0] is not None and ordered[1] is not None and ordered[0] > ordered[1]
