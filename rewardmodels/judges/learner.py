"""A judge of token probabilities whose model can be trained: what it is asked about pairs, and its answers with
gradients.

Legend: Q questions, P pairs, W words, L tokens of an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mmalign.train.skips import Skips, samples_of, usable
from mmalign.types import PreferencePair, Sample
from rewardmodels.judges import trainable
from rewardmodels.judges.chat import Question
from rewardmodels.judges.local import LocalEngine
from rewardmodels.judges.packed import answer_logits
from rewardmodels.judges.pairwise import PairJudge
from rewardmodels.judges.probability import DigitReward, YesNoReward
from rewardmodels.judges.probability_recipe import Start
from rewardmodels.judges.settings import Digits, Pair, YesNo
from rewardmodels.judges.speaking import show
from rewardmodels.judges.tuned import Tuned
from rewardmodels.reading import distinct
from rewardmodels.sources import CRITIQUE

Learned = YesNoReward | DigitReward | PairJudge


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
        assert isinstance(engine, LocalEngine) and isinstance(asked, YesNo | Digits | Pair)
        self.engine = engine
        variants = not isinstance(asked, YesNo) or asked.variants
        worths = trainable.worths_of(asked)
        self.words = tuple(self._first_token(word, variants) for word in worths)
        self.worths = tuple(worths.values())
        self.tuned = Tuned(engine, self.settings, self.seed)

    @property
    def compares(self) -> bool:
        """Whether it is asked about two pictures at once."""
        return isinstance(self.judge, PairJudge)

    @property
    def vlm(self) -> PreTrainedModel:
        """The model."""
        return self.engine.model

    @contextmanager
    def finished(self) -> Iterator[Learned]:
        """The judge that will be saved, with plain weights."""
        with self.tuned.finished():
            yield self.judge

    def _first_token(self, word: str, variants: bool) -> int:
        known = self.engine.ids_of(word, variants)
        spelled = self.engine.tokenizer(word, add_special_tokens=False)["input_ids"]
        return int(spelled[0] if spelled and spelled[0] in known else known[0])

    def question(self, sample: Sample) -> Question:
        """What a judge of single pictures is asked about one; ValueError or OSError says what is wrong."""
        assert not isinstance(self.judge, PairJudge)
        shown = show(sample, self.judge.settings)
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

        kept = usable(pairs, pairs if self.compares else samples_of(pairs), ask, skips)
        if self.compares:
            questions = [question for pair in kept for question in known[id(pair)]]
            first = torch.arange(len(kept)) * 2
            second, critiques = first + 1, [""] * len(questions)
        else:
            samples, first, second = distinct(kept)
            questions = [known[id(sample)][0] for sample in samples]
            critiques = [str(sample.metadata.get(CRITIQUE, "")) for sample in samples]
        label = torch.tensor([pair.labels["overall"] for pair in kept], device=self.vlm.device)
        return Asked(questions, critiques, first, second, label)

    def verdicts(self, questions: Sequence[Question]) -> Tensor:
        """Log-probabilities (Q, 2) of yes and no among all words, in float32, with gradients; a digit is so much of a
        yes as it is worth, and the rest of it a no: log sum_d P(d) w_d and log sum_d P(d) (1 - w_d).
        """
        words = list(self.words)
        logits = answer_logits(self.engine, questions, [words[:1]] * len(questions))[:, 0]
        worth = torch.tensor(self.worths, device=logits.device)
        says = torch.stack([worth, 1 - worth]).log()  # (2, W)
        return (logits.log_softmax(-1)[:, None, words] + says).logsumexp(-1)

    def log_probs(
        self, questions: Sequence[Question], answers: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities (Q, L) of the tokens of answers, with gradients, and where there are any."""
        return self.tuned.log_probs(questions, answers)

    def answer(self, good: bool, critique: str) -> tuple[int, ...]:
        """The tokens of yes or no, and of the critique behind it."""
        verdict = self.words[0 if good else 1]
        if not critique:
            return (verdict,)
        said = self.engine.tokenizer("\n" + critique, add_special_tokens=False, split_special_tokens=True)
        return (verdict, *said["input_ids"], min(self.engine.ends))
