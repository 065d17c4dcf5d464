"""How far annotators agree: raw agreement, and Krippendorff's alpha for labels and for ratings.

Alpha = 1 - observed / expected disagreement over all pairs of values of a unit, units with fewer than two values left
out. Source: K. Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), whose worked example is in the tests.

Legend: U units (things judged), values of a unit from however many annotators judged it.

>>> found = agreement([{"a": 2}, {"a": 1, "b": 1}, {"b": 2}])
>>> round(found.raw, 4), round(found.alpha, 4)
(0.6667, 0.4444)
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["nominal", "ordinal", "interval"]
Counts = Mapping[Any, float]


@dataclass(frozen=True)
class Agreement:
    """Of `units` with two values or more: the share of agreeing pairs of values, and alpha (None without variety)."""

    units: int
    raw: float | None
    alpha: float | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def agreement(units: Iterable[Counts], *, level: Level = "nominal") -> Agreement:
    """Agreement over units given as {value: how many said so}; one pass, units are not kept.

    For `ordinal` and `interval` the values must be numbers. Fractions of votes are allowed.
    """
    pairs: dict[tuple[Hashable, Hashable], float] = {}
    num, same = 0, 0.0
    for counts in units:
        votes = {value: n for value, n in counts.items() if n > 0}
        total = sum(votes.values())
        if total < 2:
            continue
        num += 1
        same += sum(n * (n - 1) for n in votes.values()) / (total * (total - 1))
        for one, n in votes.items():
            for other, m in votes.items():
                both = n * (m - (one == other)) / (total - 1)
                pairs[one, other] = pairs.get((one, other), 0.0) + both
    if num == 0:
        return Agreement(0, None, None)
    return Agreement(num, same / num, _alpha(pairs, level))


def krippendorff(table: Sequence[Sequence[Any]], *, level: Level = "nominal") -> float | None:
    """Alpha of a table with a row an annotator and a column a unit, None where nothing was said."""
    units: list[dict[Hashable, float]] = []
    for column in zip(*table, strict=True):
        counts: dict[Hashable, float] = {}
        for value in column:
            if value is not None:
                counts[value] = counts.get(value, 0.0) + 1.0
        units.append(counts)
    return agreement(units, level=level).alpha


def _alpha(pairs: Mapping[tuple[Hashable, Hashable], float], level: Level) -> float | None:
    totals: dict[Hashable, float] = {}
    for (one, _), weight in pairs.items():
        totals[one] = totals.get(one, 0.0) + weight
    distance = _distance(totals, level)
    n = sum(totals.values())
    observed = sum(weight * distance(one, other) for (one, other), weight in pairs.items()) / n
    expected = sum(a * b * distance(x, y) for x, a in totals.items() for y, b in totals.items()) / (
        n * (n - 1)
    )
    return None if expected <= 0 else 1.0 - observed / expected


def _distance(totals: Mapping[Hashable, float], level: Level) -> Callable[[Any, Any], float]:
    if level == "nominal":
        return lambda one, other: float(one != other)
    if level == "interval":
        return lambda one, other: float((one - other) ** 2)
    below: dict[Any, float] = {}
    passed = 0.0
    for value in sorted(totals):  # type: ignore[type-var]
        below[value] = passed + totals[value] / 2.0  # the middle of the value's own share
        passed += totals[value]
    return lambda one, other: float((below[one] - below[other]) ** 2)
