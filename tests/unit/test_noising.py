"""Which levels a denoising loss is taken at: all of a schedule, or only some of its steps.

Shape legend: `N` samples, `J` draws a sample, `S` steps.
"""

from __future__ import annotations

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from pydantic import ValidationError

from mmalign.method_options import Levels
from mmalign.process import from_scheduler
from mmalign.train.noising import dropped, levels_for

SCHEDULE = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0])
PROCESS = from_scheduler(FlowMatchEulerDiscreteScheduler())


def levels(**options) -> torch.Tensor:
    return levels_for(Levels(density="schedule", **options), PROCESS, SCHEDULE, num=64, stream=(0,))


def test_all_steps_are_drawn_each_once_a_sample():
    drawn = levels(per_sample=4)
    assert torch.equal(drawn.sort(dim=1, descending=True).values, SCHEDULE[:-1].expand(64, 4))


def test_only_the_given_steps_are_drawn():
    drawn = levels(per_sample=1, steps=(1, 3))
    assert set(drawn.flatten().tolist()) == {0.75, 0.5}
    assert torch.equal(
        levels(per_sample=2, steps=(1, 3)).sort(dim=1).values, torch.tensor([[0.5, 0.75]] * 64)
    )


def test_impossible_steps_are_told():
    with pytest.raises(ValueError, match="4 is more than the 2 steps"):
        levels(per_sample=4, steps=(0, 2))
    with pytest.raises(ValueError, match="end after the 4 steps"):
        levels(per_sample=1, steps=(0, 5))
    with pytest.raises(ValidationError, match="density=schedule"):
        Levels(density="uniform", steps=(0, 2))
    with pytest.raises(ValidationError, match="are none"):
        Levels(density="schedule", steps=(2, 2))


def test_prompts_are_dropped_by_their_share_and_another_way_in_each_pass():
    one, two = (dropped(4000, 0.25, stream=(0, number)) for number in (0, 1))
    assert abs(float(one.float().mean()) - 0.25) < 0.03
    assert torch.equal(one, dropped(4000, 0.25, stream=(0, 0))) and not torch.equal(one, two)
    assert not dropped(50, 0.0, stream=(0,)).any() and dropped(50, 1.0, stream=(0,)).all()
