"""What numbers by hand are written with."""

from __future__ import annotations

import math

import torch
from torch import Tensor

NAN = math.nan


def t(*values: float) -> Tensor:
    return torch.tensor(values)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))
