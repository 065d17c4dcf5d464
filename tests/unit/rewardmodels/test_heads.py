"""The heads: what each reads, what it makes of it by hand, saving to the bit, scores with their uncertainty."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import rewardmodels
from mmalign.types import Sample
from rewardmodels.heads import Readout, Seen, build_head
from rewardmodels.heads.readout import Overall, fused_log_std, overall_log_variance, overall_of
from rewardmodels.losses import with_overall
from rewardmodels.settings import RewardSettings
from tests.unit.rewardmodels.tiny import FAMILIES, tiny_family

WIDTH = 8


def seen(num_tokens: int = 1, num_layers: int = 1) -> Seen:
    """Two rows of six and four tokens; the second row asks two scores."""
    torch.manual_seed(0)
    layers = [torch.randn(2, 6, WIDTH) for _ in range(num_layers)]
    ends = torch.tensor([[5], [2], [3]])
    columns = torch.cat([ends - k for k in reversed(range(num_tokens))], 1)
    return Seen(layers, torch.tensor([0, 1, 1]), columns, torch.tensor([[1] * 6, [1] * 4 + [0] * 2]))


def pictures(num: int = 3) -> list[Sample]:
    draws = torch.Generator().manual_seed(1)
    return [
        Sample(prompt, torch.rand(3, 32, 32, generator=draws))
        for prompt in ("a red circle", "two blue squares", "a red circle")[:num]
    ]


def test_a_score_sees_its_own_tokens_and_those_before() -> None:
    view = seen()
    assert view.visible().int().tolist() == [[1] * 6, [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0]]
    torch.testing.assert_close(view.mean()[1], view.layers[0][1, :3].mean(0))
    assert torch.equal(view.tokens(offset=-1)[2, 0], view.layers[0][1, 2])


def test_prompts_that_share_a_picture_are_averaged_apart() -> None:
    """Tokens 0 and 1 are the picture, 2 the first prompt, 3 the second."""
    mask = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 1]]).bool()[None, None]
    hidden = torch.arange(4.0).repeat(WIDTH, 1).T[None]
    view = Seen([hidden], torch.tensor([0, 0]), torch.tensor([[2], [3]]), mask)
    torch.testing.assert_close(view.mean()[:, 0], torch.tensor([1.0, 4 / 3]))


def test_the_diagonal_of_several_tokens_and_one_map_for_all() -> None:
    view = seen(num_tokens=2)
    head = build_head("linear", WIDTH, 2)
    weight: Tensor = head.score.weight
    expected = torch.stack([view.tokens()[:, d] @ weight[d] + head.score.bias[d] for d in range(2)], 1)
    torch.testing.assert_close(head(view).values, expected)
    shared = build_head("linear", WIDTH, 2, {"shared": True, "bias": False})
    assert shared.score.weight.shape == (1, WIDTH) and shared.score.bias is None
    torch.testing.assert_close(shared(view).values, view.tokens() @ shared.score.weight[0])


def test_gaussian_heads_and_their_fusion_by_hand() -> None:
    head = build_head("gaussian", WIDTH, 2, {"hidden": [8, 4]}).eval()
    read = head(seen())
    outputs = head.score(seen().tokens()[:, 0])
    assert torch.equal(read.values, outputs[:, ::2]) and torch.equal(read.log_std, outputs[:, 1::2])
    values, spread = torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, math.log(2.0)]])
    assert overall_of(values, "mean").item() == 2 and fused_log_std(spread, "mean", values).item() == (
        pytest.approx(math.log(2) / 2)
    )
    assert overall_of(values, "sum").item() == 4
    assert fused_log_std(spread, "sum", values).exp().item() == pytest.approx(math.sqrt(1 + 4))
    assert overall_of(values, "min").item() == 1 and fused_log_std(spread, "min", values).item() == 0
    assert overall_of(values, "mean", (0.25, 0.5)).item() == 1.75
    both = with_overall(Readout(values, spread), "sum")
    assert both.values.tolist() == [[1, 3, 4]] and both.log_std is not None and both.log_std.shape == (1, 3)


@pytest.mark.parametrize(
    ("rule", "weights", "powers", "variance"),
    [
        ("mean", (), (), (4 + 9) / 4),
        ("sum", (), (), 4 + 9),
        ("min", (), (), 4),
        ("product", (), (), 4 + 9 / 16),  # d sqrt(xy) = (dx y + dy x) / (2 sqrt(xy)) at x = 1, y = 4
        ("product", (), (3.0, 1.0), 2 * (9 / 16 * 4 + 9 / 256)),  # g = x^(3/4) y^(1/4), g^2 = 2
        ("mean", (0.5, -2.0), (), 0.25 * 4 + 4 * 9),
    ],
)
def test_the_variance_of_overall_from_independent_heads(
    rule: Overall, weights: tuple[float, ...], powers: tuple[float, ...], variance: float
) -> None:
    values, logs = torch.tensor([[1.0, 4.0]]), torch.tensor([[4.0, 9.0]]).log()
    found = overall_log_variance(logs, values, rule, weights, powers).exp().item()
    assert found == pytest.approx(variance)


def test_a_product_may_weigh_its_dimensions() -> None:
    values = torch.tensor([[1.0, 4.0, 4.0], [4.0, 1.0, 1.0], [3.0, 3.0, 3.0]])
    equal, geo_agg = overall_of(values, "product"), overall_of(values, "product", powers=(2.0, 1.0, 1.0))
    assert equal.tolist() == pytest.approx([16 ** (1 / 3), 4 ** (1 / 3), 3])
    assert geo_agg.tolist() == pytest.approx([2, 2, 3])
    with pytest.raises(ValueError, match="belong to product, not to sum"):
        replace(RewardSettings("x", "media-prompt/1"), overall="sum", overall_powers=(1.0,))
    with pytest.raises(ValueError, match="1 numbers above 0"):
        replace(RewardSettings("x", "media-prompt/1"), overall="product", overall_powers=(1.0, 2.0))


def test_fused_heads_fuse_their_spread_as_published_unless_weights_are_fitted() -> None:
    reward = tiny_family("fused")
    scores = reward(samples=pictures(1))
    assert scores.log_variance is not None and scores.overall_log_variance is not None
    torch.testing.assert_close(scores.overall_log_variance, scores.log_variance.mean(dim=1))
    reward.settings = replace(reward.settings, overall_weights=(1.0, 3.0), overall_std=2.0)
    fitted = reward(samples=pictures(1))
    assert fitted.log_variance is not None and fitted.overall_log_variance is not None
    expected = (fitted.log_variance.exp() * torch.tensor([1.0, 9.0])).sum(dim=1) / 4
    torch.testing.assert_close(fitted.overall_log_variance.exp(), expected)


def test_each_fused_head_reads_its_own_prompt() -> None:
    head = build_head("fused", WIDTH, 2, {"hidden": [8, 4]}).eval()
    first, second = (
        seen(),
        Seen([torch.randn(2, 6, WIDTH)], *(getattr(seen(), n) for n in ("rows", "columns", "mask"))),
    )
    read, turned = head(first, second), head(second, first)
    torch.testing.assert_close(read.values[:, 0], head.heads[0](first).values[:, 0])
    assert not torch.allclose(read.values[:, 0], turned.values[:, 0])
    with pytest.raises(ValueError, match="need as many templates"):
        head(first)


@pytest.mark.parametrize("kind", ["corn", "coral"])
def test_ordered_levels_are_decoded_to_their_expectation(kind: str) -> None:
    head = build_head(kind, WIDTH, 1, {"num_levels": 4})
    read = head(seen())
    assert read.logits.shape == (3, 1, 3)
    chances = read.logits.sigmoid()[:, 0]
    above = chances.cumprod(dim=1) if kind == "corn" else chances
    torch.testing.assert_close(read.values[:, 0], 1 + above.sum(1))
    assert bool((read.values > 1).all() and (read.values < 4).all())


def test_ranges_of_numeric_and_indexed_heads() -> None:
    numeric = build_head("numeric", WIDTH, 1, {"low": 1.0, "high": 4.0})
    assert bool(((numeric(seen()).values > 1) & (numeric(seen()).values < 4)).all())
    index = build_head("index", WIDTH, 1, {"index": -2, "scale": 100.0})
    view = seen()
    expected = index.score(view.layers[0][torch.tensor([0, 1, 1]), torch.tensor([4, 1, 2])]).abs() * 100
    torch.testing.assert_close(index(view).values, expected)


def test_padding_and_other_prompts_do_not_reach_a_query() -> None:
    head = build_head("query", WIDTH, 1, {"layers": [0, 1], "num_heads": 2}).eval()
    view = seen(num_layers=3)
    before = head(view).values
    changed = [layer.clone() for layer in view.layers]
    for layer in changed:
        layer[1, 3:] = 99.0
    after = head(Seen(changed, view.rows, view.columns, view.mask)).values
    torch.testing.assert_close(before[:2], after[:2])
    assert not torch.allclose(before[2], after[2])
    with pytest.raises(ValueError, match="not among the 3 hidden states"):
        build_head("query", WIDTH, 1, {"layers": [7], "num_heads": 2})(view)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("gaussian", {"hiden": [8, 4]}, "has no option 'hiden'"),
        ("cubic", {}, "use one of"),
        ("corn", {"num_levels": 1}, "at least 2"),
        ("index", {"index": 3}, "must be negative"),
        ("numeric", {"low": 2.0, "high": 1.0}, "low must be below"),
    ],
)
def test_wrong_options_are_told(kind: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_head(kind, WIDTH, 1, options)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_saved_family_scores_the_same_bits(name: str, tmp_path: Path) -> None:
    reward = tiny_family(name)
    samples = [*pictures(2), Sample("a red circle", torch.rand(3, 32, 32), torch.rand(3, 32, 32))]
    before = reward(samples=samples)
    after = rewardmodels.load(str(reward.save(tmp_path)))(samples=samples)
    assert bool(after.valid.all()), after.reasons
    assert torch.equal(before.values, after.values) and torch.equal(before.overall, after.overall)
    assert float(before.values.std(dim=0).min()) > 0
    if name in ("gaussian", "fused"):
        assert before.log_variance is not None and torch.equal(before.log_variance, after.log_variance)
    else:
        assert before.log_variance is None and after.log_variance is None


def test_the_variance_is_that_of_normalised_scores() -> None:
    from rewardmodels.calibrated import with_calibration

    reward = tiny_family("gaussian")
    plain = reward(samples=pictures(1)).log_variance
    with_calibration(reward, mean=(1.0,), std=(4.0,))
    scaled = reward(samples=pictures(1)).log_variance
    assert plain is not None and scaled is not None
    torch.testing.assert_close(scaled, plain - 2 * math.log(4.0))


def test_aspects_before_the_prompt_do_not_see_it() -> None:
    reward = tiny_family("aspects")
    image = torch.rand(3, 32, 32)
    scores = reward(samples=[Sample("a red circle", image), Sample("two blue squares", image)]).values
    torch.testing.assert_close(scores[0, 0], scores[1, 0])
    assert abs(float(scores[0, 1] - scores[1, 1])) > 1e-6


@pytest.mark.parametrize("template", ["candidates/1", "named-candidates/1"])
def test_candidates_of_one_row_see_those_before_them_only(template: str) -> None:
    reward = tiny_family("candidates", template=template).requires_grad_(False)
    first, second, third = (Sample("a red circle", torch.rand(3, 32, 32)) for _ in range(3))
    together = reward.together([first, second, third])
    assert together.shape == (3,)
    torch.testing.assert_close(together[:1], reward(samples=[first]).overall, atol=1e-5, rtol=0)
    torch.testing.assert_close(together[:2], reward.together([first, second]), atol=1e-5, rtol=0)
    assert abs(float(together[1] - reward(samples=[second]).overall)) > 1e-6
    with pytest.raises(ValueError, match="one prompt"):
        reward.together([first, Sample("two blue squares", torch.rand(3, 32, 32))])
    with pytest.raises(ValueError, match="judges one by one"):
        tiny_family("mlp").together([first])


@pytest.mark.parametrize("source", [False, True])
def test_the_prompt_stands_behind_every_named_candidate(source: bool) -> None:
    builder = tiny_family("candidates", template="named-candidates/1").builder
    media = [torch.rand(1, 3, 32, 32) for _ in range(3)]
    made = builder.together(["a red circle"], [media], [media[0]] if source else None)
    text = builder.tokenizer.decode(made.input_ids[0]).replace("<|image_pad|>", "").split()
    picture = ["<|vision_start|>", "<|vision_end|>"]
    one = [*picture, "a", "red", "circle", "<|Candidate|>"]
    assert text == [*(picture if source else []), *one * 3]
    assert [int(column) for column in made.columns[0]] == [
        i for i, token in enumerate(made.input_ids[0]) if builder.tokenizer.decode(token) == "<|Candidate|>"
    ]
