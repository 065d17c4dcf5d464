"""The reward `remote`: asks a server that runs `mmalign serve`, several requests at once.

    rewards:
      - name: remote
        options: {url: http://127.0.0.1:8100, reward: shapes-reward, token_env: MMALIGN_TOKEN, timeout: 60}

What is judged, and in which dimensions, is read from the server at the start; a server that is not there is an error
then. Later nothing stops a training: a sample whose request fails or times out is NaN with the reason, never 0.
`submit` returns at once, so that a rollout goes on while the server judges. Pixels arrive as they were sent
(`rewardmodels.wire`), so the scores are those of the reward in this process.

Legend: `B` samples, `D` dimensions.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import httpx
import torch
from torch import Tensor

from mmalign.types import Modality, Sample, Scores
from rewardmodels import wire

AGAIN = frozenset({502, 503, 504})
"""Answers after which the same request is sent again."""
LONGEST_WAIT = 30.0
"""Seconds between two attempts, at most."""


class Remote:
    """A reward that another process, or machine, computes."""

    differentiable = False

    def __init__(
        self,
        *,
        url: str = "http://127.0.0.1:8100",
        reward: str | None = None,
        token_env: str | None = None,
        concurrency: int = 4,
        batch_size: int = 16,
        timeout: float = 60.0,
        retries: int = 3,
    ) -> None:
        """`url` is that of `mmalign serve` on this machine unless given; `reward` may be left out where the server
        has only one; `token_env` names the environment variable that holds the token; `timeout` is in seconds, for
        each attempt.
        """
        if concurrency < 1 or batch_size < 1 or timeout <= 0 or retries < 0:
            raise ValueError("remote: concurrency, batch_size >= 1, timeout > 0 and retries >= 0 are needed")
        self.url, self.retries, self.batch_size, self.timeout = url.rstrip("/"), retries, batch_size, timeout
        self.headers = _authorization(token_env)
        about = self._about()
        served = {one["name"]: one for one in about["rewards"]}
        self.asked = _chosen(served, reward, self.url)
        self.name = "remote"
        self.modalities: frozenset[Modality] = frozenset(served[self.asked]["modalities"])
        self.dimensions: tuple[str, ...] = tuple(served[self.asked]["dimensions"])
        self.max_media, self.max_bytes = int(about["limits"]["max_media"]), int(about["limits"]["max_bytes"])
        self.client = httpx.AsyncClient(
            base_url=self.url, timeout=timeout, headers=self.headers, trust_env=False
        )
        self.turns = asyncio.Semaphore(concurrency)
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name=f"remote-{self.asked}", daemon=True).start()

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        """Scores (B,), waited for."""
        return self.submit(samples=samples).result()

    def submit(self, *, samples: Sequence[Sample]) -> RemoteScores:
        """Sends the samples and returns at once; `.result()` waits for the scores (B,)."""
        samples = [replace(s, media=_here(s.media), source=_here(s.source)) for s in samples]
        groups = [list(samples[k : k + self.batch_size]) for k in range(0, len(samples), self.batch_size)]
        parts = [asyncio.run_coroutine_threadsafe(self._judge(group), self.loop) for group in groups]
        return RemoteScores(parts, self.dimensions)

    # ------------------------------------------------------------ in the thread that sends

    async def _judge(self, samples: list[Sample]) -> Scores:
        """Packed samples, as many to a request as the server takes; few are packed at a time."""
        async with self.turns:
            rows: list[Scores] = []
            waiting: list[Packed] = []
            for number, sample in enumerate(samples):
                one = _packed(sample, number)
                full = isinstance(one, Packed) and not self._fits([*waiting, one])
                if waiting and (full or isinstance(one, str)):
                    rows.append(await self._send(waiting))
                    waiting = []
                if isinstance(one, str):
                    rows.append(Scores.failed([one], self.dimensions))
                else:
                    waiting.append(one)
            if waiting:
                rows.append(await self._send(waiting))
        return together(rows, self.dimensions)

    def _fits(self, packed: Sequence[Packed]) -> bool:
        num_files = sum(len(one.files) for one in packed)
        return num_files <= self.max_media and sum(one.size for one in packed) <= 0.9 * self.max_bytes

    async def _send(self, packed: list[Packed]) -> Scores:
        """One request; halves where the server finds it too large, NaN with the reason where it fails for good."""
        answer: httpx.Response | str = await self._attempts(packed)
        if isinstance(answer, httpx.Response) and answer.status_code == 413 and len(packed) > 1:
            middle = len(packed) // 2
            halves = [await self._send(packed[:middle]), await self._send(packed[middle:])]
            return together(halves, self.dimensions)
        if isinstance(answer, httpx.Response) and answer.status_code == 200:
            try:
                rows = answer.json()["scores"]
                if len(rows) != len(packed):
                    raise ValueError(f"the server gave {len(rows)} scores for {len(packed)} samples")
                return wire.rows_to_scores(rows, self.dimensions)
            except (ValueError, KeyError, TypeError) as problem:
                answer = f"{self.url}: {problem}"
        if isinstance(answer, httpx.Response):
            answer = f"{self.url} answered {answer.status_code}: {_error(answer)}"
        return Scores.failed([answer] * len(packed), self.dimensions)

    async def _attempts(self, packed: Sequence[Packed]) -> httpx.Response | str:
        """The last answer, or the reason why there is none."""
        body = {"reward": self.asked, "samples": [one.row for one in packed]}
        files = [(name, (name, blob.data, blob.type)) for one in packed for name, blob in one.files]
        fields = {"request": json.dumps(body)}
        for attempt in range(self.retries + 1):
            wait = min(LONGEST_WAIT, 0.2 * 2.0**attempt)
            last: httpx.Response | str
            try:
                last = await self.client.post("/score", data=fields, files=files)
                if last.status_code not in AGAIN:
                    return last
                wait = max(wait, _retry_after(last))
            except httpx.TimeoutException:
                last = f"{self.url} did not answer within {self.timeout:g} s"
            except httpx.TransportError as problem:
                last = f"{self.url} cannot be reached ({problem or type(problem).__name__})"
            if attempt < self.retries:
                await asyncio.sleep(wait)
        return last

    def _about(self) -> dict[str, Any]:
        """What is served; every mistake in the options shows here."""
        try:
            answer = httpx.get(
                f"{self.url}/rewards", timeout=self.timeout, headers=self.headers, trust_env=False
            )
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as problem:
            raise ValueError(
                f"remote: '{self.url}' is not an address like http://127.0.0.1:8100"
            ) from problem
        except httpx.HTTPError as problem:
            raise ValueError(
                f"remote: nobody answers at {self.url} ({problem}): start `mmalign serve REWARD` there"
            ) from problem
        if answer.status_code == 401:
            raise ValueError(f"remote: {self.url} wants another token: name its variable with token_env")
        try:
            about = answer.json()
            if answer.status_code == 200 and about["rewards"] and about["limits"]:
                return dict(about)
        except (ValueError, KeyError, TypeError):
            pass
        raise ValueError(f"remote: {self.url} is not `mmalign serve` (it answered {answer.status_code})")


@dataclass(frozen=True, eq=False)
class RemoteScores:
    """Scores (B,) under way."""

    parts: Sequence[Future[Scores]]
    dimensions: tuple[str, ...]

    def done(self) -> bool:
        """Whether `result` would not wait."""
        return all(part.done() for part in self.parts)

    def result(self) -> Scores:
        """Waits for them."""
        return together([part.result() for part in self.parts], self.dimensions)


@dataclass(frozen=True, eq=False)
class Packed:
    """A sample as it travels: its row of the request and its files by name."""

    row: dict[str, Any]
    files: list[tuple[str, wire.Blob]]

    @property
    def size(self) -> int:
        """Bytes, about."""
        return sum(len(blob.data) + 300 for _, blob in self.files) + len(json.dumps(self.row))


@overload
def _here(pixels: Tensor | Path) -> Tensor | Path: ...
@overload
def _here(pixels: Tensor | Path | None) -> Tensor | Path | None: ...
def _here(pixels: Tensor | Path | None) -> Tensor | Path | None:
    """Pixels off the accelerator, so that the thread that sends never touches it."""
    return pixels.detach().cpu() if isinstance(pixels, Tensor) else pixels


def _packed(sample: Sample, number: int) -> Packed | str:
    """The sample as it travels, or why it cannot."""
    files: list[tuple[str, wire.Blob]] = []
    row: dict[str, Any] = {"prompt": sample.prompt, "id": sample.id, "metadata": dict(sample.metadata)}
    try:
        for key, pixels in (("media", sample.media), ("source", sample.source)):
            if pixels is None:
                continue
            blobs = wire.pack(pixels)
            names = [f"{number}-{key}-{k}" for k in range(len(blobs))]
            files += list(zip(names, blobs, strict=True))
            texts = [f"{wire.PART}{name}" for name in names]
            row[key] = texts if len(texts) > 1 else texts[0]
        if not isinstance(sample.prompt, str):
            raise ValueError(f"the prompt must be text, got {type(sample.prompt).__name__}")
        json.dumps(row, allow_nan=False)
    except (ValueError, TypeError, OSError) as problem:
        return f"cannot be sent: {' '.join(str(problem).split())}"
    return Packed(row, files)


def together(parts: Sequence[Scores], names: tuple[str, ...]) -> Scores:
    """Rows one after the other; failed parts have no variance where others have one, so theirs is unknown."""
    if not parts:
        return Scores.failed([], names)
    if any(part.log_variance is not None for part in parts):
        parts = [
            part
            if part.log_variance is not None
            else replace(part, log_variance=torch.full_like(part.values, float("nan")))
            for part in parts
        ]
    return Scores.cat(parts)


def _authorization(token_env: str | None) -> dict[str, str]:
    if token_env is None:
        return {}
    token = os.environ.get(token_env)
    if not token:
        raise ValueError(f"remote: the environment variable {token_env} holds no token: export it first")
    return {"Authorization": f"Bearer {token}"}


def _chosen(served: dict[str, Any], wanted: str | None, url: str) -> str:
    if wanted is None and len(served) == 1:
        return next(iter(served))
    if wanted is None or wanted not in served:
        raise ValueError(f"remote: name one of the rewards of {url}: options.reward = {' or '.join(served)}")
    return wanted


def _retry_after(answer: httpx.Response) -> float:
    text = answer.headers.get("retry-after", "")
    return min(LONGEST_WAIT, float(text)) if text.isdigit() else 0.0


def _error(answer: httpx.Response) -> str:
    """The server's own sentence, if it is one."""
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return answer.reason_phrase or "no reason"
