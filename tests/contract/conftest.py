"""The contract of every policy is asked of every case."""

from __future__ import annotations

import pytest

from mmalign.shapes.bundle import bundled_path
from tests.contract.policy_cases import CASES, Case


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    chosen = request.param
    if chosen.name.startswith("bundled-"):
        try:
            bundled_path(chosen.name.removeprefix("bundled-"))
        except ValueError as absent:
            pytest.skip(str(absent))
    return chosen
