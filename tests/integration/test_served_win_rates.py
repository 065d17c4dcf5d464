"""A judge of pairs on a tiny VLM, as win rates in a composition, through `mmalign serve` and `remote`."""

from __future__ import annotations

import pytest
import torch
import yaml

import rewardmodels
from mmalign.types import RewardModel, Sample
from rewardmodels.asking import ask_by_group
from rewardmodels.combine import needs_group
from rewardmodels.remote import Remote
from tests.unit.rewardmodels.judges import tiny_chat
from tests.unit.rewardmodels.serving import serving


def noise(seed: int) -> torch.Tensor:
    """A picture on the 8-bit grid."""
    return torch.rand(3, 56, 56, generator=torch.Generator().manual_seed(seed)).mul(255).round() / 255


def candidates() -> list[Sample]:
    """Three pictures of one prompt and two of another, among each other, and one alone."""
    prompts = {"a circle": 3, "a square": 2, "a star": 1}
    made = [
        Sample(prompt, noise(k + len(prompt)), id=f"{prompt} {k}")
        for prompt, num in prompts.items() for k in range(num)
    ]  # fmt: skip
    return [made[k] for k in (3, 0, 5, 1, 4, 2)]


@pytest.fixture(scope="module")
def rivals(tmp_path_factory: pytest.TempPathFactory) -> RewardModel:
    """The composition, written as a user would."""
    folder = tmp_path_factory.mktemp("rivals")
    options = {"path": str(tiny_chat.qwen(folder / "judge")), "min_mass": 0.0}
    rate = {"name": "one-or-two", "options": options, "scale": {"name": "affine", "mean": 0.5, "std": 0.1}}
    written = {"name": "rivals", "combine": {"name": "zscore", "eps": 0.0},
               "rewards": [rate, {"name": "brightness", "weight": 0.5}]}  # fmt: skip
    (folder / "rivals.yaml").write_text(yaml.safe_dump(written))
    return rewardmodels.load(str(folder / "rivals.yaml"))


@pytest.mark.parametrize("batch_size", [1, 16])
def test_win_rates_of_a_vlm_are_served_by_group_as_they_are_here(
    rivals: RewardModel, batch_size: int
) -> None:
    samples = candidates()
    here = ask_by_group(rivals, samples)
    with serving({"rivals": rivals}) as url:
        remote = Remote(url=url, batch_size=batch_size)
        assert needs_group(remote) and remote.dimensions == rivals.dimensions == ("one-or-two", "brightness")
        there = remote(samples=samples)
    assert there.valid.tolist() == here.valid.tolist() == [True, True, False, True, True, True]
    assert "nothing to compare with" in str(there.reasons[2]) and there.reasons == here.reasons
    torch.testing.assert_close(there.values, here.values, atol=1e-5, rtol=0, equal_nan=True)
    torch.testing.assert_close(there.overall, here.overall, atol=1e-4, rtol=0, equal_nan=True)
    square = [k for k, sample in enumerate(samples) if sample.prompt == "a square"]
    assert float(there.values[square, 0].sum()) == pytest.approx(
        0.0, abs=1e-4
    )  # win rates of two: p and 1 - p
