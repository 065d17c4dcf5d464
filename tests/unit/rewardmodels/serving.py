"""A real server in a thread, a reward whose behaviour a test controls, and clients."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import httpx
import torch
from PIL import Image

from mmalign.types import Modality, RewardModel, Sample, Scores
from rewardmodels.desk import Desk
from rewardmodels.reception import Limits
from rewardmodels.server import build, listen, server

GREY = 51
HTTP = httpx.Client(
    timeout=60,
    trust_env=False,
    verify=False,
    limits=httpx.Limits(max_connections=200, max_keepalive_connections=0),
)


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


def picture(size: tuple[int, int] = (8, 8), level: int = GREY, form: str = "PNG", **options: Any) -> bytes:
    made = BytesIO()
    Image.new("RGB", size, (level, level, level)).save(made, format=form, **options)
    return made.getvalue()


def text(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def asked(*media: str, **more: Any) -> dict[str, Any]:
    return {"samples": [{"prompt": "x", "media": one, "id": str(k)} for k, one in enumerate(media)], **more}


def fine(url: str) -> bool:
    """Whether the server is well: it judges."""
    answer = HTTP.post(f"{url}/score", json=asked(text(picture())))
    return answer.status_code == 200 and abs(answer.json()["scores"][0]["values"]["mean"] - GREY / 255) < 1e-6


def raw(url: str, data: bytes, *, wait: float = 10.0) -> bytes:
    """What a server answers to bytes, until it closes."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=wait) as connection:
        connection.sendall(data)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return received
