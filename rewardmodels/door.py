"""Who may stay on the line: connections are bounded by number, by bytes and by time, so that a flood cuts its own.

A connection is *served* from the moment its request has come in whole until it is answered. Every other one *waits*:
it is silent, sends a head or a body, or idles between two requests. Where too many are open, or where what came in
of unfinished requests is too much, waiting ones are cut: of the address that has most of them the one that has waited
longest. A client that sends what it has to say is out of the way of that after milliseconds.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from rewardmodels.reception import Limits

SILENT_SECONDS = 10.0
"""A connection that has not sent a whole request head by then is closed."""
CONNECTIONS_PER_REQUEST = 8
"""So many connections may be open for each request that is served at once."""


class Door:
    """How many connections are open, and how many bytes their unfinished requests hold."""

    def __init__(self, limits: Limits) -> None:
        self.max_open = CONNECTIONS_PER_REQUEST * limits.max_requests
        self.max_bytes = limits.hold * limits.max_bytes
        self.served_for = limits.timeout + SILENT_SECONDS
        self.bytes = 0

    def make_room(self, lines: Iterable[Line]) -> None:
        """Cuts waiting connections until number and bytes are within their bounds, or nobody waits."""
        live = [line for line in lines if not line.transport.is_closing()]
        if len(live) <= self.max_open and self.bytes <= self.max_bytes:
            return
        now = time.monotonic()
        waiting = [line for line in live if not line.served or now - line.since > self.served_for]
        waiting.sort(key=lambda line: line.since)
        num_open = len(live)
        while heavy := [line for line in waiting if line.held] if self.bytes > self.max_bytes else []:
            self._cut_one(heavy, waiting, lambda line: line.held)
            num_open -= 1
        while waiting and num_open > self.max_open:
            self._cut_one(waiting, waiting, lambda line: 1)
            num_open -= 1

    @staticmethod
    def _cut_one(some: Sequence[Line], waiting: list[Line], weight: Callable[[Line], int]) -> None:
        """The first of the address whose lines weigh most."""
        weights: Counter[str] = Counter()
        for line in some:
            weights[line.host] += weight(line)
        host = weights.most_common(1)[0][0]
        victim = next(line for line in some if line.host == host)
        waiting.remove(victim)
        victim.cut()


class Line(H11Protocol):
    """uvicorn's HTTP on one connection, which the `Door` may cut and silence ends."""

    def __init__(self, *args: Any, door: Door, **options: Any) -> None:
        super().__init__(*args, **options)
        self.door = door
        self.held = 0  # bytes that came in of a request that is not whole
        self.since = time.monotonic()  # what it waits for, or is served with, began then
        self.clock: asyncio.TimerHandle | None = None

    @property
    def host(self) -> str:
        """The other side's address; every one of a Unix socket is the same."""
        return self.client[0] if self.client else ""

    @property
    def served(self) -> bool:
        """Whether a whole request waits for its answer."""
        return self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """One more; others may have to go."""
        super().connection_made(transport)
        self._await_head()
        self.door.make_room(self._lines)

    def data_received(self, data: bytes) -> None:
        """Counts what is held of a request until it is whole."""
        self._hold(len(data))
        super().data_received(data)
        if self.served:
            self._hold(-self.held)
        elif self.door.bytes > self.door.max_bytes:
            self.door.make_room(self._lines)

    def on_response_complete(self) -> None:
        """The next head has its time; what came in of this request is gone."""
        self._hold(-self.held)
        self._await_head()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """One less."""
        self._hold(-self.held)
        if self.clock is not None:
            self.clock.cancel()
        super().connection_lost(exc)

    def cut(self) -> None:
        """Ends it at once."""
        self._hold(-self.held)
        self.transport.abort()

    @property
    def _lines(self) -> list[Line]:
        return [line for line in self.connections if isinstance(line, Line)]

    def _hold(self, more: int) -> None:
        self.held += more
        self.door.bytes += more

    def _await_head(self) -> None:
        self.since = time.monotonic()
        if self.clock is not None:
            self.clock.cancel()
        self.clock = self.loop.call_later(SILENT_SECONDS, self._close_if_silent, self.cycle)

    def _close_if_silent(self, last: object) -> None:
        if self.cycle is last and not self.transport.is_closing():
            self.transport.close()
