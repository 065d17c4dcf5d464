"""Probes: each spoils exactly what it says, and rewards made blind, backwards or sharp get the answer they must."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from mmalign.types import Sample
from rewardmodels.probes import luma
from rewardmodels.trust import changes, findings
from rewardmodels.trust.factors import contrast, saturation
from rewardmodels.trust.probes import PROBES, Answers, partners, why_not
from rewardmodels.trust.survey import survey
from tests.unit.trust.made import ask_of, clips, edits, photos

Value = Callable[[Sample], float]


def probed(value: Value, material: tuple[list[Sample], list[str]]) -> dict[str, Answers]:
    """Every probe's answers for a reward on a material."""
    seen = survey(ask_of(value), *material, factors=())
    return {answers.probe.name: answers for answers in seen.probes}


def word(answers: Answers) -> str:
    found = findings.of_probe(answers)
    assert found is not None
    return f"{found.grade}: {found.word}"


def saturated(sample: Sample) -> float:
    return saturation(sample, sample.frames())


def reads(sample: Sample) -> float:
    """High where the words are those the picture was made with, in their order."""
    return float(sample.prompt == sample.metadata["group"])


def test_a_prompt_blind_reward_scores_half_on_prompts_and_is_called_blind():
    found = probed(saturated, photos())
    for name in ("wrong prompt", "shuffled prompt"):
        interval = found[name].sensitivity()
        assert (interval.mean, interval.n) == (0.5, 36)
    assert word(found["wrong prompt"]) == "bad: does not notice"
    assert word(found["shuffled prompt"]) == "note: does not notice"


def test_a_reward_that_reads_passes_both_prompt_probes_and_sees_no_pixel():
    found = probed(reads, photos())
    for name in ("wrong prompt", "shuffled prompt"):
        assert found[name].sensitivity().mean == 1.0
        assert word(found[name]) == "good: passes"
    assert found["blank"].sensitivity().mean == 0.5 and word(found["blank"]) == "bad: does not notice"


def test_a_liking_for_saturation_prefers_more_of_it():
    found = probed(saturated, photos())
    assert found["saturation x1.5"].sensitivity().mean < 0.1
    assert word(found["saturation x1.5"]) == "bad: prefers the spoiled one"
    assert found["blank"].sensitivity().mean > 0.9
    turned = probed(lambda sample: -saturated(sample), photos())
    assert turned["saturation x1.5"].sensitivity().mean > 0.9
    assert word(turned["blank"]) == "bad: prefers the spoiled one"


def test_a_liking_for_detail_minds_blur():
    found = probed(lambda sample: contrast(sample, sample.frames()), photos())
    assert found["blur"].sensitivity().mean > 0.9
    assert found["noise"].sensitivity().mean == 0.0  # noise is all detail


def test_where_all_agree_the_interval_is_wilsons_over_prompts_not_of_width_zero():
    interval = probed(reads, photos(12, 3))["wrong prompt"].sensitivity()
    assert interval.high == 1.0
    assert interval.low == pytest.approx(12 / (12 + 1.959964**2))


def test_motion_probes_tell_what_a_video_reward_sees():
    material = clips()
    assert {n for n, a in probed(saturated, material).items() if a.reason is not None} == {
        "identity edit", "swapped source"
    }  # fmt: skip
    moves = probed(lambda s: float((s.frames()[1:] - s.frames()[:-1]).abs().mean()), material)
    assert word(moves["still video"]) == "good: passes"
    assert moves["reversed frames"].sensitivity().mean == 0.5  # motion backwards is as much motion
    assert word(moves["shuffled frames"]) == "bad: prefers the spoiled one"  # it jumps more
    static = probed(lambda s: -float((s.frames()[1:] - s.frames()[:-1]).abs().mean()), material)
    assert word(static["still video"]) == "bad: prefers the spoiled one"
    brighter = probed(lambda s: float((s.frames()[-1] - s.frames()[0]).mean()), material)
    assert word(brighter["reversed frames"]) == "good: passes"


def test_edit_probes_catch_a_reward_of_copying_and_one_that_ignores_the_source():
    def likeness(sample: Sample) -> float:
        source = sample.source_frames()
        assert source is not None
        return -float((sample.frames() - source).abs().mean())

    found = probed(likeness, edits())
    assert word(found["identity edit"]) == "bad: prefers the spoiled one"
    assert word(found["swapped source"]) == "good: passes"
    blind = probed(lambda sample: float(sample.frames()[..., :6, :6].mean()), edits())
    assert word(blind["identity edit"]) == "good: passes"
    assert word(blind["swapped source"]) == "bad: does not notice"


