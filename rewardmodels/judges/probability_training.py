"""What training a judge of token probabilities adds to the one loop: a pair's two questions, answered p and 1 - p.

A judge of single pictures is asked about both pictures of a pair, a judge of pairs in both orders; the losses see two
logits l = logit(yes) - logit(no) and do not know which it was. Of a judge of digits (UniWorld-V2's, arXiv 2510.16888)
l is the log-odds of its score: S(l) is the expected digit on [0, 1], and l has a gradient at both ends.

    first_token                      PaCo-Reward (arXiv 2512.04784): cross entropy over the whole vocabulary
    binary, margin, probability      RewardDance (arXiv 2509.08826): `mmalign.objectives.verdict`

Differences from the papers: l is that of the exact words (their spellings count together only in scores); critiques
follow the verdict; ties teach `first_token` nothing, and ask the others for 1/2.

Legend: P pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from mmalign.objectives.spoken import first_token_weighted
from mmalign.objectives.verdict import yes_pair, yes_point
from mmalign.train.loop import Update
from mmalign.types import Loss, PreferencePair
from rewardmodels.judges.learner import Asked, Learner
from rewardmodels.judges.probability_recipe import ProbabilityRecipe
from rewardmodels.judges.task import JudgeTask


class ProbabilityTask(JudgeTask[Learner, ProbabilityRecipe]):
    """One iteration is one update."""

    def updates(self, iteration: int) -> Iterator[Update]:
        """The bundles of this process, in forward passes of as many questions as fit."""
        progress = iteration / self.recipe.budget.iterations
        found = (self.source.bundle(number, progress) for number in self.bundles(iteration))
        pairs = self._teaching([pair for bundle in found for pair in bundle])
        yield Update(len(pairs), [partial(self.loss, part) for part in self._passes(pairs) or [[]]])

    def _teaching(self, pairs: Sequence[PreferencePair]) -> list[PreferencePair]:
        """Those with a label that the loss can use; a judge of pairs is asked under one prompt."""
        tied = self.recipe.method.loss != "first_token"
        return [
            pair
            for pair in pairs
            if "overall" in pair.labels
            and (tied or pair.labels["overall"] != 0.5)
            and (not self.learner.compares or pair.a.prompt == pair.b.prompt)
        ]

    def _passes(self, pairs: Sequence[PreferencePair]) -> list[list[PreferencePair]]:
        """Pairs by forward pass; those with the same samples, which are asked about once, stand together."""
        most = self.recipe.judge.batch_size
        if self.learner.compares:
            num = max(1, most // 2)
            return [list(pairs[start : start + num]) for start in range(0, len(pairs), num)]
        made: list[list[PreferencePair]] = []
        seen: set[int] = set()
        place: dict[int, int] = {}
        for pair in pairs:
            place.setdefault(id(pair.a), len(place))
        for pair in sorted(pairs, key=lambda one: place[id(one.a)]):
            both = {id(pair.a), id(pair.b)}
            if not made or len(seen | both) > most:
                made.append([])
                seen = set()
            made[-1].append(pair)
            seen |= both
        return made

    def loss(self, pairs: Sequence[PreferencePair]) -> Loss:
        """The loss (P,) of the pairs that can be read."""
        how = self.recipe.method
        asked = self.learner.asked(pairs, self.skips)
        if not asked.questions:
            return Loss(self.parameters()[0].flatten()[:0].float(), {})
        if how.critiques:
            return self._with_critiques(asked)
        said = self.learner.verdicts(asked.questions)
        a, b = said[asked.first], said[asked.second]
        first, second = a[:, 0] - a[:, 1], b[:, 0] - b[:, 1]
        ranked = yes_pair(
            logit_a=first, logit_b=second, label=asked.label, scale=how.scale, anchor=how.anchor,
            on="probability" if how.loss == "probability" else "margin",
        )  # fmt: skip
        if how.loss in ("margin", "probability"):
            return ranked
        cross_entropy = _first_token if how.loss == "first_token" else _binary
        return Loss(cross_entropy(a, b, asked.label) + how.ranking * ranked.per_sample, ranked.metrics)

    def _with_critiques(self, asked: Asked) -> Loss:
        """Cross entropy of the answers that the labels ask for; one answer to one question is read once."""
        how, learner = self.recipe.method, self.learner
        rows: dict[tuple[int, bool], int] = {}
        places: list[list[int]] = []
        good = (asked.label > 0.5).tolist()
        for side, turned in ((asked.first, False), (asked.second, True)):
            wanted = zip(side.tolist(), good, strict=True)
            places.append([rows.setdefault((q, yes != turned), len(rows)) for q, yes in wanted])
        answers = [learner.answer(yes, asked.critiques[q]) for q, yes in rows]
        logs, where = learner.log_probs([asked.questions[q] for q, _ in rows], answers)
        made = first_token_weighted(log_prob=logs, where=where, share=how.share, published=how.published)
        a, b = (made.per_sample[torch.tensor(side)] for side in places)
        return Loss((a + b) / 2, made.metrics)


def _first_token(a: Tensor, b: Tensor, label: Tensor) -> Tensor:
    """Cross entropy (P,) of the words that labels ask for, from log-probabilities (P, 2) of yes and no."""
    said = (label <= 0.5).long()[:, None]  # of the first; of the second the other word
    logs = torch.cat([a.gather(1, said), b.gather(1, 1 - said)])
    return first_token_weighted(log_prob=logs).per_sample.view(2, -1).mean(0)


def _binary(a: Tensor, b: Tensor, label: Tensor) -> Tensor:
    """The same (P,) between the two words alone."""
    first = yes_point(logit=a[:, 0] - a[:, 1], target=label)
    second = yes_point(logit=b[:, 0] - b[:, 1], target=1 - label)
    return (first.per_sample + second.per_sample) / 2
