"""A judge in words from its file: wordings, an engine (local model or server), and the reward built on them.

load_judge(config="editscore", path="EditScore/EditScore-7B")                      in this process
load_judge(config="firm-gen", server="http://127.0.0.1:8000/v1", model="FIRM")     any OpenAI-compatible server
load_judge(config="unifiedreward-pair", server=..., model=...)                     two candidates at a time
load_judge(config="critique-then-score", scorer="runs/head/reward", path=...)      a head that reads a critique
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmalign.composition import Reward
from mmalign.strict import validate
from mmalign.types import RewardModel
from rewardmodels.judges.answers import Answers
from rewardmodels.judges.budget import Budget
from rewardmodels.judges.chat import Engine
from rewardmodels.judges.checklist import ChecklistReward, read_weights
from rewardmodels.judges.critiqued import CritiquedReward
from rewardmodels.judges.endpoint import Endpoint
from rewardmodels.judges.pairwise import PairJudge
from rewardmodels.judges.principles import PrincipleReward
from rewardmodels.judges.probability import DigitReward, EchoReward, YesNoReward
from rewardmodels.judges.published_checklist import with_questions
from rewardmodels.judges.settings import (
    Checklist,
    Critiqued,
    Digits,
    Echo,
    JudgeFile,
    Pair,
    Points,
    Principles,
    YesNo,
    read_judge,
)
from rewardmodels.judges.text import TextReward
from rewardmodels.judges.wording import Wording, from_file, wording

Templates = str | Path | Mapping[str, str]


def load_judge(
    *,
    config: str,
    path: str | None = None,
    base: str | None = None,
    server: str | None = None,
    model: str | None = None,
    engine: Engine | None = None,
    template_file: Templates | None = None,
    checklist_file: str | None = None,
    weights_file: str | None = None,
    scorer: str | Mapping[str, Any] | None = None,
    cache: str | None = None,
    passes: int | None = None,
    min_mass: float | None = None,
    hard: bool | None = None,
    videos: str | None = None,
    seed: int = 0,
    batch_size: int = 8,
    device: str = "cpu",
    dtype: str = "float32",
    key_env: str = "OPENAI_API_KEY",
    concurrency: int = 16,
    timeout: float = 120.0,
    retries: int = 5,
    max_requests: int | None = None,
    max_tokens_total: int | None = None,
    max_seconds: float | None = None,
) -> RewardModel | PairJudge:
    """A judge as a reward; a file of kind `pair` gives a `PairJudge`.

    - config: a name of `files/` or a YAML file of yours
    - path: folder or hub id of the model (with `base` for an adapter); left out, the published checkpoint
    - server, model: an OpenAI-compatible URL and the name it serves the model under; instead of `path`
    - template_file: your text in place of our wording, or a mapping from question to file
    - weights_file: what a checklist has learned; with checklist_file, VisionReward's own weights for its own questions
    - videos: `frames` shows a video as pictures, `clip` as one video in the model's own tokens
    - hard: answers of a checklist are 1 or -1, as VisionReward counts them
    - scorer: the reward that reads a critique: a folder, or a reward as YAML writes it (name, options); without path
      and server the critique is metadata["critique"]
    - cache: a file that keeps answers; max_requests, max_tokens_total, max_seconds: what a server may be asked
    """
    settings = _changed(read_judge(config), passes=passes, min_mass=min_mass, hard=hard)
    if videos is not None:
        settings = validate({**settings.model_dump(mode="json"), "videos": videos}, JudgeFile, origin=config)
    if checklist_file is not None:
        settings, weights_file = with_questions(settings, checklist_file, weights_file), None
    budget = Budget(max_requests, max_tokens_total, max_seconds)
    speaker = engine or _engine(
        settings, path=path, base=base, server=server, model=model, cache=cache, batch_size=batch_size,
        device=device, dtype=dtype, key_env=key_env, concurrency=concurrency, timeout=timeout, retries=retries,
        budget=budget,
    )  # fmt: skip
    head = None if scorer is None else _scorer(scorer, device=device, dtype=dtype, batch_size=batch_size)
    return build(
        settings, speaker, template_file=template_file, weights_file=weights_file, scorer=head, seed=seed
    )


def build(
    settings: JudgeFile, engine: Any, *, template_file: Templates | None = None, weights_file: str | None = None,
    scorer: RewardModel | None = None, seed: int = 0,
) -> RewardModel | PairJudge:  # fmt: skip
    """The reward, or the judge of pairs, of a judge file on an engine."""
    judge = settings.judge
    if weights_file is not None and not isinstance(judge, Checklist):
        raise ValueError(f"weights_file is for checklists; {settings.name} is no checklist")
    if isinstance(judge, Critiqued):
        if scorer is None:
            raise ValueError(
                f"{settings.name} needs scorer=: the folder of a reward model that reads the critique"
            )
        texts = _wordings({"critique": judge.critique, "joined": judge.joined}, template_file)
        return CritiquedReward(engine, settings, judge, texts, scorer, seed)
    if scorer is not None:
        raise ValueError(f"scorer is for judges of kind critiqued; {settings.name} gives its own scores")
    if isinstance(judge, Points):
        texts = _wordings({ask.name: ask.wording for ask in judge.asks}, template_file)
        return TextReward(engine, settings, judge, texts, seed)
    if isinstance(judge, Principles):
        return PrincipleReward(
            engine,
            settings,
            judge,
            _wordings({"plan": judge.plan, "verify": judge.verify}, template_file),
            seed,
        )
    text = _wordings({"question": judge.wording}, template_file)["question"]
    if isinstance(judge, Pair):
        return PairJudge(engine, settings, judge, text, seed)
    if isinstance(judge, Checklist):
        weights = read_weights(weights_file, judge) if weights_file is not None else ()
        return ChecklistReward(engine, settings, judge, text, weights)
    if isinstance(judge, YesNo):
        return YesNoReward(settings, text, engine=engine, asked=judge, seed=seed)
    if isinstance(judge, Digits):
        return DigitReward(settings, text, engine=engine, asked=judge)
    assert isinstance(judge, Echo)
    if not hasattr(engine, "echo"):
        raise ValueError(
            f"{settings.name} needs the model in this process (path=): servers do not rate given text"
        )
    return EchoReward(settings, text, engine=engine, asked=judge)


def _scorer(named: str | Mapping[str, Any], **place: Any) -> RewardModel:
    """The reward that reads critiques; a saved folder goes to the judge's device, in its dtype."""
    from rewardmodels.catalog import CONFIG, load
    from rewardmodels.combine import build as built

    if isinstance(named, str):
        return load(named, **(place if (Path(named) / CONFIG).is_file() else {}))
    return built(validate(dict(named), Reward, origin="scorer"))


