"""Bulk scoring against a plain loop, N candidates at once against one by one, flat memory, batches that do not matter.

    python -m benchmarks.scoring

The model is the bundled reward (`shapes-reward`: a real Qwen3-VL class, 1.2 million parameters). The plain loop is what
one writes by hand: for every file the stock processor, the stock model with its hidden states, the head; its scores are
compared with those of `mmalign score` on the same files, so both did the same work. Bulk scoring is the whole verb:
manifest, decoding, shards on disk, summary and report. The two take turns, and the best of the repetitions counts.

N-way is `benchmarks.nway`: the candidates of a prompt in one row, against the same one by one and in one batch.

Memory is the peak of processes that score 1,000 and 10,000 files.

Shape legend: none of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    Qwen2VLImageProcessor,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

import rewardmodels
from benchmarks.nway import nway
from benchmarks.overhead import Clock, machine
from mmalign import media
from mmalign.shapes import render, sample_prompts
from mmalign.shapes.bundle import model_path
from mmalign.types import Sample
from pipelines import score
from pipelines.settings import Score
from rewardmodels.heads.scalar import LinearHead
from rewardmodels.vlm import VlmReward

BULK_GOAL, SAME = 3.0, 1e-4
EXTRA_PER_ITEM = 4096.0
"""Bytes: what may be kept of an item, its name, prompt and scores; its pixels alone are 12,288."""


def written(folder: Path, num: int) -> list[tuple[str, Path]]:
    """Prompts and pictures of the shapes world, and a manifest of them."""
    prompts = sample_prompts("train", num)
    images = render(prompts, seed=0)
    rows = []
    for number, (prompt, image) in enumerate(zip(prompts, images, strict=True)):
        media.write(folder / f"{number}.png", image)
        rows.append({"id": str(number), "image": f"{number}.png", "prompt": prompt})
    (folder / "manifest.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return [(row["prompt"], folder / row["image"]) for row in rows]


# ---------------------------------------------------------------- bulk scoring and the plain loop


def plain_loop(files: Sequence[tuple[str, Path]]) -> Callable[[], list[float]]:
    """What one writes by hand with stock parts; they are loaded here, the loop is what is returned."""
    folder = model_path("shapes-reward")
    ours = rewardmodels.load("shapes-reward")
    assert isinstance(ours, VlmReward) and isinstance(ours.head, LinearHead)
    head = ours.head
    pixels = Qwen2VLImageProcessor.from_pretrained(folder)
    side = ours.builder.rule.patch_size
    processor = Qwen3VLProcessor(pixels, ours.builder.tokenizer, Qwen3VLVideoProcessor(patch_size=side))
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.no_grad()
    def loop() -> list[float]:
        scores = []
        for prompt, file in files:
            text = f"<|vision_start|><|image_pad|><|vision_end|>{prompt}<|Reward|>"
            inputs = processor(text=[text], images=[Image.open(file).convert("RGB")], return_tensors="pt")
            states = model(**inputs, output_hidden_states=True).hidden_states[-1]
            scores.append(float(ours.normalized(head.score(states[0, -1:]))))
        return scores

    return loop


def bulk(folder: Path, output: Path) -> list[float]:
    """`mmalign score` over the folder."""
    settings = Score(
        input=str(folder), rewards=({"name": "shapes-reward"},), output=str(output), batch_size=64, gallery=0
    )  # type: ignore[arg-type]
    with Path(os.devnull).open("w") as silent, redirect_stdout(silent), redirect_stderr(silent):
        score.run(settings)
    lines = (output / "scores.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["scores"]["shapes-reward"]["overall"] for line in lines]


def side_by_side(num: int, repeats: int) -> dict[str, Any]:
    """Both ways in turns over the same files."""
    with tempfile.TemporaryDirectory() as place:
        files = written(Path(place) / "in", num)
        loop = plain_loop(files)
        times: dict[str, list[Clock]] = {"bulk": [], "plain": []}
        found: dict[str, list[float]] = {}
        for turn in range(repeats + 1):  # the first turn warms both up
            ways = {"bulk": partial(bulk, Path(place) / "in", Path(place) / f"out-{turn}"), "plain": loop}
            for name, way in ways.items():
                started = Clock.now()
                found[name] = way()
                if turn:
                    times[name].append(Clock.now() - started)
    gap = max(abs(a - b) for a, b in zip(found["bulk"], found["plain"], strict=True))
    assert gap < SAME, f"the two ways disagree by {gap}: they do not do the same work"
    cpu = {name: min(clock.cpu for clock in clocks) for name, clocks in times.items()}
    wall = {name: min(clock.wall for clock in clocks) for name, clocks in times.items()}
    return {
        "files": num,
        "goal": BULK_GOAL,
        "ratio_cpu": round(cpu["plain"] / cpu["bulk"], 2),
        "ratio_wall": round(wall["plain"] / wall["bulk"], 2),
        "bulk_files_per_cpu_second": round(num / cpu["bulk"], 1),
        "plain_files_per_cpu_second": round(num / cpu["plain"], 1),
        "largest_difference": gap,
    }


# ---------------------------------------------------------------- memory and batches


def memory(few: int, many: int) -> dict[str, Any]:
    """Peak memory of processes that score few and many files."""
    found = {num: _measured(num) for num in (few, many)}
    more = found[many]["grown"] - found[few]["grown"]
    return {
        "peak_megabytes": {str(num): round(one["peak"] / 2**20, 1) for num, one in found.items()},
        "grown_while_scoring_megabytes": {
            str(num): round(one["grown"] / 2**20, 1) for num, one in found.items()
        },
        "bytes_per_further_item": round(more / (many - few)),
        "allowed": EXTRA_PER_ITEM,
        "pixels_of_an_item_in_bytes": 3 * 32 * 32 * 4,
    }


def _measured(num: int) -> dict[str, int]:
    command = [sys.executable, "-m", "benchmarks.scoring", "--only-memory", str(num)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    return dict(json.loads(told.stdout.splitlines()[-1]))


def resident() -> int:
    """Bytes of this process in memory now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def score_many(num: int) -> dict[str, int]:
    """Peak memory, and how much more is held at the end of scoring `num` rows over 200 files than before it, in bytes.

    What is held at the end is the rows, which are kept for the report; the reward is a cheap one.
    """
    with tempfile.TemporaryDirectory() as place:
        files = written(Path(place) / "in", 200)
        with (Path(place) / "in/manifest.jsonl").open("w", encoding="utf-8") as manifest:
            for number in range(num):
                prompt, file = files[number % len(files)]
                manifest.write(
                    json.dumps({"id": f"item {number}", "image": file.name, "prompt": prompt}) + "\n"
                )
        settings = Score(
            input=f"{place}/in",
            rewards=({"name": "brightness"},),
            output=f"{place}/out",
            batch_size=64,
            gallery=0,
        )  # type: ignore[arg-type]
        before = resident()
        with Path(os.devnull).open("w") as silent, redirect_stdout(silent), redirect_stderr(silent):
            assert score.run(settings).unscored == 0
        grown = resident() - before
    return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "grown": grown}


