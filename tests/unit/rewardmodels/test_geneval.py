"""GenEval's rules by hand, with a detector that says what it is told, and against the shapes world's exact judge."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import rewardmodels
from mmalign.shapes import render, verify
from mmalign.shapes.prompts import sample_prompts
from mmalign.types import Sample
from rewardmodels.geneval.colors import ByClip, Cut, by_mean
from rewardmodels.geneval.detectors import read_detections
from rewardmodels.geneval.prompts import read_prompt
from rewardmodels.geneval.reward import cut_out
from rewardmodels.geneval.rules import Clause, Found, Rules, judge, keep, read_rules, relations
from rewardmodels.geneval.stock import StockDetector

ASKED: list[Sequence[Sequence[str]]] = []


def told(images: Tensor, things: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Always a bowl (twice, once unsure) on the left, in red and blue, and a cat on the right."""
    ASKED.append(things)
    one = {
        "boxes": [[2, 10, 12, 20], [2, 22, 12, 30], [20, 10, 30, 20], [0, 0, 4, 4]],
        "labels": ["bowl", "bowl", "cat", "bowl"],
        "scores": [0.95, 0.5, 0.99, 0.3],
    }
    return [one] * len(images)


def painted() -> Tensor:
    image = torch.full((3, 32, 32), 0.5)
    image[:, 10:20, 2:12] = torch.tensor([0.9, 0.1, 0.1]).view(3, 1, 1)
    image[:, 22:30, 2:12] = torch.tensor([0.1, 0.2, 0.9]).view(3, 1, 1)
    return image


@pytest.mark.parametrize(
    "prompt, correct, fraction",
    [
        ("a photo of a bowl", 1, 1.0),
        ("a photo of a dog", 0, 0.0),
        ("a photo of a bowl and a cat", 1, 1.0),
        ("a photo of a bowl and a dog", 0, 0.5),
        ("a photo of two bowls", 0, 0.5),  # counting asks for 0.9: one bowl; and fewer than three
        ("a photo of a red bowl", 1, 1.0),
        ("a photo of a blue bowl", 0, 0.0),  # only the surest is looked at
        ("a photo of a bowl left of a cat", 1, 1.0),
        ("a photo of a cat left of a bowl", 0, 0.5),
        ("a photo of a bowl above a cat", 0, 0.5),
        ("a photo of a bowl right of a dog", 0, 0.0),  # the anchor is missing, so the place cannot hold
    ],
)
def test_each_kind_of_prompt(prompt: str, correct: int, fraction: float) -> None:
    scores = rewardmodels.load("geneval", detector=f"{__name__}:told")(samples=[Sample(prompt, painted())])
    assert scores.values.tolist() == [[correct, fraction]] and float(scores.overall) == correct


def test_metadata_and_files_go_before_the_prompt_and_its_absence_is_told(tmp_path: Path) -> None:
    line = {"tag": "single_object", "include": [{"class": "cat", "count": 1}], "prompt": "something furry"}
    (tmp_path / "rules.jsonl").write_text(json.dumps(line) + "\n\n")
    reward = rewardmodels.load(
        "geneval", detector=f"{__name__}:told", rules=str(tmp_path / "rules.jsonl"), measure="fraction"
    )
    two = {"include": [{"class": "bowl", "count": 2}, {"class": "bowl", "count": 3}]}
    scores = reward(
        samples=[
            Sample("something furry", painted()),
            Sample("a cat", painted(), metadata=two),
            Sample("a mood of autumn", painted()),
            Sample("a cat", painted(), metadata={"include": [{"class": "cat", "position": ["on", 0]}]}),
        ]
    )
    assert scores.overall[:2].tolist() == [1.0, 0.5]  # 0.3 is not above the threshold: two bowls, not three
    assert scores.valid.tolist() == [True, True, False, False]
    assert "metadata" in str(scores.reasons[2]) and "position" in str(scores.reasons[3])
    assert ASKED[-1] == [("cat",), ("bowl",)]
    (tmp_path / "rules.jsonl").write_text(json.dumps(line) + "\n{}\n")
    with pytest.raises(ValueError, match="line 2"):
        rewardmodels.load("geneval", detector=f"{__name__}:told", rules=str(tmp_path / "rules.jsonl"))


def test_places_by_hand() -> None:
    # centres (5, 5) and (25, 20): offset (-20, -15) of length 25; sizes 20 + 20 shrink it by 2 on each axis
    assert relations((0, 0, 10, 10), (20, 15, 30, 25)) == {"left of", "above"}  # 18/25 and 13/25
    assert relations((0, 0, 10, 10), (20, 14, 30, 24)) == {"left of"}  # 18 and 12 over 24.4: 0.74 and 0.49
    assert relations((0, 0, 10, 10), (1, 1, 11, 11)) == frozenset()  # both offsets are below the shrink
    assert relations((0, 30, 10, 40), (0, 0, 10, 10)) == {"below"}


