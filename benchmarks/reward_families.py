"""Families of rewards that can be trained, on shapes with tiny models of the real classes: one table.

All that score by a head, judges of token probabilities, judges that write numbers, and a personal reward. Not in it:
judges that write otherwise (pairs in words, critiques, principles), judges that reason before a probability, which are
not trained, and checklists, whose weights are a regression on the answers of another judge.

    python -m benchmarks.reward_families --worlds images edits videos

Published rewards start from a VLM that has learned to see, and so do these. The start of a world is the tiny Qwen3-VL
inside its bundled reward. Those of edits and videos can be made anew (`--fresh-starts`) as they were made: trained from
nothing by the recipe `reward/base-reward-like` for `--start-rounds` rounds of `--start-updates` updates. From its start
a run takes the recipe of its family, `reward/<family>`, with a new head and a new template, for `--updates` updates
(some for two to five times as many) on the endless stream of the world, whose annotators are uncertain and see ties.
Judges of token probabilities (`judge/<family>`) start from the same VLM and learn the words they answer in; those that
write learn answers from ratings, are reinforced by pairs a little, and are judged by the mean of sixteen answers. Of
CLIP rewards (`clip/<family>`, images only) `pick-like`, `image-reward-like` and `aesthetic-like` are trained from
nothing, for 8,000 to 10,000 updates; the others go on from the towers of the first. `pal-like` learns from votes that
name their annotators.

Measured on prompts that were neither trained nor calibrated on: the pair accuracy that fresh answers can be expected to
give, beside the best that anyone could reach, and their ratio; the same three ways, with ties by the calibrated
threshold, of these annotators and of those who see many ties (`benchmarks.ties`); by dimension where there are several;
and the probes of `rewardmodels.shape_probes`. A reward that reads no prompt is held against the best in the one
dimension that it can know; beside one whose score is a sum of dimensions, or a formula of them, stands what that could
reach if every dimension were known exactly; beside one that learns from one bit an item, its ratio on pairs of a good
and a bad one, whose bits differ (`benchmarks.bits`). What each cannot know stands in `benchmarks.families`. Results go
to `<output>/<world>-<family>.json` and `<output>/table.md`; what is there is not run again, and what was stopped goes
on.

Shape legend: none; everything here is a row of a table.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

import rewardmodels
from benchmarks.bits import good_against_bad
from benchmarks.ceilings import ceiling
from benchmarks.families import FAMILIES, NAMES
from benchmarks.ties import three_ways
from mmalign.shapes.annotators import Law
from mmalign.shapes.worlds import WORLDS
from pipelines import train_clip, train_plural, train_probability, train_reward, train_text
from rewardmodels.shape_probes import probe

FIRST, FIRST_CLIP = "base-reward-like", "pick-like"
BUNDLED = {"images": "shapes-reward", "edits": "shapes-edits-reward", "videos": "shapes-videos-reward"}
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
LEVELS = 26
"""Of the ratings that judges who write are taught from, as fine as EditScore's numbers."""
RATERS = 16
"""Of each of these ratings: an answer is taught that hardly depends on who was asked."""
LAW = Law(temperature=0.1, theta=2.0)
"""How unsure annotators are, and their tie parameter: at equal worth a third of the answers are ties."""
ANNOTATORS = (f"data.shapes.temperature={LAW.temperature}", f"data.shapes.theta={LAW.theta}")
HEADINGS = (
    "world", "family", "accuracy", "best", "ratio", "sum (or formula) of dimensions", "reached of it",
    "good against bad (ratio)", "three-way", "best", "ratio", "many ties: three-way", "best", "ratio", "never a tie",
    "dimensions (ratio)", "wrong prompt", "identity / still", "updates", "seconds", "cannot see",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    for world in options.worlds:
        for family in (name for name in options.families if world in FAMILIES[name].worlds):
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
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument(
        "--updates", type=int, default=400, help="of each family; some take two to five times as many"
    )
    parser.add_argument(
        "--fresh-starts",
        action="store_true",
        help="train the starts of edits and videos from nothing (hours), instead of taking the bundled ones",
    )
    parser.add_argument(
        "--start-updates",
        type=int,
        default=2600,
        help="updates of a round of the start of edits and of videos",
    )
    parser.add_argument(
        "--start-rounds", type=int, default=3, help="rounds of that start, each with its own warm-up"
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
    target, recipe = Path(options.output) / f"{world}-{family}", recipe_of(family)
    given = [f"output={target}", *FAMILIES[family].changes.get(world, ()), *options.set]
    num_updates = round(options.updates * FAMILIES[family].longer.get(world, 1))
    kind, saved = recipe.split("/")[0], target / "reward"
    if kind == "plural":
        return as_result(family, world, train_plural.run(recipe, given)["known"]["personal"], {}, options)
    if kind == "judge":
        saved = target / "judge"
        if FAMILIES[family].writes:
            told = train_text.run(recipe, [*as_writer(world, num_updates, options), *given])
            measured = told["after"][train_text.NAME] | {"updates": num_updates}
        else:
            told = train_probability.run(recipe, [*as_judge(world, num_updates, options), *given])
            measured = told["after"][train_probability.NAME] | {"updates": told["updates"]}
        quality = measured | {"seconds": told["seconds"]}
    elif kind == "clip":
        start = [] if FAMILIES[family].alone else towers(num_updates, options)
        quality = train_clip.run(recipe, [*stream(world, options), *start, *given])
    else:
        quality = train_reward.run(recipe, [*from_start(world, num_updates, options), *given])
    reward, drawn_from = rewardmodels.load(str(saved)), WORLDS[NAMES[world]]
    ask = partial(
        three_ways, reward, drawn_from, dimension=FAMILIES[family].measured, num_prompts=options.num_prompts
    )
    quality = {**quality, "many_ties": ask()}
    if FAMILIES[family].writes:  # its threshold is not fitted by its training
        quality["three_way"] = ask(law=LAW)
    if FAMILIES[family].bits:
        quality["good_against_bad"] = good_against_bad(reward, drawn_from, LAW, options.num_prompts)
    probes = probe(reward, drawn_from, num=options.num_probes)
    return as_result(family, world, quality, probes, options)


def recipe_of(family: str) -> str:
    """The name of a family's recipe."""
    return FAMILIES[family].recipe or f"reward/{family}"


def as_result(
    family: str, world: str, quality: Mapping[str, Any], probes: Mapping[str, Any],
    options: argparse.Namespace,
) -> dict[str, Any]:  # fmt: skip
    """What is written of a training."""
    kind, drawn_from = FAMILIES[family], WORLDS[NAMES[world]]
    combined = kind.sums or kind.formula is not None
    best = partial(ceiling, drawn_from, LAW, options.num_prompts, kind.asks, kind.formula)
    return {
        "family": family, "world": world, "settings": list(options.set), "quality": quality, "probes": probes,
        "sum_of_dimensions": best() if combined else None,
        "machine": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} thread(s)",
    }  # fmt: skip


def from_start(world: str, num_updates: int, options: argparse.Namespace) -> list[str]:
    """What a family is told that starts from the VLM of its world."""
    return [
        "model.scratch=null", f"model.backbone={start_of(world, options)}",
        f"model.pixels=[{PIXELS}, {PIXELS}]", f"model.frames={{min_frames: 2, max_pixels: {PIXELS}}}",
        "optimizer.lr=5e-4", "method.average=0.99", *stream(world, options), *budget(num_updates),
    ]  # fmt: skip


def as_judge(world: str, num_updates: int, options: argparse.Namespace) -> list[str]:
    """What a judge is told that starts from the VLM of its world."""
    return [
        *_judged(world, options), f"budget.iterations={num_updates}",
        f"optimizer.warmup={min(40, max(1, num_updates // 10))}",
        f"evaluation.every={max(1, num_updates // 4)}",
    ]  # fmt: skip


def as_writer(world: str, num_updates: int, options: argparse.Namespace) -> list[str]:
    """What a judge that writes is told: so many updates on answers from ratings, then a little reinforcement."""
    few = max(1, num_updates // 20)
    return [
        *_judged(world, options), "data.shapes.prompts=4", "data.shapes.cross=0", f"data.shapes.levels={LEVELS}",
        f"data.shapes.raters={RATERS}", f"warm_up.updates={num_updates}", "warm_up.lr=5e-4",
        "warm_up.schedule=cosine", "optimizer.name=muon", "optimizer.lr=1e-4", f"optimizer.warmup={min(20, few)}",
        f"budget.iterations={few}",
    ]  # fmt: skip


def _judged(world: str, options: argparse.Namespace) -> list[str]:
    """What all judges are told of a world."""
    name = NAMES[world]
    return [
        f"judge.path={start_of(world, options)}", f"judge.asks.modalities=[{WORLDS[name].modality}]",
        f"judge.asks.videos={'clip' if world == 'videos' else 'frames'}",
        f"data.pairs={name}", f"data.heldout={name}", *ANNOTATORS,
        f"evaluation.final_prompts={options.num_prompts}",
    ]  # fmt: skip


def towers(num_updates: int, options: argparse.Namespace) -> list[str]:
    """What a CLIP family is told that starts from the towers of another, trained now if they are not there yet."""
    target = Path(options.output) / f"images-{FIRST_CLIP}"
    if not (target / "reward").exists():
        changes = FAMILIES[FIRST_CLIP].changes["images"]
        train_clip.run(f"clip/{FIRST_CLIP}", [*stream("images", options), *changes, f"output={target}"])
    return [
        "model.scratch=null", f"model.path={target / 'reward'}", "optimizer.lr=1e-3",
        "data.shapes.stages=[{until: 1.0}]", *budget(num_updates),
    ]  # fmt: skip


def start_of(world: str, options: argparse.Namespace) -> str | Path:
    """The VLM that every family of a world starts from: the bundled one, or one trained now if it is not there yet."""
    if world == "images" or not options.fresh_starts:
        return BUNDLED[world]
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
        common = [*stream(world, options), *budget(options.start_updates)]
        train_reward.run(f"reward/{FIRST}", [*common, *options.set_start, *begin, f"output={target}"])
    return reward


def stream(world: str, options: argparse.Namespace) -> list[str]:
    """Where every training of a world has its data from."""
    name = NAMES[world]
    return [
        f"data.pairs={name}", f"data.heldout={name}", f"data.calibration={name}",
        *ANNOTATORS, f"evaluation.final_prompts={options.num_prompts}",
    ]  # fmt: skip


def budget(num_updates: int) -> list[str]:
    """How long a training from a given start, or of one, lasts."""
    return [
        f"budget.updates={num_updates}", f"optimizer.warmup={min(50, max(1, num_updates // 10))}",
        f"evaluation.every={max(1, num_updates // 4)}",
    ]  # fmt: skip


def write_table(folder: Path) -> None:
    """All results in the folder as one Markdown table."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*-like.json"))]
    rows = [HEADINGS, ["---"] * len(HEADINGS), *(row(one) for one in found)]
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    (folder / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def row(result: Mapping[str, Any]) -> list[str]:
    """One line of the table."""
    quality, probes, kind = result["quality"], result["probes"], FAMILIES[result["family"]]
    summed, many = result.get("sum_of_dimensions"), quality.get("many_ties")  # earlier results have neither
    differing = quality.get("good_against_bad")
    parts = quality.get("dimensions", {})
    measured = parts.get(kind.measured, quality)
    dimensions = [
        f"{name.replace('_', ' ')} {part['ratio']:.1%}"
        for name, part in parts.items()
        if name not in ("overall", kind.measured)
    ]
    second = next((name for name in probes if name != "wrong_prompt"), "")
    return [
        result["world"], result["family"], *_three(measured),
        *(["-"] * 2 if summed is None else [f"{summed:.1%}", f"{measured['ratio'] / summed:.1%}"]),
        "-" if differing is None else f"{differing['ratio']:.1%}",
        *_three(measured.get("three_way")),
        *_three(many), "-" if many is None else f"{many['never'] / many['best']:.1%}",
        ", ".join(dimensions) or "-", _rate(probes.get("wrong_prompt")), _rate(probes.get(second)),
        str(quality.get("updates", "-")), str(quality.get("seconds", "-")), kind.blind or "-",
    ]  # fmt: skip


def _three(part: Mapping[str, float] | None) -> list[str]:
    if part is None:
        return ["-"] * 3
    return [f"{part['expected']:.3f}", f"{part['best']:.3f}", f"{part['ratio']:.1%}"]


def _rate(found: Mapping[str, float] | None) -> str:
    return "-" if found is None else f"{found['mean']:.1%} [{found['low']:.1%}, {found['high']:.1%}]"


if __name__ == "__main__":
    main()
