"""Videos are read by time, upright and by two decoders alike; damaged ones and too large ones are told."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from mmalign import media, video


def encode(
    path: Path, *, num: int = 12, size: tuple[int, int] = (32, 64), stamps: list[int] | None = None
) -> Path:
    """A small H.264 file of a moving pattern, at 24 frames a second or at the given milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width = size
        stream.pix_fmt, stream.options = "yuv420p", {"g": "4", "crf": "10"}
        if stamps:
            stream.codec_context.time_base = Fraction(1, 1000)
        base = np.random.default_rng(0).integers(0, 255, (size[0] // 8, size[1] // 8, 3), dtype=np.uint8)
        for k in range(num):
            pixels = np.roll(base.repeat(8, 0).repeat(8, 1), 2 * k, axis=1)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            if stamps:
                frame.pts, frame.time_base = stamps[k], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("size", [(32, 48), (33, 47), (2, 2)])
def test_video_comes_back_with_its_size_and_number(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = torch.linspace(0, 1, 5)[:, None, None, None].expand(5, 3, *size)
    path = media.write(tmp_path / "a.mp4", frames, fps=8)
    found = media.read(path)
    assert found.shape == frames.shape
    assert (found - frames).abs().max() < 0.05
    info = media.probe(path)
    assert (info.kind, info.num_frames, info.height, info.width) == ("video", 5, *size)
    assert info.fps == pytest.approx(8)


def test_both_decoders_give_identical_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("decord", reason="decord has no wheel for this machine")
    path = encode(tmp_path / "a.mp4", num=20)
    called: list[bool] = []
    original = video._decode_decord

    def watched(*arguments: object) -> np.ndarray | None:
        found = original(*arguments)  # type: ignore[arg-type]
        called.append(found is not None)
        return found

    monkeypatch.setattr(video, "_decode_decord", watched)
    by_decord = {fps: media.read(path, fps=fps) for fps in (None, 5.0)}
    assert called == [True, True]
    monkeypatch.setattr(video, "has_decord", lambda: False)
    for fps, frames in by_decord.items():
        assert torch.equal(frames, media.read(path, fps=fps))


def test_variable_frame_rate_is_sampled_by_time(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", num=5, stamps=[0, 100, 1000, 1100, 2000])
    every = media.read(path)
    assert every.shape[0] == 5
    seconds = media.read(path, fps=1)
    assert torch.equal(seconds[:3], every[[0, 2, 4]])
    assert torch.equal(media.read(path, max_frames=3), every[[0, 2, 4]])


def test_rotated_video_stands_upright(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", size=(32, 64), num=3)
    lying = media.read(path)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 32 << 16, 0, 1 << 30)
    path.write_bytes(data)
    upright = media.read(path)
    assert upright.shape == (3, 3, 64, 32)
    assert torch.equal(upright, lying.rot90(-1, dims=(2, 3)))
    assert media.probe(path).height == 64


def test_choose() -> None:
    times = [k / 10 for k in range(10)]
    assert video.choose(times, fps=None, max_frames=None) == list(range(10))
    assert video.choose(times, fps=5, max_frames=None, end=1.0) == [0, 2, 4, 6, 8]
    assert video.choose(times, fps=20, max_frames=None, end=1.0) == [k // 2 for k in range(20)]
    assert video.choose(times, fps=None, max_frames=2) == [0, 9]
    assert video.choose([0.0], fps=4, max_frames=8, end=0.0) == [0]
    for wrong in ({"fps": 0.0, "max_frames": None}, {"fps": None, "max_frames": 0}):
        with pytest.raises(ValueError, match="must be"):
            video.choose(times, **wrong)


def test_broken_videos_are_told(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mkv", num=48, size=(128, 128)).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 3])
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(2000))
    (tmp_path / "empty.mp4").write_bytes(b"")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    for name, words in [
        ("cut.mkv", "cut short"),
        ("noise.mp4", "damaged"),
        ("empty.mp4", "is empty"),
        ("sound.mp4", "sound only"),
    ]:
        with pytest.raises(ValueError, match=f"{name}.*{words}"):
            media.read(tmp_path / name)


def test_a_video_too_large_for_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "a.mp4", num=10)
    monkeypatch.setattr(video, "MAX_VIDEO_PIXELS", 5 * 32 * 64)
    with pytest.raises(ValueError, match="max_frames"):
        media.read(path)
    assert media.read(path, max_frames=5).shape[0] == 5


@pytest.mark.slow
def test_real_videos_decode_alike(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("decord", reason="decord has no wheel for this machine")
    files = media.find(real_data / "videos")
    assert files
    for file in files:
        with monkeypatch.context() as patch:
            one = media.read(file, max_frames=6)
            patch.setattr(video, "has_decord", lambda: False)
            assert torch.equal(one, media.read(file, max_frames=6)), file.name
