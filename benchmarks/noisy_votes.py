"""Careless labels on Shapes: annotators weighed by EM against plain Bradley-Terry, with a linear reward.

    python benchmarks/noisy_votes.py            # writes results/noisy_votes.json

The reward is linear in what the exact judge reads off a picture (how well the demand is met, quality and its parts,
products of both) and in 27 colours of its pixels, so the columns differ in how votes are read and in nothing else. A
crowd of simulated annotators votes on pairs of training pictures, a share of all votes blindly. In `spread` crowds some
annotators answer everything blindly and the others nothing; in `even` crowds everybody does so equally often, and
nobody can be told from another. Measured is the order of held-out pairs by true utility, not by votes.

`plain` is Bradley-Terry on the votes as they are, `em` crowd Bradley-Terry (`mmalign.stats.votes`), `known` plain
Bradley-Terry on the votes that were not blind, which nobody can know: the ceiling. `peers` needs no names of
annotators: the votes lie in three folds, each is reviewed by two models that learned from one of the other two
(`mmalign.stats.peers`), what both call wrong is left out. Gains are on the same votes.

| crowd | careless | plain | em | gain | peers | gain | known |
|---|---|---|---|---|---|---|---|
| spread | 0% | 0.895 | 0.895 | -0.000 [-0.002, +0.001] | 0.895 | -0.000 [-0.000, +0.000] | 0.895 |
| spread | 20% | 0.853 | 0.878 | +0.025 [+0.017, +0.033] | 0.852 | -0.001 [-0.005, +0.003] | 0.878 |
| spread | 40% | 0.841 | 0.873 | +0.032 [+0.025, +0.041] | 0.839 | -0.002 [-0.006, +0.002] | 0.875 |
| even | 20% | 0.854 | 0.867 | +0.013 [+0.005, +0.022] | 0.855 | +0.000 [-0.002, +0.002] | 0.888 |
| even | 40% | 0.829 | 0.830 | +0.002 [-0.005, +0.010] | 0.830 | +0.001 [-0.003, +0.005] | 0.868 |

20 annotators with 40 votes each, 12 seeds; at 0% careless EM costs nothing, in spread crowds it wins back nearly all
that the careless took, in even crowds little, as it must be. Peer review neither helps nor harms here: a linear reward
cannot learn a wrong label by heart, and what both reviewers call wrong is then mostly an honest close call.

Legend: V votes, F features.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmalign.shapes.annotators import Law, annotate
from mmalign.shapes.detection import Sight, detect
from mmalign.shapes.grading import grade
from mmalign.shapes.pairs import make_block
from mmalign.shapes.prompts import parse
from mmalign.stats import intervals, votes
from mmalign.stats.peers import peer_review

RESULTS = Path(__file__).parent / "results" / "noisy_votes.json"
LAW = Law(temperature=0.1)
SHARES = (0.0, 0.2, 0.4)
RIDGE = 1.0
LEARNED = ("em", "peers")
Pool = tuple[np.ndarray, torch.Tensor, np.ndarray]
"""Features (N, F) and utility (N,) of pictures, and the pairs (P, 2) of one prompt each."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_options(arguments)
    start = time.perf_counter()
    train = pool("train", options.prompts)
    heldout = standardised(pool("heldout", options.prompts), train)
    train = standardised(train, train)
    rows = [
        cell(kind, share, train, heldout, options)
        for kind in ("spread", "even")
        for share in (SHARES if kind == "spread" else SHARES[1:])
    ]
    result = {
        "command": "python benchmarks/noisy_votes.py",
        "machine": f"{platform.processor() or platform.machine()}, one thread",
        "seconds": round(time.perf_counter() - start, 1),
        "annotators": options.annotators,
        "votes_each": options.votes,
        "seeds": options.seeds,
        "heldout_pairs": len(heldout[2]),
        "rows": rows,
    }
    Path(options.output).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(rows))


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=300, help="of training and of held-out pictures")
    parser.add_argument("--annotators", type=int, default=20)
    parser.add_argument("--votes", type=int, default=40, help="of each annotator")
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--output", default=str(RESULTS))
    return parser.parse_args(arguments)


def pool(split: str, num_prompts: int) -> Pool:
    """Four pictures of every prompt, their features and worth, and all pairs of one prompt that differ in worth."""
    block = make_block(split, 0, 0, num_families=num_prompts, num_prompts=1, num_images=4)
    images = block.images.flatten(0, 1)
    prompts = [asked[0] for asked in block.prompts for _ in range(4)]
    features = np.asarray(
        [
            [*describe(sight, prompt), *colours]
            for sight, prompt, colours in zip(detect(images), prompts, cells(images), strict=True)
        ]
    )
    worth = block.utility.flatten()
    pairs = [
        (4 * f + i, 4 * f + j)
        for f in range(num_prompts)
        for i in range(4)
        for j in range(i + 1, 4)
        if worth[4 * f + i] != worth[4 * f + j]
    ]
    return features, worth, np.asarray(pairs)


