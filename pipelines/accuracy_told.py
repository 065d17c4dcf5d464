"""What `evaluate reward` says at its end, for people; everything stands in its JSON file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from mmalign.console import counted
from mmalign.stats import report
from pipelines import abstention
from pipelines.left_out import tell_counts


def tell(result: Mapping[str, Any], output: Path) -> None:
    """The accuracies, what was compared, and what was left out."""
    console = Console()
    if result["strict"]["accuracy"] is not None:
        console.print(f"{result['reward']} on {result['dimension']}: {_strict(result)}", markup=False)
    if result["score"] == "overall" != result["dimension"]:
        line = f"{result['reward']} has no score for {result['dimension']}: its overall score was compared"
        console.print(line, style="yellow", markup=False)
    for line in _further(result):
        console.print(line, markup=False)
    tell_counts(result["left_out"], lambda num: f"{num:,} left out", output)


def _strict(result: Mapping[str, Any]) -> str:
    span = result["strict_interval"]
    share = report.show(span["mean"])
    if span["low"] is not None:
        share += f" [{report.show(span['low'])}, {report.show(span['high'])}]"
    return f"{share} of {counted(result['strict']['n'], 'untied pair')} in order"


def _further(result: Mapping[str, Any]) -> Iterator[str]:
    if "whole_orders" in result:
        whole = result["whole_orders"]
        yield f"{report.show(whole['accuracy'])} of {whole['n']} comparisons of 3 or more in order as a whole"
    if result["with_ties_published"]["ties_labelled"]:
        yield _with_ties(result)
    if "four_way" in result:
        found = result["four_way"]
        honest = found.get("cross_validated")
        yield f"four-way: {found['published']['accuracy']:.3f} with the best thresholds" + _honest(honest)
    if "conformal" in result:
        yield abstention.tell(result["conformal"])


def _with_ties(result: Mapping[str, Any]) -> str:
    """A threshold below 0 is how the search says that calling nothing a tie is best."""
    best = result["with_ties_published"]
    ties = counted(best["ties_labelled"], "tie")
    rule = f"where scores at most {best['epsilon']:.3g} apart are called a tie (the best threshold here)"
    if best["epsilon"] < 0:
        rule = "where no pair is called a tie (no threshold does better)"
    return f"with {ties}: {best['accuracy']:.3f} {rule}" + _honest(result.get("with_ties_cross_validated"))


def _honest(cross_validated: Mapping[str, Any] | None) -> str:
    return "" if cross_validated is None else f", {cross_validated['accuracy']:.3f} cross-validated by prompt"