def _wordings(keys: Mapping[str, str], files: Templates | None) -> dict[str, Wording]:
    """The text of every question: ours, or the user's."""
    if files is None:
        return {name: wording(key) for name, key in keys.items()}
    if not isinstance(files, Mapping):
        if len(keys) > 1:
            raise ValueError(
                f"this judge asks {', '.join(keys)}: give template_file as a mapping from these to files"
            )
        files = dict.fromkeys(keys, str(files))
    unknown = sorted(set(files) - set(keys))
    if unknown:
        raise ValueError(f"template_file names '{unknown[0]}'; this judge asks {', '.join(keys)}")
    return {name: from_file(files[name]) if name in files else wording(key) for name, key in keys.items()}


def _changed(settings: JudgeFile, **fields: Any) -> JudgeFile:
    """The settings with a user's options put in; one the judge does not have is an error."""
    given = {name: value for name, value in fields.items() if value is not None}
    if not given:
        return settings
    record = settings.model_dump(mode="json")
    for name in given:
        if name not in record["judge"]:
            raise ValueError(f"{settings.name} has no option '{name}'")
    record["judge"] |= given
    return JudgeFile.model_validate_json(json.dumps(record))


def _engine(
    settings: JudgeFile, *, path: str | None, base: str | None, server: str | None, model: str | None,
    cache: str | None, batch_size: int, device: str, dtype: str, budget: Budget, **http: Any,
) -> Engine | None:  # fmt: skip
    """The server if one is named, otherwise the model in this process; none where critiques are given."""
    if server is not None:
        if path is not None or model is None:
            raise ValueError("a server needs model= (the name it serves the model under) and no path=")
        return Endpoint(server, model, budget=budget, answers=Answers(cache), **http)
    if model is not None:
        raise ValueError(
            "model= is the name on a server: give server= too, or use path= for a folder or hub id"
        )
    chosen = path or settings.checkpoint
    if chosen is None and isinstance(settings.judge, Critiqued):
        return None
    if chosen is None:
        raise ValueError(
            f"{settings.name} works with any instruction model: give path= or server= with model="
        )
    from rewardmodels.judges.adapters import open_model
    from rewardmodels.judges.local import LocalEngine

    opened = open_model(chosen, base=base, device=device, dtype=dtype)
    return LocalEngine(opened.model, opened.processor, opened.name, batch_size, Answers(cache))
