"""From hidden states to scores: the heads that reward models put on a backbone, by name.

A head says which hidden states it reads (`reads`, see `rewardmodels.heads.seen`) and turns them into a `Readout`:
raw values by dimension, and where the family has them an uncertainty or the logits of ordered levels.

    linear       one linear map on each special token, or one shared by all         VideoReward, the bundled model
    mlp          two layers with a SiLU on the reward token                         BaseReward, DocReward
    mean         two layers on the mean over all tokens                             IXC-2.5-Reward
    gaussian     RankNet MLP to a mean and a log standard deviation                 HPSv3
    fused        one Gaussian head for each of several prompts, fused               EditReward
    corn, coral  logits of ordered levels, decoded to the expected level            VEFX-Reward
    query        learned queries that attend to several layers, one after another   SoliReward
    candidates   MLP on the token before each candidate's separator                 YOJO
    numeric      MLP on a score token, squeezed into a range                        ADIEE
    index        MLP on a token counted from the end, absolute value times a scale  EditHF

Legend: S scores, D dimensions, W hidden width, K ordered levels.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from rewardmodels.heads.gaussian import FusedHead, GaussianHead
from rewardmodels.heads.ordinal import CoralHead, CornHead
from rewardmodels.heads.query import QueryHead
from rewardmodels.heads.readout import Readout
from rewardmodels.heads.scalar import CandidateHead, IndexHead, LinearHead, MeanHead, MlpHead, NumericHead
from rewardmodels.heads.seen import Seen

__all__ = ["HEADS", "LinearHead", "MlpHead", "Readout", "Seen", "build_head"]

HEADS: dict[str, Callable[..., nn.Module]] = {
    "linear": LinearHead,
    "mlp": MlpHead,
    "mean": MeanHead,
    "gaussian": GaussianHead,
    "fused": FusedHead,
    "corn": CornHead,
    "coral": CoralHead,
    "query": QueryHead,
    "candidates": CandidateHead,
    "numeric": NumericHead,
    "index": IndexHead,
}


def build_head(
    kind: str, width: int, num_dimensions: int, options: Mapping[str, Any] | None = None
) -> nn.Module:
    """A fresh head by name with its options; ValueError lists the names, or the options."""
    if kind not in HEADS:
        raise ValueError(f"unknown head '{kind}': use one of {sorted(HEADS)}")
    known = list(inspect.signature(HEADS[kind]).parameters)[2:]
    unknown = sorted(set(options or {}) - set(known))
    if unknown:
        raise ValueError(f"head '{kind}' has no option '{unknown[0]}': it takes {', '.join(known) or 'none'}")
    return HEADS[kind](width, num_dimensions, **(options or {}))
