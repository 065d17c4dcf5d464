"""Is the promise of `evaluate reward --conformal` kept? Many calibrations of one reward whose errors are known.

    python -m benchmarks.abstention          # writes results/abstention.json

The bundled reward scores pairs of held-out prompts, one pair a prompt; annotators answer them by a known law, so the
chance that its judgement is wrong is known for every pair, and with these pairs as the population the true error above
any threshold is too. Again and again N pairs are drawn to calibrate, answered anew, and certified as the verb does it
(thresholds from the confidence of N further pairs, certainty 1 - delta).

`broken` is the share of calibrations whose true error exceeds alpha: at most delta is promised. `naive` is the same for
the lowest threshold whose error among the calibration pairs is at most alpha. `coverage` is the share of pairs judged,
`most` what one who knows every chance could judge. `select` chooses among the N new pairs and promises its error on
average.

Legend: P pairs of the population, N calibration pairs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rewardmodels
from benchmarks.overhead import machine
from mmalign.shapes.annotators import Law
from mmalign.stats import conformal, intervals
from rewardmodels.examination import judge_world

RESULTS = Path(__file__).parent / "results" / "abstention.json"
LAW = Law(temperature=0.1)
Floats = NDArray[np.float64]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=1000, help="of the population")
    parser.add_argument("--pairs", type=int, nargs="+", default=[100, 300, 1000], help="that calibrate")
    parser.add_argument("--alphas", type=float, nargs="+", default=[0.1, 0.15, 0.2])
    parser.add_argument("--delta", type=float, default=0.1)
    parser.add_argument("--repeats", type=int, default=500)
    parser.add_argument("--output", default=str(RESULTS))
    options = parser.parse_args(arguments)
    confidence, chance = population(options.prompts)
    rows = [
        cell(confidence, chance, alpha, num, options) for alpha in options.alphas for num in options.pairs
    ]
    result = {
        "command": "python -m benchmarks.abstention",
        "machine": machine(),
        "population": len(chance), "error_of_all": float(chance.mean()),
        "delta": options.delta, "repeats": options.repeats,
        "rows": rows,
    }  # fmt: skip
    Path(options.output).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(rows))


def population(num_prompts: int) -> tuple[Floats, Floats]:
    """How sure the bundled reward is of a pair of each prompt, and the chance (P,) that an answer contradicts it."""
    model = rewardmodels.load("shapes-reward")
    judged = judge_world(model, "evaluation", num_prompts=num_prompts, law=LAW)["overall"]
    each = len(judged.groups) // num_prompts
    rows = np.arange(num_prompts) * each + np.random.default_rng(0).integers(each, size=num_prompts)
    gap, first = judged.gap.double().numpy()[rows], judged.chance.numpy()[rows]
    return np.abs(gap), np.where(gap > 0, 1 - first, first)


def cell(
    confidence: Floats, chance: Floats, alpha: float, num: int, options: argparse.Namespace
) -> dict[str, Any]:
    """One promise, over the repeats."""
    rng = np.random.default_rng((round(1000 * alpha), num))
    kept: dict[str, list[float]] = {
        name: [] for name in ("broken", "naive", "coverage", "error", "select_error", "select_coverage")
    }
    for _ in range(options.repeats):
        rows, new = rng.integers(len(chance), size=(2, num))
        wrong, failed = rng.random(num) < chance[rows], rng.random(num) < chance[new]
        thresholds = conformal.thresholds_of(confidence[new], num, alpha=alpha, delta=options.delta)
        rule = conformal.certify(
            confidence[rows], wrong, alpha=alpha, delta=options.delta, thresholds=thresholds
        )
        judged = rule.judges(confidence)
        kept["coverage"].append(judged.mean())
        kept["broken"].append(judged.any() and chance[judged].mean() > alpha)
        if judged.any():
            kept["error"].append(chance[judged].mean())
        lured = confidence > naive(confidence[rows], wrong, alpha)
        kept["naive"].append(lured.any() and chance[lured].mean() > alpha)
        chosen = conformal.select(confidence[rows], wrong, confidence[new], alpha=alpha)
        kept["select_error"].append(failed[chosen].mean() if chosen.any() else 0.0)
        kept["select_coverage"].append(chosen.mean())
    figures = {name: intervals.mean(values).as_dict() for name, values in kept.items() if values}
    return {"alpha": alpha, "pairs": num, "most": most(chance, alpha), **figures}


def naive(confidence: Floats, wrong: NDArray[np.bool_], alpha: float) -> float:
    """The lowest threshold whose error among these pairs is at most alpha."""
    order = np.argsort(-confidence)
    share = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero(share <= alpha)
    if not good.size:
        return float(np.inf)
    return float(confidence[order][good[-1] + 1]) if good[-1] + 1 < len(order) else -float(np.inf)


def most(chance: Floats, alpha: float) -> float:
    """The largest share of pairs whose mean chance of being wrong is at most alpha."""
    return float((np.cumsum(np.sort(chance)) / np.arange(1, len(chance) + 1) <= alpha).mean())


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The figures as a table."""
    names = ("broken", "naive", "error", "coverage", "select_error", "select_coverage")
    lines = [f"| alpha | pairs | most | {' | '.join(names)} |", "|---" * (len(names) + 3) + "|"]
    for row in rows:
        cells = [f"{row['alpha']:.0%}", str(row["pairs"]), f"{row['most']:.0%}"]
        cells += [f"{row[name]['mean']:.1%}" if name in row else "-" for name in names]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
