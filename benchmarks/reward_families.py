"""Every family of rewards of a VLM, trained on shapes with a tiny Qwen3-VL: one table.

    python benchmarks/reward_families.py --worlds images edits videos

Published rewards start from a VLM that has learned to see, and so do these. The start of a world is a tiny Qwen3-VL: of
images the one inside the bundled reward, of edits and videos one that is trained from nothing first, by the recipe
`reward/base-reward-like` for `--start-rounds` rounds of `--start-updates` updates. From it a run takes the recipe of
its family, `reward/<family>`, with a new head and a new template, for `--updates` updates on the endless stream of the
world, whose annotators are uncertain and see ties. Measured on prompts that were neither trained nor calibrated on: the
pair accuracy that fresh answers can be expected to give, beside the best that anyone could reach, and their ratio; the
same three ways, with ties by the calibrated threshold; by dimension where there are several; and the probes of
`rewardmodels.shape_probes`. Judges of token probabilities (`judge/<family>`) start from the same VLM and learn the
words they answer in, by the settings of their recipes for `--updates` updates. Results go to
`<output>/<world>-<family>.json` and `<output>/table.md`; what is there is not run again, and what was stopped goes on.

Shape legend: none; everything here is a row of a table.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import rewardmodels
from mmalign.shapes import bundled_path
from mmalign.shapes.worlds import WORLDS
from pipelines import train_probability, train_reward
from rewardmodels.shape_probes import probe

NAMES = {"images": "shapes", "edits": "shapes-edits", "videos": "shapes-videos"}
FIRST = "base-reward-like"
STAGES = {
    "edits": "[{until: 0.10, categories: [recolor, remove, replace], damage: 0.0}, {until: 0.2, damage: 0.2},"
    " {until: 1.0, damage: 0.5}]",
    "videos": "[{until: 0.10, categories: [recolor, move], damage: 0.0}, {until: 0.2, damage: 0.2},"
    " {until: 1.0, damage: 0.5}]",
}
"""From easy to hard, for a start from nothing: without it the first updates see nothing that they could learn from."""
AGAIN = 7e-4
"""Learning rate of the further rounds of a start, which go on from the weights of the round before."""
PIXELS = 32 * 32
THETA = 2.0
"""Tie parameter of the annotators: at equal worth a third of the answers are ties."""


@dataclass(frozen=True)
class Family:
    """What a recipe needs changed in a world, and what its information cannot decide."""

    blind: str = ""
    changes: Mapping[str, Sequence[str]] = field(default_factory=dict)


ASPECTS = ["model.template=two-aspects/1", "method.dimensions=[visual_quality, instruction_following]"]
LEVELS = Family(
    "levels of single items; overall is linear in the aspects",
    {
        "images": [
            "model.template=two-levels/1",
            "method.dimensions=[instruction_following, visual_quality]",
        ],
        "videos": ["method.dimensions=[instruction_following, visual_quality, motion_quality]"],
    },
)
FAMILIES: dict[str, Family] = {
    "base-reward-like": Family(),
    "ixc-reward-like": Family(),
    "hpsv3-like": Family(),
    "video-reward-like": Family(
        "aspects before the prompt do not see it; overall is linear in the aspects",
        {
            "images": ASPECTS,
            "edits": ["method.dimensions=[visual_quality, preservation, instruction_following]"],
        },
    ),
    "edit-reward-like": Family("overall is linear in following and quality: what was preserved is not asked"),
    "vefx-like": LEVELS,
    "coral-like": LEVELS,
    "soli-reward-like": Family(
        "one bit an item: differences among good ones, or among bad ones, hardly show"
    ),
    "list-like": Family(),
    "yojo-like": Family(),
    "adiee-like": Family("levels of single items"),
    "edithf-like": Family("levels of single items"),
}
JUDGES: dict[str, Family] = {
    "paco-like": Family("one answer a picture: the frames of a video are pictures without times"),
    "rewarddance-like": Family("two at a time: nothing across prompts; frames are pictures without times"),
}
"""Judges of token probabilities, `judge/<family>`."""
EVERY = FAMILIES | JUDGES
HEADINGS = (
    "world", "family", "accuracy", "best", "ratio", "three-way", "best", "ratio", "dimensions (ratio)",
    "wrong prompt", "identity / still", "updates", "seconds", "cannot see",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    for world in options.worlds:
        for family in options.families:
            path = folder / f"{world}-{family}.json"
            if not path.exists():
                result = run(family, world, options)
                path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
            write_table(folder)
    print((folder / "table.md").read_text(encoding="utf-8"))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worlds", nargs="+", default=["images"], choices=list(NAMES))
    parser.add_argument("--families", nargs="+", default=list(EVERY), choices=list(EVERY))
    parser.add_argument("--updates", type=int, default=400, help="updates of each family")
    parser.add_argument(
        "--start-updates",
        type=int,
        default=2600,
        help="updates of a round of the start of edits and of videos",
    )
    parser.add_argument(
        "--start-rounds", type=int, default=2, help="rounds of that start, each with its own warm-up"
    )
    parser.add_argument(
        "--num-prompts", type=int, default=1000, help="prompts to calibrate and to measure on"
    )
    parser.add_argument("--num-probes", type=int, default=400, help="contrasts of each probe")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="further overrides of families"
    )
    parser.add_argument("--set-start", nargs="*", default=[], metavar="KEY=VALUE", help="and of the starts")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", default="runs/reward-families")
    return parser.parse_args(arguments)


def run(family: str, world: str, options: argparse.Namespace) -> dict[str, Any]:
    """One training with what was measured after it."""
    if family in JUDGES:
        return run_judge(family, world, options)
    target, num = Path(options.output) / f"{world}-{family}", options.updates
    overrides = [
        "model.scratch=null", f"model.backbone={start_of(world, options)}",
        f"model.pixels=[{PIXELS}, {PIXELS}]", f"model.frames={{min_frames: 2, max_pixels: {PIXELS}}}",
        "optimizer.lr=5e-4", "method.average=0.99",
        *shared(world, num, options), f"output={target}", *FAMILIES[family].changes.get(world, ()), *options.set,
    ]  # fmt: skip
    quality = train_reward.run(f"reward/{family}", overrides)
    return found(family, world, quality, target / "reward", options)


def run_judge(family: str, world: str, options: argparse.Namespace) -> dict[str, Any]:
    """One training of a judge of token probabilities, its figures laid out as those of a reward."""
    target, num, name = Path(options.output) / f"{world}-{family}", options.updates, NAMES[world]
    start = "shapes-reward" if world == "images" else start_of(world, options)
    overrides = [
        f"judge.path={start}", f"judge.asks.modalities=[{WORLDS[name].modality}]", f"data.pairs={name}",
        f"data.heldout={name}", f"data.shapes.theta={THETA}", f"budget.iterations={num}",
        f"optimizer.warmup={min(40, max(1, num // 10))}", f"evaluation.every={max(1, num // 4)}",
        f"evaluation.final_prompts={options.num_prompts}", f"output={target}",
        *JUDGES[family].changes.get(world, ()), *options.set,
    ]  # fmt: skip
    told = train_probability.run(f"judge/{family}", overrides)
    quality = told["after"][train_probability.NAME] | {key: told[key] for key in ("updates", "seconds")}
    return found(family, world, quality, target / "judge", options)


def found(
    family: str, world: str, quality: Mapping[str, Any], folder: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """What was measured, with the probes of what was saved."""
    probes = probe(rewardmodels.load(str(folder)), WORLDS[NAMES[world]], num=options.num_probes)
    return {
        "family": family, "world": world, "quality": quality, "probes": probes,
        "machine": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} thread(s)",
    }  # fmt: skip


def start_of(world: str, options: argparse.Namespace) -> Path:
    """The folder of the VLM that every family of a world starts from, trained now if it is not there yet."""
    if world == "images":
        return bundled_path("reward")
    reward = Path()
    for number in range(1, options.start_rounds + 1):
        last, target = reward, Path(options.output) / f"{world}-start{'' if number == 1 else f'-{number}'}"
        reward = target / "reward"
        if reward.exists():
            continue
        begin = [f"data.shapes.stages={STAGES[world]}"]
        if number > 1:
            begin = [
                "model.scratch=null",
                f"model.path={last}",
                f"seed={number - 1}",
                f"optimizer.lr={AGAIN}",
            ]
        common = shared(world, options.start_updates, options)
        train_reward.run(f"reward/{FIRST}", [*common, *options.set_start, *begin, f"output={target}"])
    return reward


def shared(world: str, num_updates: int, options: argparse.Namespace) -> list[str]:
    """What every training of a world is told."""
    name = NAMES[world]
    return [
        f"data.pairs={name}", f"data.heldout={name}", f"data.calibration={name}",
        f"data.shapes.theta={THETA}", f"budget.updates={num_updates}",
        f"optimizer.warmup={min(50, max(1, num_updates // 10))}",
        f"evaluation.every={max(1, num_updates // 4)}", f"evaluation.final_prompts={options.num_prompts}",
    ]  # fmt: skip


def write_table(folder: Path) -> None:
    """All results in the folder as one Markdown table."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*-like.json"))]
    rows = [HEADINGS, ["---"] * len(HEADINGS), *(row(one) for one in found)]
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    (folder / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def row(result: Mapping[str, Any]) -> list[str]:
    """One line of the table."""
    quality, probes = result["quality"], result["probes"]
    parts = quality.get("dimensions", {}).items()
    dimensions = [
        f"{name.replace('_', ' ')} {part['ratio']:.1%}" for name, part in parts if name != "overall"
    ]
    second = next((value for name, value in probes.items() if name != "wrong_prompt"), None)
    return [
        result["world"], result["family"], *_three(quality), *_three(quality["three_way"]),
        ", ".join(dimensions) or "-", _rate(probes["wrong_prompt"]), "-" if second is None else _rate(second),
        str(quality["updates"]), str(quality["seconds"]), EVERY[result["family"]].blind or "-",
    ]  # fmt: skip


def _three(part: Mapping[str, float]) -> list[str]:
    return [f"{part['expected']:.3f}", f"{part['best']:.3f}", f"{part['ratio']:.1%}"]


def _rate(found: Mapping[str, float]) -> str:
    return f"{found['mean']:.1%} [{found['low']:.1%}, {found['high']:.1%}]"


if __name__ == "__main__":
    main()
