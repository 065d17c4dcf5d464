"""Set rewards: credit by hand, sets by prompt, files as reference, broken samples left out of the set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import rewardmodels
from mmalign.media import write
from mmalign.shapes import render
from mmalign.stats import sets
from mmalign.types import Sample
from rewardmodels.combine import needs_group
from rewardmodels.distribution import feature_map, pixels
from tests.contract import tiny_clip

HERE = __name__


def corner(images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    """Two features: red and green of the first pixel."""
    return images[:, :2, 0, 0]


def picture(red: float, green: float, prompt: str = "p") -> Sample:
    return Sample(prompt, torch.tensor([red, green, 0.0]).view(3, 1, 1).expand(3, 4, 4))


def test_vendi_credit_within_each_prompt() -> None:
    reward = rewardmodels.load("set-vendi", features=f"{HERE}:corner")
    same, other = picture(1, 0, "x"), picture(0, 1, "x")
    rest = [picture(1, 0, "y"), picture(0.5, 0, "y"), picture(1, 0, "y")]
    scores = reward(samples=[same, rest[0], same, other, *rest[1:]])
    share = np.array([2 / 3, 1 / 3])
    whole = float(np.exp(-np.sum(share * np.log(share))))
    expected = [whole - 2, 0.0, whole - 2, whole - 1, 0.0, 0.0]  # the pictures of y are all alike
    torch.testing.assert_close(scores.overall, torch.tensor(expected), atol=1e-5, rtol=0)
    assert scores.values[:, 1].tolist() == pytest.approx([whole, 1.0, whole, whole, 1.0, 1.0])
    assert needs_group(reward)


def test_a_broken_sample_leaves_the_set_and_small_sets_have_no_credit(tmp_path: Path) -> None:
    reward = rewardmodels.load("set-vendi", features=f"{HERE}:corner")
    broken = Sample("x", tmp_path / "missing.png")
    kinds = [picture(1, 0, "x"), picture(1, 0, "x"), picture(0, 1, "x")]
    scores = reward(samples=[broken, *kinds, picture(1, 0, "lonely")])
    assert scores.valid.tolist() == [False, True, True, True, False]
    torch.testing.assert_close(scores.overall[1:4], reward(samples=kinds).overall)
    assert "three or more samples" in str(scores.reasons[4]) and "missing.png" in str(scores.reasons[0])


def test_frechet_to_a_file_of_features(tmp_path: Path) -> None:
    known = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)) * 0.1 + 0.5
    save_file({"features": known}, tmp_path / "known.safetensors")
    reward = rewardmodels.load(
        "set-frechet", features=f"{HERE}:corner", reference=str(tmp_path / "known.safetensors")
    )
    samples = [picture(*known[k].clamp(0, 1).tolist(), prompt=str(k)) for k in range(6)] + [picture(0, 1)]
    scores = reward(samples=samples)
    rows = corner(torch.stack([s.media for s in samples]), [])
    target = sets.Gaussian.of(known.double().numpy())
    assert scores.values[0, 1] == pytest.approx(-sets.frechet_to(rows.double().numpy(), target), rel=1e-5)
    assert int(scores.overall.argmin()) == 6


def test_exemplars_of_a_folder_are_pointwise(tmp_path: Path) -> None:
    for k, image in enumerate(render(["a red circle", "a large red square"], seed=3)):
        write(tmp_path / f"{k}.png", image)
    near, far = render(["a red circle"], seed=3)[0], torch.zeros(3, 32, 32)
    far[2] = 1.0
    for measure in ("nearest", "kernel", "mahalanobis"):
        reward = rewardmodels.load("exemplars", reference=str(tmp_path), measure=measure)
        both = reward(samples=[Sample("", near), Sample("", far)]).overall
        assert both[0] > both[1] and not needs_group(reward)
        torch.testing.assert_close(both[:1], reward(samples=[Sample("", near)]).overall)
    with pytest.raises(ValueError, match="neither a folder"):
        rewardmodels.load("exemplars", reference=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="unknown: use nearest"):
        rewardmodels.load("exemplars", reference=str(tmp_path), measure="closest")


def test_a_reward_of_several_dimensions_is_a_feature_map() -> None:
    samples = [
        Sample(p, image) for p, image in zip(["a red circle"] * 3, render(["a red circle"] * 3), strict=True)
    ]
    found = feature_map("shapes-verifier")(samples)
    assert found.values.shape == (3, 3)
    with pytest.raises(ValueError, match="one dimension and no features"):
        feature_map("sharpness")
    assert pixels(samples).values.shape == (3, 192)


def test_compositions_take_sets_and_pass_the_need_on(tmp_path: Path) -> None:
    vendi = f"{{name: set-vendi, weight: 0.5, options: {{features: '{HERE}:corner'}}}}"
    text = f"name: both\nrewards: [{vendi}, brightness]"
    (tmp_path / "both.yaml").write_text(text)
    reward = rewardmodels.load(str(tmp_path / "both.yaml"))
    scores = reward(samples=[picture(1, 0), picture(1, 0), picture(0, 1)])
    assert needs_group(reward) and scores.names == ("set-vendi", "brightness")
    torch.testing.assert_close(scores.overall, 0.5 * scores.values[:, 0] + scores.values[:, 1])


def test_clip_embeddings_are_features(tmp_path: Path) -> None:
    options = tiny_clip.TINY["clip-score"](tmp_path)
    find = feature_map(f"clip@{options['path']}")
    images = render(["a red circle", "two blue squares"], seed=1)
    found = find([Sample("p", image) for image in images] + [Sample("p", tmp_path / "missing.png")])
    assert found.valid.tolist() == [True, True, False] and found.values.shape[1] > 4
    assert not torch.allclose(found.values[0], found.values[1])
