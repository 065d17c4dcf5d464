"""Decoding and encoding of videos, behind `mmalign.media`.

Shape legend: pixels are (T, H, W, 3) uint8, RGB.

Two decoders give identical frames. decord is used where it is installed and the file is of the plain kind that it reads
exactly (8-bit, upright, starting with a key frame); PyAV reads everything else, whatever decord refuses, and is the one
whose word is final on a damaged file. Frames are chosen by their time stamps, so a variable frame rate is respected.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer

MAX_VIDEO_PIXELS = 2**28
"""Most pixels, over all frames chosen, that one call decodes: 3 GB as float32."""

_OPENED_AS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpegts,mpeg,ogg,asf,m4v,h264,gif",
}
"""What a file may be, whatever it is called: no playlist that names other files or addresses."""

_EIGHT_BIT = frozenset({"yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p"})
_DAMAGED = (av.error.FFmpegError, EOFError, IndexError)


@dataclass(frozen=True)
class Index:
    """What a video holds: the time of every frame in order of display, and what its decoding needs."""

    times: tuple[float, ...]  # seconds, from the first frame on
    stamps: tuple[int, ...]  # the same in the stream's own units
    end: float  # when the last frame stops being shown
    width: int
    height: int
    rotation: int  # degrees, counter-clockwise
    plain: bool  # decord reads it exactly

    @property
    def fps(self) -> float | None:
        """Frames per second on average, None for a single frame without a duration."""
        return len(self.times) / self.end if self.end > 0 else None


def decode(file: Path, *, fps: float | None = None, max_frames: int | None = None) -> np.ndarray:
    """The chosen frames of a video file."""
    content = index(file)
    chosen = choose(content.times, fps=fps, max_frames=max_frames, end=content.end)
    check_size(file, len(set(chosen)), content.height, content.width)
    wanted = sorted(set(chosen))
    frames = _decode_decord(file, wanted, content) if content.plain and has_decord() else None
    if frames is None:
        frames = _decode_av(file, wanted, content)
    return frames if wanted == chosen else frames[np.searchsorted(wanted, chosen)]


@dataclass(frozen=True)
class _Packet:
    start: float  # seconds
    stop: float
    stamp: int
    key: bool


def index(file: Path) -> Index:
    """Reads the time stamps of all frames, and decodes the first."""
    try:
        packets = _packets(file)
        with _open(file) as container:
            first = next(container.decode(video=0), None)
    except _DAMAGED as problem:
        raise ValueError(
            f"{file} is damaged or not a video ({_said(problem)}); fetch or export it again"
        ) from problem
    start = next((k for k, packet in enumerate(packets) if packet.key), None)
    if start is None or first is None:
        raise ValueError(f"{file} holds no frame that can be decoded; export it again")
    shown = sorted({packet.stamp: packet for packet in packets[start:]}.items())
    times = tuple(packet.start - shown[0][1].start for _, packet in shown)
    end = max(packet.stop for _, packet in shown) - shown[0][1].start
    turn = round(float(first.rotation) / 90.0) * 90 % 360
    width, height = (first.height, first.width) if turn % 180 else (first.width, first.height)
    plain = start == 0 and turn == 0 and first.format.name in _EIGHT_BIT and len(shown) == len(packets)
    return Index(times, tuple(stamp for stamp, _ in shown), end, width, height, turn, plain)


def choose(
    times: Sequence[float], *, fps: float | None, max_frames: int | None, end: float | None = None
) -> list[int]:
    """Positions of the frames shown at 0, 1/fps, 2/fps, ...; then at most `max_frames` of them, evenly spread.

    >>> choose([0.0, 0.1, 0.2, 0.3], fps=5, max_frames=None, end=0.4)
    [0, 2]
    >>> choose([0.0, 0.5, 0.6], fps=4, max_frames=None, end=1.0)
    [0, 0, 1, 2]
    >>> choose([0.0, 1.0, 2.0, 3.0, 4.0], fps=None, max_frames=3)
    [0, 2, 4]
    """
    if fps is not None and not fps > 0:
        raise ValueError(f"fps must be positive, got {fps}")
    if max_frames is not None and max_frames < 1:
        raise ValueError(f"max_frames must be at least 1, got {max_frames}")
    chosen = list(range(len(times)))
    if fps is not None:
        length = max(end if end is not None else 0.0, times[-1])
        ticks = np.arange(max(1, int(np.ceil(length * fps - 1e-6)))) / fps
        chosen = [int(k) for k in np.searchsorted(np.asarray(times), ticks + 1e-6, side="right") - 1]
    if max_frames is not None and len(chosen) > max_frames:
        spread = np.linspace(0, len(chosen) - 1, max_frames).round().astype(int)
        chosen = [chosen[k] for k in spread]
    return chosen


def check_size(file: Path, num_frames: int, height: int, width: int) -> None:
    """Refuses what would fill the memory."""
    if num_frames * height * width > MAX_VIDEO_PIXELS:
        raise ValueError(
            f"{file}: {num_frames} frames of {width} x {height} are more than one call decodes "
            f"({MAX_VIDEO_PIXELS / 1e6:.0f} million pixels); ask for fewer with fps or max_frames, or scale it down"
        )


def has_decord() -> bool:
    """Whether decord is installed (it has wheels for x86-64 Linux and Windows only)."""
    return importlib.util.find_spec("decord") is not None


def encode(file: Path, pixels: np.ndarray, *, fps: float) -> None:
    """Writes H.264 in MP4: 4:2:0 colour, which every player shows, and 4:4:4 for odd sizes, which keeps them."""
    if not fps > 0:
        raise ValueError(f"fps must be positive, got {fps}")
    _, height, width, _ = pixels.shape
    with av.open(str(file), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv444p" if height % 2 or width % 2 else "yuv420p"
        stream.options = {"crf": "12", "preset": "medium"}
        for picture in pixels:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _open(file: Path) -> InputContainer:
    return av.open(str(file), container_options=_OPENED_AS, metadata_errors="ignore")


def _said(problem: Exception) -> str:
    return str(getattr(problem, "strerror", None) or problem)


def _packets(file: Path) -> list[_Packet]:
    """Every packet of pictures, in decoding order. A file that announces clearly more than it holds was cut short."""
    with _open(file) as container:
        if not container.streams.video:
            raise ValueError(
                f"{file} has no pictures in it (sound only, or nothing): leave it out or replace it"
            )
        stream = container.streams.video[0]
        unit = float(stream.time_base or 1)
        announced, alone = int(stream.frames or 0), len(container.streams) == 1
        seconds = (container.duration or 0) / av.time_base
        packets = [
            _Packet(p.pts * unit, (p.pts + (p.duration or 0)) * unit, p.pts, p.is_keyframe)
            for p in container.demux(stream)
            if p.pts is not None and not p.is_discard
        ]
    end = max((packet.stop for packet in packets), default=0.0)
    if len(packets) < announced:
        raise ValueError(
            f"{file} is cut short: {len(packets)} of {announced} frames are there; fetch it again"
        )
    if alone and end + 0.5 < 0.9 * seconds:
        raise ValueError(f"{file} is cut short: {end:.1f} of {seconds:.1f} seconds are there; fetch it again")
    return packets


def _decode_decord(file: Path, wanted: list[int], content: Index) -> np.ndarray | None:
    """The frames by decord; None where decord cannot decode this file, which PyAV then judges."""
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(str(file), num_threads=1)
        if len(reader) != len(content.times):
            return None
        return np.asarray(reader.get_batch(wanted).asnumpy())
    except (decord.DECORDError, RuntimeError):
        return None


def _decode_av(file: Path, wanted: list[int], content: Index) -> np.ndarray:
    """The frames by PyAV, found by their time stamps, turned upright."""
    places = {content.stamps[position]: k for k, position in enumerate(wanted)}
    frames: dict[int, np.ndarray] = {}
    try:
        with _open(file) as container:
            for frame in container.decode(video=0):
                if frame.pts in places:
                    upright = np.rot90(frame.to_ndarray(format="rgb24"), content.rotation // 90)
                    frames[places[frame.pts]] = upright
                if len(frames) == len(wanted):
                    break
    except _DAMAGED as problem:
        raise ValueError(f"{file} is damaged ({_said(problem)}); fetch or export it again") from problem
    if len(frames) < len(wanted):
        missing = len(wanted) - len(frames)
        raise ValueError(
            f"{file} is damaged: {missing} of {len(wanted)} frames cannot be decoded; fetch it again"
        )
    return np.stack([frames[k] for k in range(len(wanted))])
