"""Factors by hand, and correlations of rewards that are nothing but one factor."""

from __future__ import annotations

import math

import pytest
import torch

from mmalign.types import Sample
from rewardmodels.trust import changes, findings
from rewardmodels.trust.checkup import FactorRow, factor_rows
from rewardmodels.trust.factors import FACTORS, measure
from rewardmodels.trust.survey import survey
from tests.unit.trust.made import ask_of, clips, edits, photos

MEASURES = {factor.name: factor for factor in FACTORS}


def of(name: str, media: torch.Tensor, prompt: str = "p", source: torch.Tensor | None = None) -> float:
    return measure(Sample(prompt, media, source), [MEASURES[name]])[name]


def rows(value, material, names, gold=None) -> dict[str, FactorRow]:
    wanted = [MEASURES[name] for name in names]
    gold = None if gold is None else ask_of(gold)
    seen = survey(ask_of(value), *material, gold=gold, probes=(), factors=wanted)
    return {row.name: row for row in factor_rows(seen)}


def plain(r: float, g: float, b: float) -> torch.Tensor:
    return torch.tensor([r, g, b]).view(3, 1, 1).expand(3, 8, 8).contiguous()


def test_colours_by_hand():
    assert of("saturation", plain(0.5, 0.4, 0.1)) == pytest.approx(0.8)
    assert of("saturation", plain(0.0, 0.0, 0.0)) == 0.0
    assert of("brightness", plain(1.0, 0.0, 0.0)) == pytest.approx(0.299)
    assert of("colour entropy", plain(0.3, 0.3, 0.3)) == 0.0
    halves = torch.cat([plain(0.1, 0.1, 0.1), plain(0.9, 0.1, 0.1)], 2)
    assert of("colour entropy", halves) == pytest.approx(1.0)


def test_shape_and_words():
    assert of("resolution", torch.zeros(3, 8, 16)) == pytest.approx(math.log(128))
    assert of("aspect", torch.zeros(3, 8, 16)) == pytest.approx(math.log(2))
    assert of("prompt length", plain(0.0, 0.0, 0.0), "a red  circle") == 3


def test_detail():
    flat, board = torch.full((3, 16, 16), 0.5), torch.zeros(3, 16, 16)
    board[:, ::2, ::2] = board[:, 1::2, 1::2] = 1.0
    assert (
        of("contrast", board) > of("contrast", changes.gaussian(board[None], 1.0)[0]) > of("contrast", flat)
    )
    step = torch.zeros(3, 16, 16)
    step[:, :, 8:] = 1.0
    assert of("edge density", flat) == 0.0
    assert of("edge density", step) == pytest.approx(2 / 16)  # the columns on both sides
    assert of("JPEG size", torch.rand(3, 32, 32)) > of("JPEG size", torch.full((3, 32, 32), 0.5))


def test_edits_and_videos():
    image = torch.rand(3, 16, 16)
    assert of("source similarity", image, source=image) == pytest.approx(1.0)
    assert of("source similarity", torch.zeros(3, 16, 16), source=torch.ones(3, 32, 32)) == pytest.approx(0.0)
    assert math.isnan(of("source similarity", image))
    ramp = torch.tensor([0.0, 0.1, 0.3]).view(3, 1, 1, 1).expand(3, 3, 4, 4)
    assert of("motion", ramp) == pytest.approx(0.15)
    assert math.isnan(of("motion", image))


@pytest.mark.parametrize("name", ["JPEG size", "saturation", "brightness", "contrast", "colour entropy"])
def test_a_reward_that_is_a_factor_correlates_with_it_by_one_and_with_its_opposite_by_minus_one(name):
    for sign in (1, -1):
        found = rows(lambda s, sign=sign: sign * measure(s, [MEASURES[name]])[name], photos(), [name])[name]
        assert found.overall.mean == pytest.approx(sign)
        assert found.within.mean == pytest.approx(sign)
        told = findings.of_factor(name, found.judged, found.kind, 12)
        assert told.grade == "bad" and ("more is" if sign > 0 else "less is") in told.word


def test_a_video_reward_of_motion_and_an_edit_reward_of_copying_are_caught():
    found = rows(lambda s: -measure(s, [MEASURES["motion"]])["motion"], clips(), ["motion"])["motion"]
    assert found.judged.mean == pytest.approx(-1.0) and found.kind == "over all samples"
    copies, groups = edits()
    names = ["source similarity", "motion", "resolution"]
    copy = rows(lambda s: -float((s.frames() - s.source_frames()).abs().mean()), (copies, groups), names)
    assert copy["source similarity"].judged.mean > 0.9
    assert copy["motion"].reason == "these samples have none"
    assert copy["resolution"].reason == "the same for all these samples"


def test_two_prompts_give_no_verdict_however_narrow_the_interval():
    copies, groups = photos(2, 2)
    found = rows(
        lambda s: measure(s, [MEASURES["brightness"]])["brightness"], (copies, groups), ["brightness"]
    )
    told = findings.of_factor("brightness", found["brightness"].judged, "within prompts", 2)
    assert told.grade == "note" and "too few prompts" in told.word


def test_what_gold_explains_is_no_lean_and_what_it_does_not_is():
    brightness = MEASURES["brightness"]

    def gold(sample: Sample) -> float:
        return brightness.measure(sample, sample.frames())

    honest = rows(gold, photos(), ["brightness"], gold)["brightness"]
    assert honest.within.mean == pytest.approx(1.0) and honest.judged.mean == 0.0
    assert findings.of_factor("brightness", honest.judged, honest.kind, 12).grade == "good"
    noise = {s.id: (k * 37) % 97 for k, s in enumerate(photos()[0])}  # a gold that has nothing to do with it
    led = rows(gold, photos(), ["brightness"], lambda s: float(noise[s.id]))["brightness"]
    assert led.kind == "within prompts, given gold" and led.judged.mean > 0.9
