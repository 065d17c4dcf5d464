"""`remote` scores as the reward does in this process, and never makes up a number."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch

import rewardmodels
from mmalign import media
from mmalign.shapes import render
from mmalign.types import Sample, Scores
from rewardmodels import blobs, wire
from rewardmodels.reception import Limits
from rewardmodels.remote import Remote
from tests.unit.rewardmodels.serving import Brightness, serving

PROMPTS = ["a red circle", "two blue squares", "a green cross", "большой круг 圆"]


def pictures() -> list[Sample]:
    images = render(["a red circle", "two blue squares", "a green cross", "a large circle"], seed=0)
    return [
        Sample(prompt, image, id=str(k))
        for k, (prompt, image) in enumerate(zip(PROMPTS, images, strict=True))
    ]


def test_remote_scores_are_local_scores(tmp_path: Path) -> None:
    names = ("shapes-verifier", "jpeg-compressibility")
    local = {name: rewardmodels.load(name) for name in names}
    off_grid = [
        Sample("a red circle", torch.rand(3, 32, 32)),
        Sample("a red circle", torch.rand(1, 3, 40, 24)),
    ]
    file = media.write(tmp_path / "a.jpg", render(["a red circle"], seed=3)[0])
    samples = [*pictures(), *off_grid, Sample("a red circle", file), Sample("x", torch.zeros(2, 3, 8, 8))]
    with serving(local) as url:
        for name in names:
            there = rewardmodels.load("remote", url=url, reward=name, batch_size=3)
            expected, found = local[name](samples=samples), there(samples=samples)
            assert (there.dimensions, there.modalities) == (local[name].dimensions, local[name].modalities)
            assert found.valid.tolist() == expected.valid.tolist()
            assert [bool(a) for a in found.reasons] == [bool(a) for a in expected.reasons]
            for one, other in ((found.values, expected.values), (found.overall, expected.overall)):
                torch.testing.assert_close(one, other, atol=1e-6, rtol=0, equal_nan=True)


def test_videos_edits_and_variances_travel(tmp_path: Path) -> None:
    clip = media.write(tmp_path / "a.mp4", torch.rand(5, 1, 1, 1).expand(5, 3, 33, 17), fps=8)
    grid = torch.randint(0, 256, (4, 3, 16, 16)).float() / 255
    samples = [
        Sample("a file", clip),
        Sample("frames on the grid", grid),
        Sample("frames off the grid", torch.rand(4, 3, 16, 16)),
        Sample("an edit", torch.rand(3, 8, 8), source=grid[0], metadata={"group": 3, "tags": ["a"]}),
        Sample("bytes", (grid[0] * 255).to(torch.uint8)),
    ]
    reward = Brightness(variance=True)
    with serving({"brightness": reward}) as url:
        found = Remote(url=url)(samples=samples)
    expected = reward(samples=samples)
    assert bool(found.valid.all())
    torch.testing.assert_close(found.values, expected.values, atol=1e-6, rtol=0)
    assert found.log_variance is not None and expected.log_variance is not None
    torch.testing.assert_close(found.log_variance, expected.log_variance, atol=1e-6, rtol=0)


def test_the_variance_of_overall_travels_even_where_it_is_unknown() -> None:
    plain = Scores.of(torch.rand(2, 2), ("x", "y"))
    logs = torch.zeros(2, 2)
    for fused in (torch.tensor([1.0, float("nan")]), torch.full((2,), float("nan"))):
        told = replace(plain, log_variance=logs, overall_log_variance=fused)
        found = wire.rows_to_scores(wire.scores_to_rows(told, ("a", "b")), told.names)
        assert found.overall_log_variance is not None
        torch.testing.assert_close(found.overall_log_variance, fused, equal_nan=True)
    older = [{k: v for k, v in row.items() if k != "overall_log_variance"}
             for row in wire.scores_to_rows(told, ("a", "b"))]  # fmt: skip
    found = wire.rows_to_scores(older, told.names)
    assert found.overall_log_variance is not None and bool(found.overall_log_variance.isfinite().all())
    mute = wire.rows_to_scores(wire.scores_to_rows(plain, ("a", "b")), plain.names)
    assert mute.log_variance is None and mute.overall_log_variance is None


def test_pixels_travel_to_the_bit(tmp_path: Path) -> None:
    unpacker = blobs.Unpacker(tmp_path)
    for pixels in (
        torch.rand(3, 9, 7),
        torch.randint(0, 256, (3, 9, 7)) / 255,
        torch.full((2, 3, 4, 4), 1.5),
    ):
        files = blobs.pack(pixels)
        back = unpacker.media(files, 10**6)
        assert isinstance(back, torch.Tensor)
        assert torch.equal(back, pixels.reshape(-1, *pixels.shape[-3:]))
        assert unpacker.pixels(files) == pytest.approx(back.numel() // 3, abs=20)
    assert blobs.pack(torch.zeros(3, 4, 4))[0].type == "image/png"
    assert blobs.pack(torch.full((3, 4, 4), 0.1234567))[0].type == blobs.TENSOR_TYPE


def test_what_cannot_be_sent_or_judged_is_nan_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    good = pictures()
    samples = [
        good[0],
        Sample("missing", tmp_path / "no.png"),
        Sample("damaged", tmp_path / "cut.png"),
        Sample("unsendable", good[0].media, metadata={"tensor": torch.zeros(2)}),
        Sample("refuse", good[0].media),
        Sample("five planes", torch.rand(5, 4, 4)),
        good[1],
    ]
    with serving({"brightness": Brightness()}) as url:
        found = Remote(url=url)(samples=samples)
    assert found.valid.tolist() == [True, False, False, False, False, True, True]
    for reason, word in zip(found.reasons[1:5], ("no such file", "damaged", "JSON", "refused"), strict=True):
        assert reason is not None and word in reason
    assert str(tmp_path) not in str(found.reasons[2])
    assert bool(torch.isnan(found.overall[1:5]).all())


def test_a_defect_there_is_nan_here_with_the_reason() -> None:
    samples = [*pictures()[:1], Sample("defect", torch.zeros(3, 4, 4))]
    with serving({"brightness": Brightness()}) as url:
        found = Remote(url=url, batch_size=1)(samples=samples)
    assert found.valid.tolist() == [True, False]
    assert "a defect of the reward" in str(found.reasons[1])


def test_too_large_requests_are_sent_in_halves() -> None:
    samples = [Sample("x", torch.full((3, 64, 64), k / 10), id=str(k)) for k in range(8)]
    limits = Limits(max_pixels=3 * 64 * 64, max_media=5)
    with serving({"brightness": Brightness()}, limits=limits) as url:
        remote = Remote(url=url)
        found = remote(samples=samples)
        torch.testing.assert_close(found.values[:, 0], torch.arange(8) / 10, atol=1e-6, rtol=0)
        large = remote(samples=[Sample("x", torch.zeros(3, 128, 128)), samples[1]])
    assert large.valid.tolist() == [False, True] and "scale it down" in str(large.reasons[0])


def test_a_timeout_is_nan_with_a_reason_and_never_zero() -> None:
    reward = Brightness()
    with serving({"brightness": reward}) as url:
        remote = Remote(url=url, timeout=0.3, retries=1)
        reward.free.clear()
        found = remote(samples=pictures()[:1])
        reward.free.set()
    assert bool(torch.isnan(found.overall).all()) and "did not answer within 0.3 s" in str(found.reasons[0])


def test_a_server_that_goes_away_is_nan_with_a_reason() -> None:
    with serving({"brightness": Brightness()}) as url:
        remote = Remote(url=url, retries=1, timeout=5)
        assert bool(remote(samples=pictures()).valid.all())
    found = remote(samples=pictures())
    assert not bool(found.valid.any()) and "cannot be reached" in str(found.reasons[0])


def test_busy_answers_are_tried_again() -> None:
    """Two answers of 503, then scores; a client that gives up earlier would not see them."""
    left = [503, 502]

    class Flaky(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            about = (
                b'{"rewards": [{"name": "r", "modalities": ["image"], "dimensions": ["d"]}],'
                b'"limits": {"max_media": 8, "max_bytes": 1000000}}'
            )
            self.reply(200, about)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if left:
                self.reply(left.pop(), b"{}")
            else:
                row = b'{"id": "", "values": {"d": 0.25}, "overall": 0.5, "reason": null}'
                self.reply(200, b'{"scores": [' + row + b"]}")

        def reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    stub = HTTPServer(("127.0.0.1", 0), Flaky)
    threading.Thread(target=stub.serve_forever, daemon=True).start()
    remote = Remote(url=f"http://127.0.0.1:{stub.server_port}", retries=2)
    found = remote(samples=pictures()[:1])
    assert (float(found.values[0, 0]), float(found.overall[0])) == (0.25, 0.5)
    several = remote(samples=pictures())
    assert not bool(several.valid.any()) and "1 scores for 4" in str(several.reasons[0])
    stub.shutdown()


def test_mistakes_are_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    rewards = {"one": Brightness(), "two": Brightness()}
    with serving(rewards, token="secret") as url:
        monkeypatch.setenv("RIGHT", "secret")
        monkeypatch.setenv("WRONG", "guess")
        assert Remote(url=url, token_env="RIGHT", reward="two").asked == "two"
        for options, words in [
            ({"token_env": "WRONG", "reward": "one"}, "token_env"),
            ({"reward": "one"}, "token_env"),
            ({"token_env": "UNSET"}, "UNSET holds no token"),
            ({"token_env": "RIGHT"}, "one or two"),
            ({"token_env": "RIGHT", "reward": "three"}, "one or two"),
            ({"concurrency": 0}, "concurrency"),
        ]:
            with pytest.raises(ValueError, match=words):
                Remote(url=url, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="start `mmalign serve"):
        Remote(url=url)
    with pytest.raises(ValueError, match="not an address"):
        Remote(url="nonsense")


def test_submitting_does_not_wait() -> None:
    reward = Brightness()
    with serving({"brightness": reward}) as url:
        remote = Remote(url=url)
        reward.free.clear()
        started = time.monotonic()
        pending = remote.submit(samples=pictures())
        assert time.monotonic() - started < 1 and not pending.done()
        reward.free.set()
        scores: Scores = pending.result()
    assert bool(scores.valid.all()) and len(remote.submit(samples=[]).result()) == 0
