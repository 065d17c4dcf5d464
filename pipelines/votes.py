"""The verb `data votes`: labels of several annotators become one a pair, each annotator weighed by what he is worth.

Written are the comparisons with settled labels (`p` is the chance that the first is better, ties counted half, and
`p_tie` the share of ties: soft labels for `train-reward`), and beside them `<name>.votes.json`: every annotator's
reliability, and how votes were spread. Lines that cannot be read are left out and told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from mmalign.comparison import Comparison
from mmalign.console import counted
from mmalign.data import formats, votes
from mmalign.data.votes import Method, Settled
from pipelines.left_out import LeftOut
from pipelines.tables import write_json

SHOWN = 12


def run(input: Path, *, output: Path, method: Method, symmetric: bool) -> dict[str, Any]:
    """Votes in, comparisons with one label a pair out; the content of the JSON report."""
    if method not in ("dawid-skene", "counts"):
        raise ValueError(f"--method must be dawid-skene or counts, got {method}")
    if output.resolve() == input.resolve():
        raise ValueError(f"--output {output} would overwrite the votes")
    left = LeftOut()
    ballots = votes.gather(_usable(input, left))
    left.require(ballots, input, "label of a pair")
    settled = {dim: votes.settle(ballot, method, symmetric=symmetric) for dim, ballot in ballots.items()}
    num = formats.write(output, votes.merged(_usable(input, LeftOut()), settled, method))
    result = {
        "votes": input.name,
        "method": method,
        "comparisons": num,
        "left_out": left.num,
        "dimensions": {dim: describe(one) for dim, one in settled.items()},
    }
    write_json(result, output.with_suffix(".votes.json"))
    left.tell()
    _tell(result, output)
    return result


def _usable(input: Path, left: LeftOut) -> Iterator[Comparison]:
    """The comparisons of a file; one that shows a file twice cannot be told apart in its votes, and is left out."""
    for comparison in formats.read(input, on_error=left.add):
        if len({votes.name_of(one) for one in comparison.candidates}) == len(comparison.candidates):
            yield comparison
        else:
            left.add(0, f"comparison {comparison.id}: two of its candidates are the same file")


def describe(settled: Settled) -> dict[str, Any]:
    """How many votes stood behind the pairs, how sure the labels are, and who is worth how much."""
    counts = np.asarray(list(settled.counts.values()))
    sure = np.asarray(list(settled.chances.values())).max(axis=1)
    row: dict[str, Any] = {
        "num_pairs": len(settled.chances),
        "votes_per_pair": float(counts.sum(axis=1).mean()),
        "unanimous": float((counts.max(axis=1) == counts.sum(axis=1)).mean()),
        "mean_confidence": float(sure.mean()),
        "ties": float(np.mean([tie >= max(a, b) for a, b, tie in settled.chances.values()])),
    }
    if settled.annotators is not None:
        row["annotators"] = _annotators(settled)
    return row


def _annotators(settled: Settled) -> list[dict[str, Any]]:
    found = settled.annotators
    assert found is not None
    order = np.argsort(-found.reliability, kind="stable")
    return [
        {
            "annotator": settled.names[k],
            "reliability": float(found.reliability[k]),
            "num_votes": int(found.num_votes[k]),
            "confusion": found.confusion[k].round(4).tolist(),
        }
        for k in order
    ]


def _tell(result: Mapping[str, Any], output: Path) -> None:
    console = Console()
    for dim, row in result["dimensions"].items():
        told = f"{dim}: {counted(row['num_pairs'], 'pair')}, {row['votes_per_pair']:.1f} votes each"
        console.print(f"{told}, {row['unanimous']:.0%} unanimous, {row['ties']:.0%} ties")
        people = row.get("annotators", ())
        if people:
            table = Table("annotator", "votes", "reliability", title=counted(len(people), "annotator"))
            shown = people if len(people) <= SHOWN else [*people[: SHOWN // 2], *people[-SHOWN // 2 :]]
            for one in shown:
                table.add_row(one["annotator"], str(one["num_votes"]), f"{one['reliability']:.3f}")
            console.print(table)
    console.print(f"{counted(result['comparisons'], 'comparison')} in {output}")
