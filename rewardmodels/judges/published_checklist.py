"""VisionReward's own checklists, read from a checkout of its repository. None of its text is shipped.

    VisionReward_Video/VisionReward_video_qa_select.txt    29 questions, `[[prompt]]` where the prompt belongs
    VisionReward_Video/weight.json                         a list of 29 weights
    VisionReward_Image/VisionReward_image_qa_select.txt    30 questions, the first three asking for body, face and hands
    VisionReward_Image/weight_select.json                  {"coef": 28 weights, "intercept": [0.0]}

A video's score is the mean of weight times answer over all of its questions. A picture's is a sum, in which VQAScore
comes first, then all questions but the first three; those only shut what depends on them (0 instead of an answer).

Differences from the published code: lines are asked without their newline; an answer is 2 P(yes) - 1 unless `hard`
(theirs: 1 for yes, -1 for any other word); VQAScore is asked of the same model in our words.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rewardmodels.judges.settings import Check, Checklist, JudgeFile

PLACE = "[[prompt]]"
GATED = {22: 0, 23: 0, 24: 0, 25: 1, 26: 1, 27: 2, 28: 0, 29: 0}
"""Of pictures: the place of a question, counted from 0, and of the one that must be answered yes."""
ASKED = 30
"""Questions about pictures, to which these places belong."""


def with_questions(settings: JudgeFile, questions: str | Path, weights: str | Path | None) -> JudgeFile:
    """The checklist judge with the questions and weights of these files; its dimensions are q1, q2, ..."""
    if not isinstance(settings.judge, Checklist):
        raise ValueError(f"checklist_file is for checklists; {settings.name} is no checklist")
    if weights is None:
        raise ValueError(f"the questions of {questions} need their weights: give weights_file too")
    lines = Path(questions).read_text(encoding="utf-8").splitlines()
    asked = [line.strip().replace(PLACE, "{prompt}") for line in lines if line.strip()]
    held = json.loads(Path(weights).read_text(encoding="utf-8"))
    kind = "video" if isinstance(held, list) else "image"
    if kind not in settings.modalities:
        raise ValueError(
            f"{weights} is laid out for {kind}s; {settings.name} judges {settings.modalities[0]}s"
        )
    if kind == "video":
        checks = _of_videos(asked, _numbers(held, len(asked), weights))
    else:
        checks = _of_pictures(asked, held, settings.judge, questions, weights)
    return settings.model_copy(update={"judge": settings.judge.model_copy(update={"checks": checks})})


def _of_videos(asked: list[str], weights: list[float]) -> tuple[Check, ...]:
    pairs = enumerate(zip(asked, weights, strict=True), 1)
    return tuple(
        Check(name=f"q{n}", question=text, weight=weight / len(asked)) for n, (text, weight) in pairs
    )


def _of_pictures(
    asked: list[str], held: Any, own: Checklist, questions: str | Path, weights: str | Path
) -> tuple[Check, ...]:
    """VQAScore as the judge has it, the gates, and the others in their order."""
    if len(asked) != ASKED:
        raise ValueError(
            f"{questions} has {len(asked)} questions, the list for pictures has {ASKED}: give its ..._qa_select.txt"
        )
    shows = [check for check in own.checks if check.probability]
    if len(shows) != 1:
        raise ValueError("the list for pictures needs a judge with one check that is a probability")
    if not isinstance(held, dict) or any(held.get("intercept", [0.0])):
        raise ValueError(f"{weights} must be a list, or hold coef and an intercept of 0")
    gates = set(GATED.values())
    coef = _numbers(held.get("coef"), 1 + ASKED - len(gates), weights)
    rest = iter(coef[1:])
    made = [
        Check(
            name=f"q{n + 1}", question=text, weight=0.0 if n in gates else next(rest),
            where=f"q{GATED[n] + 1}" if n in GATED else None,
        )
        for n, text in enumerate(asked)
    ]  # fmt: skip
    return (shows[0].model_copy(update={"weight": coef[0]}), *made)


def _numbers(held: Any, num: int, path: str | Path) -> list[float]:
    if not isinstance(held, list) or len(held) != num or not all(isinstance(w, int | float) for w in held):
        has = f"{len(held)} entries" if isinstance(held, list) else type(held).__name__
        raise ValueError(
            f"{path} must hold {num} weights for these questions, it has {has}: the questions that were "
            "weighed are those of a ..._qa_select.txt"
        )
    return [float(w) for w in held]
