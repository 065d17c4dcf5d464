"""Every method from the same bundled base with the same number of generated samples: one table.

    python benchmarks/shapes_alignment.py --models flow epsilon --methods sft rwr dpo npo grpo nft

Each run takes the shipped recipe `<method>/shapes-<model>` and its reward, stops after `--samples` generated
samples, and is examined before and after on the same held-out prompts and seeds: gold (share of pictures that the
exact verifier passes), the learned reward, diversity (mean distance of pictures of one prompt under two seeds) and
the distance to the reference. `npo` is used as the negative branch of guidance, so its "before" is plain guidance
at the same number of network calls. Results go to `<output>/<model>-<method>.json` and `<output>/table.md`;
what is there already is not run again.

Shape legend: `B` samples, `C H W` pixels or latents.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from mmalign import shapes
from mmalign.config import load_recipe
from mmalign.stats import intervals
from mmalign.train.alignment import Alignment
from mmalign.train.evaluation import Examination
from mmalign.train.trackers import evaluation_file
from pipelines.train import compose

METHODS = ("sft", "rwr", "dpo", "npo", "grpo", "nft")
GOLD, LEARNED = "shapes-verifier", "shapes-reward"
HEADINGS = (
    "model", "method", "pass before", "pass after", "gain (paired)", "learned reward", "diversity",
    "distance", "samples", "seconds",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    for model in options.models:
        for method in options.methods:
            path = folder / f"{model}-{method}.json"
            if not path.exists():
                result = run(model, method, options)
                path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    write_table(folder)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["flow", "epsilon"], choices=["flow", "epsilon"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--samples", type=int, default=12_800, help="generated samples of each run")
    parser.add_argument("--prompts", type=int, default=350, help="held-out prompts of the examination")
    parser.add_argument("--seeds", type=int, default=2, help="pictures of each held-out prompt, at least 2")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--runs", default="runs/shapes_alignment", help="where the runs themselves go")
    parser.add_argument("--output", default="benchmarks/results/shapes_alignment")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further recipe settings")
    options = parser.parse_args(arguments)
    if options.seeds < 2:
        parser.error("--seeds must be at least 2: diversity compares two pictures of a prompt")
    return options


def run(model: str, method: str, options: argparse.Namespace) -> dict[str, Any]:
    """One method on one model: train, examine, describe."""
    name = f"{method}/shapes-{model}"
    shipped = load_recipe(name, options.set)
    per_iteration = shipped.rollout.group_size * shipped.rollout.groups_per_iteration
    iterations = max(1, options.samples // per_iteration)
    recipe = load_recipe(
        name,
        [
            f"output={options.runs}/{model}-{method}",
            f"budget.iterations={iterations}",
            f"evaluation.every={iterations}",
            f"evaluation.num_prompts={options.prompts}",
            f"evaluation.seeds_per_prompt={options.seeds}",
            f"evaluation.rewards=[{{name: {GOLD}, options: {{score: passed}}}}, {{name: {LEARNED}}}]",
            "trackers=[]",
            *options.set,
        ],
    )
    trainer, task = compose(recipe)
    started = time.perf_counter()
    counters = trainer.train()
    seconds = counters.seconds if counters.seconds else time.perf_counter() - started
    folder = Path(recipe.output)
    before, after = (read(evaluation_file(folder, iteration)) for iteration in (0, iterations))
    return {
        "model": model,
        "method": method,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "samples": iterations * per_iteration,
        "iterations": iterations,
        "set": options.set,
        "seconds": round(seconds, 1),
        "evaluation": {"num_steps": recipe.evaluation.num_steps, "guidance": recipe.evaluation.guidance},
        "gold": compare(before, after, GOLD),
        "learned": compare(before, after, LEARNED),
        **closeness(task),
    }


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def compare(before: list[dict[str, Any]], after: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Before, after and their paired difference, by prompts resampled within their kind."""
    prompts = [row["prompt"] for row in before]
    kinds = [shapes.parse(prompt).category for prompt in prompts]
    first, second = (column(rows, name) for rows in (before, after))
    return {
        "before": intervals.mean(first, prompts, strata=kinds).as_dict(),
        "after": intervals.mean(second, prompts, strata=kinds).as_dict(),
        "gain": intervals.paired(first, second, prompts, strata=kinds).as_dict(),
    }


def column(rows: list[dict[str, Any]], name: str) -> list[float]:
    """The scores of one reward; NaN where a picture could not be judged."""
    scores = [row["scores"][name] for row in rows]
    return [float("nan") if score is None else score for score in scores]


@torch.no_grad()
def closeness(task: Alignment, num_prompts: int = 48) -> dict[str, float]:
    """Diversity before and after, and how far the trained weights predict from the reference.

    Diversity: root mean squared pixel difference between two pictures of one prompt. Distance: mean squared
    difference of the predictions of both weights on noised samples, over four levels.
    """
    examination = task.examination
    assert isinstance(examination, Examination)
    trained = task.best_weights
    per_prompt = task.recipe.evaluation.seeds_per_prompt
    shown = min(num_prompts, len(examination.prompts))
    index = [i for i in range(shown * per_prompt) if i % per_prompt < 2]
    result = {}
    for key, weights in (("diversity_before", "reference"), ("diversity_after", trained)):
        _, media = examination.samples(index, weights)
        pairs = media.flatten(1).unflatten(0, (-1, 2))
        result[key] = float((pairs[:, 0] - pairs[:, 1]).square().mean(1).sqrt().mean())
    policy, process = task.policy, task.policy.process
    prompts = [examination.prompts[i // per_prompt].text for i in index]
    conditions = policy.encode(prompts, guidance=1.0)
    clean = policy.encode_media(media)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    levels = policy.schedule(5, clean)[1:5].float()
    errors = []
    for level in levels:
        noisy = process.add_noise(clean, noise, level)
        predictions = []
        for weights in ("reference", trained):
            with policy.weights.using(weights):
                predictions.append(policy.predict(noisy, level, conditions))
        errors.append(float((predictions[0] - predictions[1]).square().mean()))
    return result | {"distance": sum(errors) / len(errors)}


def write_table(folder: Path) -> None:
    """All results of a folder as one Markdown table."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    results.sort(key=lambda r: (r["model"], METHODS.index(r["method"])))
    lines = [row(HEADINGS), row(["---"] * len(HEADINGS)), *(row(cells(result)) for result in results)]
    (folder / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def cells(result: dict[str, Any]) -> list[str]:
    gold, learned = result["gold"], result["learned"]
    return [
        result["model"],
        result["method"],
        share(gold["before"]),
        share(gold["after"]),
        share(gold["gain"], sign="+"),
        f"{learned['before']['mean']:.2f} -> {learned['after']['mean']:.2f}",
        f"{result['diversity_before']:.3f} -> {result['diversity_after']:.3f}",
        f"{result['distance']:.4f}",
        f"{result['samples']:,}",
        f"{result['seconds']:.0f}",
    ]


def share(interval: dict[str, float], sign: str = "") -> str:
    """A share in percent with its 95 % interval."""
    mean, low, high = (100 * interval[key] for key in ("mean", "low", "high"))
    return f"{mean:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def row(values: Iterable[str]) -> str:
    return "| " + " | ".join(values) + " |"


if __name__ == "__main__":
    main()
