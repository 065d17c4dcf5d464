"""What causal, neutral and contrast pairs do to a reward whose annotators are lured by saturation.

    python benchmarks/neutral_pairs.py          # writes results/neutral_pairs.json
    python benchmarks/neutral_pairs.py --vlm    # writes results/neutral_pairs_vlm.json

The reward is linear in what an eye with poor sight sees of a picture (how well it meets the prompt, with noise; its
quality; the number of things) and in four factors that should not count: saturation, size as JPEG, sharpness, position.
Annotators judge pairs of one prompt by true utility, but saturation lures them. `plain` learns from their votes; the
other rows add as many further pairs of `mmalign.shapes.neutral`, whose answers are known.

Measured: `order`, pairs of held-out prompts ordered by true utility; `causal` and `contrast`, such pairs of training
prompts, drawn anew, ranked; and on those for each factor how far the score moves when only the factor changes, in
parts of the mean step that a changed cause makes (0 is right).

| training | order | causal | contrast | saturation | sharpness | file_size | position |
|---|---|---|---|---|---|---|---|
| plain | 0.664 | 0.815 | 1.000 | 1.027 | 0.300 | 0.323 | 0.376 |
| + neutral | 0.644 | 0.835 | 1.000 | 0.893 | 0.213 | 0.222 | 0.258 |
| + causal | 0.677 | 0.920 | 1.000 | 0.688 | 0.356 | 0.356 | 0.423 |
| + all three | 0.672 | 0.905 | 1.000 | 0.785 | 0.366 | 0.398 | 0.482 |

720 votes, 900 added pairs. Ties weaken every factor that should not count, saturation least, which the votes themselves
praise; what counts is learned from causal pairs, which also order held-out pairs better. Ties alone do not.

With `--vlm` the reward is the bundled tiny VLM, which sees pixels (`start`), trained on for `--updates` updates on the
pairs of shapes, whose annotators nothing lures (`plain`), or on these and 96 further pairs of each kind a bundle. Its
`order` is the expected pair accuracy on held-out prompts over the best that anyone can reach.

Legend: V votes, F features.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import rewardmodels
from mmalign.media import to_pil
from mmalign.shapes import bundled_path
from mmalign.shapes.annotators import Law, annotate
from mmalign.shapes.detection import detect
from mmalign.shapes.grading import grade
from mmalign.shapes.neutral import NEUTRAL, augmented_pairs, factor_of
from mmalign.shapes.pairs import make_block
from mmalign.shapes.prompts import parse
from mmalign.shapes.scene import BACKGROUND
from mmalign.stats import votes
from mmalign.types import PreferencePair, Sample
from pipelines import train_reward
from rewardmodels.examination import against_law, judge_world

RESULTS = Path(__file__).parent / "results"
LAW = Law(temperature=0.3, lure_weight=6.0)
SIGHT = 0.25
"""Standard deviation of the noise with which the reward sees how well a prompt is met."""
ADDED: dict[str, tuple[str, ...]] = {
    "plain": (), "+ neutral": ("neutral",), "+ causal": ("causal",),
    "+ all three": ("causal", "neutral", "contrast"),
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=120, help="of training and of held-out pictures")
    parser.add_argument("--pairs", type=int, default=900, help="that are added, in all")
    parser.add_argument("--vlm", action="store_true", help="the bundled reward model instead of a linear one")
    parser.add_argument("--updates", type=int, default=300, help="of each row of --vlm")
    parser.add_argument("--bundle", type=int, default=96, help="further pairs of a kind in a bundle of --vlm")
    parser.add_argument(
        "--examined", type=int, default=1000, help="held-out prompts that give the order of --vlm"
    )
    parser.add_argument(
        "--probes", type=int, default=400, help="of causal, neutral and contrast pairs each, for --vlm"
    )
    parser.add_argument("--runs", default="runs/neutral-pairs", help="where the trainings of --vlm go")
    parser.add_argument("--output", help="default: benchmarks/results/neutral_pairs[_vlm].json")
    options = parser.parse_args(arguments)
    rows, facts = vlm_rows(options) if options.vlm else linear_rows(options)
    machine = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} thread(s)"
    command = "python benchmarks/neutral_pairs.py" + " --vlm" * options.vlm
    result = {"command": command, "machine": machine, **facts, "rows": rows}
    path = Path(options.output or RESULTS / f"neutral_pairs{'_vlm' * options.vlm}.json")
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(rows))


def linear_rows(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The rows of linear rewards, and how many votes and pairs they learned from."""
    lured, label = voted(options.prompts)
    further = {
        kind: augmented_pairs("train", 0, 0, **{kind: options.pairs})
        for kind in ("causal", "neutral", "contrast")
    }
    # So few prompts of one word are held out that probes are drawn from all training prompts of another stream.
    probes = augmented_pairs("train", 1, 0, causal=200, neutral=200, contrast=200)
    held, truth = ordered(options.prompts)
    differences = {kind: seen(pairs) for kind, pairs in further.items()}
    scale = lured.std(axis=0).clip(min=1e-9)
    probed = seen(probes) / scale
    rows = []
    for name, kinds in ADDED.items():
        share = options.pairs // max(len(kinds), 1)
        x = np.concatenate([lured, *(differences[kind][:share] for kind in kinds)]) / scale
        told = [pair.labels["overall"] for kind in kinds for pair in further[kind][:share]]
        weights = votes.bradley_terry(x, np.concatenate([label, told]), ridge=1.0)
        right = np.sign(held / scale @ weights) == np.sign(truth)
        rows.append({"training": name, "order": float(right.mean()), **probe(probes, probed @ weights)})
    return rows, {"votes": len(label), "added": options.pairs}


