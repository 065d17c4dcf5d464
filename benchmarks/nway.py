"""N candidates of a prompt in one row of a model, against the same candidates one by one, and in N rows of one batch.

What N rows repeat, one row reads once: the prompt, the source of an edit, and the wording of a judge, hundreds of words
in published ones. So there are three cases: a short prompt, a long one with a source, and a rubric with a source.

    python -m benchmarks.scoring --parts candidates_together

Legend: N candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from benchmarks.overhead import Clock
from mmalign.shapes import render, vocabulary
from mmalign.types import Sample
from rewardmodels.model_recipe import Model, Scratch
from rewardmodels.scratch import build
from rewardmodels.vlm import VlmReward

GOAL, CALLS = 2.0, 10
SIZES = {"width": 128, "layers": 3, "heads": 4, "vision_width": 64, "vision_layers": 2}
KINDS = {"short prompt": 0, "prompt of 60 words and source": 60, "rubric of 240 words and source": 240}
"""Words of a long prompt."""


def nway(repeats: int, num: int = 4) -> dict[str, Any]:
    """CPU seconds of each way by kind of prompt, and how many times those of one row they are."""
    listwise = model("candidates/1", "candidates")
    found: dict[str, Any] = {"N": num, "goal": GOAL}
    for kind, num_words in KINDS.items():
        single = model("prompt-source-media/1" if num_words else "prompt-media/1", "linear")
        asked = candidates(num, num_words)
        one_row = best(partial(listwise.together, asked), repeats)
        times = {
            "in_one_batch": best(partial(pointwise, single, [asked]), repeats),
            "one_by_one": best(partial(pointwise, single, [[one] for one in asked]), repeats),
        }
        found[kind] = {f"times_{way}": round(seconds / one_row, 2) for way, seconds in times.items()} | {
            f"cpu_seconds_{way}": round(seconds, 4) for way, seconds in {"together": one_row, **times}.items()
        }
    return found


def model(template: str, head: str) -> VlmReward:
    """A new tiny reward of this template and head that takes long prompts."""
    settings = Model.model_validate({"name": "bench", "scratch": SIZES, "template": template, "head": head})
    made = build(
        settings, Scratch(**SIZES), vocabulary(), dimensions=("overall",), seed=0, modalities=("image", "edit")
    ).eval()  # fmt: skip
    made.builders[0] = replace(made.builder, max_prompt_tokens=512)
    return made


def candidates(num: int, num_words: int) -> list[Sample]:
    """The candidates of one prompt; one of that many words has a source."""
    words = list(vocabulary())
    prompt = " ".join((words * num_words)[:num_words]) or "two red circles above a blue square"
    images = render(["a red circle"] * (num + 1), seed=1)
    return [Sample(prompt, image, source=images[num] if num_words else None) for image in images[:num]]


def pointwise(reward: VlmReward, calls: list[list[Sample]]) -> None:
    """The candidates in calls of their own."""
    for samples in calls:
        reward(samples=samples)


@torch.no_grad()
def best(ask: Callable[[], object], repeats: int) -> float:
    """CPU seconds of one call, the least of the repeats."""
    ask()
    times = []
    for _ in range(repeats):
        started = Clock.now()
        for _ in range(CALLS):
            ask()
        times.append((Clock.now() - started).cpu / CALLS)
    return min(times)