def test_what_is_kept() -> None:
    found = [Found("cup", (0.0, 0.0, 9.0, 9.0), score) for score in (0.4, 0.9, 0.3)]
    found.append(Found("cup", (0.0, 0.0, 9.0, 4.0), 0.8))
    assert [one.score for one in keep(found, threshold=0.3)["cup"]] == [0.9, 0.8, 0.4]
    assert [one.score for one in keep(found, threshold=0.3, max_objects=2)["cup"]] == [0.9, 0.8]
    assert [one.score for one in keep(found, threshold=0.3, max_overlap=0.6)["cup"]] == [0.9, 0.8]
    assert [one.score for one in keep(found, threshold=0.3, max_overlap=0.5)["cup"]] == [0.9]


def test_a_place_needs_every_pair_and_a_color_enough_of_its_count() -> None:
    cats = [Found("cat", (20.0, 0.0, 30.0, 10.0), 0.9), Found("cat", (0.0, 0.0, 4.0, 10.0), 0.8)]
    bowl = [Found("bowl", (8.0, 0.0, 14.0, 10.0), 0.9)]
    rules = Rules((Clause("bowl"), Clause("cat", 2, position=("right of", 0))))
    assert not judge({"cat": cats, "bowl": bowl}, rules, lambda *_: []).correct
    assert judge({"cat": cats[:1] * 2, "bowl": bowl}, rules, lambda *_: []).correct
    red = Rules((Clause("cat", 2, "red"),))
    assert judge({"cat": cats}, red, lambda *_: ["red", "red"]).correct
    assert judge({"cat": cats}, red, lambda *_: ["red", "pink"]).wrong == (
        "expected 2 red cat, found red, pink",
    )


@pytest.mark.parametrize(
    "prompt, record",
    [
        ("a photo of three knives", {"tag": "counting", "include": [{"class": "knife", "count": 3}],
                                     "exclude": [{"class": "knife", "count": 4}]}),
        ("a photo of a wine glass above a kite", {"include": [{"class": "kite", "count": 1},
            {"class": "wine glass", "count": 1, "position": ["above", 0]}]}),
        ("a photo of an orange and a white bus", {"include": [{"class": "orange", "count": 1},
            {"class": "bus", "count": 1, "color": "white"}]}),
    ],
)  # fmt: skip
def test_plain_prompts_mean_what_the_file_says(prompt: str, record: dict[str, Any]) -> None:
    assert read_prompt(prompt) == read_rules(record)


@pytest.mark.parametrize(
    "prompt",
    [
        "a mood of autumn",
        "a cat with a hat",
        "the dog",
        "a red bus on a road",
        "red",
        "",
        "a cat and",
        "a red cup and a blue cup",
        "a bowl left of",
    ],
)
def test_other_prompts_are_not_half_understood(prompt: str) -> None:
    assert read_prompt(prompt) is None


def test_colors_are_named_inside_the_mask() -> None:
    image = torch.full((3, 8, 8), 0.5)
    image[1:, 2:6, 2:6] = 0.05
    image[0, 2:6, 2:6] = 0.8
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[2:6, 2:6] = True
    cut = cut_out(image, Found("ball", (1.6, -3.0, 6.4, 30.0), 1.0, mask))
    assert tuple(cut.pixels.shape) == (3, 8, 4)
    assert by_mean([cut, Cut("ball", torch.full((3, 2, 2), 0.95))]) == ["red", "white"]
    grey = cut.on_grey()
    assert float(grey[0, 0, 0]) == pytest.approx(0.6) and float(grey[0, 3, 1]) == pytest.approx(0.8)


def test_clip_names_the_color_whose_sentences_are_nearest() -> None:
    class Told:
        """Sentences lie on the axis of their colour; a picture on that of its brightest channel."""

        from rewardmodels.clip.squares import SquareRule

        rule = SquareRule(size=8, mean=(0.0,) * 3, std=(1.0,) * 3)
        texts_read = 0

        def texts(self, prompts: Sequence[str]) -> Tensor:
            self.texts_read += len(prompts)
            axes = {"red": 0, "green": 1, "blue": 2}
            made = torch.zeros(len(prompts), 4)
            for row, prompt in enumerate(prompts):
                made[row, next((axis for word, axis in axes.items() if f" {word}" in f" {prompt}"), 3)] = 1.0
            return made

        def images(self, pictures: Tensor) -> Tensor:
            return torch.cat([pictures.mean((2, 3)), torch.zeros(len(pictures), 1)], 1)

    towers = Told()
    namer = ByClip(towers, templates=("a {color} {thing}", "{color}"), batch_size=2)  # type: ignore[arg-type]
    flat = [
        torch.tensor(rgb).view(3, 1, 1).expand(3, 9, 5)
        for rgb in ([0.9, 0.1, 0], [0, 0.2, 0.9], [0.1, 0.8, 0])
    ]
    assert namer([Cut("cup", pixels) for pixels in flat]) == ["red", "blue", "green"]
    assert towers.texts_read == 20  # ten colours, two sentences, one thing