def vlm_rows(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The rows of trained VLMs, and for how many updates each was trained."""
    rows = [vlm_row("start", bundled_path("reward"), options)]
    for name, kinds in ADDED.items():
        folder = Path(options.runs) / name.strip("+ ").replace(" ", "-")
        overrides = [
            "model.scratch=null", f"model.path={bundled_path('reward')}", f"output={folder}",
            "optimizer.lr=5e-4", "method.average=0.99", "data.shapes.stages=[{until: 1.0}]",
            f"budget.updates={options.updates}", f"evaluation.every={options.updates}",
            f"evaluation.final_prompts={options.examined}", *(f"data.shapes.{kind}={options.bundle}" for kind in kinds),
        ]  # fmt: skip
        train_reward.run("reward/shapes", overrides)
        rows.append(vlm_row(name, folder / "reward", options))
    return rows, {"updates": options.updates}


def vlm_row(name: str, path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One VLM, examined."""
    model = rewardmodels.load(str(path))
    judged = judge_world(model, "evaluation", num_prompts=options.examined, law=Law(temperature=0.1))[
        "overall"
    ]
    num = options.probes
    probes = augmented_pairs("train", 1, 0, causal=num, neutral=num, contrast=num)
    scores = model(samples=[sample for pair in probes for sample in (pair.a, pair.b)]).overall.view(-1, 2)
    gap = (scores[:, 0] - scores[:, 1]).double().numpy()
    return {"training": name, "order": against_law(judged)["ratio"], **probe(probes, gap)}


def voted(num_prompts: int) -> tuple[np.ndarray, np.ndarray]:
    """Feature differences (V, F) of training pairs and the votes (V,) of annotators whom saturation lures."""
    first, second, worth = pictures("train", num_prompts)
    x, y = features(first), features(second)
    lure = torch.from_numpy(np.stack([x[:, 3], y[:, 3]])).float()
    lure = (lure - lure.mean()) / lure.std() / LAW.lure_weight
    generator = torch.Generator().manual_seed(0)
    label = annotate(worth[0], worth[1], LAW, generator, lure[0] * 2, lure[1] * 2)
    return x - y, (label == 0).numpy().astype(float)


def ordered(num_prompts: int) -> tuple[np.ndarray, np.ndarray]:
    """Feature differences of held-out pairs that differ in worth, and by how much."""
    first, second, worth = pictures("heldout", num_prompts)
    gap = (worth[0] - worth[1]).numpy()
    return (features(first) - features(second))[gap != 0], gap[gap != 0]


def pictures(split: str, num_prompts: int) -> tuple[list[Sample], list[Sample], torch.Tensor]:
    """Pairs of pictures of one prompt each, and their worth (2, V)."""
    block = make_block(split, 0, 0, num_families=num_prompts, num_prompts=1, num_images=4)
    samples = [
        [Sample(asked[0], image) for image in row]
        for asked, row in zip(block.prompts, block.images, strict=True)
    ]
    chosen = [(f, i, j) for f in range(num_prompts) for i in range(4) for j in range(i + 1, 4)]
    first, second = [samples[f][i] for f, i, _ in chosen], [samples[f][j] for f, _, j in chosen]
    worth = block.utility[:, :, 0]
    return (
        first,
        second,
        torch.stack([torch.stack([worth[f, k] for f, *ks in chosen for k in ks[n : n + 1]]) for n in (0, 1)]),
    )


def seen(pairs: Sequence[PreferencePair]) -> np.ndarray:
    """Feature differences of pairs, the first minus the second."""
    return features([pair.a for pair in pairs]) - features([pair.b for pair in pairs])


def features(samples: Sequence[Sample]) -> np.ndarray:
    """What the reward sees (B, F): three things that count, then the four factors that do not."""
    images = torch.stack([sample.media for sample in samples if isinstance(sample.media, torch.Tensor)])
    rows = []
    for sight, image, sample in zip(detect(images), images, samples, strict=True):
        spec = parse(sample.prompt)
        noise = np.random.default_rng(int(image.double().sum() * 1e6) % 2**32).normal() * SIGHT
        follows = (grade(sight.things, spec) if sight.readable else 0.0) + noise
        number = float(abs(len(sight.things) - len(spec.slots)))
        rows.append([follows, sight.visual_quality, number, *factors(image)])
    return np.asarray(rows)


def factors(image: torch.Tensor) -> list[float]:
    """Saturation, kilobytes as JPEG, sharpness, and where the middle of the things is (x + y)."""
    buffer = io.BytesIO()
    to_pil(image).save(buffer, format="JPEG", quality=95)
    luma = image.mean(dim=0)
    edges = luma[1:-1, 1:-1] * 4 - luma[:-2, 1:-1] - luma[2:, 1:-1] - luma[1:-1, :-2] - luma[1:-1, 2:]
    ink = (image - torch.tensor(BACKGROUND).view(3, 1, 1)).abs().sum(dim=0)
    steps = torch.linspace(0, 1, image.shape[-1])
    middle = (ink.sum(0) * steps).sum() / ink.sum() + (ink.sum(1) * steps).sum() / ink.sum()
    colourful = (image.amax(dim=0) - image.amin(dim=0)).mean()
    return [float(colourful), buffer.tell() / 1000.0, float(edges.square().mean()), float(middle)]


def probe(pairs: Sequence[PreferencePair], gap: np.ndarray) -> dict[str, float]:
    """Share ranked among causal and contrast pairs, and the step of each factor in parts of a cause's."""
    kind = np.asarray([factor_of(pair) for pair in pairs])
    sign = np.asarray([2 * pair.labels["overall"] - 1 for pair in pairs])
    step = float(np.abs(gap[kind == "causal"]).mean())
    made = {name: float((gap * sign > 0)[kind == name].mean()) for name in ("causal", "contrast")}
    return made | {name: float(np.abs(gap[kind == f"neutral/{name}"]).mean()) / step for name in NEUTRAL}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The figures as a table."""
    names = ["order", "causal", "contrast", *NEUTRAL]
    lines = [f"| training | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    lines += [
        f"| {row['training']} | " + " | ".join(f"{row[name]:.3f}" for name in names) + " |" for row in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
