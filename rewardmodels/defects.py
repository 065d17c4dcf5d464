"""Errors of a reward's own code: each costs the samples it struck and is logged; one that strikes all ends the run.

A `ValueError` of a reward is a refusal, a sentence about the sample. Any other error is a defect of the reward. One
bad item among thousands is skipped either way, with a reason; but a reward that fails on everything is a mistake that
nobody should find out from a table of blanks.
"""

from __future__ import annotations

import logging
import traceback
from collections import Counter
from collections.abc import Sequence

from mmalign.console import counted
from mmalign.types import Scores

PATIENCE = 16
"""So many samples struck and none judged, and a reward is given up."""
LONGEST = 1000
"""Characters of an error's words that a reason has."""


class GivenUp(RuntimeError):
    """A reward judged nothing, and its own errors are why."""


log = logging.getLogger("mmalign.rewards")


class Defect(str):
    """The reason of a sample that a reward's own error struck; it names the error's type and keeps the error.

    >>> Defect.of(KeyError("size"))
    "the reward failed: KeyError: 'size'"
    """

    __slots__ = ("problem",)
    problem: Exception

    @classmethod
    def of(cls, problem: Exception) -> Defect:
        """The reason, in one line."""
        words = in_one_line(problem)
        _let_go(problem)
        made = cls(f"the reward failed: {type(problem).__name__}{': ' if words else ''}{words}")
        made.problem = problem
        return made


def _let_go(problem: BaseException | None) -> None:
    """Empty the frames of an error and of what caused it: a reason that is kept must not keep a batch in memory."""
    while problem is not None:
        traceback.clear_frames(problem.__traceback__)
        problem = problem.__cause__ or problem.__context__


def in_one_line(problem: Exception) -> str:
    """What an error says, as a reason: an error may quote a prompt of any length."""
    words = " ".join(str(problem).split())
    return words if len(words) <= LONGEST else f"{words[:LONGEST]} ..."


def defects(scores: Scores) -> list[Defect]:
    """The reasons (at most B) that are defects."""
    return [reason for reason in scores.reasons if isinstance(reason, Defect)]


def report(name: str, scores: Scores) -> None:
    """Log each kind of defect once, with the traceback of the first."""
    found = defects(scores)
    counts, first = Counter(found), {str(one): one for one in reversed(found)}
    for words, num in counts.items():
        where = f"reward '{name}', {num} of {len(scores)} samples"
        log.error("%s: %s", where, words, exc_info=first[words].problem)


class Tally:
    """What became of the samples that a reward was asked for in a run."""

    def __init__(self) -> None:
        self.asked = self.struck = 0
        self.proven = False  # whether the reward has worked on anything, perhaps in an earlier run
        self.first: Defect | None = None
        self.end: GivenUp | None = None

    @property
    def reason(self) -> str:
        """Why a reward that was given up has no score for a sample that it was not asked for any more."""
        assert self.end is not None
        return f"the reward was given up after {counted(self.struck, 'failure')}; first {self.first}"

    def add(self, name: str, scores: Scores) -> None:
        """More scores; `GivenUp` where `PATIENCE` samples were struck and none was judged."""
        found: Sequence[Defect] = defects(scores)
        self.proven = self.proven or bool(scores.valid.any())
        self.asked, self.struck = self.asked + len(scores), self.struck + len(found)
        self.first = self.first or next(iter(found), None)
        if self.struck >= PATIENCE:
            self.conclude(name)

    def conclude(self, name: str) -> None:
        """`GivenUp` where samples were struck and none was judged; those that were refused prove nothing."""
        if self.first is None or self.proven:
            return
        self.end = GivenUp(
            f"reward '{name}' judged none of {self.asked} samples, and failed on {self.struck}, the first time with "
            f"{type(self.first.problem).__name__}: {in_one_line(self.first.problem)}; this is a defect of the reward, "
            "see above"
        )
        raise self.end from self.first.problem
