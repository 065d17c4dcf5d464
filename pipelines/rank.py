"""`evaluate rank`: ratings from people's comparisons, from a CSV table into JSON.

Two-, three- and four-way verdicts are understood; a row that is left out is counted with its reason. Where more than a
fifth of the verdicts is not understood, the table is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmalign.console import counted
from mmalign.stats import ranking
from pipelines.tables import SHOWN, is_missing, read_table, require_few, write_json

OUTCOMES: Mapping[float, tuple[str, ...]] = {
    1.0: ("a", "a is better", "a>b", "model a", "left", "leftvote", "first", "1", "win"),
    0.0: ("b", "b is better", "b>a", "model b", "right", "rightvote", "second", "0", "2", "loss"),
    0.5: (
        *("tie", "same", "equal", "both", "neither", "0.5", "tievote", "a=b"),
        *("same good", "both good", "a=b=good", "same bad", "both bad", "a=b=bad", "bothbad vote", "bothbad"),
    ),
}
KNOWN = "A is better, B is better, same good, same bad, A, B, tie, leftvote, rightvote, A>B, A=B=Good"
NOT_UNDERSTOOD = "verdict not understood"
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
    strange: list[str] = []
    kept: list[tuple[dict[str, str], float]] = []
    for line, row in enumerate(rows, start=2):
        reason = "verdict missing" if is_missing(row[preference]) else None
        reason = reason or ("name missing" if not row[a] or not row[b] else None)
        reason = reason or ("compared with itself" if row[a] == row[b] else None)
        outcome = None if reason else _outcome(row[preference])
        if outcome is None and not reason:
            reason = NOT_UNDERSTOOD
            strange.append(f"{pairs.name}:{line}: verdict '{row[preference]}' is not understood")
        if reason or outcome is None:
            left_out[str(reason)] += 1
        else:
            kept.append((row, outcome))
    require_few(strange, len(kept) + len(strange), f"Known are for example {KNOWN}")
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
        "not_understood": strange[:SHOWN],
        "verdicts": dict(Counter(row[preference] for row, _ in kept)),
        **_ratings(kept, a, b, num_resamples),
    }
    if by is not None:
        groups: dict[str, Any] = {}
        for name in sorted({row[by] for row, _ in kept}):
            some = [item for item in kept if item[0][by] == name]
            try:
                groups[name] = {"num_used": len(some), **_ratings(some, a, b, num_resamples)}
            except ValueError as problem:
                groups[name] = {"num_used": len(some), "reason": str(problem)}
        result["by"] = {"column": by, "groups": groups}
    write_json(result, output)
    _print_rank(result, output)
    return result


def _outcome(text: str) -> float | None:
    """1, 0 or 0.5 from two-, three- and four-way verdicts; how good a tie was makes no difference here."""
    plain = " ".join(text.lower().replace("_", " ").replace(" = ", "=").replace(" > ", ">").split())
    return _RESULT.get(plain)


def _ratings(
    kept: Sequence[tuple[dict[str, str], float]], a: str, b: str, num_resamples: int
) -> dict[str, Any]:
    first, second, outcome = [row[a] for row, _ in kept], [row[b] for row, _ in kept], [o for _, o in kept]
    halves = ranking.fit(first, second, outcome, num_resamples=num_resamples)
    result: dict[str, Any] = {"ratings": halves.as_rows(), "num_resamples": halves.num_resamples}
    result["resamples_left_out"] = dict(halves.left_out)
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
        "resamples_left_out": dict(tied.left_out),
    }
    return result


def _print_rank(result: Mapping[str, Any], output: Path) -> None:
    console = Console()
    console.print(_table(result, counted(result["num_used"], "comparison")))
    for line in _notes(result):
        console.print(f"note: {line}", style="cyan", markup=False)
    if "by" in result:
        _print_groups(console, result["by"], output)


def _print_groups(console: Console, by: Mapping[str, Any], output: Path) -> None:
    """A table of each of the first groups, and where the others are."""
    groups: Mapping[str, Any] = by["groups"]
    for name, found in list(groups.items())[:SHOWN]:
        title = f"{by['column']} {name}: {counted(found['num_used'], 'comparison')}"
        if "reason" in found:
            console.print(f"{title}: {found['reason']}", style="yellow", markup=False, soft_wrap=True)
            continue
        console.print(_table(found, title))
        for line in _dropped(found):
            console.print(f"note: {line}", style="cyan", markup=False)
    if len(groups) > SHOWN:
        more = counted(len(groups) - SHOWN, "more group", "more groups")
        console.print(f"and {more} of {by['column']}: all are in {output}", markup=False, soft_wrap=True)


def _table(found: Mapping[str, Any], title: str) -> Table:
    table = Table("name", "Elo (ties half)", "Elo (Davidson)", "n", title=escape(title))
    tied = {row["name"]: row for row in found["davidson"]["ratings"]}
    for row in found["ratings"]:
        table.add_row(escape(row["name"]), _cell(row), _cell(tied.get(row["name"])), str(row["n"]))
    return table


def _notes(result: Mapping[str, Any]) -> Iterator[str]:
    """What was left out, and why."""
    if result["left_out"]:
        yield "left out: " + ", ".join(
            f"{counted(num, 'row')} ({reason})" for reason, num in result["left_out"].items()
        )
    yield from result["not_understood"]
    yield from _dropped(result)


def _dropped(found: Mapping[str, Any]) -> Iterator[str]:
    """Resamples that gave no finite ratings, and why."""
    for words, part in (("ties half", found), ("Davidson", found["davidson"])):
        if dropped := part.get("resamples_left_out"):
            total = part["num_resamples"] + sum(dropped.values())
            why = "; ".join(f"in {num} of {total} resamples {reason}" for reason, num in dropped.items())
            hidden = " No interval is given." if 2 * part["num_resamples"] < total else ""
            yield f"{words}: the interval rests on {part['num_resamples']} resamples: {why}.{hidden}"


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "none finite"
    if row["low"] is None:
        return f"{row['elo']:.0f}"
    return f"{row['elo']:.0f} [{row['low']:.0f}, {row['high']:.0f}]"
