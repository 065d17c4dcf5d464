"""Clients that come in numbers, die, dawdle or send rubbish harm nobody."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
