"""`evaluate rank`: ratings from people's comparisons, from a CSV table into JSON.

Two-, three- and four-way verdicts are understood; a row that is left out is counted with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mmalign.stats import ranking
from pipelines.tables import is_missing, read_table, write_json

OUTCOMES: Mapping[float, tuple[str, ...]] = {
    1.0: ("a", "a is better", "a>b", "model a", "left", "leftvote", "first", "1", "win"),
    0.0: ("b", "b is better", "b>a", "model b", "right", "rightvote", "second", "0", "2", "loss"),
    0.5: (
        *("tie", "same", "equal", "both", "neither", "0.5", "tievote", "a=b"),
        *("same good", "both good", "a=b=good", "same bad", "both bad", "a=b=bad", "bothbad vote", "bothbad"),
    ),
}
_RESULT = {name: outcome for outcome, names in OUTCOMES.items() for name in names}


def run(
    pairs: Path,
    *,
    a: str,
    b: str,
    preference: str,
    output: Path,
    by: str | None = None,
    num_resamples: int = 1000,
) -> dict[str, Any]:
    """Ratings of what the columns `a` and `b` name, from the verdicts; written to `output` and returned."""
    rows = read_table(pairs, [a, b, preference, *([by] if by else [])])
    left_out: Counter[str] = Counter()
    kept: list[tuple[dict[str, str], float]] = []
    for line, row in enumerate(rows, start=2):
        reason = "verdict missing" if is_missing(row[preference]) else None
        reason = reason or ("name missing" if not row[a] or not row[b] else None)
        reason = reason or ("compared with itself" if row[a] == row[b] else None)
        if reason:
            left_out[reason] += 1
        else:
            kept.append((row, _outcome(row[preference], line, pairs)))
    if not kept:
        raise ValueError(f"{pairs}: no row has two names and a verdict")
    result: dict[str, Any] = {
        "protocol": "ratings: Bradley-Terry with ties as half wins; davidson: Bradley-Terry with a tie parameter "
        "(Davidson 1970); Elo scale 400/ln(10)*theta + 1000; percentile bootstrap over comparisons, "
        f"{num_resamples} resamples",
        "table": pairs.name,
        "num_rows": len(rows),
        "num_used": len(kept),
        "left_out": dict(left_out),
        "verdicts": dict(Counter(row[preference] for row, _ in kept)),
        **_ratings(kept, a, b, num_resamples),
    }
    if by is not None:
        groups: dict[str, Any] = {}
        for name in sorted({row[by] for row, _ in kept}):
            some = [item for item in kept if item[0][by] == name]
            try:
                groups[name] = {"num_used": len(some), **_ratings(some, a, b, num_resamples // 5)}
            except ValueError as problem:
                groups[name] = {"num_used": len(some), "reason": str(problem)}
        result["by"] = {"column": by, "groups": groups}
    write_json(result, output)
    _print_rank(result)
    return result


def _outcome(text: str, line: int, table: Path) -> float:
    """1, 0 or 0.5 from two-, three- and four-way verdicts; how good a tie was makes no difference here."""
    plain = " ".join(text.lower().replace("_", " ").replace(" = ", "=").replace(" > ", ">").split())
    if plain not in _RESULT:
        known = "A is better, B is better, same good, same bad, A, B, tie, leftvote, rightvote, A>B, A=B=Good"
        raise ValueError(f"{table}:{line}: verdict '{text}' is not understood; known are for example {known}")
    return _RESULT[plain]


def _ratings(
    kept: Sequence[tuple[dict[str, str], float]], a: str, b: str, num_resamples: int
) -> dict[str, Any]:
    first, second, outcome = [row[a] for row, _ in kept], [row[b] for row, _ in kept], [o for _, o in kept]
    halves = ranking.fit(first, second, outcome, num_resamples=num_resamples)
    result: dict[str, Any] = {"ratings": halves.as_rows(), "num_resamples": halves.num_resamples}
    try:
        tied = ranking.fit(first, second, outcome, davidson=True, num_resamples=num_resamples)
    except ValueError as problem:
        return result | {"davidson": {"ratings": [], "tie_parameter": None, "reason": str(problem)}}
    result["davidson"] = {
        "ratings": tied.as_rows(),
        "tie_parameter": tied.tie,
        "tie_low": tied.tie_low,
        "tie_high": tied.tie_high,
        "num_resamples": tied.num_resamples,
    }
    return result


def _print_rank(result: Mapping[str, Any]) -> None:
    table = Table("name", "Elo (ties half)", "Elo (Davidson)", "n", title=f"{result['num_used']} comparisons")
    tied = {row["name"]: row for row in result["davidson"]["ratings"]}
    for row in result["ratings"]:
        table.add_row(row["name"], _cell(row), _cell(tied.get(row["name"])), str(row["n"]))
    Console().print(table)


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "none finite"
    if row["low"] is None:
        return f"{row['elo']:.0f}"
    return f"{row['elo']:.0f} [{row['low']:.0f}, {row['high']:.0f}]"
