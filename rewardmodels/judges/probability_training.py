"""What training a judge of token probabilities adds to the one loop: a pair's two questions, answered p and 1 - p.

A judge of single pictures is asked about both pictures of a pair, a judge of pairs in both orders; the losses see two
logits l = logit(yes) - logit(no) and do not know which it was.

    first_token                      PaCo-Reward (arXiv 2512.04784): cross entropy over the whole vocabulary
    binary, margin, probability      RewardDance (arXiv 2509.08826): `mmalign.objectives.verdict`

Differences from the papers: l is that of the exact words (their spellings count together only in scores); critiques
follow the verdict; ties teach nothing.

Legend: P pairs, Q questions, L tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mmalign.objectives.spoken import first_token_weighted
from mmalign.objectives.verdict import yes_pair, yes_point
from mmalign.seeds import seed_of
from mmalign.train.distributed import Processes
from mmalign.train.loop import Report, Update
from mmalign.train.skips import Skips, samples_of, usable
from mmalign.types import Comparison, Loss, PreferencePair, Sample
from rewardmodels.batching import prepare
from rewardmodels.judges import trainable
from rewardmodels.judges.chat import Question
from rewardmodels.judges.local import LocalEngine
from rewardmodels.judges.pairwise import PairJudge
from rewardmodels.judges.probability import YesNoReward
from rewardmodels.judges.probability_recipe import ProbabilityRecipe, Start
from rewardmodels.judges.settings import Pair, YesNo
from rewardmodels.judges.speaking import show
from rewardmodels.judges.verdict_training import Bundles
from rewardmodels.reading import distinct
from rewardmodels.sources import FileSource
from rewardmodels.tuning import VISION, add_adapters, merged

CRITIQUE = "critique"
"""The key of a sample's metadata that holds what was said of it."""
Learned = YesNoReward | PairJudge
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


@dataclass(frozen=True, eq=False)
class Asked:
    """Q questions, what was said of their pictures, and where the two of every pair stand among them (P,)."""

    questions: Sequence[Question]
    critiques: Sequence[str]
    first: Tensor
    second: Tensor
    label: Tensor


