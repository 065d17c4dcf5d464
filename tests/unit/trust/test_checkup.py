"""The whole check: pairs, calibration, curves and the verdict, on rewards whose quality is known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmalign.types import PreferencePair, Sample, Scores
from rewardmodels.trust import findings
from rewardmodels.trust.checkup import check, group_names
from rewardmodels.trust.findings import Finding
from rewardmodels.trust.pairs import judge_pairs, surveyed_pairs
from rewardmodels.trust.probes import PROBES
from rewardmodels.trust.survey import survey
from rewardmodels.trust.worlds import draw_world, label_pairs
from tests.unit.trust.made import ask_of, photos

FEW = [probe for probe in PROBES if probe.name in ("wrong prompt", "blank")]


def worth(sample: Sample) -> float:
    """Gold: right words and red pixels, which a blank picture of the same mean has less of."""
    return float(sample.frames()[:, 0].square().mean()) + 2.0 * float(
        sample.prompt == sample.metadata["group"]
    )


def looked(value, num_prompts: int = 12, num: int = 8, probes=FEW):
    samples, groups = photos(num_prompts, num, size=8)
    return ask_of(value), survey(
        ask_of(value), samples, groups, gold=ask_of(worth), probes=probes, factors=()
    )


def named(checked) -> dict[str, Finding]:
    return {one.name: one for one in checked.findings}


def test_gold_itself_has_no_fault():
    ask, seen = looked(worth)
    pairs, best = label_pairs(seen.samples, seen.groups, seen.gold.tolist(), temperature=0.05)
    checked = check(ask, seen, pairs=surveyed_pairs(pairs, seen, best=best), pool=seen)
    assert [one.word for one in checked.findings if one.grade == "bad"] == []
    assert named(checked)["with gold"].grade == named(checked)["best of n"].grade == "good"
    assert named(checked)["pair accuracy"].grade == "good"
    assert checked.calibration.accuracy.mean == pytest.approx(best, abs=0.06)
    np.testing.assert_allclose(checked.calibration.temperatures, 0.05, rtol=0.3)  # the annotator's own
    json.dumps(checked.as_dict(), allow_nan=False)


def test_the_opposite_of_gold_is_found_out_everywhere():
    ask, seen = looked(lambda sample: -worth(sample))
    pairs, _ = label_pairs(seen.samples, seen.groups, seen.gold.tolist(), temperature=0.05)
    checked = check(ask, seen, pairs=surveyed_pairs(pairs, seen), pool=seen)
    words = {name: one.word for name, one in named(checked).items() if one.grade == "bad"}
    assert words["with gold"] == "against gold" and words["pair accuracy"] == "against the labels"
    assert words["best of n"] == "gold falls as the reward rises"
    assert words["wrong prompt"] == "prefers the spoiled one"
    assert checked.verdict.word == "Do not optimise this reward."


def test_a_constant_reward_is_told_so_and_breaks_nothing():
    ask, seen = looked(lambda sample: 3.0)
    pairs, _ = label_pairs(seen.samples, seen.groups, seen.gold.tolist())
    checked = check(ask, seen, pairs=surveyed_pairs(pairs, seen), pool=seen)
    assert named(checked)["variation"].word == "constant"
    assert named(checked)["pair accuracy"].word == "no better than a coin"
    assert "all scores are equal" in checked.missing["calibration"]
    assert checked.curves[0][1].points[-1].gain.mean == pytest.approx(0.0)
    json.dumps(checked.as_dict(), allow_nan=False)


def test_a_hacked_proxy_turns_gold_down_and_the_worst_case_of_an_ensemble_does_not():
    samples, groups = photos(16, 16, size=8)
    red = {sample.id: float(sample.frames()[:, 0].mean()) for sample in samples}
    low = float(np.quantile(list(red.values()), 0.15))

    def hacked(sample: Sample) -> float:  # the least red look best of all
        return red[sample.id] + (3.0 if red[sample.id] < low else 0.0)

    seen = survey(
        ask_of(hacked), samples, groups, gold=ask_of(worth), probes=(), factors=(),
        others={"honest": ask_of(worth)},
    )  # fmt: skip
    checked = check(ask_of(hacked), seen, pool=seen)
    curves = dict(checked.curves)
    assert named(checked)["best of n"].grade == "bad" and "gold" in named(checked)["best of n"].word
    assert list(curves) == ["reward", "ensemble, mean", "ensemble, min", "ensemble, uwo"]
    assert curves["ensemble, min"].points[-1].gain.low > 0 > curves["reward"].points[-1].gain.mean


def test_most_probes_untold_is_the_verdict_unless_a_fault_was_seen():
    def of(*words):
        return findings.conclude([Finding("probes", str(k), g, w, "", "") for k, (w, g) in enumerate(words)])

    untold, passes, weak = (findings.FEW, "note"), ("passes", "good"), ("notices too rarely", "fair")
    assert of(untold, untold, weak).word == "It could not be told whether this reward can be trusted."
    assert of(untold, untold, passes).grade == "note" and "2 of 3 probes" in of(untold, untold, passes).figure
    assert (
        of(untold, passes, weak).word == "Use this reward with care." and of(untold, passes).grade == "good"
    )
    assert of(untold, untold, ("does not notice", "bad")).grade == "bad"
    samples, groups = photos(3, 2, size=8)
    few = check(ask_of(worth), survey(ask_of(worth), samples, groups, probes=FEW, factors=()))
    assert "could not be told" in few.verdict.word


def test_without_gold_or_pairs_it_says_what_is_missing():
    samples, groups = photos(8, 2, size=8)
    seen = survey(ask_of(lambda s: float(s.frames().mean())), samples, groups, probes=FEW, factors=())
    checked = check(ask_of(lambda s: float(s.frames().mean())), seen)
    assert set(checked.missing) == {"calibration", "over-optimisation"}
    few = survey(ask_of(worth), samples, groups, gold=ask_of(worth), probes=(), factors=())
    assert "4 or more samples" in check(ask_of(worth), few, pool=few).missing["over-optimisation"]


def test_pairs_of_files_are_scored_once_and_the_broken_are_counted(tmp_path):
    samples, groups = photos(3, 3, size=8)
    broken = Sample(samples[0].prompt, tmp_path / "missing.png")
    asked: list[Sample] = []

    def ask(some):
        asked.extend(some)
        return ask_of(lambda s: float(s.frames()[:, 0].mean()))(some)

    pairs = [
        PreferencePair(a.prompt, a, b, {"overall": 1.0}, group=g)
        for a, b, g in zip(samples, samples[1:], groups, strict=False)
    ] + [PreferencePair(broken.prompt, broken, samples[1], {"overall": 0.0})]
    judged = judge_pairs(ask, pairs, batch_size=2)
    assert len(asked) == 9 and judged.difference.size == 8
    assert list(judged.left_out.values()) == [1] and "missing.png" in next(iter(judged.left_out))
    expected = samples[0].frames()[:, 0].mean() - samples[1].frames()[:, 0].mean()
    assert judged.difference[0] == pytest.approx(float(expected))


def test_rewards_with_a_variance_say_how_sure_they_are():
    """Right on even pictures and unsure, wrong and very unsure on odd ones: sureness by S tells them apart."""
    samples, groups = photos(20, 2, size=8)
    truth = {s.id: k % 7 for k, s in enumerate(samples)}

    def ask(some):
        values, logs = [], []
        for sample in some:
            odd = int(sample.id.split("-")[0]) % 2
            values.append(float(truth[sample.id]) * (-1 if odd else 1))
            logs.append(4.0 if odd else -2.0)
        return replace(
            Scores.of(torch.tensor(values)[:, None], ("r",)), log_variance=torch.tensor(logs)[:, None]
        )

    seen = survey(ask, samples, groups, gold=ask_of(lambda s: float(truth[s.id])), probes=(), factors=())
    pairs, _ = label_pairs(samples, groups, seen.gold.tolist(), temperature=0.01)
    checked = check(ask, seen, pairs=surveyed_pairs(pairs, seen))
    sure = {one.name: one.auroc for one in checked.sureness}
    assert sure["1 / S"] == 1.0 and sure["|difference| / S"] > 0.95 > sure["|difference|"]
    assert checked.pairs.deviation[0] == pytest.approx(np.sqrt(2 * np.exp(-2.0)), rel=1e-5)


def test_groups_are_named_by_metadata_prompt_and_source():
    image = torch.zeros(3, 4, 4)
    samples = [
        Sample("p", image, id="a"),
        Sample("p", image, metadata={"group": 7}),
        Sample("", image, id="c"),
        Sample("q", image, metadata={"group": None}),
    ]
    assert group_names(samples) == ["p", "7", "c", "q"]
    assert group_names(samples[:1], lambda sample: "s.png") == ["p\x1fs.png"]


@pytest.mark.parametrize(
    ("name", "modality"), [("shapes", "image"), ("shapes-edits", "edit"), ("shapes-videos", "video")]
)
def test_worlds_hold_faithful_samples_that_pass_and_others_that_mostly_do_not(name, modality):
    world = draw_world(name, num_prompts=6, num_candidates=6, seed=3)
    assert {sample.modality for sample in world.samples} == {modality} and len(world.samples) == 36
    gold = world.gold(samples=world.samples)
    assert bool(gold.valid.all())
    good = torch.tensor([bool(sample.metadata["faithful"]) for sample in world.samples])
    assert float((gold.overall[good] > 1.2).float().mean()) >= 0.9
    assert float(gold.overall[good].mean() - gold.overall[~good].mean()) > 0.4
    again = draw_world(name, num_prompts=6, num_candidates=6, seed=3)
    assert all(torch.equal(a.frames(), b.frames()) for a, b in zip(world.samples, again.samples, strict=True))
    with pytest.raises(ValueError, match="shapes, shapes-edits"):
        draw_world("shape", num_prompts=2, num_candidates=2)


def test_the_exact_judge_passes_its_own_edit_and_video_probes():
    for name in ("shapes-edits", "shapes-videos"):
        world = draw_world(name, num_prompts=9, num_candidates=2)
        ask = ask_of_judge(world.gold)
        wanted = ("wrong prompt", "identity edit", "still video")
        seen = survey(
            ask, world.samples, world.groups, probes=[p for p in PROBES if p.name in wanted], factors=()
        )
        for answers in seen.probes:
            found = findings.of_probe(answers)
            assert found is None or found.grade in ("good", "note"), found


def ask_of_judge(judge):
    return lambda samples: judge(samples=samples)
