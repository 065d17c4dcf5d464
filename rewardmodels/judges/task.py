"""What the tasks of judges whose model is trained have in common: weights and their averages, measuring, what was left
out, checkpoints, and the folder that is saved.

Legend: no tensors but weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from torch import Tensor, nn
from transformers import PreTrainedModel

from mmalign.train.distributed import Processes
from mmalign.train.loop import Report
from mmalign.train.skips import Skips
from rewardmodels.averages import Averages
from rewardmodels.judges import trainable
from rewardmodels.judges.probability_recipe import ProbabilityRecipe
from rewardmodels.judges.text_recipe import TextRecipe
from rewardmodels.sources import PairSource


class Learning(Protocol):
    """A judge with the model that is trained."""

    @property
    def judge(self) -> Any: ...

    @property
    def vlm(self) -> PreTrainedModel: ...

    def finished(self) -> AbstractContextManager[Any]:
        """The judge with plain weights, within a `with`."""
        ...


Learns = TypeVar("Learns", bound=Learning)
Recipe = TypeVar("Recipe", ProbabilityRecipe, TextRecipe)
Examine = Callable[[Any, int], Mapping[str, float]]
"""Numbers to log of a judge, on so many prompts."""


class JudgeTask(Generic[Learns, Recipe]):
    """A subclass says what an update learns from.

    With `skips` pairs that cannot be read are left out and counted. Averaged weights, if the recipe asks for them, are
    those that are measured and saved.
    """

    def __init__(
        self, learner: Learns, recipe: Recipe, source: PairSource, processes: Processes,
        *, examine: Examine | None = None, skips: Skips | None = None,
    ) -> None:  # fmt: skip
        learner.vlm.to(processes.device)
        self.learner, self.source, self.processes = learner, source, processes
        self.recipe: Recipe = recipe
        self.examine, self.skips = examine, skips
        self.averages = Averages(learner.vlm, recipe.method.average)

    def parameters(self) -> list[nn.Parameter]:
        """Those that the recipe trains."""
        return [parameter for parameter in self.learner.vlm.parameters() if parameter.requires_grad]

    def not_matrices(self) -> list[nn.Parameter]:
        """Embeddings, of which the words of the answers are rows; an optimiser for matrices leaves them alone."""
        vlm = self.learner.vlm
        tables: list[nn.Module] = [m for m in vlm.modules() if isinstance(m, nn.Embedding)]
        return [p for module in (*tables, vlm.get_output_embeddings()) for p in module.parameters()]

    @property
    def num_iterations(self) -> int:
        """How many there are."""
        return self.recipe.budget.iterations

    def bundles(self, iteration: int) -> range:
        """The numbers of this process's bundles."""
        num = self.recipe.budget.bundles_per_iteration
        return self.processes.share(iteration, num, "budget.bundles_per_iteration")

    def finish(self, iteration: int, num_updates: int) -> Mapping[str, float]:
        """Move the average, and say what was left out."""
        self.averages.follow(num_updates)
        if self.skips is None:
            return {}
        last = iteration + 1 == self.num_iterations
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
        return self.averages.state_dict() | ({} if self.skips is None else self.skips.state())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from `state_dict()`."""
        self.averages.load_state_dict(state)
        if self.skips is not None:
            self.skips.restore(state)

    @contextmanager
    def result(self) -> Iterator[Any]:
        """The judge that is measured and saved, within a `with`: averaged, adapters merged."""
        with self.averages.swapped_in(), self.learner.finished() as judge:
            yield judge

    def save(self, folder: Path) -> None:
        """The judge, ready to score."""
        with self.result() as judge:
            trainable.save(judge, folder / "judge")
