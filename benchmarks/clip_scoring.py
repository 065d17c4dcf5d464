"""What batching is worth for CLIP-type rewards: PickScore against the loop that its model card shows.

    python -m benchmarks.clip_scoring          # writes results/clip_scoring.json

Both score the same pictures (256 x 256) under 8 prompts with one tiny random CLIP: the loop calls the stock processor,
tokenizer and model once a picture, the reward is called once. They take turns; CPU time of the process, median over
the repetitions. The scores agree to 1e-4, or the run fails.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

import rewardmodels
from benchmarks.overhead import machine
from mmalign.media import to_pil
from mmalign.types import Sample
from tests.contract.tiny_clip import hf_clip

RESULTS = Path(__file__).parent / "results" / "clip_scoring.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", default=str(RESULTS))
    asked = parser.parse_args(arguments)
    generator = torch.Generator().manual_seed(0)
    pictures = (torch.rand(asked.num, 3, 256, 256, generator=generator) * 255).round() / 255
    prompts = [f"a fox {k % 8}" for k in range(asked.num)]
    with tempfile.TemporaryDirectory() as folder:
        hf_clip(Path(folder))
        reward = rewardmodels.load("pickscore", path=folder)
        model = CLIPModel.from_pretrained(folder).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32)

    @torch.no_grad()
    def loop() -> Tensor:
        scores = []
        for prompt, picture in zip(prompts, pictures, strict=True):
            seen = processor(to_pil(picture), return_tensors="pt")
            out = model(**seen, **tokenizer(prompt, return_tensors="pt"))
            scores.append(out.logits_per_image[0, 0])
        return torch.stack(scores)

    def bulk() -> Tensor:
        return reward(samples=[Sample(p, x) for p, x in zip(prompts, pictures, strict=True)]).overall

    torch.testing.assert_close(bulk(), loop(), atol=1e-4, rtol=0)
    seconds: dict[str, list[float]] = {"loop": [], "bulk": []}
    for _ in range(asked.repeats):
        for name, run in (("loop", loop), ("bulk", bulk)):
            started = time.process_time()
            run()
            seconds[name].append(time.process_time() - started)
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    result = {
        "command": f"python -m benchmarks.clip_scoring --num {asked.num} --repeats {asked.repeats}",
        "machine": machine(),
        **{f"{name}_cpu_ms_a_picture": round(1000 * value / asked.num, 3) for name, value in middle.items()},
        "times_faster": round(middle["loop"] / middle["bulk"], 2),
    }
    Path(asked.output).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
