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

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from mmalign.objectives.spoken import first_token_weighted
from mmalign.objectives.verdict import yes_pair, yes_point
from mmalign.train.distributed import Processes
from mmalign.train.loop import Report, Update
from mmalign.train.skips import Skips
from mmalign.types import Comparison, Loss, PreferencePair, Sample
from rewardmodels.averages import Averages
from rewardmodels.judges import trainable
from rewardmodels.judges.learner import CRITIQUE, Asked, Learned, Learner
from rewardmodels.judges.probability_recipe import ProbabilityRecipe
from rewardmodels.sources import FileSource, PairSource

Examine = Callable[[Learned, int], Mapping[str, float]]


@dataclass(frozen=True)
class CritiquedSource(FileSource):
    """A file of comparisons whose critiques come along with the candidates."""

    def _pairs(self, comparison: Comparison, where: str) -> list[PreferencePair]:
        said: dict[str, str] = {}
        for note in comparison.annotations:
            texts = note.data["texts"] if note.kind == "critique" else ()
            if len(texts) == len(comparison.candidates):
                said |= {c.id: text for c, text in zip(comparison.candidates, texts, strict=True) if text}
        found = super()._pairs(comparison, where)
        known = {id(s): _with_critique(s, said) for pair in found for s in (pair.a, pair.b)}
        return [replace(pair, a=known[id(pair.a)], b=known[id(pair.b)]) for pair in found]


def _with_critique(sample: Sample, said: Mapping[str, str]) -> Sample:
    text = said.get((sample.id or "").rpartition("/")[2])
    return sample if text is None else replace(sample, metadata={**sample.metadata, CRITIQUE: text})


class ProbabilityTask:
    """One iteration is one update on one bundle of pairs.

    With `skips` pairs that cannot be read are left out and counted. Averaged weights, if the recipe asks for them, are
    those that are measured and saved.
    """

    def __init__(
        self, learner: Learner, recipe: ProbabilityRecipe, source: PairSource, processes: Processes,
        *, examine: Examine | None = None, skips: Skips | None = None,
    ) -> None:  # fmt: skip
        learner.vlm.to(processes.device)
        self.learner, self.recipe, self.source, self.processes = learner, recipe, source, processes
        self.examine, self.skips = examine, skips
        self.averages = Averages(learner.vlm, recipe.method.average)

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.learner.vlm.named_parameters() if p.requires_grad]

    def parameters(self) -> list[nn.Parameter]:
        """Those that the recipe trains."""
        return [parameter for _, parameter in self._trained()]

    def not_matrices(self) -> list[nn.Parameter]:
        """Embeddings, of which the words of the answers are rows; an optimiser for matrices leaves them alone."""
        vlm = self.learner.vlm
        tables = [m for m in vlm.modules() if isinstance(m, nn.Embedding)]
        return [p for module in (*tables, vlm.get_output_embeddings()) for p in module.parameters()]

    def updates(self, iteration: int) -> Iterator[Update]:
        """One bundle, in forward passes of as many questions as fit."""
        number = iteration * self.processes.num + self.processes.rank
        pairs = self._teaching(self.source.bundle(number, iteration / self.recipe.budget.iterations))
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

    def finish(self, iteration: int, num_updates: int) -> Mapping[str, float]:
        """Move the average, and say what was left out."""
        self.averages.follow(num_updates)
        if self.skips is None:
            return {}
        last = iteration + 1 == self.recipe.budget.iterations
        return self.skips.finish(
            self.recipe.data.pairs, last=last, num_updates=num_updates, processes=self.processes
        )

    def evaluate(self, iteration: int) -> Report:
        """Held-out pairs, by the averaged weights."""
        if self.examine is None:
            return Report()
        with self.averages.swapped_in():
            return Report(self.examine(self.learner.judge, self.recipe.evaluation.num_prompts))

    def state_dict(self) -> dict[str, Tensor]:
        """Weights and averages, and what was left out."""
        state = {f"model.{name}": value.detach() for name, value in self._trained()}
        state |= {f"average.{name}": value for name, value in self.averages.values.items()}
        return state | ({} if self.skips is None else self.skips.state())

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from `state_dict()`."""
        for name, parameter in self._trained():
            parameter.copy_(state[f"model.{name}"])
        for name, value in self.averages.values.items():
            value.copy_(state[f"average.{name}"])
        if self.skips is not None:
            self.skips.restore(state)

    @contextmanager
    def result(self) -> Iterator[Learned]:
        """The judge that is measured and saved, within a `with`: averaged, adapters merged."""
        with self.averages.swapped_in(), self.learner.finished() as judge:
            yield judge

    def save(self, folder: Path) -> None:
        """The judge, ready to score."""
        with self.result() as judge:
            trainable.save(judge, folder / "judge")


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
