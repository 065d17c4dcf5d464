"""A real server in a thread, and rewards whose behaviour a test controls."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

import torch

from mmalign.types import Modality, RewardModel, Sample, Scores
from rewardmodels.desk import Desk
from rewardmodels.reception import Limits
from rewardmodels.server import build, listen, server


class Brightness:
    """The mean of the pixels and of the source; counts its calls, may be slow, refuses and fails on demand."""

    name = "brightness"
    modalities: frozenset[Modality] = frozenset({"image", "edit", "video"})
    dimensions = ("mean", "source")
    differentiable = False

    def __init__(self, seconds: float = 0.0, variance: bool = False) -> None:
        self.seconds, self.variance = seconds, variance
        self.calls: list[list[str]] = []
        self.free = threading.Event()
        self.free.set()

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        """Scores of samples of any sizes."""
        self.calls.append([sample.id for sample in samples])
        assert self.free.wait(20)
        time.sleep(self.seconds)
        if any(sample.prompt == "defect" for sample in samples):
            raise RuntimeError("a defect of the reward")
        if any(sample.prompt == "refuse" for sample in samples):
            raise ValueError("this prompt is refused")
        sources = [sample.source_frames() for sample in samples]
        rows = [[float(sample.frames().mean()), 0.0] for sample in samples]
        for row, source in zip(rows, sources, strict=True):
            row[1] = 0.0 if source is None else float(source.mean())
        scores = Scores.of(torch.tensor(rows), self.dimensions)
        if not self.variance:
            return scores
        variance = scores.values.mul(0.5)
        return Scores(
            scores.values, scores.names, scores.overall, scores.valid, scores.reasons, log_variance=variance
        )


@contextlib.contextmanager
def serving(
    rewards: Mapping[str, RewardModel],
    *,
    limits: Limits | None = None,
    token: str | None = None,
    max_batch: int = 32,
    max_wait: float = 0.01,
    max_waiting: int = 256,
) -> Iterator[str]:
    """The address of a running server."""
    bounds = limits or Limits(timeout=20)
    desks = {
        name: Desk(reward, max_batch=max_batch, max_wait=max_wait, max_waiting=max_waiting)
        for name, reward in rewards.items()
    }
    listening = listen("127.0.0.1", 0, token=token)
    running = server(build(desks, limits=bounds, token=token), bounds)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        running.should_exit = True
        thread.join(timeout=20)
        assert not thread.is_alive()
