"""A reward behind a bounded queue: one thread asks it, for as many waiting samples at once as it takes.

Jobs of several clients are judged in one batch. An error of the reward costs the samples, or the group, that it struck
(`rewardmodels.asking`): they have no score but a reason. A job whose answer cannot be put together is judged again
alone, so that it harms no other; the thread outlives every error.

Legend: B samples.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from mmalign.types import RewardModel, Sample, Scores
from rewardmodels.asking import ask, ask_by_group
from rewardmodels.combine import needs_group


class Full(Exception):
    """The queue takes no more; `seconds` is when to come again."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the queue is full: come again in {seconds:.1f} s")
        self.seconds = seconds


@dataclass(frozen=True, eq=False)
class _Job:
    samples: Sequence[Sample]
    future: Future[Scores] = field(default_factory=Future)


class Desk:
    """One reward, its queue and its thread. `max_batch` and `max_waiting` count samples, `max_wait` is in seconds.

    A job larger than `max_batch` is judged alone. A reward that compares samples (`needs_group`) sees each group of
    a job whole and by itself, and never the jobs of two clients at once.
    """

    def __init__(
        self, reward: RewardModel, *, max_batch: int = 32, max_wait: float = 0.01, max_waiting: int = 256
    ) -> None:
        if max_batch < 1 or max_waiting < 1 or max_wait < 0:
            raise ValueError("max_batch and max_waiting must be at least 1, and max_wait not below 0")
        self.reward = reward
        self.max_batch = 1 if needs_group(reward) else max_batch
        self.max_wait, self.max_waiting = max_wait, max_waiting
        self.waiting = 0  # samples
        self.batches: list[int] = []  # how many samples the last batches had, newest last
        self.judged = 0
        self._seconds = 0.0  # a batch lately takes so long
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._judging = ThreadPoolExecutor(1, thread_name_prefix=f"judging-{reward.name}")
        self._thread = threading.Thread(target=self._work, name=f"desk-{reward.name}", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether jobs are still taken."""
        return self._thread.is_alive() and not self._closed

    def submit(self, samples: Sequence[Sample]) -> Future[Scores]:
        """The scores (B,), later; `Full` where as much waits as may wait. An empty queue takes any job.

        Cancelling the future takes the job out of the queue, unless it is being judged already.
        """
        with self._changed:
            if self._closed:
                raise ValueError("the desk is closed")
            if self.waiting and self.waiting + len(samples) > self.max_waiting:
                batches = 1 + min(len(self._jobs), self.waiting // self.max_batch)
                raise Full(max(0.1, self._seconds * batches))
            job = _Job(samples)
            self._jobs.append(job)
            self.waiting += len(samples)
            self._changed.notify_all()
        return job.future

    def close(self) -> None:
        """No more jobs; those waiting are cancelled, the one being judged is finished."""
        with self._changed:
            self._closed = True
            for job in self._jobs:
                job.future.cancel()
            self._jobs.clear()
            self.waiting = 0
            self._changed.notify_all()
        self._thread.join(timeout=60)
        self._judging.shutdown(wait=False)

    def _work(self) -> None:
        while jobs := self._take():
            wanted = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if wanted:
                started = time.monotonic()
                self._judge(wanted)
                self._seconds = 0.7 * self._seconds + 0.3 * (time.monotonic() - started)

    def _take(self) -> list[_Job]:
        """The jobs of the next batch: at once when it is full, else `max_wait` after the first; none at the end."""
        with self._changed:
            while not self._jobs and not self._closed:
                self._changed.wait()
            until = time.monotonic() + self.max_wait
            while not self._closed and self.waiting < self.max_batch:
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            taken: list[_Job] = []
            size = 0
            while self._jobs and (not taken or size + len(self._jobs[0].samples) <= self.max_batch):
                taken.append(self._jobs.popleft())
                size += len(taken[-1].samples)
            self.waiting -= size
        return taken

    def _judge(self, jobs: Sequence[_Job]) -> None:
        """All jobs as one batch; where that fails, each alone; what fails alone is that job's error."""
        samples = [sample for job in jobs for sample in job.samples]
        asked = self._judging.submit(ask_by_group if needs_group(self.reward) else ask, self.reward, samples)
        problem = asked.exception()
        if problem is not None and len(jobs) > 1:
            for job in jobs:
                self._judge([job])
        elif problem is not None:
            jobs[0].future.set_exception(problem)
        else:
            self.batches = [*self.batches[-99:], len(samples)]
            self.judged += len(samples)
            self._deliver(jobs, asked.result())

    def _deliver(self, jobs: Sequence[_Job], scores: Scores) -> None:
        start = 0
        for job in jobs:
            stop = start + len(job.samples)
            job.future.set_result(scores.select(range(start, stop)))
            start = stop
