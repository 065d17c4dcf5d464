"""Media as whole files that travel: pixels to files on the sender's side, texts of a request to pixels on the server's.

Pixels travel losslessly: as PNG where they lie on the 8-bit grid, as float32 safetensors where they do not. Nothing is
ever fetched and no path is read: a text is a data URL, bare base64, or `part:NAME`, a file of the same form.

Legend: `T` frames, `C H W`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import mimetypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import safetensors
import torch
from PIL import Image
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from mmalign import media
from rewardmodels.wire import AskedSample

TENSOR_TYPE = "application/x-safetensors"
PART = "part:"
_VIDEOS = {b"\x1a\x45\xdf\xa3": ".mkv", b"GIF8": ".gif"}


@dataclass(frozen=True)
class Blob:
    """The bytes of a file, and what the sender says they are."""

    data: bytes
    type: str = ""

    @property
    def video_suffix(self) -> str | None:
        """How a file that must be decoded as a video is to be called, by its first bytes; None for anything else."""
        if self.data[4:8] == b"ftyp":
            return ".mp4"
        if self.data[:4] == b"RIFF" and self.data[8:12] == b"AVI ":
            return ".avi"
        return _VIDEOS.get(self.data[:4])


# ---------------------------------------------------------------- the sender's side


def pack(pixels: Tensor | Path) -> list[Blob]:
    """Media as files that give back exactly the same pixels: a file as it is, a tensor as PNG or safetensors.

    Tensors are (C, H, W) or (T, C, H, W), floating in [0, 1] or uint8; several blobs are the frames of a video.
    """
    if not isinstance(pixels, Tensor):
        file = Path(pixels)
        if not file.is_file():
            raise ValueError(f"{file}: no such file")
        return [Blob(file.read_bytes(), mimetypes.guess_type(file.name)[0] or "application/octet-stream")]
    frames = pixels.detach().cpu()
    frames = frames[None] if frames.ndim == 3 else frames
    if frames.ndim != 4 or 0 in frames.shape:
        raise ValueError(f"media must be (C, H, W) or (T, C, H, W), got shape {tuple(pixels.shape)}")
    grid = _on_grid(frames)
    if grid is None:
        return [Blob(save_tensors({"media": frames.float().contiguous()}), TENSOR_TYPE)]
    return [Blob(_png(frame), "image/png") for frame in grid]


def _on_grid(frames: Tensor) -> Tensor | None:
    """RGB frames as uint8 (T, 3, H, W) where that loses nothing, else None."""
    if frames.shape[1] != 3:
        return None
    if frames.dtype == torch.uint8:
        return frames
    rounded = frames.float().mul(255.0).round()
    same = (rounded / 255.0 == frames.float()) & (rounded >= 0) & (rounded <= 255)
    return rounded.to(torch.uint8) if bool(same.all()) else None


def _png(frame: Tensor) -> bytes:
    made = io.BytesIO()
    Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy()).save(made, format="PNG", compress_level=1)
    return made.getvalue()


# ---------------------------------------------------------------- the receiver's side


@dataclass(frozen=True)
class Unpacker:
    """Media texts into pixels, their size known before any of them is decoded."""

    folder: Path  # where videos lie while they are judged
    parts: Mapping[str, Blob] = field(default_factory=dict)

    def blobs(self, sample: AskedSample) -> tuple[list[Blob], list[Blob] | None]:
        """The bytes of media and source; ValueError where a text holds none."""
        source = None if sample.source is None else [self._blob(t) for t in _listed(sample.source)]
        return [self._blob(text) for text in _listed(sample.media)], source

    def _blob(self, text: str) -> Blob:
        if text.startswith(PART):
            name = text.removeprefix(PART)
            if name not in self.parts:
                raise ValueError(f"the form has no file '{name[:80]}'")
            return self.parts[name]
        if text[:8].lower().startswith(("http://", "https://", "file://", "ftp://")):
            raise ValueError("addresses are not fetched: send the file itself, as base64 or in a form")
        head, comma, body = text.partition(",")
        kind = ""
        if head.startswith("data:") and comma:
            if not head.endswith(";base64"):
                raise ValueError("a data URL must be base64: data:image/png;base64,...")
            kind, text = head[5:].split(";")[0], body
        try:
            return Blob(base64.b64decode(text, validate=True), kind)
        except (binascii.Error, ValueError) as problem:
            raise ValueError(f"media is not base64 ({problem})") from problem

    def pixels(self, blobs: Sequence[Blob]) -> int:
        """How many pixels the blobs decode to, over all frames, by their headers alone."""
        return sum(self._weight(blob) for blob in blobs)

    def _weight(self, blob: Blob) -> int:
        if blob.type == TENSOR_TYPE:
            return len(blob.data) // 12
        if blob.video_suffix in (None, ".gif"):
            info = media.probe_bytes(blob.data)
        else:
            info = media.probe(self._file(blob))
        return info.width * info.height * info.num_frames

    def media(self, blobs: Sequence[Blob], max_pixels: int) -> Tensor | Path:
        """One picture (1, 3, H, W), several of one size as a video (T, 3, H, W), or the path of a video."""
        if len(blobs) == 1 and blobs[0].type == TENSOR_TYPE:
            return _tensor(blobs[0])
        if len(blobs) == 1 and blobs[0].video_suffix is not None:
            return self._file(blobs[0])
        frames = [media.read_bytes(blob.data, max_pixels=max_pixels) for blob in blobs]
        sizes = {tuple(frame.shape) for frame in frames}
        if len(sizes) != 1:
            raise ValueError(f"the frames of a video must have one size, got {sorted(sizes)[:3]}")
        return torch.cat(frames)

    def _file(self, blob: Blob) -> Path:
        file = self.folder / f"{hashlib.sha256(blob.data).hexdigest()[:32]}{blob.video_suffix}"
        if not file.is_file():
            file.write_bytes(blob.data)
        return file


def _listed(texts: str | list[str]) -> list[str]:
    listed = [texts] if isinstance(texts, str) else texts
    if not listed:
        raise ValueError("media is an empty list")
    return listed


def _tensor(blob: Blob) -> Tensor:
    try:
        found = load_tensors(blob.data)
    except safetensors.SafetensorError as problem:
        raise ValueError(f"media is not safetensors ({problem})") from problem
    frames = found.get("media")
    if len(found) != 1 or frames is None or frames.ndim != 4 or frames.dtype != torch.float32:
        raise ValueError("a safetensors file of media holds one float32 tensor 'media' of (T, C, H, W)")
    return frames
