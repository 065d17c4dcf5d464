"""Texts compared by hand-computed distances; pictures of rendered text read by the real reader."""

from __future__ import annotations

import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import rewardmodels
from mmalign.media import from_pil
from mmalign.types import Sample
from rewardmodels.ocr.reward import OcrReward
from rewardmodels.ocr.texts import closest, compare, contained, wanted, whole


def written(*lines: str, size: tuple[int, int] = (320, 160)) -> Tensor:
    """(3, H, W) with the lines in white on dark blue."""
    image = Image.new("RGB", size, (20, 30, 70))
    draw = ImageDraw.Draw(image)
    for k, line in enumerate(lines):
        draw.text((20, 20 + 60 * k), line, font=ImageFont.load_default(size=36), fill="white")
    return from_pil(image)[0]


@pytest.mark.parametrize(
    "prompt, texts",
    [
        ('a sign "Hello"', ("Hello",)),
        ('"One" and "Two words"', ("One", "Two words")),
        ("“curly” quotes", ("curly",)),
        ("a board that reads 'Don't panic' today", ("Don't panic",)),
        ("the dog's bowl isn't there", ()),
        ('5" tall', ()),
        ('empty "" and "  "', ()),
        ("a red circle", ()),
        ("плакат «Мир»", ("Мир",)),
    ],
)
def test_what_a_prompt_asks_for(prompt: str, texts: tuple[str, ...]) -> None:
    assert wanted(prompt) == texts


def test_measures_by_hand() -> None:
    # "open" against "0pen late": two edits to everything read... four letters too many and one wrong: 5 > 4, so 0
    assert contained("Open", "0pen late") == whole("Open", "0pen late") == 0.0
    assert closest("Open", "0pen late") == pytest.approx(1 - 1 / 4)
    assert contained("Open", "we OPEN late") == closest("Open", "we OPEN late") == 1.0
    assert whole("Open", "OPENS") == pytest.approx(1 - 1 / 4)
    both = compare(["Open", "Tea"], "tea open")
    assert both["contained"] == both["closest"] == 1.0
    assert both["whole"] == pytest.approx(
        1 - 6 / 7
    )  # "opentea" from "teaopen": three letters move, two edits each


def test_closest_equals_the_best_of_all_parts() -> None:
    def distance(a: str, b: str) -> int:
        if not a or not b:
            return len(a) + len(b)
        return min(distance(a[1:], b) + 1, distance(a, b[1:]) + 1, distance(a[1:], b[1:]) + (a[0] != b[0]))

    for goal, read in (("abc", "xaxcb"), ("aab", "bbaba"), ("cab", "ccc")):
        parts = [read[i:j] for i in range(6) for j in range(i, 6)]
        assert closest(goal, read) == pytest.approx(1 - min(distance(goal, part) for part in parts) / 3)


def fake(**options: object) -> OcrReward:
    """Reads a number of letters from the brightness of a picture."""
    return OcrReward(lambda pictures: ["abcd"[: round(float(p.mean()) * 4)] for p in pictures], **options)  # type: ignore[arg-type]


def test_frames_are_thinned_and_reduced_as_asked() -> None:
    level = torch.tensor([0.0, 0.3, 0.5, 0.9, 1.0]).view(5, 1, 1, 1).expand(5, 3, 4, 4)
    video = [Sample('shows "abcd"', level)]
    assert float(fake(frame_step=2)(samples=video).overall) == pytest.approx((0 + 0.5 + 1) / 3)
    assert float(fake(frame_step=2, over_frames="max")(samples=video).overall) == 1.0
    assert float(fake(frame_step=2, over_frames="readable")(samples=video).overall) == pytest.approx(0.75)


def test_a_prompt_without_text_is_nan_and_metadata_may_name_it() -> None:
    image = torch.ones(3, 4, 4)
    scores = fake()(
        samples=[Sample("a red fox", image), Sample("a red fox", image, metadata={"text": ["abcd", "x"]})]
    )
    assert scores.valid.tolist() == [False, True] and "quotes" in str(scores.reasons[0])
    assert float(scores.values[1, 0]) == pytest.approx(0.5)
    first = fake(targets="first")(samples=[Sample('"abcd" then "x"', image)])
    assert float(first.overall) == 1.0


def test_rendered_text_is_really_read() -> None:
    pytest.importorskip("rapidocr", reason="needs pip install 'mmalign[ocr]'")
    reward = rewardmodels.load("ocr", side=96, workers=2)
    prompt = 'a poster that says "Spring Sale"'
    right, wrong, other = written("Spring Sale"), written("Sprang Sole"), written("Spring Sale", "call 555")
    blank = torch.full((3, 160, 320), 0.3)
    scores = reward(samples=[Sample(prompt, picture) for picture in (right, wrong, other, blank)])
    assert bool(scores.valid.all())
    by_name = dict(zip(scores.names, scores.values.T.tolist(), strict=True))
    assert by_name["contained"][0] == by_name["whole"][0] == 1.0
    assert by_name["contained"][1] == pytest.approx(1 - 2 / 10)
    assert by_name["contained"][2] == 1.0 and by_name["whole"][2] == pytest.approx(1 - 7 / 10)
    assert by_name["contained"][3] == 0.0 and scores.overall.tolist() == by_name["contained"]


def test_bad_options_name_the_good_ones() -> None:
    pytest.importorskip("rapidocr", reason="needs pip install 'mmalign[ocr]'")
    with pytest.raises(ValueError, match="contained, closest, whole"):
        rewardmodels.load("ocr", measure="exact")
    with pytest.raises(ValueError, match="frame_step"):
        rewardmodels.load("ocr", frame_step=0)
