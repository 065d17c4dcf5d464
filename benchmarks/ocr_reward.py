"""How well the OCR reward tells right words from wrong ones: rendered pictures of the texts that prompts quote.

    python benchmarks/ocr_reward.py --prompts ocr.txt --num 200 --output benchmarks/results/ocr_rendered.json
    python benchmarks/ocr_reward.py --prompts ocr.txt --num 200 --photo p.png --output benchmarks/results/ocr_photo.json

Each quoted text is drawn as its prompt asks, with one letter changed, with another prompt's text, and not at all; on
a plain ground, on a noisy gradient, rotated by 8 degrees, small, or (with `--photo`) over a photograph. Printed per
ground and drawing: the mean of the three measures, and how often the right drawing has the higher score (ties count
half). The time is CPU time.
With `--files` pictures and videos are read instead, and what was read is printed.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mmalign import media
from mmalign.types import Sample
from rewardmodels.ocr.reward import OcrReward, Reader
from rewardmodels.ocr.texts import MEASURES, wanted

GROUNDS = ("plain", "noisy", "rotated", "small")
SIDE = 512


def misspelt(text: str, generator: torch.Generator) -> str:
    """One letter replaced by its successor."""
    places = [k for k, letter in enumerate(text) if letter.isalpha()]
    if not places:
        return text + "x"
    k = places[int(torch.randint(len(places), (1,), generator=generator))]
    other = chr(ord("a") + (ord(text[k].lower()) - ord("a") + 1) % 26)
    return text[:k] + (other.upper() if text[k].isupper() else other) + text[k + 1 :]


def draw(text: str, ground: str, generator: torch.Generator, photo: Tensor | None) -> Tensor:
    """(3, 512, 512): the text in lines of up to 16 letters, or nothing."""
    size = 22 if ground == "small" else 44
    image = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
    pen = ImageDraw.Draw(image)
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + len(word) > 15:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    for k, part in enumerate([*lines, line]):
        pen.text((40, 120 + 1.5 * size * k), part, font=ImageFont.load_default(size=size), fill="white")
    if ground == "rotated":
        image = image.rotate(8, resample=Image.Resampling.BICUBIC)
    written = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(SIDE, SIDE, 4)
    alpha = written[..., 3].float() / 255
    behind = torch.full((3, SIDE, SIDE), 0.25)
    if ground == "noisy":
        behind = torch.linspace(0.0, 0.6, SIDE).expand(3, SIDE, SIDE) + 0.15 * torch.rand(
            3, SIDE, SIDE, generator=generator
        )
    if photo is not None and ground == "photo":
        behind = torch.nn.functional.interpolate(photo, (SIDE, SIDE), mode="bilinear", antialias=True)[0]
    return behind * (1 - alpha) + alpha


def rendered(prompts: list[str], reward: OcrReward, seed: int, photo: Tensor | None) -> dict[str, object]:
    """Means and win rates by ground."""
    generator = torch.Generator().manual_seed(seed)
    texts = [wanted(prompt)[0] for prompt in prompts]
    drawings = {
        "right": texts, "one letter wrong": [misspelt(text, generator) for text in texts],
        "another text": texts[1:] + texts[:1], "nothing": [""] * len(texts),
    }  # fmt: skip
    result: dict[str, object] = {}
    for ground in GROUNDS if photo is None else ("photo",):
        values = {}
        for name, drawn in drawings.items():
            pictures = [draw(text, ground, generator, photo) for text in drawn]
            scores = reward(samples=[Sample(p, x) for p, x in zip(prompts, pictures, strict=True)])
            assert bool(scores.valid.all())
            values[name] = scores.values
        result[ground] = {
            name: {
                "mean": dict(zip(MEASURES, [round(v, 3) for v in found.mean(0).tolist()], strict=True)),
                "right is higher": [
                    round(v, 3)
                    for v in ((values["right"] > found).float() + 0.5 * (values["right"] == found))
                    .mean(0)
                    .tolist()
                ],
            }
            for name, found in values.items()
        }
    return result


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=Path, help="a file of prompts, one a line")
    parser.add_argument("--files", type=Path, nargs="*", default=[], help="pictures and videos to read")
    parser.add_argument("--photo", type=Path, help="draw over this picture, and on no other ground")
    parser.add_argument("--num", type=int, default=40)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="write the figures there too")
    asked = parser.parse_args()
    reader = Reader(side=asked.side)
    for file in asked.files:
        frames = media.read(file, max_frames=2)
        print(file.name, reader(list(frames)))
    if asked.prompts is None:
        return
    lines = asked.prompts.read_text(encoding="utf-8").splitlines()
    usable = [line for line in lines if wanted(line)]
    reward = OcrReward(reader, targets="first")
    started = time.process_time()
    photo = None if asked.photo is None else media.read(asked.photo)
    figures = rendered(usable[: asked.num], reward, asked.seed, photo)
    num_pictures = len(figures) * 4 * min(asked.num, len(usable))
    seconds = (time.process_time() - started) / num_pictures
    facts = {
        "prompts": len(lines), "with text": len(usable), "drawn": min(asked.num, len(usable)), "side": asked.side,
        "CPU seconds a picture": round(seconds, 3), "machine": platform.processor() or platform.machine(),
    }  # fmt: skip
    text = json.dumps({**facts, **figures}, indent=1)
    print(text)
    if asked.output is not None:
        asked.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
