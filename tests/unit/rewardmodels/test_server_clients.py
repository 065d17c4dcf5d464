"""Clients that flood, die, dawdle or send rubbish harm nobody."""

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
from tests.unit.rewardmodels.serving import HTTP, Brightness, asked, fine, picture, raw, serving, text


@pytest.fixture(scope="module")
def reward() -> Brightness:
    return Brightness()


@pytest.fixture(scope="module")
def url(reward: Brightness) -> Iterator[str]:
    with serving(
        {"brightness": reward}, limits=Limits(max_media=6, max_bytes=200_000, max_pixels=10_000)
    ) as address:
        yield address


def test_requests_of_several_clients_are_judged_in_batches(url: str, reward: Brightness) -> None:
    reward.free.clear()
    reward.calls.clear()
    levels = list(range(100))

    def ask(level: int) -> float:
        answer = HTTP.post(f"{url}/score", json=asked(text(picture(level=level))))
        while answer.status_code == 503:
            time.sleep(0.2 * float(answer.headers["Retry-After"]))
            answer = HTTP.post(f"{url}/score", json=asked(text(picture(level=level))))
        return float(answer.json()["scores"][0]["values"]["mean"])

    with ThreadPoolExecutor(100) as pool:
        waiting = [pool.submit(ask, level) for level in levels]
        time.sleep(1.0)
        reward.free.set()
        assert [w.result() for w in waiting] == pytest.approx([level / 255 for level in levels])
    sizes = [len(call) for call in reward.calls]
    assert sum(sizes) == 100 and max(sizes) > 8 and max(sizes) <= 32 and len(sizes) < 60


def test_a_full_queue_says_when_to_come_again() -> None:
    reward = Brightness()
    with serving({"brightness": reward}, max_batch=1, max_waiting=2) as url:
        reward.free.clear()
        with ThreadPoolExecutor(8) as pool:
            body = asked(text(picture()))
            waiting = [pool.submit(HTTP.post, f"{url}/score", json=body) for _ in range(8)]
            while sum(w.done() for w in waiting) < 5:
                time.sleep(0.05)
            reward.free.set()
            answers = [w.result() for w in waiting]
        refused = [answer for answer in answers if answer.status_code == 503]
        assert len(refused) == 5 and all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
        assert sum(answer.status_code == 200 for answer in answers) == 3 and fine(url)


def test_no_more_requests_than_there_is_room() -> None:
    reward = Brightness()
    with serving({"brightness": reward}, limits=Limits(max_requests=2)) as url:
        reward.free.clear()
        with ThreadPoolExecutor(5) as pool:
            body = asked(text(picture()))
            waiting = [pool.submit(HTTP.post, f"{url}/score", json=body) for _ in range(5)]
            while sum(w.done() for w in waiting) < 3:
                time.sleep(0.05)
            reward.free.set()
            assert sorted(w.result().status_code for w in waiting) == [200, 200, 503, 503, 503]
        assert fine(url)


def test_late_answers_are_told_and_leave_the_queue() -> None:
    reward = Brightness()
    with serving({"brightness": reward}, limits=Limits(timeout=0.5)) as url:
        reward.free.clear()
        first = HTTP.post(f"{url}/score", json=asked(text(picture())))
        second = HTTP.post(f"{url}/score", json=asked(text(picture()), text(picture())))
        assert (first.status_code, second.status_code) == (504, 504) and "0.5 s" in first.json()["error"]
        reward.free.set()
        assert fine(url)
        assert [len(call) for call in reward.calls] == [1, 1]  # the second was cancelled before its turn


@pytest.mark.parametrize(
    "head",
    [
        b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n{",
        b"POST /score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"ffff\r\n"
        + b"x" * 65535
        + b"\r\n",
        b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999999\r\n\r\n{",
    ],
)
def test_bodies_too_long_are_refused_unread(url: str, head: bytes) -> None:
    data = head + (b"ffff\r\n" + b"x" * 65535 + b"\r\n") * 4 if b"chunked" in head else head
    answer = raw(url, data)
    status = answer.split(b" ", 2)[1]
    assert (
        status == (b"400" if b"-5" in head or b"9" * 26 in head else b"413") and b"onnection: close" in answer
    )
    assert fine(url)


@pytest.mark.parametrize("data", [b"\0" * 500, b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00", b"X" * 200_000])
def test_rubbish_is_answered_and_forgotten(url: str, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "SILENT_SECONDS", 0.5)
    try:
        answer = raw(url, data)
    except ConnectionError:
        answer = b""
    assert answer == b"" or b" 400 " in answer.splitlines()[0]
    assert fine(url)


def test_a_client_that_says_nothing_is_sent_away(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "SILENT_SECONDS", 0.3)
    for data in (b"", b"POST /score HTTP/1.1\r\nHost: x\r\n"):
        started = time.monotonic()
        assert raw(url, data) == b""
        assert time.monotonic() - started < 8
    assert fine(url)


def test_clients_that_die_leave_nothing_behind(url: str, reward: Brightness) -> None:
    """Half a body; and a whole request whose client hangs up before its turn: its job is never judged."""
    place = urlsplit(url)
    body = json.dumps({"samples": [{"prompt": "x", "media": text(picture()), "id": "gone"}]}).encode()
    head = f"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection((place.hostname, place.port)) as connection:
        connection.sendall(head + body[:50])
    reward.free.clear()
    reward.calls.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(fine, url)
        while not reward.calls:
            time.sleep(0.02)
        for _ in range(5):
            with socket.create_connection((place.hostname, place.port)) as connection:
                connection.sendall(head + body)
                time.sleep(0.3)
        time.sleep(0.3)
        reward.free.set()
        assert first.result()
    assert fine(url)
    assert "gone" not in [id for call in reward.calls for id in call]
    assert HTTP.get(f"{url}/rewards").json()["rewards"][0]["waiting"] == 0


# ---------------------------------------------------------------- floods of slow clients


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
