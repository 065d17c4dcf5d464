"""Shapes preference pairs: changes change one cause, damage keeps its promises, blocks are reproducible."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from mmalign.data.formats import read_jsonl
from mmalign.shapes import Law, draw, parse, render, satisfies, verify
from mmalign.shapes.changes import CHANGES, change, exchange, rebind, recolor, remove, resize, turn
from mmalign.shapes.damage import DAMAGES, damage
from mmalign.shapes.layout import sample_scene
from mmalign.shapes.pairs import family, make_block, num_differences, preference_pairs, write_pairs

LAW = Law(temperature=0.1)


def scene(prompt: str, seed: int = 0):
    return sample_scene(parse(prompt), np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(5))
def test_a_change_gives_another_valid_scene(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for prompt in ("a red circle", "three blue squares", "a green cross above a yellow triangle"):
        before = scene(prompt, seed)
        after = change(before, rng)
        assert after != before and after.valid()


def test_single_changes_break_what_they_should() -> None:
    rng = np.random.default_rng(0)
    spec = parse("a red circle left of a blue square")
    before = scene("a red circle left of a blue square")
    assert satisfies(before, spec)
    for breaking in (recolor, remove, exchange, rebind, turn):
        after = breaking(before, rng)
        assert after is not None and not satisfies(after, spec), breaking.__name__
    grown = resize(before, rng)
    assert grown is not None and [t.color for t in grown] == [t.color for t in before]
    assert len(CHANGES) == 8


@pytest.mark.parametrize("name", list(DAMAGES))
def test_no_damage_at_strength_zero_and_more_with_more(name: str) -> None:
    images = render(["a red circle", "two blue squares", "a green cross", "three yellow triangles"], seed=3)
    generator = torch.Generator()

    def apply(strength: float) -> torch.Tensor:
        return DAMAGES[name](images, torch.full((4,), strength), generator.manual_seed(1))

    torch.testing.assert_close(apply(0.0), images, atol=1e-5, rtol=0)
    some, much = ((apply(s) - images).abs().mean() for s in (0.4, 1.0))
    assert 0 <= float(some) < float(much)
    assert float(apply(1.0).min()) >= 0.0 and float(apply(1.0).max()) <= 1.0


def test_damage_lowers_the_verdict_and_strikes_its_share() -> None:
    prompts = ["a red circle"] * 200
    images = draw([scene("a red circle", seed) for seed in range(200)])
    damaged = damage(images, 0.5, torch.Generator().manual_seed(0))
    struck = (damaged - images).abs().flatten(1).amax(1) > 1e-6
    assert 0.25 < float(struck.float().mean()) < 0.55
    assert (
        float(verify(damaged, prompts).overall.mean()) < float(verify(images, prompts).overall.mean()) - 0.05
    )


def test_families_are_mostly_near_twins_of_one_split() -> None:
    rng = np.random.default_rng(0)
    differences = Counter()
    for _ in range(50):
        first, *rest = family("heldout", "colors", 4, rng)
        differences.update(num_differences(first, other) for other in rest)
    assert differences[1] + differences[2] > 100
    assert num_differences(parse("a red circle"), parse("a blue circle")) == 1
    assert (
        num_differences(parse("a red circle and a blue square"), parse("a blue square and a red circle")) == 0
    )
    assert num_differences(parse("a circle"), parse("a circle and a square")) == 99


def test_a_block_is_a_function_of_its_number_and_holds_right_and_wrong() -> None:
    one, same, other = (make_block("train", 0, number) for number in (3, 3, 4))
    assert torch.equal(one.images, same.images) and one.prompts == same.prompts
    assert not torch.equal(one.images, other.images)
    assert one.utility.shape == (16, 4, 4) and one.images.shape == (16, 4, 3, 32, 32)
    right = float((one.utility >= 1.0).float().mean())
    assert 0.1 < right < 0.6


def test_labels_follow_the_utilities() -> None:
    block = make_block("train", 1, 0)
    pairs = preference_pairs(block, Law(temperature=1e-6), seed=0, num_cross=100)
    worth = {}
    for f, prompts in enumerate(block.prompts):
        for k in range(4):
            for m in range(len(prompts)):
                worth[f"{f}/{k}/{m}"] = float(block.utility[f, k, m])
    decided = [p for p in pairs if worth[p.a.id] != worth[p.b.id]]
    assert all((p.labels["overall"] == 1.0) == (worth[p.a.id] > worth[p.b.id]) for p in decided)
    assert sum(p.a.prompt == p.b.prompt for p in pairs) >= 16 * 4 * 6
    assert sum(p.a.media is p.b.media for p in pairs) >= 16 * 4 * 6


def test_ties_are_labelled_as_ties() -> None:
    block = make_block("train", 1, 0, num_families=7)
    pairs = preference_pairs(block, Law(temperature=0.1, theta=3.0), seed=0)
    assert any(p.ties["overall"] for p in pairs)
    assert all(p.labels["overall"] == 0.5 for p in pairs if p.ties["overall"])


def test_written_pairs_are_canonical(tmp_path: Path) -> None:
    path = write_pairs(tmp_path, "heldout", num_prompts=7, law=LAW, num_images=3)
    found = list(read_jsonl(path))
    assert len(found) == 7 and all(len(c.candidates) == 3 and len(c.annotations) == 3 for c in found)
    assert all((tmp_path / str(candidate.uri)).is_file() for c in found for candidate in c.candidates)
    assert {c.split for c in found} == {"heldout"}
