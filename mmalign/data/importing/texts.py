"""Judgements in words and checklists: VisionRewardDB, UnifiedReward's conversations, R1-Reward. Needs no torch.

Not verified against the released files: VisionRewardDB's meaning of `meta_result` (an answer, 1 yes, for each of its
binary questions, where `meta_mask` is set), and how UnifiedReward's subsets name their media (image, images or video);
its scores of two are read in the layout that its published questions ask for.
Scales of VisionRewardDB's attributes are those of its card; a value outside its scale keeps no scale.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mmalign.comparison import Annotation, Candidate, Comparison, MediaInput
from mmalign.data.importing.formats import Format, Place, Row, by_scores, names, pair, rating
from mmalign.data.importing.videos import VIDEOFEEDBACK_DIMENSIONS

VISIONREWARD_SCALES = {
    "symmetry": (-1, 1), "richness": (-2, 2), "color aesthetic": (-1, 1), "detail realism": (-3, 1),
    "safety": (-3, 1), "body": (-4, 1), "lighting aesthetic": (-1, 2), "lighting distinction": (-1, 2),
    "background": (-1, 2), "emotion": (-2, 2), "main object": (-1, 1), "color brightness": (-1, 1),
    "face": (-3, 2), "hands": (-4, 1), "clarity": (-2, 2), "detail refinement": (-4, 2),
}  # fmt: skip
_CAPTION = re.compile(
    r"(?:Text Caption|Text Prompt|Text instruction|Video Caption|Caption|Prompt)\s*[:：-]\s*\[?(.+?)\]?\s*$",
    re.S,
)
_BETTER = re.compile(r"\b(?:image|video|response|answer)\s*([12])\s+is\s+better", re.I)
_EQUAL = re.compile(r"\bboth\s+\w+\s+are\s+equally\s+(good|bad)", re.I)
_SCORE = re.compile(r"([A-Z][A-Za-z \-]*?)\s*Score\s*(?:\(1-5\))?\s*[:：]\s*\**\s*(-?\d+(?:\.\d+)?)")
_NUMBER = r"(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)"
_TWO_SCORES = re.compile(
    r"([A-Z][A-Za-z \-]*?)\s*Score\s*[:：]\s*(?:Image|Video)\s*1\s*[:：]\s*" + _NUMBER
    + r"\s*(?:Image|Video)\s*2\s*[:：]\s*" + _NUMBER
)  # fmt: skip
_RESPECT = re.compile(rf"^\W*({'|'.join(VIDEOFEEDBACK_DIMENSIONS)})\s*[:：]\s*\**\s*{_NUMBER}", re.I | re.M)
_ANSWER = re.compile(r"<answer>\s*([12])\s*</answer>")
_RESPONSES = re.compile(
    r"\[Response 1\]\s*:\s*(.*?)\s*(?:#+\s*)?\[Response 2\]\s*:\s*(.*?)\s*(?:#+\s*\*\*Output Format.*)?$",
    re.S,
)


def visionreward(row: Row, place: Place) -> Comparison:
    """Ordinal attributes of one picture, and yes or no for each question of the checklist."""
    said = row.data.get("annotation")
    if not isinstance(said, Mapping):
        raise ValueError("'annotation' must be an object of attributes")
    notes = []
    for name, value in said.items():
        if value is None:
            continue
        low, high = VISIONREWARD_SCALES.get(name, (None, None))
        within = low is not None and high is not None and low <= value <= high
        notes.append(
            rating(name.replace(" ", "_"), [value], low if within else None, high if within else None)
        )
    answers = row.data.get("meta_result") or ()
    mask = row.data.get("meta_mask") or [1] * len(answers)
    if len(mask) != len(answers):
        raise ValueError(f"meta_mask has {len(mask)} entries for {len(answers)} of meta_result")
    for number, (answer, asked) in enumerate(zip(answers, mask, strict=True), start=1):
        data = {"question": f"question {number}", "answers": [int(answer) if asked else None]}
        notes.append(Annotation("checklist", "checklist", data))
    return Comparison(
        id=f"visionreward-{row.text('internal_id') or row.digest()}",
        prompt=row.text("prompt"),
        candidates=(Candidate("0", place.uri(row.data.get("image") or row.needed("url"), row)),),
        annotations=tuple(notes),
        annotator={"type": "human"},
    )


def conversations(row: Row, place: Place) -> Comparison | str:
    """What the answer says in words, which stay as a critique: a better one of two (of edits their source is the first
    picture), or scores of one from 1 to 5; of a video five respects from 1 to 4 and a final score from 1 to 10.

    Scores of two (UnifiedReward 2.0) are relative, in each respect they sum to 1: the first is taken as the probability
    that the first is better.
    """
    turns = row.list_of("conversations")
    asked = next((str(t.get("value")) for t in turns if t.get("from") in ("human", "user")), "")
    told = next((str(t.get("value")) for t in reversed(turns) if t.get("from") in ("gpt", "assistant")), "")
    if not asked or not told:
        raise ValueError("a conversation needs a question (human) and an answer (gpt)")
    field = next((f for f in ("images", "image", "videos", "video") if row.data.get(f)), None)
    if field is None:
        return "has no media"
    media = list(row.data[field]) if isinstance(row.data[field], (list, tuple)) else [row.data[field]]
    edits = len(media) == 3 and "source image" in asked.lower()
    sources = [media.pop(0)] if edits else []
    notes = _understood(told, len(media))
    if notes is None:
        return "its answer names neither a better one nor a score"
    video = field.startswith("video")
    caption = _CAPTION.search(asked)
    return Comparison(
        id=f"unifiedreward-{row.text('id') or row.digest()}",
        prompt=caption.group(1).strip() if caption else re.sub(r"<(?:image|video)>\n?", "", asked).strip(),
        candidates=tuple(
            Candidate(str(k), place.uri(one, row), "video" if video else "image")
            for k, one in enumerate(media)
        ),
        annotations=(*notes, Annotation("overall", "critique", {"texts": [told]})),
        inputs=tuple(MediaInput("source", place.uri(one, row)) for one in sources),
        task="edit" if edits else "t2v" if video else "t2i",
        annotator={"type": "human"},
    )


def _understood(told: str, num: int) -> list[Annotation] | None:
    better, equal = _BETTER.findall(told), _EQUAL.search(told)
    if num == 2 and better:
        return [pair("overall", "i" if better[-1] == "1" else "j")]
    if num == 2 and equal is not None:
        return [pair("overall", "tie", tie_kind=equal.group(1).lower())]
    relative = _TWO_SCORES.findall(told) if num == 2 else []
    if relative:
        return [_relative(name, float(first), float(second)) for name, first, second in relative]
    return (_rated(told) or None) if num == 1 else None


def _rated(told: str) -> list[Annotation]:
    """The scores of one picture, or of one video, which has respects of its own and another scale."""
    respects = {name.lower(): float(value) for name, value in _RESPECT.findall(told)}
    scores = {name.strip().lower(): float(value) for name, value in _SCORE.findall(told)}
    notes = [rating(VIDEOFEEDBACK_DIMENSIONS[name], [value], 1, 4) for name, value in respects.items()]
    return notes + [
        rating(
            "overall" if name in ("final", "overall") else name.replace(" ", "_"), [value], 1, 10 if respects else 5
        )
        for name, value in scores.items()
    ]  # fmt: skip


def _relative(name: str, first: float, second: float) -> Annotation:
    if min(first, second) < 0 or abs(first + second - 1.0) > 0.01:
        raise ValueError(f"the {name} scores {first} and {second} are relative and must sum to 1")
    label = by_scores(first, second)
    dim = name.strip().lower().replace(" ", "_")
    if label == "tie":
        return pair(dim, label, tie_kind="unknown")
    return pair(dim, label, p=first / (first + second))


def r1_reward(row: Row, place: Place) -> Comparison:
    """Two answers in words to a question about a picture; `answer` names the better one, 1 or 2."""
    found = _ANSWER.search(str(row.needed("answer")))
    if found is None:
        raise ValueError(
            f"answer is {row.data['answer']!r}: it must hold <answer>1</answer> or <answer>2</answer>"
        )
    message = row.needed("message")
    try:
        content = _content(json.loads(message) if isinstance(message, str) else message)
    except (json.JSONDecodeError, AttributeError, TypeError) as problem:
        raise ValueError(f"'message' is no list of chat messages ({problem})") from problem
    texts = " ".join(str(c.get("text")) for c in content if c.get("type") == "text")
    media = [(c["type"], c[c["type"]]) for c in content if c.get("type") in ("image", "video")]
    responses = _RESPONSES.search(texts)
    if responses is None:
        raise ValueError("'message' holds no [Response 1]: and [Response 2]:")
    return Comparison(
        id=f"r1-reward-{row.digest()}",
        prompt=row.needed("question"),
        inputs=tuple(
            MediaInput("reference", place.uri(value, row), kind)
            for kind, values in media
            for value in (values if isinstance(values, list) else [values])
        ),
        candidates=tuple(Candidate(str(k), None, "text", responses.group(k)) for k in (1, 2)),
        annotations=(pair("overall", "i" if found.group(1) == "1" else "j"),),
        task="text",
        annotator={"type": "human"},
    )


def _content(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    made: list[Mapping[str, Any]] = []
    for message in messages:
        content = message.get("content")
        made += [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())
    return made


FORMATS = (
    Format("visionrewarddb", "parquet: 18 ordinal attributes and a checklist a picture",
           (names("image annotation prompt"), names("annotation meta_result")), visionreward,
           names("internal_id url image prompt meta_result meta_mask"), "Apache-2.0", verified=False),
    Format("unifiedreward", "LLaVA conversations: a better one of two, or scores, in words",
           (names("conversations"),), conversations, names("id image images video videos"), "MIT", verified=False,
           any_fields=True),
    Format("r1-reward", "message, question, answer 1 or 2: answers in words, which go to no reward",
           (names("message question answer"),), r1_reward, names("id"), "Apache-2.0"),
)  # fmt: skip