def describe(sight: Sight, prompt: str) -> list[float]:
    """What the exact judge reads off one picture."""
    spec = parse(prompt)
    follows = grade(sight.things, spec) if sight.readable else 0.0
    quality = sight.visual_quality
    number = abs(len(sight.things) - len(spec.slots))
    parts = [sight.noise, sight.unevenness, sight.roughness, sight.specks]
    return [follows, float(follows == 1.0), quality, follows * quality, float(number), *parts]


def cells(images: torch.Tensor) -> list[list[float]]:
    """The mean colours of 3 x 3 cells of each picture."""
    made: list[list[float]] = torch.nn.functional.adaptive_avg_pool2d(images, 3).flatten(1).tolist()
    return made


def standardised(which: Pool, by: Pool) -> Pool:
    """Features in standard deviations of the training pictures."""
    return (which[0] - by[0].mean(axis=0)) / by[0].std(axis=0).clip(min=1e-9), which[1], which[2]


def cell(kind: str, share: float, train: Pool, heldout: Pool, options: argparse.Namespace) -> dict[str, Any]:
    """One kind of crowd at one share of blind votes, over the seeds."""
    columns: dict[str, list[float]] = {"plain": [], "em": [], "peers": [], "known": []}
    for seed in range(options.seeds):
        difference, label, who, blind = crowd(kind, share, train, seed, options)
        fits = {
            "plain": votes.bradley_terry(difference, label, ridge=RIDGE),
            "em": votes.crowd_bradley_terry(difference, label, who, ridge=RIDGE).weights,
            "peers": reviewed(difference, label),
            "known": votes.bradley_terry(difference[~blind], label[~blind], ridge=RIDGE),
        }
        for name, weights in fits.items():
            columns[name].append(accuracy(weights, heldout))
    found = {name: intervals.mean(values).as_dict() for name, values in columns.items()}
    plain = np.asarray(columns["plain"])
    gains = {f"gain_{name}": intervals.mean(np.asarray(columns[name]) - plain).as_dict() for name in LEARNED}
    return {"crowd": kind, "careless": share, **found, **gains}


def reviewed(difference: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Bradley-Terry on the votes that peer review keeps, each weighed by the chance that it is right."""
    fold = np.arange(len(label)) % 3
    fits = [votes.bradley_terry(difference[fold == k], label[fold == k], ridge=RIDGE) for k in range(3)]
    weight = np.empty(len(label))
    for k in range(3):
        mine = fold == k
        margins = [difference[mine] @ fits[other] for other in range(3) if other != k]
        review = peer_review(*margins, label[mine])
        weight[mine] = review.p * review.keep
    return votes.bradley_terry(difference, label, weight=weight, ridge=RIDGE)


def crowd(
    kind: str, share: float, train: Pool, seed: int, options: argparse.Namespace
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Feature differences (V, F), votes (V,) 1 or 0, annotators (V,), and which votes are blind (V,)."""
    features, worth, pairs = train
    rng = np.random.default_rng((seed, round(100 * share)))
    who = np.repeat(np.arange(options.annotators), options.votes)
    chosen = pairs[rng.integers(len(pairs), size=len(who))]
    turned = rng.random(len(who)) < 0.5
    chosen[turned] = chosen[turned][:, ::-1]
    if kind == "spread":
        blind = who < round(share * options.annotators)
    else:
        blind = rng.random(len(who)) < share
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    view = annotate(worth[chosen[:, 0]], worth[chosen[:, 1]], LAW, generator).numpy() == 0
    label = np.where(blind, rng.random(len(who)) < 0.5, view).astype(float)
    return features[chosen[:, 0]] - features[chosen[:, 1]], label, who, blind


def accuracy(weights: np.ndarray, heldout: Pool) -> float:
    """The share of held-out pairs in the order of their worth."""
    features, worth, pairs = heldout
    score, truth = features @ weights, worth.numpy()
    gap = (score[pairs[:, 0]] - score[pairs[:, 1]]) * (truth[pairs[:, 0]] - truth[pairs[:, 1]])
    return float((gap > 0).mean())


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The figures as a table."""
    lines = ["| crowd | careless | plain | em | gain | peers | gain | known |", "|---" * 8 + "|"]
    for row in rows:
        cells = [row["crowd"], f"{row['careless']:.0%}", f"{row['plain']['mean']:.3f}"]
        for name in LEARNED:
            gain = row[f"gain_{name}"]
            cells += [
                f"{row[name]['mean']:.3f}",
                f"{gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]",
            ]
        lines.append("| " + " | ".join([*cells, f"{row['known']['mean']:.3f}"]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
