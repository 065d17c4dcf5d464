"""What `evaluate reward --conformal` promises, on pairs whose law is known; and the verb itself."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from mmalign.__main__ import main
from mmalign.composition import Reward
from mmalign.shapes import Law
from mmalign.shapes.pairs import write_pairs
from mmalign.types import PreferencePair, Sample
from pipelines import evaluate_reward
from pipelines.abstention import one_a_group, promise, tell
from pipelines.evaluate_reward import compare_pairs
from pipelines.settings import EvaluateReward
from rewardmodels.judges.pairwise import Decision


def world(rng: np.random.Generator, *, num: int = 600, noise: float = 1.0):
    """Scores whose difference tells the label with logistic noise; two pairs a prompt, some ties."""
    gap = rng.normal(size=2 * num) * 3
    label = np.where(gap + rng.logistic(size=2 * num) * noise > 0, 1, -1)
    label[rng.random(2 * num) < 0.1] = 0
    return gap.tolist(), label.tolist(), [k // 2 for k in range(2 * num)]


def test_one_untied_pair_stands_for_a_prompt() -> None:
    label, groups = [0, 1, -1, 0, 1], ["a", "a", "a", "b", "c"]
    drawn = {tuple(sorted(one_a_group(label, groups, seed).tolist())) for seed in range(20)}
    assert drawn == {(1, 4), (2, 4)}


def test_the_promise_is_kept_on_new_prompts() -> None:
    rng, errors, coverage = np.random.default_rng(0), [], []
    for seed in range(40):
        gap, label, groups = world(rng)
        found = promise(gap, label, groups, [None] * len(gap), alpha=0.1, delta=0.1, seed=seed)
        coverage.append(found["new_coverage"])
        errors.append(found["new_error"]["mean"] or 0.0)
    # a tenth of the thresholds may be above alpha; the observed errors scatter by about 0.02 on top
    assert np.mean(np.array(errors) > 0.1) < 0.25 and np.mean(errors) < 0.1
    assert np.mean(coverage) > 0.4 and found["error_of_all"]["mean"] > 0.1


def test_a_reported_variance_is_what_confidence_is_measured_in() -> None:
    rng = np.random.default_rng(1)
    gap, _, groups = world(rng)
    unsure = rng.random(len(gap)) < 0.5  # on these the score says nothing
    label = np.where(unsure, rng.choice([-1, 1], len(gap)), np.sign(gap)).astype(int).tolist()
    variance = np.where(unsure, 100.0, 0.01).tolist()
    with_it = promise(gap, label, groups, variance, alpha=0.1, delta=0.1)
    without = promise(gap, label, groups, [None] * len(gap), alpha=0.1, delta=0.1)
    assert with_it["new_coverage"] > 0.4 and with_it["confidence"].endswith("deviation")
    assert without["threshold"] is None and "more calibration prompts" in tell(without)


class Wavering:
    """A judge of pairs who knows the answer of half of the pairs, and tells the others by which is shown first."""

    def compare(self, pairs):
        return [
            Decision(0.95, None, 0.95, 0.95) if float(a.media.mean()) < 0.5 else Decision(0.5, None, 0.9, 0.1)
            for a, _ in pairs
        ]


def test_a_judge_of_pairs_is_sure_where_both_orders_agree() -> None:
    rng = np.random.default_rng(2)
    images = [torch.full((3, 2, 2), 0.25 if k % 2 else 0.75) for k in range(400)]
    found = [
        PreferencePair(str(k), Sample(str(k), image), Sample(str(k), image), {"overall": p})
        for k, image in enumerate(images)
        for p in [1.0 if k % 2 else float(rng.integers(2))]
    ]
    settings = EvaluateReward(reward=Reward(name="x"), pairs="p", output="o", batch_size=64)
    judged = compare_pairs(Wavering(), found, settings, Counter())
    told = promise(
        judged.difference,
        judged.label,
        judged.groups,
        judged.variance,
        alpha=0.1,
        delta=0.1,
        orders=judged.orders,
    )
    assert told["confidence"].startswith("1 - entropy") and told["threshold"] == pytest.approx(0.0, abs=1e-9)
    assert 0.4 < told["new_coverage"] < 0.6 and told["new_error"]["mean"] == 0.0


def test_of_few_prompts_nothing_is_promised_and_the_accuracy_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = promise([1.0, 2.0], [1, 1], ["a", "b"], [None, None], alpha=0.1, delta=0.1)
    assert found["threshold"] is None and "20 or more prompts, got 2" in found["reason"]
    path = write_pairs(tmp_path, "heldout", num_prompts=3, num_images=2, law=Law(temperature=0.02))
    wanted = EvaluateReward(
        reward=Reward(name="shapes-verifier"), pairs=str(path), conformal=0.2, output=str(tmp_path / "o.json")
    )
    evaluate_reward.run(wanted)
    written = json.loads((tmp_path / "o.json").read_text())
    assert written["strict"]["n"] > 0 and "20 or more prompts" in written["conformal"]["reason"]
    told = " ".join(capsys.readouterr().out.split())
    assert "untied pairs in order" in told and "--conformal 0.2 promises nothing: it needs" in told


def redness(images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    """A reward that knows nothing of the task."""
    return images[:, 0].mean(dim=(1, 2))


@pytest.mark.parametrize("reward, judges", [("shapes-verifier", True), (f"{__name__}:redness", False)])
def test_the_verb(reward: str, judges: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_pairs(tmp_path, "heldout", num_prompts=80, law=Law(temperature=0.02), num_images=2)
    output = tmp_path / "out.json"
    words = ["evaluate", "reward", "--reward", reward, "--pairs", str(path), "--conformal", "0.2"]
    with pytest.raises(SystemExit) as done:
        main([*words, "-o", str(output)])
    assert not done.value.code
    found = json.loads(output.read_text())["conformal"]
    assert (found["threshold"] is not None) == judges
    assert ("promised 20%" if judges else "no pair can be judged") in capsys.readouterr().out
