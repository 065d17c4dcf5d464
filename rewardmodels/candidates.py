"""Scoring N candidates of a prompt in one forward pass (YOJO), for saved rewards with a `candidates` head.

    reward = rewardmodels.load("runs/yojo/reward", together=True)     # in YAML: options: {together: true}

Each company is the samples of one group, prompt and source in the order given, as many at a time as the head was
trained for (`num_together`); the rest form a smaller one. A candidate sees those before it, so its score depends on
them: that is faster and may rank better, but is off unless asked for. One that cannot be read is in no company.

Legend: B samples, N candidates of a forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mmalign.types import Modality, RewardModel, Sample, Scores
from rewardmodels.batching import Prepared, prepare
from rewardmodels.clips import Clip, read_sample
from rewardmodels.combine import group_ids
from rewardmodels.heads.scalar import CandidateHead
from rewardmodels.inputs import VlmInputs
from rewardmodels.vlm import VlmReward
from rewardmodels.vlm import load_folder as load_alone

Member = tuple[int, Prepared]
"""The place of a sample in the call, and the sample."""


@dataclass(frozen=True, eq=False)
class Together:
    """A reward whose candidates share forward passes; it must see whole groups."""

    model: VlmReward
    differentiable: bool = False
    needs_group: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.model.head, CandidateHead):
            raise ValueError(
                f"a '{self.model.settings.head}' head judges one by one: together is for the head candidates"
            )

    @property
    def name(self) -> str:
        """The model's own name."""
        return self.model.name

    @property
    def reads_files(self) -> bool:
        """Whether it chooses the frames of video files itself."""
        return self.model.reads_files

    @property
    def modalities(self) -> frozenset[Modality]:
        """What it was trained to judge."""
        return self.model.modalities

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The name of its score."""
        return self.model.dimensions

    @torch.no_grad()
    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        """Normalised scores, each in its company."""
        values = torch.full((len(samples), len(self.dimensions)), float("nan"))
        reasons: list[str | None] = [None] * len(samples)
        for company in self._companies(samples, reasons):
            self._judge(company, values, reasons)
        valid = torch.tensor([reason is None for reason in reasons], dtype=torch.bool)
        return Scores(values, self.dimensions, self.model.overall(values), valid, tuple(reasons))

    def _companies(self, samples: Sequence[Sample], reasons: list[str | None]) -> list[list[Member]]:
        """Readable samples of one group, prompt and source, cut to what the head takes at a time."""
        read = partial(read_sample, rule=self.model.builder.video)
        groups: dict[tuple[int, str], list[list[Member]]] = {}
        for i, number in enumerate(group_ids(samples).tolist()):
            try:
                one = prepare(samples[i], self.modalities, read)
            except (ValueError, OSError) as problem:
                reasons[i] = " ".join(str(problem).split())
                continue
            known = groups.setdefault((number, one.prompt), [])
            company = next((found for found in known if _same(found[0][1].source, one.source)), None)
            if company is None:
                known.append([(i, one)])
            else:
                company.append((i, one))
        assert isinstance(self.model.head, CandidateHead)
        most = self.model.head.num_together
        whole = [company for known in groups.values() for company in known]
        return [company[start : start + most] for company in whole for start in range(0, len(company), most)]

    def _judge(self, company: Sequence[Member], values: Tensor, reasons: list[str | None]) -> None:
        """One forward pass; those that the model's inputs refuse are left out with the reason."""
        try:
            inputs = self._inputs(company)
        except ValueError as problem:
            refused = {i: self._refusal((i, one)) for i, one in company}
            rest = [member for member in company if refused[member[0]] is None]
            whole = " ".join(str(problem).split())
            for i, reason in refused.items():
                reasons[i] = reason if len(rest) < len(company) else whole
            if 0 < len(rest) < len(company):
                self._judge(rest, values, reasons)
            return
        found = self.model.normalized(self.model.read(inputs).values).cpu()
        for (i, _), row in zip(company, found, strict=True):
            values[i] = row
            reasons[i] = (
                None if bool(torch.isfinite(row).all()) else "the reward gave a score that is not finite"
            )

    def _inputs(self, company: Sequence[Member]) -> VlmInputs:
        first = company[0][1]
        media: list[Clip] = [one.clip for _, one in company if one.clip is not None]
        sources = None if first.source_clip is None else [first.source_clip]
        return self.model.builder.together([first.prompt], [media], sources)

    def _refusal(self, member: Member) -> str | None:
        try:
            self._inputs([member])
        except ValueError as problem:
            return " ".join(str(problem).split())
        return None


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    return a is b or (a is not None and b is not None and torch.equal(a, b))


def load_folder(
    path: str | Path, *, batch_size: int = 64, device: str | torch.device = "cpu", dtype: str = "float32",
    golden: bool = False, together: bool = False,
) -> RewardModel:  # fmt: skip
    """A saved reward, each sample for itself; with `together`, the candidates of a prompt in shared forward passes."""
    reward = load_alone(path, batch_size=batch_size, device=device, dtype=dtype, golden=golden)
    return Together(reward) if together else reward
