"""Judges that write, in training on red and green pictures, small enough for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mmalign.strict import validate
from mmalign.train.distributed import Processes
from mmalign.types import PreferencePair, Sample
from pipelines.train_text import start_judge
from rewardmodels.judges.text_recipe import TextRecipe
from rewardmodels.judges.text_training import ReinforceTask, WarmUpTask
from rewardmodels.judges.writer import Writer
from rewardmodels.losses import RATINGS
from tests.unit.rewardmodels.judges.tiny_training import Redder

DRAW = {"max_tokens": 12}
MARK = {"name": "mark", "wording": "plain/1", "shows": ["media"], "format": "tag", "key": "score"}
POINTS = {
    "kind": "points", "overall": "final", "draw": DRAW,
    "asks": [{**MARK, "fields": [{"name": "final", "low": 0, "high": 4}]}],
}  # fmt: skip
CHAIN = {
    "kind": "points", "overall": "final", "draw": DRAW,
    "asks": [
        {"name": "critique", "wording": "plain/1", "shows": ["media"], "format": "free"},
        {**MARK, "after": "critique", "wording": "mark-after-critique/1",
         "fields": [{"name": "final", "low": 0, "high": 4}]},
    ],
}  # fmt: skip
LIST = {
    "kind": "points", "overall": "mean", "draw": DRAW,
    "asks": [{**MARK, "format": "json_list",
              "fields": [{"name": "a", "low": 0, "high": 2}, {"name": "b", "low": 0, "high": 2}]}],
}  # fmt: skip
PAIR = {"kind": "pair", "wording": "plain-pair/1", "style": "sentence", "draw": DRAW}
PRINCIPLES = {
    "kind": "principles", "plan": "plain/1", "verify": "plain/1", "kinds": {"follow": 2.0, "keep": 1.0},
    "plan_shows": ["media"], "verify_shows": ["media"], "draw": {"max_tokens": 24},
}  # fmt: skip


@dataclass(frozen=True)
class Rated(Redder):
    """Red is rated 4 of 1 to 4, green 1; in the dimension `even` both 2."""

    dimensions: Sequence[str] = ("overall",)

    def rated(self, number: int, progress: float = 0.0) -> list[Sample]:
        made: list[Sample] = []
        for pair in self.bundle(number):
            for sample, level in ((pair.a, 4.0), (pair.b, 1.0)):
                ratings = {name: 2.0 if name == "even" else level for name in self.dimensions}
                made.append(replace(sample, metadata={RATINGS: ratings}))
        return made


def recipe(kind: dict[str, Any], path: str = "shapes-reward", **parts: Any) -> TextRecipe:
    asks = {"name": "tiny", "about": "a test", "modalities": ["image"], "scale": "[0, 4]", "judge": kind}
    start = {"path": path, "asks": asks, "batch_size": 32, **parts.pop("judge", {})}
    method = {"answers": 4, **parts.pop("method", {})}
    return validate({"judge": start, "data": {"heldout": None}, "method": method, **parts}, TextRecipe)


def writer_of(made: TextRecipe) -> Writer:
    return Writer(start_judge(made, "cpu"), made.judge, made.seed, made.warm_up.critique)


def warm_up_of(made: TextRecipe, source: Any = None, **options: Any) -> WarmUpTask:
    return WarmUpTask(writer_of(made), made, source or Rated(), Processes(), **options)


def task_of(made: TextRecipe, source: Any = None, **options: Any) -> ReinforceTask:
    return ReinforceTask(writer_of(made), made, source or Rated(), Processes(), **options)


def pairs(num: int = 4) -> list[PreferencePair]:
    return Redder(num).bundle(0)