def batches() -> dict[str, Any]:
    """The same pictures alone, in fives, all at once in another order, and among larger ones."""
    reward = rewardmodels.load("shapes-reward")
    prompts = sample_prompts("heldout", 60)
    samples = [Sample(p, image) for p, image in zip(prompts, render(prompts, seed=3), strict=True)]
    alone = torch.cat([reward(samples=[one]).overall for one in samples])
    fives = torch.cat([reward(samples=samples[k : k + 5]).overall for k in range(0, 60, 5)])
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0)).tolist()
    shuffled = torch.empty(60)
    shuffled[order] = reward(samples=[samples[k] for k in order]).overall
    larger = [Sample("a red circle", torch.rand(3, 64, 40)) for _ in range(60)]
    mixed = reward(samples=[one for pair in zip(samples, larger, strict=True) for one in pair]).overall[::2]
    gaps = {"in fives": fives, "shuffled": shuffled, "among larger ones": mixed}
    return {"goal": 1e-5} | {name: float((scores - alone).abs().max()) for name, scores in gaps.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", default="benchmarks/results/scoring.json")
    parser.add_argument(
        "--parts", nargs="+", help="measure these only; the others stay as they are in the output"
    )
    parser.add_argument("--only-memory", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.only_memory:
        print(json.dumps(score_many(options.only_memory)))
        return
    result: dict[str, Any] = {
        "command": f"python -m benchmarks.scoring --files {options.files} --repeats {options.repeats}",
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
    }
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "bulk_against_plain_loop": partial(side_by_side, options.files, options.repeats),
        "candidates_together": partial(nway, options.repeats),
        "batch_composition": batches,
        "memory": partial(memory, 1_000, 10_000),
    }
    path = Path(options.output)
    if options.parts and path.is_file():
        result = json.loads(path.read_text(encoding="utf-8")) | {"machine": result["machine"]}
    for name in options.parts or parts:
        result[name] = parts[name]()
        print(name, json.dumps(result[name]), flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
