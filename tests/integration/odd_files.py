"""Odd files (made with Pillow and PyAV), prompts and lines, each with `SCORED` or words of the reason why not."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

SCORED = ""
GREY = (102, 102, 102)  # 0.4
Make = Callable[[Path], Any]


def plain(size: tuple[int, int] = (32, 24), mode: str = "RGB", colour: Any = GREY, **options: Any) -> Make:
    """A picture of one colour."""
    return lambda path: Image.new(mode, size, colour).save(path, **options)


def cut(name: str, keep: float, **options: Any) -> Make:
    """A noisy picture or video of which the end is missing."""

    def make(path: Path) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)
        whole = path.with_name(f"whole-{path.name}")
        if name == "picture":
            Image.fromarray(noise).save(whole, **options)
        else:
            film(num=48, size=(64, 64))(whole)
        data = whole.read_bytes()
        whole.unlink()
        path.write_bytes(data[: int(len(data) * keep)])

    return make


def several(form: str) -> Make:
    """Two pictures in one file."""

    def make(path: Path) -> None:
        more = [Image.new("RGB", (32, 24), (0, 0, 255))]
        Image.new("RGB", (32, 24), GREY).save(path, format=form, save_all=True, append_images=more)

    return make


def turned(path: Path) -> None:
    """A photograph that the camera held sideways."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (32, 24), GREY).save(path, exif=exif)


def png(width: int, height: int, rows: bytes, depth: int = 8) -> Make:
    """A PNG whose header says one thing, and whose pixels are what it is given."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0))
    whole = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return lambda path: path.write_bytes(whole)


def film(
    num: int = 6, size: tuple[int, int] = (32, 24), stamps: list[int] | None = None, frames: bool = True
) -> Make:
    """A grey video; at the given milliseconds, or without any frame."""

    def make(path: Path) -> None:
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=24)
            stream.width, stream.height = size
            stream.pix_fmt = "yuv444p" if size[0] % 2 or size[1] % 2 else "yuv420p"
            stream.options = {"crf": "1"}
            if stamps:
                stream.codec_context.time_base = Fraction(1, 1000)
            container.start_encoding()
            for k in range(num if frames else 0):
                shade = np.random.default_rng(k).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
                frame = av.VideoFrame.from_ndarray(shade if num > 20 else np.full_like(shade, 102))
                if stamps:
                    frame.pts, frame.time_base = stamps[k], Fraction(1, 1000)
                container.mux(stream.encode(frame))
            if frames:
                container.mux(stream.encode())

    return make


def sound(path: Path) -> None:
    """A film that is only to be heard."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def text(words: str) -> Make:
    return lambda path: path.write_text(words)


def astray(path: Path) -> None:
    """A link to a file that is not there."""
    path.symlink_to("nowhere.png")


def nothing(path: Path) -> None:
    """No file at all."""


