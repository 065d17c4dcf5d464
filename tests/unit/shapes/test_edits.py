"""The editing world: instructions read back, true edits pass, all other edits fail."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from mmalign.shapes import Scene, Thing, draw
from mmalign.shapes.edit_verifier import fulfils, verify_edit
from mmalign.shapes.edits import (
    EDIT_KINDS,
    all_edit_specs,
    edit_phrasings,
    edit_specs,
    parse_edit,
    sample_edits,
)

CIRCLE = Thing("red", "circle", "small", 0.25, 0.3, 0.11)
SQUARE = Thing("blue", "square", "large", 0.65, 0.65, 0.19)


def changed(thing: Thing, **fields) -> Thing:
    return Thing(**{**thing.__dict__, **fields})


def tasks_and_pictures(num: int):
    tasks = sample_edits("train", num // 2, 0) + sample_edits("heldout", num - num // 2, 1)
    return tasks, draw([task.source for task in tasks]), draw([task.target for task in tasks])


def test_every_instruction_is_read_back_and_the_split_is_disjoint():
    for spec in all_edit_specs():
        assert all(parse_edit(text) == spec for text in edit_phrasings(spec))
    train, held = edit_specs("train"), edit_specs("heldout")
    assert not set(train) & set(held) and len(train) + len(held) == len(all_edit_specs())
    assert {spec.kind for spec in train} == {spec.kind for spec in held} == set(EDIT_KINDS)
    assert {spec.value for spec in train} >= {spec.value for spec in held}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("make the red circle pink", "pink"),
        ("paint the red circle blue", "paint"),
        ("remove the red dog", "dog"),
        ("remove a red circle", "'the'"),
        ("remove the red circle now", "now"),
        ("move the circle sideways", "sideways"),
        ("", "begin like"),
    ],
)
def test_unreadable_instruction_is_named(text, named):
    with pytest.raises(ValueError, match=named):
        parse_edit(text)


def test_tasks_are_seeded_balanced_and_true():
    tasks, _, _ = tasks_and_pictures(240)
    assert sample_edits("train", 20, 5) == sample_edits("train", 20, 5) != sample_edits("train", 20, 6)
    assert [sum(task.spec.kind == kind for task in tasks) for kind in EDIT_KINDS] == [40] * 6
    for task in tasks:
        assert task.source.valid() and task.target.valid()
        assert fulfils(task.source.things, task.target.things, task.spec)
        assert not fulfils(task.source.things, task.source.things, task.spec)


def test_true_edits_pass_and_others_fail():
    check_edits(600)


@pytest.mark.slow
def test_ten_thousand_edits():
    check_edits(10_000)


def check_edits(num: int):
    tasks, source, edited = tasks_and_pictures(num)
    texts = [task.instruction for task in tasks]
    verdict = verify_edit(source, edited, texts)
    assert verdict.passed.float().mean() >= 0.995
    assert torch.equal(verdict.passed, (verdict.instruction_following == 1) & (verdict.preservation > 0.99))
    for same in (verify_edit(source, source, texts), verify_edit(edited, source, texts)):
        assert not same.passed.any() and same.instruction_following.mean() < 0.05
    order = np.random.default_rng(0).permutation(num).tolist()
    wrong = [
        i
        for i, j in enumerate(order)
        if not fulfils(tasks[i].source.things, tasks[i].target.things, tasks[j].spec)
    ]
    verdict = verify_edit(source[wrong], edited[wrong], [texts[order[i]] for i in wrong])
    assert len(wrong) > 0.9 * num and verdict.passed.float().mean() <= 0.02


def test_true_edits_pass_after_the_blur_and_noise_of_a_reconstruction():
    tasks, source, edited = tasks_and_pictures(240)
    blurred = torch.from_numpy(ndimage.gaussian_filter(edited.numpy(), (0, 0, 0.5, 0.5)))
    noise = 0.03 * torch.randn(edited.shape, generator=torch.Generator().manual_seed(0))
    verdict = verify_edit(source, (blurred + noise).clamp(0, 1), [task.instruction for task in tasks])
    assert verdict.passed.float().mean() >= 0.97 and verdict.preservation.mean() > 0.9


@pytest.mark.parametrize(
    ("text", "right", "wrong"),
    [
        ("make the red circle green", changed(CIRCLE, color="green"), changed(CIRCLE, color="yellow")),
        ("move the red circle down", changed(CIRCLE, y=0.6), changed(CIRCLE, y=0.15)),
        (
            "make the red circle larger",
            changed(CIRCLE, size="large", radius=0.18),
            changed(CIRCLE, radius=0.12),
        ),
        ("turn the red circle into a cross", changed(CIRCLE, shape="cross"), changed(CIRCLE, shape="square")),
    ],
)
def test_each_kind_wants_its_change_and_nothing_else(text, right, wrong):
    edited = draw(
        [
            Scene((right, changed(SQUARE, x=0.7))),
            Scene((wrong, changed(SQUARE, x=0.7))),
            Scene((changed(right), changed(SQUARE, color="purple", x=0.7))),
            Scene((right,)),
        ]
    )
    source = draw([Scene((CIRCLE, changed(SQUARE, x=0.7)))] * 4)
    verdict = verify_edit(source, edited, [text] * 4)
    assert verdict.passed.tolist() == [True, False, False, False]
    assert verdict.instruction_following.eq(1).tolist() == [True, False, True, True]
    assert (verdict.preservation > 0.99).tolist() == [True, True, False, False]
    assert (verdict.overall[1:] < 0.8).all() and verdict.overall[0] > 0.9


def test_remove_and_add_are_opposites():
    both, alone = draw([Scene((CIRCLE, SQUARE))]), draw([Scene((SQUARE,))])
    assert verify_edit(both, alone, ["remove the red circle"]).passed.all()
    assert verify_edit(alone, both, ["add a red circle"]).passed.all()
    assert not verify_edit(alone, both, ["remove the red circle"]).passed.any()
    verdict = verify_edit(alone, both, ["add a red square"])
    assert not verdict.passed.any() and 0.2 < verdict.instruction_following < 0.9


def test_odd_pixels_fail_and_odd_arguments_are_named():
    tasks, source, _ = tasks_and_pictures(60)
    texts = [task.instruction for task in tasks]
    for edited in (torch.rand_like(source), source * float("nan"), torch.zeros_like(source)):
        verdict = verify_edit(source, edited, texts)
        assert not verdict.passed.any() and verdict.overall.max() < 0.05
    with pytest.raises(ValueError, match="do not match"):
        verify_edit(source, source, texts[:3])
