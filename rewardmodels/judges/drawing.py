"""Random answers that do not depend on the batch they are drawn in.

The likeliest token of logits plus Gumbel noise is a draw from their softmax; each row's noise comes from a stream named
by its question and seed.

Legend: B rows, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor

from mmalign.seeds import generator
from rewardmodels.judges.chat import Question, Sampling


class Draw(LogitsProcessor):
    """Makes the likeliest token a random one: Gumbel noise, for each row from its own stream."""

    def __init__(self, batch: Sequence[tuple[Question, Sampling]], how: Sampling) -> None:
        self.how = how
        self.streams = [generator("answer", question.digest, one.seed) for question, one in batch]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Logits (B, V) of the next token -> noisy ones whose largest is a draw at the temperature."""
        warm = narrowed(scores.float() / self.how.temperature, top_k=self.how.top_k, top_p=self.how.top_p)
        noise = torch.stack([torch.empty(warm.shape[1]).exponential_(generator=s) for s in self.streams])
        return warm - noise.log().to(warm.device)


def narrowed(logits: Tensor, *, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Logits (B, V) with -inf outside the k likeliest and outside the smallest set of probability p.

    >>> narrowed(torch.tensor([[0.0, 2.0, 1.0]]), top_k=2).tolist()
    [[-inf, 2.0, 1.0]]
    """
    if 0 < top_k < logits.shape[1]:
        least = logits.topk(top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -math.inf)
    if top_p < 1.0:
        sorted_logits, order = logits.sort(dim=1, descending=True)
        before = sorted_logits.softmax(1).cumsum(1) - sorted_logits.softmax(1)
        dropped = torch.zeros_like(before, dtype=torch.bool).scatter(1, order, before >= top_p)
        logits = logits.masked_fill(dropped, -math.inf)
    return logits