FILES: dict[str, tuple[Make, str]] = {
    "fine.png": (plain(), SCORED),
    "UPPER.PNG": (plain(), SCORED),
    "größe 圆.png": (plain(), SCORED),
    "missing.png": (nothing, "no such file"),
    "astray.png": (astray, "a link to nowhere.png, which is not there"),
    "folder.png": (lambda path: path.mkdir(), "no such file"),
    "empty.png": (text(""), "is empty (0 bytes)"),
    "text.jpg": (text("not a picture"), "not a picture"),
    "notes.docx": (text("x"), "known are"),
    "cut.png": (cut("picture", 0.5), "cut short"),
    "cut.jpg": (cut("picture", 0.5), "cut short"),
    "cut.webp": (cut("picture", 0.5), "picture"),
    "animated.png": (several("PNG"), "of 2 frames"),
    "animated.webp": (several("WEBP"), "of 2 frames"),
    "pages.tiff": (several("TIFF"), "of 2 frames"),
    "camera.jpg": (several("MPO"), SCORED),
    "animated.gif": (several("GIF"), SCORED),
    "cmyk.jpg": (plain(mode="CMYK", colour=(0, 0, 0, 153)), SCORED),
    "deep.png": (lambda path: Image.fromarray(np.full((24, 32), 26214, np.uint16)).save(path), SCORED),
    "deep-rgb.png": (png(8, 8, (b"\0" + b"\x66\x66" * 24) * 8, depth=16), SCORED),
    "float.tiff": (plain(mode="F", colour=0.4), SCORED),
    "too-bright.tiff": (plain(mode="F", colour=7.0), "outside the range"),
    "bits.png": (plain(mode="1", colour=1), SCORED),
    "clear.png": (plain(mode="RGBA", colour=(0, 0, 0, 0)), SCORED),
    "turned.jpg": (turned, SCORED),
    "one.png": (plain(size=(1, 1)), SCORED),
    "long.png": (plain(size=(20_000, 1)), SCORED),
    "poster.png": (png(20_000, 20_000, b""), "scale it down"),
    "bomb.png": (png(60_000, 60_000, b"\0" * 10**6), "scale it down"),
    "too-little.png": (png(64, 64, b"\0" * 100), "cut short"),
    "program.png": (text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"), "not a picture"),
    "drawing.png": (text("<svg xmlns='http://www.w3.org/2000/svg'/>"), "not a picture"),
    "fine.mp4": (film(), SCORED),
    "odd.mp4": (film(size=(33, 47)), SCORED),
    "single.mp4": (film(num=1), SCORED),
    "variable.mkv": (film(num=4, stamps=[0, 40, 900, 2000]), SCORED),
    "no-frames.mp4": (film(frames=False), "no pictures in it"),
    "no-frames.mkv": (film(frames=False), "End of file"),
    "sound.mp4": (sound, "sound only"),
    "cut.mp4": (cut("video", 0.5), "damaged"),
    "cut.mkv": (cut("video", 0.5), "cut short"),
    "empty.mp4": (text(""), "is empty (0 bytes)"),
    "list.mp4": (text("#EXTM3U\n#EXTINF:1,\nfine.mp4\n#EXT-X-ENDLIST\n"), "damaged"),
    "text.mkv": (text("no film"), "damaged"),
}

PROMPTS: dict[str, tuple[Any, str]] = {
    "no prompt": ("", SCORED),
    "long prompt": ("very " * 50_000, SCORED),
    "cyrillic": ("красный круг", SCORED),
    "chinese": ("一个红色的圆", SCORED),
    "arabic": ("دائرة حمراء", SCORED),
    "emoji": ("👩‍👩‍👧 🔴", SCORED),
    "line separators": ("one\u2028two\u0085three\x0cfour\x1e", SCORED),
    "control characters": ("a\x00\x01\x1b[31mb\r\n\tc", SCORED),
    "special tokens": ("<|image_pad|><|im_end|><image>{}%s", SCORED),
    "half a character": ("a \ud800 circle", "not text"),
    "number": (7, "not text"),
    "list": (["a"], "not text"),
    "null": (None, "not text"),
}

LINES: list[tuple[str, str]] = [
    ("{", "not valid JSON"),
    ("[" * 100_000, "not valid JSON"),
    ("7", "not an object"),
    ('{"prompt": "x"}', "names no file"),
    ('{"image": 7, "prompt": "x"}', "names no file"),
    ('{"prompt": "x", "candidates": [], "annotations": []}', "comparisons: use `mmalign evaluate reward`"),
    ('{"image": "a\\u0000b.png", "prompt": "x"}', "no such file"),
    (json.dumps({"image": "n" * 5000 + ".png", "prompt": "x"}), "no such file"),
    ('{"image": "fine.png", "prompt": "x", "source": 7, "id": "source 7"}', "source"),
    ('{"image": "fine.png", "prompt": "x", "source": "missing.png", "id": "no source"}', "no such file"),
    ('{"image": "fine.png", "prompt": "x", "source": "deep.png", "id": "an edit"}', SCORED),
    ('{"image": "fine.png", "prompt": "x", "source": null, "id": "no edit"}', SCORED),
    ('{"image": "fine.png", "prompt": "x", "id": {"a": 1}}', SCORED),
    ('{"image": "fine.png", "prompt": "x", "id": "metadata", "score": NaN, "deep": [[[[[]]]]]}', SCORED),
    ('{"image": "fine.png", "prompt": "x", "id": "twice"}', SCORED),
    ('{"image": "UPPER.PNG", "prompt": "another", "id": "twice"}', "occurs more than once"),
    ('{"image": "fine.png", "prompt": "x", "id": "crlf"}\r', SCORED),
    ("\ufeff" + '{"image": "fine.png", "prompt": "x", "id": "bom"}', SCORED),
]
