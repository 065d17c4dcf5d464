"""The reward `remote`: asks a server that runs `mmalign serve`, several requests at once.

    rewards:
      - name: remote
        options: {url: http://127.0.0.1:8100, reward: shapes-reward, token_env: MMALIGN_TOKEN, timeout: 60}

What is judged, and in which dimensions, is read from the server at the start; a server that is not there is an error
then. Later nothing stops a training: a sample whose request fails or times out is NaN with the reason, never 0.
`submit` returns at once, so that a rollout goes on while the server judges. Pixels arrive as they were sent
(`rewardmodels.blobs`), so the scores are those of the reward in this process. A reward that compares samples is sent
whole groups and judges each by itself; what its rule or set takes over a call is the group.

Legend: `B` samples, `D` dimensions.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import httpx
import torch

from mmalign.types import Modality, Sample, Scores
from rewardmodels import wire
from rewardmodels.asking import among, joined
from rewardmodels.combine import group_ids
from rewardmodels.parcels import Packed, Parcel, off_device, pack

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
        self.needs_group = bool(served[self.asked].get("groups"))
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
        samples = [off_device(sample) for sample in samples]
        loads = self._loads(samples)
        parts = [
            asyncio.run_coroutine_threadsafe(
                self._judge([[samples[k] for k in whole] for whole in load]), self.loop
            )
            for load in loads
        ]
        return RemoteScores(parts, self.dimensions, [k for load in loads for whole in load for k in whole])

    def _loads(self, samples: Sequence[Sample]) -> list[list[list[int]]]:
        """Positions by load and, in a load, by what must be judged together: a group, or else a sample alone. A load
        has `batch_size` samples at most, but a group is not cut."""
        ids = group_ids(samples).tolist() if self.needs_group else list(range(len(samples)))
        wholes: dict[int, list[int]] = {}
        for k, id in enumerate(ids):
            wholes.setdefault(id, []).append(k)
        loads: list[list[list[int]]] = []
        for whole in wholes.values():
            if not loads or sum(map(len, loads[-1])) + len(whole) > self.batch_size:
                loads.append([])
            loads[-1].append(whole)
        return loads

    # ------------------------------------------------------------ in the thread that sends

    async def _judge(self, wholes: Sequence[Sequence[Sample]]) -> Scores:
        """Packed samples, as many to a request as the server takes; few are packed at a time."""
        async with self.turns:
            rows: list[Scores] = []
            waiting: list[Parcel] = []
            number = 0
            for whole in wholes:
                parcel = pack(whole, number)
                number += len(whole)
                if waiting and not self._fits([*waiting, parcel]):
                    rows.append(await self._send(waiting))
                    waiting = []
                waiting.append(parcel)
            rows.append(await self._send(waiting))
        return joined(rows, self.dimensions)

    def _fits(self, parcels: Sequence[Parcel]) -> bool:
        num_files = sum(parcel.num_files for parcel in parcels)
        return num_files <= self.max_media and sum(parcel.size for parcel in parcels) <= 0.9 * self.max_bytes

    async def _send(self, parcels: Sequence[Parcel]) -> Scores:
        """One request; halves where the server finds it too large. What could not be packed has its reason."""
        packed = [one for parcel in parcels for one in parcel.packed]
        reasons = [reason for parcel in parcels for reason in parcel.reasons]
        if not packed:
            return among(Scores.failed([], self.dimensions), reasons)
        num_files = sum(parcel.num_files for parcel in parcels)
        if num_files > self.max_media:  # of one parcel: it is not cut
            why = (
                f"{num_files} files go together, and {self.url} takes {self.max_media}: raise its --max-media"
            )
            return among(Scores.failed([why] * len(packed), self.dimensions), reasons)
        answer: httpx.Response | str = await self._attempts(packed)
        if isinstance(answer, httpx.Response) and answer.status_code == 413 and len(parcels) > 1:
            middle = len(parcels) // 2
            halves = [await self._send(parcels[:middle]), await self._send(parcels[middle:])]
            return joined(halves, self.dimensions)
        return among(self._read(answer, len(packed)), reasons)

    def _read(self, answer: httpx.Response | str, num: int) -> Scores:
        """The scores of a request for `num` samples, NaN with the reason where it failed for good."""
        if isinstance(answer, httpx.Response) and answer.status_code == 200:
            try:
                rows = answer.json()["scores"]
                if len(rows) != num:
                    raise ValueError(f"the server gave {len(rows)} scores for {num} samples")
                return wire.rows_to_scores(rows, self.dimensions)
            except (ValueError, KeyError, TypeError) as problem:
                answer = f"{self.url}: {problem}"
        if isinstance(answer, httpx.Response):
            whole = (
                f" (a group of {num} is sent whole)" if self.needs_group and answer.status_code == 413 else ""
            )
            answer = f"{self.url} answered {answer.status_code}: {_error(answer)}{whole}"
        return Scores.failed([answer] * num, self.dimensions)

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
    order: Sequence[int]
    """Whose scores they are: positions among the samples, in the order of the parts."""

    def done(self) -> bool:
        """Whether `result` would not wait."""
        return all(part.done() for part in self.parts)

    def result(self) -> Scores:
        """Waits for them."""
        scores = joined([part.result() for part in self.parts], self.dimensions)
        return scores.select(torch.tensor(self.order, dtype=torch.long).argsort())


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