def test_what_does_not_apply_says_why():
    found = probed(saturated, photos())
    assert found["identity edit"].reason == "needs edits, these are images"
    assert findings.of_probe(found["identity edit"]) is None
    same = [Sample("x", sample.media) for sample in photos(3, 2)[0]]
    reasons = {probe.name: why_not(probe, same, ["x"] * 6) for probe in PROBES}
    assert "two different prompts" in str(reasons["wrong prompt"])
    assert "two different words" in str(reasons["shuffled prompt"])
    assert reasons["blank"] is None


def test_refusals_and_unchanged_samples_are_counted_not_scored():
    grey = [Sample(f"grey {k}", torch.full((3, 8, 8), 0.1 + 0.05 * k)) for k in range(10)]
    found = probed(lambda s: float(s.frames().mean()), (grey, [s.prompt for s in grey]))
    assert found["blank"].unchanged == 10 and found["blank"].sensitivity().n == 0  # already of one colour
    assert found["saturation x1.5"].unchanged == 10
    picky = probed(lambda s: 1.0 if reads(s) else float("nan"), photos())
    assert sum(picky["wrong prompt"].refused.values()) == 36 and picky["wrong prompt"].wins == []
    assert word(picky["wrong prompt"]) == "note: refuses to judge the spoiled one"


def test_samples_that_are_wrong_already_are_not_spoiled():
    samples, groups = photos(10, 2)
    samples = [
        Sample(s.prompt, s.media, id=s.id, metadata={**s.metadata, "faithful": k % 2 == 0})
        for k, s in enumerate(samples)
    ]
    assert probed(saturated, (samples, groups))["blank"].sensitivity().n == 10


def test_few_prompts_give_no_verdict():
    assert word(probed(reads, photos(4, 5))["wrong prompt"]).startswith("note: too few prompts")


def test_a_partner_is_of_another_prompt_and_group():
    samples, groups = photos(5, 3)
    for own, other in enumerate(partners(samples, groups)):
        assert groups[own] != groups[other] and samples[own].prompt != samples[other].prompt
    assert partners(samples, groups, seed=1) != partners(samples, groups)
    alone = [Sample("x", samples[0].media)] * 3
    assert partners(alone, ["a", "b", "c"]) == [0, 1, 2]


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_every_change_keeps_shape_range_and_what_it_does_not_touch(probe):
    material = {"edit": edits, "video": clips}.get(
        next(iter(probe.modalities)) if len(probe.modalities) == 1 else ""
    )
    samples, _ = (material or photos)()
    rng = np.random.default_rng(0)
    before, other = samples[0], samples[-1]
    after = probe.change(before, other, rng)
    assert after.frames().shape == before.frames().shape
    assert float(after.frames().min()) >= 0 and float(after.frames().max()) <= 1
    if probe.of != "prompt":
        assert after.prompt == before.prompt
    if probe.of != "pixels":
        assert torch.equal(after.frames(), before.frames())
    if before.source is not None and probe.of != "source":
        assert torch.equal(after.source_frames(), before.source_frames())


def test_saturation_grows_by_half_and_brightness_stays():
    image = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1).expand(3, 4, 4)
    sample = Sample("p", image)
    after = changes.oversaturated(sample, sample, np.random.default_rng(0)).frames()
    grey = 0.299 * 0.5 + 0.587 * 0.4 + 0.114 * 0.3
    assert after[0, :, 0, 0].tolist() == pytest.approx([grey + 1.5 * (v - grey) for v in (0.5, 0.4, 0.3)])
    assert luma(after[None])[0, 0, 0, 0].item() == pytest.approx(grey)


def test_blur_keeps_the_mean_and_spreads_a_point_as_its_gaussian():
    point = torch.zeros(1, 3, 17, 17)
    point[..., 8, 8] = 1.0
    soft = changes.gaussian(point, 1.0)
    assert float(soft.sum()) == pytest.approx(3.0, rel=1e-4)
    assert float(soft[0, 0, 8, 9] / soft[0, 0, 8, 8]) == pytest.approx(math.exp(-0.5), rel=1e-4)


def test_shuffled_frames_are_neither_forwards_nor_backwards():
    sample = Sample("p", torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 2, 2) / 4)
    for seed in range(20):
        order = (
            changes.shuffled_frames(sample, sample, np.random.default_rng(seed)).frames()[:, 0, 0, 0].tolist()
        )
        assert sorted(order) == [0.0, 0.25, 0.5, 0.75]
        assert order not in ([0.0, 0.25, 0.5, 0.75], [0.75, 0.5, 0.25, 0.0])
