"""`evaluate agreement`: how a judge's ratings agree with people's, from a CSV table into JSON.

The protocol stands in the result, every row that is left out is counted with its reason, intervals are bootstrapped.
Where more than a fifth of the rows holds something else than numbers, the table is refused.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmalign.console import counted
from mmalign.stats import intervals
from mmalign.stats.agreement import CORRELATIONS, fisher_mean
from pipelines.tables import (
    SHOWN,
    Rows,
    as_json,
    estimate,
    is_missing,
    read_table,
    require_few,
    write_json,
)

NO_HUMAN, NO_JUDGE, NEITHER = "human rating missing", "judge rating missing", "both missing"
MISSING_RATINGS = (NO_HUMAN, NO_JUDGE, NEITHER)
NOT_A_NUMBER = "not a number"


def run(
    table: Path,
    *,
    human: Sequence[str],
    judge: str,
    output: Path,
    by: str | None = None,
    cluster: str | None = None,
    num_resamples: int = 1000,
) -> dict[str, Any]:
    """How a judge's column agrees with the mean of people's columns; written to `output` and returned."""
    wanted = [*human, judge, *(c for c in (by, cluster) if c is not None)]
    if len(set(human)) < len(human):
        raise ValueError(f"--human names a column twice: {', '.join(human)}")
    rows = read_table(table, wanted)
    numbers = np.asarray([[_number(row[c]) for c in (*human, judge)] for row in rows])
    strange = _not_numbers(rows, (*human, judge), table)
    require_few(list(strange.values()), len(rows), "Is it a column of ratings?")
    why = _why_left_out(numbers, strange)
    left_out, used = Counter(filter(None, why)), np.asarray([reason is None for reason in why])
    kept = [row for row, good in zip(rows, used, strict=True) if good]
    if not kept:
        raise ValueError(f"{table}: no row has all of {', '.join(wanted)}")
    raters, verdict = numbers[used, :-1], numbers[used, -1]
    truth = raters.mean(axis=1)
    clusters = [row[cluster] for row in kept] if cluster else None
    result: dict[str, Any] = {
        "protocol": "human = mean of the human columns; rows with a missing rating left out; Kendall is tau-b; "
        f"percentile bootstrap over {f'values of {cluster}' if cluster else 'rows'}, {num_resamples} resamples",
        "table": table.name,
        "human": list(human),
        "judge": judge,
        "num_rows": len(rows),
        "num_used": len(kept),
        "left_out": {reason: left_out[reason] for reason in MISSING_RATINGS}
        | ({NOT_A_NUMBER: len(strange)} if strange else {}),
        "not_understood": list(strange.values())[:SHOWN],
        "overall": _correlate(verdict, truth, clusters, num_resamples),
        "human_human": _between_people(raters, human, clusters, num_resamples),
    }
    if by is not None:
        groups = [row[by] for row in kept]
        lost = _left_out_by_group([row[by] for row in rows], why)
        result["by"] = _within_groups(verdict, truth, groups, clusters, num_resamples, lost) | {"column": by}
        result["human_human"]["by"] = _people_within_groups(raters, groups) | {"column": by}
    write_json(result, output)
    _print_agreement(result)
    return result


def _number(text: str) -> float:
    """NaN where a cell holds no number."""
    try:
        value = float(text)
    except ValueError:
        return float("nan")
    return value if math.isfinite(value) else float("nan")


def _not_numbers(rows: Rows, columns: Sequence[str], table: Path) -> dict[int, str]:
    """The rows, by position, that say something else than a number or nothing; and what."""
    found: dict[int, str] = {}
    for place, row in enumerate(rows):
        for column in columns:
            if not is_missing(row[column]) and math.isnan(_number(row[column])):
                words = f"column '{column}' holds '{row[column]}', which is not a number"
                found.setdefault(place, f"{table.name}:{place + 2}: {words}")
    return found


def _why_left_out(numbers: np.ndarray, strange: Collection[int]) -> list[str | None]:
    """Why each row (people's columns, then the judge's) cannot be used; None where it can."""
    missing = zip(
        np.isnan(numbers[:, :-1]).any(axis=1).tolist(), np.isnan(numbers[:, -1]).tolist(), strict=True
    )
    reasons = {(True, False): NO_HUMAN, (False, True): NO_JUDGE, (True, True): NEITHER}
    return [NOT_A_NUMBER if place in strange else reasons.get(one) for place, one in enumerate(missing)]


def _left_out_by_group(groups: Sequence[str], why: Sequence[str | None]) -> dict[str, dict[str, int]]:
    """How many rows of each group are left out, by reason; groups of which all are used do not occur."""
    found: dict[str, Counter[str]] = {}
    for name, reason in zip(groups, why, strict=True):
        if reason is not None:
            found.setdefault(name, Counter())[reason] += 1
    return {name: dict(found[name]) for name in sorted(found)}


def _correlate(
    x: np.ndarray, y: np.ndarray, clusters: Sequence[str] | None, num_resamples: int
) -> dict[str, dict[str, Any]]:
    made = {}
    for name, measure in CORRELATIONS.items():

        def resampled(rows: np.ndarray, measure: Callable[..., float] = measure) -> float:
            return measure(x[rows], y[rows])

        found = intervals.statistic(resampled, len(x), clusters, num_resamples=num_resamples)
        made[name] = estimate(found)
    return made


def _within_groups(
    x: np.ndarray, y: np.ndarray, groups: Sequence[str], clusters: Sequence[str] | None, num_resamples: int,
    left_out: Mapping[str, Mapping[str, int]],
) -> dict[str, Any]:  # fmt: skip
    """Each correlation within each group, and tanh of the mean of arctanh over groups, with its interval.

    A group of which every row is `left_out` is undefined.
    """
    names, labels = sorted(set(groups)), np.asarray(groups)
    inside = {name: np.flatnonzero(labels == name) for name in names}
    per_group = {
        name: _correlate(
            x[rows],
            y[rows],
            [clusters[int(k)] for k in rows] if clusters is not None else None,
            num_resamples,
        )
        for name, rows in inside.items()
    }
    means = {}
    for kind, measure in CORRELATIONS.items():

        def fisher(rows: np.ndarray, measure: Callable[..., float] = measure) -> float:
            among = labels[rows]
            return fisher_mean([measure(x[rows[among == n]], y[rows[among == n]]) for n in names])

        found = intervals.statistic(fisher, len(x), clusters, num_resamples=num_resamples)
        means[kind] = estimate(found)
    gone = [name for name in left_out if name not in inside]
    undefined = {
        kind: sorted([*gone, *(n for n in names if per_group[n][kind]["value"] is None)])
        for kind in CORRELATIONS
    }
    return {
        "groups": per_group,
        "fisher_mean": means,
        "undefined": {kind: found for kind, found in undefined.items() if found},
        "left_out": left_out,
    }


def _between_people(
    raters: np.ndarray, human: Sequence[str], clusters: Sequence[str] | None, num_resamples: int
) -> dict[str, Any]:
    """How people agree among themselves: every pair, their mean, and one against the mean of the others."""
    if len(human) < 2:
        return {"reason": "one human column has nobody to agree with"}
    pairs = {
        f"{human[i]} ~ {human[j]}": {
            kind: as_json(f(raters[:, i], raters[:, j])) for kind, f in CORRELATIONS.items()
        }
        for i, j in combinations(range(len(human)), 2)
    }

    def mean_of_pairs(kind: str) -> dict[str, Any]:
        measure = CORRELATIONS[kind]

        def mean(rows: np.ndarray) -> float:
            some = raters[rows]
            found = [measure(some[:, i], some[:, j]) for i, j in combinations(range(len(human)), 2)]
            return float(np.nanmean(found)) if np.isfinite(found).any() else float("nan")

        return estimate(intervals.statistic(mean, len(raters), clusters, num_resamples=num_resamples))

    others = {
        name: {
            k: as_json(f(raters[:, i], np.delete(raters, i, axis=1).mean(axis=1)))
            for k, f in CORRELATIONS.items()
        }
        for i, name in enumerate(human)
    }
    return {
        "pairs": pairs,
        "mean": {kind: mean_of_pairs(kind) for kind in CORRELATIONS},
        "one_against_others": others,
    }


def _people_within_groups(raters: np.ndarray, groups: Sequence[str]) -> dict[str, Any]:
    """The mean pairwise correlation of people within each group, and the Fisher mean over groups."""
    labels, pairs = np.asarray(groups), list(combinations(range(raters.shape[1]), 2))
    if not pairs:
        return {"reason": "one human column has nobody to agree with"}
    per_group: dict[str, dict[str, float | None]] = {}
    for name in sorted(set(groups)):
        some = raters[labels == name]
        per_group[name] = {
            kind: as_json(fisher_mean([f(some[:, i], some[:, j]) for i, j in pairs]))
            for kind, f in CORRELATIONS.items()
        }
    means = {
        kind: as_json(
            fisher_mean([value for found in per_group.values() if (value := found[kind]) is not None])
        )
        for kind in CORRELATIONS
    }
    return {"groups": per_group, "fisher_mean": means}


def _cell(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return "undefined"
    if found["low"] is None:
        return f"{found['value']:.3f}"
    return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def _print_agreement(result: Mapping[str, Any]) -> None:
    left_out = sum(result["left_out"].values())
    people = "1 person" if len(result["human"]) == 1 else f"{len(result['human'])} people"
    title = f"{result['judge']} against {people}: {counted(result['num_used'], 'row')}, {left_out} left out"
    table = Table("", *CORRELATIONS, title=title)
    table.add_row("overall", *(_cell(result["overall"][kind]) for kind in CORRELATIONS))
    for name, found in result.get("by", {}).get("groups", {}).items():
        table.add_row(f"  {escape(name)}", *(_cell(found[kind]) for kind in CORRELATIONS))
    if "by" in result:
        table.add_row("Fisher mean", *(_cell(result["by"]["fisher_mean"][kind]) for kind in CORRELATIONS))
    if "mean" in result["human_human"]:
        table.add_row(
            "people, pairwise", *(_cell(result["human_human"]["mean"][kind]) for kind in CORRELATIONS)
        )
    console = Console()
    console.print(table)
    for line in _notes(result):
        console.print(f"note: {line}", style="cyan", markup=False, soft_wrap=True)


def _notes(result: Mapping[str, Any]) -> Iterator[str]:
    """What was left out, why, and which groups with it."""
    if any(result["left_out"].values()):
        yield f"left out: {_counts(result['left_out'])}"
    for line in result["not_understood"]:
        yield f"left out: {line}"
    within = result.get("by", {"groups": {}, "left_out": {}})
    for name, lost in within["left_out"].items():
        if name not in within["groups"]:
            yield f"{name}: nothing can be said, all its rows are left out: {_counts(lost)}"


def _counts(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{counted(num, 'row')} ({reason})" for reason, num in left_out.items() if num)