@dataclass(eq=False)
class Learner:
    """A judge whose model can be trained."""

    judge: Learned
    settings: Start = field(default_factory=Start)
    seed: int = 0

    def __post_init__(self) -> None:
        engine, asked = self.judge.engine, self.judge.settings.judge
        assert isinstance(engine, LocalEngine) and isinstance(asked, YesNo | Pair)
        self.engine = engine
        variants = not isinstance(asked, YesNo) or asked.variants
        self.words = tuple(self._first_token(word, variants) for word in trainable.words_of(asked))
        self._tune()

    @property
    def vlm(self) -> PreTrainedModel:
        """The model."""
        return self.engine.model

    def _tune(self) -> None:
        """Set `requires_grad`, and add adapters, as the settings say."""
        full, vision = self.settings.weights == "full", self.settings.vision == "trained"
        for name, parameter in self.vlm.named_parameters():
            parameter.requires_grad_(vision and full if _is_vision(name) else full)
        if not full:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed_of(self.seed, "adapters"))
                add_adapters(cast(Any, self), self.settings.lora, language=True, vision=vision)

    @contextmanager
    def finished(self) -> Iterator[Learned]:
        """The judge that will be saved: adapters are part of the weights, and no weight asks for a gradient, which can
        change the last bits of a score.
        """
        trained = [parameter for parameter in self.vlm.parameters() if parameter.requires_grad]
        with merged(cast(Any, self)):
            self.vlm.requires_grad_(False)
            try:
                yield self.judge
            finally:
                for parameter in trained:
                    parameter.requires_grad_(True)

    def _first_token(self, word: str, variants: bool) -> int:
        known = self.engine.ids_of(word, variants)
        spelled = self.engine.tokenizer(word, add_special_tokens=False)["input_ids"]
        return int(spelled[0] if spelled and spelled[0] in known else known[0])

    def question(self, sample: Sample) -> Question:
        """What a judge of single pictures is asked about one; ValueError or OSError says what is wrong."""
        assert isinstance(self.judge, YesNoReward)
        shown = show(prepare(sample, self.judge.modalities), self.judge.settings.max_frames)
        questions = self.judge.questions(shown, sample)
        if len(questions) != 1:
            raise ValueError("sets of pictures are judged, not trained on: give pairs of single pictures")
        self.engine.text(questions[0])
        return questions[0]

    def both(self, pair: PreferencePair) -> list[Question]:
        """What a judge of pairs is asked, in both orders."""
        assert isinstance(self.judge, PairJudge)
        questions = self.judge.questions(pair.a, pair.b)
        for question in questions:
            self.engine.text(question)
        return list(questions)

    def asked(self, pairs: Sequence[PreferencePair], skips: Skips | None = None) -> Asked:
        """Every question once; pairs that cannot be asked about are left out and counted in `skips`."""
        known: dict[int, list[Question]] = {}

        def ask(thing: PreferencePair | Sample) -> None:
            known[id(thing)] = (
                self.both(thing) if isinstance(thing, PreferencePair) else [self.question(thing)]
            )

        compares = isinstance(self.judge, PairJudge)
        kept = usable(pairs, pairs if compares else samples_of(pairs), ask, skips)
        if compares:
            questions = [question for pair in kept for question in known[id(pair)]]
            first = torch.arange(len(kept)) * 2
            second, critiques = first + 1, [""] * len(questions)
        else:
            samples, first, second = distinct(kept)
            questions = [known[id(sample)][0] for sample in samples]
            critiques = [str(sample.metadata.get(CRITIQUE, "")) for sample in samples]
        label = torch.tensor([pair.labels["overall"] for pair in kept], device=self.vlm.device)
        return Asked(questions, critiques, first, second, label)

    def margins(self, questions: Sequence[Question]) -> Tensor:
        """logit(yes) - logit(no) (Q,), with gradients."""
        yes, no = self.words
        logits = self.engine.logits(questions, [[yes]] * len(questions))[:, 0]
        return logits[:, yes] - logits[:, no]

    def log_probs(
        self, questions: Sequence[Question], answers: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities (Q, L) of the tokens of answers, with gradients, and where there are any."""
        logits = self.engine.logits(questions, answers)
        width = logits.shape[1]
        rows = [[*answer, *[self.engine.pad] * (width - len(answer))] for answer in answers]
        tokens = torch.tensor(rows, device=logits.device)
        lengths = torch.tensor([len(answer) for answer in answers], device=logits.device)
        where = torch.arange(width, device=logits.device) < lengths[:, None]
        return logits.log_softmax(-1).gather(2, tokens[:, :, None])[..., 0], where

    def answer(self, good: bool, critique: str) -> tuple[int, ...]:
        """The tokens of yes or no, and of the critique behind it."""
        verdict = self.words[0 if good else 1]
        if not critique:
            return (verdict,)
        said = self.engine.tokenizer("\n" + critique, add_special_tokens=False, split_special_tokens=True)
        return (verdict, *said["input_ids"], min(self.engine.ends))


class ProbabilityTask:
    """One iteration is one update on one bundle of pairs.

    With `skips` pairs that cannot be read are left out and counted.
    """

    def __init__(
        self, learner: Learner, recipe: ProbabilityRecipe, bundles: Bundles, processes: Processes,
        *, examine: Examine | None = None, skips: Skips | None = None,
    ) -> None:  # fmt: skip
        learner.vlm.to(processes.device)
        self.learner, self.recipe, self.bundles, self.processes = learner, recipe, bundles, processes
        self.examine, self.skips = examine, skips

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.learner.vlm.named_parameters() if p.requires_grad]

    def parameters(self) -> list[nn.Parameter]:
        """Those that the recipe trains."""
        return [parameter for _, parameter in self._trained()]

    def updates(self, iteration: int) -> Iterator[Update]:
        """One bundle, in forward passes of as many pairs as fit."""
        pairs = self.bundles.bundle(iteration * self.processes.num + self.processes.rank)
        num = max(1, self.recipe.judge.batch_size // 2)
        parts = [pairs[start : start + num] for start in range(0, len(pairs), num)]
        yield Update(len(pairs), [partial(self.loss, part) for part in parts or [[]]])

    def loss(self, pairs: Sequence[PreferencePair]) -> Loss:
        """The loss (P,) of the pairs that can be read."""
        how, learner = self.recipe.method, self.learner
        asked = learner.asked(pairs, self.skips)
        if not asked.questions:
            return Loss(self.parameters()[0].flatten()[:0].float(), {})
        if how.loss == "first_token":
            return self._first_token(asked)
        margins = learner.margins(asked.questions)
        a, b = margins[asked.first], margins[asked.second]
        if how.loss == "binary":
            parts = [yes_point(logit=a, target=asked.label), yes_point(logit=b, target=1 - asked.label)]
            return Loss((parts[0].per_sample + parts[1].per_sample) / 2, _metrics(a, b, asked.label))
        return yes_pair(
            logit_a=a, logit_b=b, label=asked.label, on=how.loss, scale=how.scale, anchor=how.anchor
        )

    def _first_token(self, asked: Asked) -> Loss:
        """Cross entropy of the answers that the labels ask for; one answer to one question is read once."""
        how, learner = self.recipe.method, self.learner
        rows: dict[tuple[int, bool], int] = {}
        places: list[list[int]] = []
        good = (asked.label > 0.5).tolist()
        for side, turned in ((asked.first, False), (asked.second, True)):
            wanted = zip(side.tolist(), good, strict=True)
            places.append([rows.setdefault((q, yes != turned), len(rows)) for q, yes in wanted])
        answers = [learner.answer(yes, asked.critiques[q] if how.critiques else "") for q, yes in rows]
        logs, where = learner.log_probs([asked.questions[q] for q, _ in rows], answers)
        made = first_token_weighted(log_prob=logs, where=where, share=how.share, published=how.published)
        a, b = (made.per_sample[torch.tensor(side)] for side in places)
        return Loss((a + b) / 2, made.metrics)

    def finish(self, iteration: int, num_updates: int) -> Mapping[str, float]:
        """What was left out."""
        if self.skips is None:
            return {}
        last = iteration + 1 == self.recipe.budget.iterations
        return self.skips.finish(self.recipe.data.pairs, last=last, processes=self.processes)

    def evaluate(self, iteration: int) -> Report:
        """Held-out pairs."""
        if self.examine is None:
            return Report()
        return Report(self.examine(self.learner.judge, self.recipe.evaluation.num_prompts))

    def state_dict(self) -> dict[str, Tensor]:
        """What is trained, and what was left out."""
        state = {name: value.detach() for name, value in self._trained()}
        return state | ({} if self.skips is None else self.skips.state())

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from `state_dict()`."""
        for name, value in self._trained():
            value.copy_(state[name])
        if self.skips is not None:
            self.skips.restore(state)

    def save(self, folder: Path) -> None:
        """The judge, ready to score."""
        with self.learner.finished() as judge:
            trainable.save(judge, folder / "judge")


def _metrics(a: Tensor, b: Tensor, label: Tensor) -> dict[str, Tensor]:
    right = 0.5 * (1 + (a - b).detach().sign() * (label - 0.5).sign())
    return {"accuracy": right.mean(), "yes": (a.sigmoid() + b.sigmoid()).detach().mean() / 2}


def _is_vision(name: str) -> bool:
    return any(part in VISION for part in name.split("."))
