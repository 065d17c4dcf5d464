"""Pairs added to those of a file: twins that must tie, wrong prompts that must lose; and who refuses them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmalign.data.formats import parsed
from mmalign.data.rows import open_rows
from mmalign.shapes.annotators import Law
from mmalign.shapes.neutral import factor_of
from mmalign.shapes.pairs import write_pairs
from mmalign.strict import validate
from mmalign.train.distributed import Processes
from mmalign.types import PreferencePair, Sample
from rewardmodels import twins
from rewardmodels.clip.recipe import ClipRecipe
from rewardmodels.kinds import require_kinds
from rewardmodels.losses import lists_of
from rewardmodels.recipe import Data, RewardRecipe
from rewardmodels.sources import FileSource, source_of
from rewardmodels.training import RewardTraining
from tests.unit.rewardmodels.tiny import tiny_reward

DIMENSIONS = ("overall", "visual_quality")


def source(file: Path, *, neutral: int = 0, contrast: int = 0, num: int = 4) -> FileSource:
    data = Data(
        pairs=str(file), comparisons_per_bundle=num, neutral=neutral, contrast=contrast, heldout=None, calibration=None
    )  # fmt: skip
    made = source_of(data, 3, DIMENSIONS)
    assert isinstance(made, FileSource)
    return made


@pytest.fixture(scope="module")
def pairs_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twins")
    return write_pairs(folder, "train", num_prompts=6, law=Law(temperature=0.1), num_images=3)


def prompts_of(file: Path) -> dict[str, str]:
    rows = open_rows(file)
    found = [parsed(rows.record(place)) for place in range(len(rows))]
    return {one.id: one.prompt for one in found}


def changed(pair: PreferencePair) -> str:
    return factor_of(pair) or factor_of(pair.swapped())


def sides(pair: PreferencePair) -> tuple[Sample, Sample]:
    """The sample of the file and what was made of it."""
    return (pair.b, pair.a) if factor_of(pair) else (pair.a, pair.b)


def test_a_bundle_is_what_it_was_and_the_added_pairs_come_after(pairs_file: Path) -> None:
    plain, mixed = source(pairs_file).bundle(1, 0.0), source(pairs_file, neutral=6, contrast=5).bundle(1, 0.0)
    assert [(p.a.id, p.b.id, p.labels) for p in mixed[: len(plain)]] == [
        (p.a.id, p.b.id, p.labels) for p in plain
    ]
    kinds = Counter(changed(pair) for pair in mixed[len(plain) :])
    assert kinds == {"contrast": 5, **{f"neutral/{name}": 2 for name in twins.CHANGES}}
    assert {len({factor_of(p) == "" for p in mixed[len(plain) :]})} == {
        2
    }  # what was made stands on either side


def test_a_twin_ties_in_everything_and_stands_beside_a_picture_of_the_bundle(pairs_file: Path) -> None:
    made = source(pairs_file, neutral=12).bundle(0, 0.0)
    shown = {id(s) for pair in made for s in (pair.a, pair.b) if not s.metadata.get("change")}
    added = [pair for pair in made if changed(pair)]
    assert len(added) == 12
    for pair in added:
        before, after = sides(pair)
        assert pair.labels == dict.fromkeys(DIMENSIONS, 0.5) and all(pair.ties[dim] for dim in DIMENSIONS)
        assert id(before) in shown and before.prompt == after.prompt and before.source is after.source is None
        assert isinstance(after.media, Tensor) and after.media.shape == before.frames()[0].shape
        assert 0 < float((after.media - before.frames()[0]).abs().max()) < 0.35
        assert float(after.media.min()) >= 0 and float(after.media.max()) <= 1


def test_each_factor_moves_what_it_is_called_after_and_leaves_the_rest() -> None:
    draws = torch.Generator().manual_seed(0)
    x = torch.linspace(0, 1, 64)
    ramp = torch.stack([x.expand(48, 64), 1 - x.expand(48, 64), (x * 7 % 1).expand(48, 64)])
    picture = (0.2 + 0.5 * ramp + 0.02 * torch.rand(3, 48, 64, generator=draws)).clamp(0, 1)
    luma = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)

    def edges(y: Tensor) -> float:
        return float((y[..., 1:] - y[..., :-1]).square().mean())

    def colour(y: Tensor) -> float:
        return float((y - (y * luma).sum(0)).square().mean())

    more, less = (
        {name: change(picture, sign) for name, change in twins.CHANGES.items()} for sign in (1.0, -1.0)
    )
    assert colour(more["saturation"]) > colour(picture) > colour(less["saturation"])
    grey = (picture * luma).sum(0)
    torch.testing.assert_close((less["saturation"] * luma).sum(0), grey)  # fewer colours, the same light
    torch.testing.assert_close(less["saturation"] - grey, 0.75 * (picture - grey))
    assert edges(more["sharpness"]) > edges(picture) > edges(less["sharpness"])
    assert float((more["sharpness"].mean((1, 2)) - picture.mean((1, 2))).abs().max()) < 2e-3
    assert size(less["file_size"]) < size(more["file_size"])
    assert colour(less["file_size"]) == pytest.approx(colour(picture), rel=0.1)


def size(picture: Tensor) -> int:
    """Bytes of its PNG: what a coarser JPEG left out need not be written."""
    import io

    from mmalign.media import to_pil

    buffer = io.BytesIO()
    to_pil(picture).save(buffer, format="PNG")
    return len(buffer.getvalue())


def test_a_wrong_prompt_of_the_file_loses_where_prompts_matter(pairs_file: Path) -> None:
    prompts = prompts_of(pairs_file)
    added = [pair for pair in source(pairs_file, contrast=40).bundle(0, 0.0) if changed(pair) == "contrast"]
    assert len(added) == 40
    for pair in added:
        right, wrong = sides(pair)
        assert right.media == wrong.media and right.source is wrong.source
        assert right.prompt == prompts[(right.id or "").rpartition("/")[0]] != wrong.prompt
        assert wrong.prompt in prompts.values()
        assert pair.labels == {"overall": 1.0 if pair.a is right else 0.0}  # of quality it says nothing
    assert len({sides(pair)[1].prompt for pair in added}) == len(set(prompts.values()))


def test_lists_rank_the_prompts_of_a_picture(pairs_file: Path) -> None:
    added = [pair for pair in source(pairs_file, contrast=9).bundle(0, 0.0) if changed(pair) == "contrast"]
    for one in lists_of(added, "overall"):
        best = max(range(len(one.samples)), key=one.wins.__getitem__)
        assert not one.samples[best].metadata.get("change") and sum(one.wins) == one.wins[best] > 0


def test_added_pairs_are_a_function_of_the_bundle_alone(pairs_file: Path) -> None:
    """A run that goes on at bundle 5 sees what one that came there sees."""
    there = source(pairs_file, neutral=6, contrast=4)
    for number in range(5):
        there.bundle(number, 0.1 * number)
    one, other = there.bundle(5, 0.5), source(pairs_file, neutral=6, contrast=4).bundle(5, 0.9)
    assert len(one) == len(other)
    for x, y in zip(one, other, strict=True):
        assert (x.a.prompt, x.b.prompt, x.labels, changed(x)) == (
            y.a.prompt,
            y.b.prompt,
            y.labels,
            changed(y),
        )
        assert torch.equal(x.a.frames(), y.a.frames()) and torch.equal(x.b.frames(), y.b.frames())
    assert [changed(pair) for pair in there.bundle(6, 0.5)] == [changed(pair) for pair in one]
    assert [pair.b.prompt for pair in there.bundle(6, 0.5)] != [pair.b.prompt for pair in one]


def test_a_reward_learns_from_them(pairs_file: Path) -> None:
    made = validate(
        {
            "model": {"name": "tiny", "scratch": {}},
            "data": {"pairs": str(pairs_file), "neutral": 3, "contrast": 2},
        },
        RewardRecipe,
    )
    task = RewardTraining(tiny_reward(), made, source(pairs_file, neutral=3, contrast=2), Processes())
    (update,) = task.updates(0)
    assert update.num_losses == 4 * 3 + 3 + 2
    (loss,) = [make().per_sample for make in update.losses]
    assert loss.shape == (17,) and bool((loss > 0).all())
    loss.sum().backward()
    assert any(p.grad is not None and float(p.grad.abs().max()) > 0 for p in task.parameters())


def test_a_picture_that_cannot_be_read_has_no_twin_and_says_so_itself(tmp_path: Path) -> None:
    path = write_pairs(tmp_path, "train", num_prompts=2, law=Law(temperature=0.1), num_images=2)
    victim = sorted(tmp_path.rglob("*.png"))[0]
    victim.write_bytes(b"no picture")
    made = source(path, neutral=8).bundle(0, 0.0)
    added = [pair for pair in made if changed(pair)]
    assert len(added) == 6 and any(victim in (pair.a.media, pair.b.media) for pair in made)


def test_videos_and_edits_get_wrong_prompts_and_no_twins() -> None:
    draws = torch.Generator().manual_seed(0)
    frames = torch.zeros(3, 8, 8)
    edit = PreferencePair("x", Sample("x", frames, frames), Sample("x", frames, frames), {"overall": 1.0})
    video = PreferencePair("x", Sample("x", Path("a.mp4")), Sample("x", Path("b.mp4")), {"overall": 1.0})
    assert twins.neutral_pairs([edit, video], 4, ("overall",), draws) == []
    (made,) = twins.contrast_pairs([edit], 1, ("overall",), draws, lambda prompt, draws: "y")
    assert made.b.prompt == "y" and made.b.source is frames and made.labels == {"overall": 1.0}


def write_file(tmp_path: Path, name: str, prompts: tuple[str, ...]) -> Path:
    path = tmp_path / "pairs.jsonl"
    lines = [
        f'{{"id": "{k}", "prompt": "{prompt}", "candidates": [{{"uri": "a{name}"}}, {{"uri": "b{name}"}}], '
        '"annotations": [{"dim": "overall", "kind": "pair", "i": 0, "j": 1, "label": "i"}]}'
        for k, prompt in enumerate(prompts)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "prompts", "added", "said"),
    [
        (".mp4", ("x", "y"), {"neutral": 1}, "holds videos: set it to 0"),
        (".png", ("x", " x"), {"contrast": 1}, "one alone"),
    ],
)
def test_a_file_that_cannot_give_them_is_refused_at_the_start(
    tmp_path: Path, name: str, prompts: tuple[str, ...], added: dict[str, int], said: str
) -> None:
    path = write_file(tmp_path, name, prompts)
    data = Data(pairs=str(path), heldout=None, calibration=None)
    require_kinds(data, ("image", "video"), "the data")
    with pytest.raises(ValueError, match=said):
        require_kinds(data.model_copy(update=added), ("image", "video"), "the data")


@pytest.mark.parametrize(
    ("method", "template", "data", "said"),
    [
        ({"loss": "choice"}, "media-prompt/1", {"neutral": 1}, "choice cannot learn"),
        ({"loss": "plackett_luce"}, "media-prompt/1", {"neutral": 1}, "plackett_luce cannot learn"),
        ({"loss": "mse"}, "media-prompt/1", {"contrast": 1}, "mse learns from ratings"),
        ({}, "media/1", {"contrast": 1}, "does not read"),
        ({"dimensions": ["visual_quality"]}, "media-prompt/1", {"contrast": 1}, "what is learned is visual_quality"),
        ({}, "media-prompt/1", {"neutral": 1, "pairs": "shapes"}, "set shapes.neutral"),
        ({}, "media-prompt/1", {"neutral": 1, "labels": "binary"}, "set labels: pairs"),
        ({}, "media-prompt/1", {"shapes": {"neutral": 1}}, "of a file set neutral"),
    ],
)  # fmt: skip
def test_what_cannot_learn_from_them_refuses_them(
    method: dict[str, object], template: str, data: dict[str, object], said: str
) -> None:
    recipe = {
        "model": {"name": "tiny", "scratch": {}, "template": template},
        "method": method,
        "data": {"pairs": "pairs.jsonl"} | data,
    }
    with pytest.raises(ValueError, match=said):
        validate(recipe, RewardRecipe)
    for loss in ("bradley_terry", "rao_kupper"):
        validate(
            {"model": {"name": "tiny", "scratch": {}}, "method": {"loss": loss}}
            | {"data": {"pairs": "pairs.jsonl", "neutral": 2, "contrast": 2}},
            RewardRecipe,
        )


@pytest.mark.parametrize(
    ("model", "method", "data", "said"),
    [
        ({"score": "cosine"}, {"loss": "triplet", "margin": 0.1}, {"neutral": 1}, "triplet cannot learn"),
        ({"score": "head", "texts": "frozen"}, {}, {"contrast": 1}, "does not read"),
        ({"score": "cosine"}, {"loss": "triplet", "margin": 0.1}, {"contrast": 1}, ""),
        ({"score": "cosine"}, {}, {"neutral": 1, "contrast": 1}, ""),
    ],
)
def test_clip_rewards_refuse_and_take_them_by_the_same_rule(
    model: dict[str, object], method: dict[str, object], data: dict[str, object], said: str
) -> None:
    recipe = {
        "model": {"name": "tiny", "scratch": {}} | model,
        "method": method,
        "data": {"pairs": "pairs.jsonl"} | data,
    }
    if not said:
        validate(recipe, ClipRecipe)
        return
    with pytest.raises(ValueError, match=said):
        validate(recipe, ClipRecipe)
