"""The one reader and writer: what is damaged, missing, unknown or no picture is a sentence that says what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmalign import media


@pytest.mark.parametrize("name", ["cut.png", "cut.jpg", "empty.png", "text.jpg"])
def test_damage_is_told_with_the_name(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    whole = file.read_bytes()
    file.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"not a picture"}[file.stem])
    with pytest.raises(ValueError, match=name):
        media.read(file)


def test_missing_and_unknown_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        media.read(tmp_path / "nothing.png")
    (tmp_path / "a.docx").write_bytes(b"")
    with pytest.raises(ValueError, match="known are"):
        media.read(tmp_path / "a.docx")


def test_the_writer_refuses_what_is_no_picture(tmp_path: Path) -> None:
    for frames, words in [
        (torch.full((3, 4, 4), float("nan")), "NaN"),
        (torch.full((3, 4, 4), 2.0), "must lie in"),
        (torch.zeros(1, 4, 4), "expected"),
        (torch.zeros(2, 3, 4, 4), "name it .mp4"),
    ]:
        with pytest.raises(ValueError, match=words):
            media.write(tmp_path / "a.png", frames)
    with pytest.raises(ValueError, match="cannot write"):
        media.write(tmp_path / "a.xyz", torch.zeros(3, 4, 4))
    assert list(tmp_path.iterdir()) == []


def test_find_is_sorted_and_leaves_hidden_files_out(tmp_path: Path) -> None:
    for name in ("b.png", "a/c.MP4", ".hidden/d.png", ".e.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [f.relative_to(tmp_path).as_posix() for f in media.find(tmp_path)] == ["a/c.MP4", "b.png"]
    assert [f.name for f in media.find(tmp_path, kinds=["video"])] == ["c.MP4"]