def test_a_detector_that_returns_nonsense_is_told_so() -> None:
    good = {"boxes": torch.zeros(1, 4), "labels": ["a"], "scores": torch.ones(1)}
    assert read_detections([good, {"boxes": [], "labels": [], "scores": []}], 2)[1] == []
    with pytest.raises(TypeError, match="2 pictures"):
        read_detections([good], 2)
    with pytest.raises(TypeError, match="lengths"):
        read_detections([{**good, "scores": torch.ones(2)}], 1)
    with pytest.raises(TypeError, match="boxes, labels and scores"):
        read_detections([{"boxes": []}], 1)
    with pytest.raises(ValueError, match="no module 'nowhere'"):
        rewardmodels.load("geneval", detector="nowhere:detector")


def tiny_yolos(folder: Path) -> str:
    """A stock box detector of random weights: 9 guesses a picture, 3 classes and nothing."""
    from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessor

    torch.manual_seed(0)
    config = YolosConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=[32, 32],
        patch_size=8, num_detection_tokens=9, id2label={0: "mouse", 1: "cat", 2: "cup"},
    )  # fmt: skip
    YolosForObjectDetection(config).save_pretrained(folder)
    YolosImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


def test_a_stock_box_detector_gives_what_its_own_calls_give(tmp_path: Path) -> None:
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    detector = StockDetector(tiny_yolos(tmp_path))
    image = (torch.rand(2, 3, 40, 60, generator=torch.Generator().manual_seed(0)) * 255).round() / 255
    got = read_detections(detector(image, [("cat",)] * 2), 2)
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    with torch.no_grad():
        seen = processor(images=[(i * 255).round().to(torch.uint8) for i in image], return_tensors="pt")
        outputs = AutoModelForObjectDetection.from_pretrained(tmp_path).eval()(**seen)
    chances = outputs.logits.softmax(-1)[..., :-1].max(-1)
    for row, found in enumerate(got):
        keep_these = chances.values[row] > 0.05
        torch.testing.assert_close(
            torch.tensor([one.score for one in found]), chances.values[row][keep_these]
        )
        middle = outputs.pred_boxes[row][keep_these]
        left = (middle[:, 0] - middle[:, 2] / 2) * 60
        torch.testing.assert_close(torch.tensor([one.box[0] for one in found]), left, atol=1e-3, rtol=0)
        names = ["computer mouse", "cat", "cup"]
        assert [one.label for one in found] == [names[k] for k in chances.indices[row][keep_these].tolist()]
    assert sum(map(len, got)) > 0


def test_segments_become_boxes_and_masks() -> None:
    detector = object.__new__(StockDetector)
    detector.model = SimpleNamespace(config=SimpleNamespace(id2label={0: "remote", 1: "cat"}))
    detector.names = {"remote": "tv remote"}
    maps = torch.zeros(3, 6, 8)
    maps[0, 1:3, 2:7] = 1
    maps[2, 5, 0] = 1
    infos = [{"label_id": 0, "score": 0.9}, {"label_id": 1, "score": 0.8}, {"label_id": 1, "score": 0.7}]
    (found,) = read_detections([detector._instances({"segments_info": infos, "segmentation": maps})], 1)
    assert [(one.label, one.box) for one in found] == [("tv remote", (2, 1, 7, 3)), ("cat", (0, 5, 1, 6))]
    assert found[0].mask is not None and int(found[0].mask.sum()) == 10
    nothing = detector._instances({"segments_info": [], "segmentation": torch.full((6, 8), -1)})
    assert read_detections([nothing], 1) == [[]]


def test_it_agrees_with_the_exact_judge_of_the_shapes_world() -> None:
    kinds = ("single_object", "colors", "counting", "two_object", "color_attr", "position")
    prompts = [
        p for p in sample_prompts("train", 400, seed=3, categories=kinds) if read_prompt(p) is not None
    ]
    assert len(prompts) > 60
    reward = rewardmodels.load("geneval", detector="shapes")
    right = render(prompts, seed=1)
    for pictures in (right, right.roll(1, 0)):
        exact = verify(pictures, prompts)
        got = reward(samples=[Sample(p, image) for p, image in zip(prompts, pictures, strict=True)])
        assert bool(got.valid.all())
        correct = got.values[:, 0] == 1
        same_number = torch.tensor(
            [
                len(sight.things) == sum(clause.count for clause in read_prompt(prompt).include)  # type: ignore[union-attr]
                for sight, prompt in zip(exact.sights, prompts, strict=True)
            ]
        )  # GenEval does not mind further things, the exact judge does
        assert torch.equal(correct[same_number], exact.passed[same_number])
        assert bool(correct[exact.passed].all())
