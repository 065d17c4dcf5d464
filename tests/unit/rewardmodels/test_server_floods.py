"""Floods of slow clients: an honest one gets through, and the oldest of the busiest address goes first."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from rewardmodels import door
from rewardmodels.reception import Limits
from tests.unit.rewardmodels.serving import HTTP, Brightness, asked, fine, picture, serving, text

HEAD = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"


@contextlib.contextmanager
def flood(url: str, num: int, data: bytes, *, host: str = "127.0.0.1") -> Iterator[list[socket.socket]]:
    """Connections from one address that have sent the same beginning of a request, and a byte more every 0.1 s."""
    place = urlsplit(url)
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(num):
            made = socket.create_connection((place.hostname, place.port), source_address=(host, 0))
            opened.append(stack.enter_context(made))
            with contextlib.suppress(OSError):
                made.sendall(data)
        over = threading.Event()

        def trickle() -> None:
            while data and not over.wait(0.1):
                for connection in opened:
                    with contextlib.suppress(OSError):
                        connection.send(b" ")

        thread = threading.Thread(target=trickle)
        thread.start()
        time.sleep(0.3)
        yield opened
        over.set()
        thread.join()


def read_all(connection: socket.socket) -> bytes:
    """What the server says until it hangs up."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(1000):
            received += chunk
    return received


def still_open(connection: socket.socket) -> bool:
    """Whether the server has neither answered nor hung up."""
    connection.settimeout(0.01)
    try:
        connection.recv(1000)
    except TimeoutError:
        return True
    except OSError:
        pass
    return False


@pytest.mark.parametrize(
    "beginning", [b"", b"POST /score HTTP/1.1\r\nHost: x\r\nX-Slow: ", HEAD % 5000 + b"{"]
)
@pytest.mark.parametrize("num", [16, 100])
def test_an_honest_client_gets_through_while_slow_ones_flood(beginning: bytes, num: int) -> None:
    """As many as there are places, and more than may be connected."""
    with serving({"brightness": Brightness()}, limits=Limits(max_requests=4)) as url:  # 32 connections
        with flood(url, num, beginning) as opened:
            started = time.monotonic()
            assert all(fine(url) for _ in range(5))
            assert time.monotonic() - started < 5
            assert 8 <= sum(still_open(connection) for connection in opened) <= 32  # the flood has lasted
        assert fine(url)


def test_a_body_that_trickles_is_told_so() -> None:
    with serving({"brightness": Brightness()}, limits=Limits(patience=0.5)) as url:
        with flood(url, 3, HEAD % 5000 + b"{") as opened:
            answers = [read_all(connection) for connection in opened]
        assert all(b" 408 " in answer.splitlines()[0] for answer in answers)
        assert all(b"onnection: close" in answer and b"too slowly" in answer for answer in answers)
        assert fine(url)


def test_a_long_body_at_a_fair_pace_has_its_time() -> None:
    """Longer than a small body may take, because it comes fast enough."""
    with serving({"brightness": Brightness()}, limits=Limits(patience=0.2, slowest=20_000.0)) as url:
        body = json.dumps(asked(text(picture()))).encode() + b" " * 40_000
        place = urlsplit(url)
        with socket.create_connection((place.hostname, place.port)) as connection:
            connection.sendall(HEAD.replace(b"x\r\n", b"x\r\nConnection: close\r\n") % len(body))
            for start in range(0, len(body), 5000):
                connection.sendall(body[start : start + 5000])
                time.sleep(0.1)
            assert b" 200 " in connection.recv(1000).splitlines()[0]


def test_unfinished_bodies_hold_no_more_than_their_bytes() -> None:
    limits = Limits(max_bytes=200_000, hold=2)
    with serving({"brightness": Brightness()}, limits=limits) as url:
        with flood(url, 12, HEAD % 190_000 + b"[" + b" " * 99_999) as opened:
            body = json.dumps(asked(text(picture()))) + " " * 150_000
            answer = HTTP.post(f"{url}/score", content=body)
            assert answer.status_code == 200
            left = [still_open(connection) for connection in opened]
            assert sum(left) <= 4 and left == sorted(left)  # those who have waited longest went first
        assert fine(url)


def test_a_flood_from_one_address_costs_another_nothing() -> None:
    reward = Brightness()
    with serving({"brightness": reward}, limits=Limits(max_requests=4)) as url:
        with (
            flood(url, 4, HEAD % 5000 + b"{") as patient,
            flood(url, 60, HEAD % 5000 + b"{", host="127.0.0.2"),
        ):
            assert all(still_open(connection) for connection in patient)
        body = json.dumps(asked(text(picture()))).encode()
        reward.free.clear()
        with flood(url, 8, HEAD % len(body) + body, host="127.0.0.2"), ThreadPoolExecutor(1) as pool:
            honest = pool.submit(fine, url)  # three quarters of the places are held by the other address
            time.sleep(0.5)
            reward.free.set()
            assert honest.result()


@dataclass
class FakeLine:
    """A connection as the door sees it."""

    since: float
    host: str = "a"
    held: int = 0
    served: bool = False
    closing: bool = False
    gone: bool = False

    @property
    def transport(self) -> FakeLine:
        return self

    def is_closing(self) -> bool:
        return self.closing

    def cut(self) -> None:
        self.gone = True


def test_the_door_cuts_the_oldest_of_the_busiest_address_and_none_that_is_served() -> None:
    now = time.monotonic()
    house = door.Door(Limits(max_requests=1, max_bytes=10, hold=1))  # 8 connections, 10 bytes
    lines = [FakeLine(now - 9 + k, "b" if k in (0, 4) else "a", served=k == 1) for k in range(9)]
    house.make_room(lines)  # type: ignore[arg-type]
    assert [line.gone for line in lines] == [k == 2 for k in range(9)]
    house.bytes = 11  # of connections that are closing already: nothing more is to be cut
    house.make_room([FakeLine(now), FakeLine(now, held=11, closing=True)])  # type: ignore[list-item]
    stuck = [FakeLine(now - 1000 + k, served=True) for k in range(9)]  # clients that never read their answers
    house.make_room(stuck)  # type: ignore[arg-type]
    assert [line.gone for line in stuck] == [True, *[False] * 8]
