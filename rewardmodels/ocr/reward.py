"""OCR accuracy as a reward, with the reader rapidocr (PP-OCR on ONNX, weights in its wheel, works offline).

Three measures are always given, since each is hacked in its own way: `contained` (published) forgives other words only
when the target is perfect, `closest` always, `whole` never. A falling `whole` beside a rising `contained` is a
generator that writes all over the picture.

Legend: B samples, T frames, N pictures, C H W.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mmalign.types import Modality, Sample, Scores
from rewardmodels.batching import Prepared, score
from rewardmodels.ocr.texts import MEASURES, compare, plain, wanted

Measure = Literal["contained", "closest", "whole"]
Targets = Literal["all", "first", "prompt"]
OverFrames = Literal["mean", "max", "readable"]

ReadTexts = Callable[[Sequence[Tensor]], list[str]]
"""Pictures (3, H, W) in [0, 1] -> what is written in each, in reading order."""


class Reader:
    """rapidocr, one engine a worker: pictures are read one by one (so none changes another's text), workers at once."""

    def __init__(
        self, *, workers: int = 1, threads: int = 1, side: int = 736, confidence: float = 0.5
    ) -> None:
        if workers < 1 or threads < 1 or side < 32 or not 0 <= confidence <= 1:
            raise ValueError("ocr needs workers and threads from 1, side from 32 and confidence in [0, 1]")
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix="ocr")
        self.engines: SimpleQueue[Any] = SimpleQueue()
        for _ in range(workers):
            self.engines.put(_engine(threads, side, confidence))

    def __call__(self, pictures: Sequence[Tensor]) -> list[str]:
        """The text of each picture."""
        return list(self.pool.map(self._read, pictures))

    def _read(self, picture: Tensor) -> str:
        levels = (picture.detach().clamp(0, 1) * 255).round().to("cpu", torch.uint8)
        blue_first = np.ascontiguousarray(levels.permute(1, 2, 0).numpy()[..., ::-1])
        engine = self.engines.get()
        try:
            found = engine(blue_first)
        finally:
            self.engines.put(engine)
        return " ".join(found.txts or ())


def _engine(threads: int, side: int, confidence: float) -> Any:
    try:
        from rapidocr import RapidOCR
    except ImportError as error:
        raise ValueError(f"the reward ocr needs pip install 'mmalign[ocr]' ({error})") from error
    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.text_score": confidence,
            "Det.limit_side_len": side,
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )


@dataclass(frozen=True, eq=False)
class OcrReward:
    """Reads pictures and compares with what the prompt quotes; overall is the chosen measure."""

    read: ReadTexts
    measure: Measure = "contained"
    targets: Targets = "all"
    over_frames: OverFrames = "mean"
    frame_step: int = 4
    batch_size: int = 16
    name: str = "ocr"
    modalities: frozenset[Modality] = frozenset({"image", "edit", "video"})
    differentiable: bool = False

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The three measures."""
        return tuple(MEASURES)

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        """Scores in [0, 1]; a prompt that quotes nothing is NaN with a reason, a picture without text is 0.

        `metadata["text"]` (a text, or a list of them) goes before what the prompt quotes.
        """
        chosen = self.dimensions.index(self.measure)
        return score(
            samples, self._judge, names=self.dimensions, modalities=self.modalities, batch_size=self.batch_size,
            overall=lambda values: values[:, chosen], fit=self._check,
        )  # fmt: skip

    def wanted(self, prompt: str, metadata: Mapping[str, Any]) -> tuple[str, ...]:
        """The texts that must be seen; ValueError if there are none."""
        said = metadata.get("text")
        if said is not None:
            texts = (said,) if isinstance(said, str) else tuple(said)
        else:
            texts = (prompt,) if self.targets == "prompt" else wanted(prompt)
        texts = tuple(text for text in texts if plain(text))
        if not texts:
            raise ValueError(
                'the prompt asks for no text: put it in "quotes", name it as text in the metadata, or set option '
                "targets to 'prompt'"
            )
        return texts[:1] if self.targets == "first" else texts

    def _check(self, ready: Prepared) -> Prepared:
        self.wanted(ready.prompt, ready.metadata)
        return ready

    def _judge(self, batch: Sequence[Prepared]) -> Tensor:
        frames = [one.frames[:: self.frame_step] for one in batch]
        texts = iter(self.read([picture for some in frames for picture in some]))
        rows = []
        for one, some in zip(batch, frames, strict=True):
            targets = self.wanted(one.prompt, one.metadata)
            scores = [compare(targets, next(texts)) for _ in some]
            rows.append([self._reduce([each[name] for each in scores]) for name in self.dimensions])
        return torch.tensor(rows)

    def _reduce(self, scores: Sequence[float]) -> float:
        if self.over_frames == "max":
            return max(scores)
        counted = [value for value in scores if value > 0] if self.over_frames == "readable" else scores
        return sum(counted) / len(counted) if counted else 0.0


def ocr(
    *,
    measure: Measure = "contained",
    targets: Targets = "all",
    over_frames: OverFrames = "mean",
    frame_step: int = 4,
    workers: int = 1,
    threads: int = 1,
    side: int = 736,
    confidence: float = 0.5,
    batch_size: int = 16,
) -> OcrReward:
    """OCR accuracy by rapidocr.

    `targets`: all quoted texts, the first (as published), or the whole prompt where that is the text. Of a video every
    `frame_step`-th frame is read; `over_frames` is their mean, max, or the mean of those with a score above 0 (as
    published: readable). Pictures whose shorter side is below `side` are enlarged to it before text is looked for.
    """
    for name, value, known in (
        ("measure", measure, tuple(MEASURES)), ("targets", targets, ("all", "first", "prompt")),
        ("over_frames", over_frames, ("mean", "max", "readable")),
    ):  # fmt: skip
        if value not in known:
            raise ValueError(f"option {name} of ocr must be one of {', '.join(known)}, got {value!r}")
    if frame_step < 1:
        raise ValueError(f"option frame_step of ocr must be at least 1, got {frame_step}")
    reader = Reader(workers=workers, threads=threads, side=side, confidence=confidence)
    return OcrReward(reader, measure, targets, over_frames, frame_step, batch_size)
