"""Preferences between and ratings of videos: VideoAlign, VideoGen-RewardBench, VideoFeedback, UVE-Bench,
WorldRewardBench, VEFX, SoliReward. Needs no torch.

Not verified against the released files: VEFX's column names (those of its scoring CSV with the three scores added).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from mmalign.comparison import Annotation, Candidate, Comparison, MediaInput
from mmalign.data.importing.formats import Format, Place, Row, by_scores, chosen, names, pair, rating
from mmalign.data.records import group_of

VIDEOALIGN_DIMENSIONS = {
    "VQ": "visual_quality",
    "MQ": "motion_quality",
    "TA": "text_alignment",
    "Overall": "overall",
}
_SIDES = {"a": ("i", None), "b": ("j", None), "same": ("tie", "unknown"), "invalid": ("invalid", None)}
_INVALID = ("22", "22.0")
"""What stands in VideoAlign's files for a dimension that could not be judged."""
_UVE = {
    "a is better": ("i", None),
    "b is better": ("j", None),
    "same good": ("tie", "good"),
    "same bad": ("tie", "bad"),
}
VIDEOFEEDBACK_DIMENSIONS = {
    "visual quality": "visual_quality",
    "temporal consistency": "temporal_consistency",
    "dynamic degree": "dynamic_degree",
    "text-to-video alignment": "text_alignment",
    "factual consistency": "factual_consistency",
}
VEFX_DIMENSIONS = {"IF": "instruction_following", "RQ": "rendering_quality", "EE": "edit_exclusivity"}


def videoalign(row: Row, place: Place) -> Comparison:
    """A, B or same in VQ, MQ, TA and perhaps Overall; 22 is invalid, in its dimension only."""
    notes = []
    for column, dim in VIDEOALIGN_DIMENSIONS.items():
        if word := row.text(column):
            label, kind = chosen("invalid" if word in _INVALID else word, _SIDES, column)
            notes.append(pair(dim, label, tie_kind=kind))
    if not notes:
        raise ValueError(f"no label in any of {', '.join(VIDEOALIGN_DIMENSIONS)}")
    return Comparison(
        id=f"videoalign-{row.digest()}",
        prompt=row.needed("prompt"),
        candidates=tuple(_side(row, side, place) for side in "AB"),
        annotations=tuple(notes),
        task="t2v",
        annotator={"type": "human"},
    )


def _side(row: Row, side: str, place: Place) -> Candidate:
    meta = {name: row.number_of(f"{name}_{side}") for name in ("fps", "num_frames")}
    return Candidate(
        side, place.uri(row.needed(f"path_{side}"), row), "video", model=row.text(f"{side}_model") or None,
        meta={k: v for k, v in meta.items() if v is not None},
    )  # fmt: skip


def videofeedback(row: Row, place: Place) -> Comparison:
    """Five ratings from 1 to 4 of one video."""
    notes = [
        rating(dim, [row.number_of(column)], 1, 4)
        for column, dim in VIDEOFEEDBACK_DIMENSIONS.items()
        if row.number_of(column) is not None
    ]
    if not notes:
        raise ValueError(f"no rating in any of {', '.join(VIDEOFEEDBACK_DIMENSIONS)}")
    name = row.text("id") or row.digest()
    return Comparison(
        id=f"videofeedback-{name}",
        prompt=row.needed("text prompt"),
        candidates=(Candidate("0", place.uri(row.text("video link") or f"{name}.mp4", row), "video"),),
        annotations=tuple(notes),
        task="t2v",
        annotator={"type": "human"},
        meta={"frames": list(row.data["images"])} if row.data.get("images") else {},
    )


def uve(row: Row, place: Place) -> Comparison:
    """A is better, B is better, same good, same bad. Most aspects are judged without the prompt.

    One judgement holds for every sub-aspect it names (the aspect itself is often one of them): these, 15 in all, are
    the dimensions, as in the benchmark's own evaluation. What must not be split is the prompt's number in its data
    set, which the names of the videos tell.
    """
    label, kind = chosen(row.needed("preference"), _UVE, "preference")
    videos = [row.needed("video_a"), row.needed("video_b")]
    aspect, parts = row.needed("aspect"), row.data.get("subaspects") or row.text("subaspect").split("|")
    dims = list(dict.fromkeys(str(part).strip() for part in parts if part)) or [aspect]
    number = re.search(r"_(\d+)\.\w+$", videos[0])
    group = f"uve:{row.text('dataset')}:{number.group(1)}" if number else ""
    name = row.key or row.text("id") or row.digest()
    return Comparison(
        id=f"uve-{name}",
        prompt=row.text("prompt"),
        candidates=tuple(
            Candidate(side, place.uri(video, row), "video",
                      model=row.text(f"model_{side}") or PurePosixPath(video).parts[0])
            for side, video in zip("ab", videos, strict=True)
        ),
        annotations=tuple(pair(dim, label, tie_kind=kind) for dim in dims),
        task="t2v",
        group=group,
        annotator={"type": "human"},
        meta={"aspect": aspect, "dataset": row.text("dataset")},
    )  # fmt: skip


def worldreward(row: Row, place: Place) -> Comparison:
    """Scores from 1 to 5 of two videos; a pair is a tie where pair_type says so, whatever the scores.

    The prompts stand in `*_with_prompts.json` beside the file of pairs; without them the prompt is empty.
    """
    scores = [row.number_of("score_1"), row.number_of("score_2")]
    if scores[0] is None or scores[1] is None:
        raise ValueError("a score is missing")
    tie = row.text("pair_type") == "tie"
    label = "tie" if tie else by_scores(scores[0], scores[1])
    word = row.text("tie_quality").lower() or row.text("tie_label").lower()
    kind = "good" if "good" in word else "bad" if "bad" in word else "unknown"
    task = row.needed("task_id")
    notes = [pair("overall", label, tie_kind=kind if label == "tie" else None), rating("score", scores, 1, 5)]
    inputs = (MediaInput("first_frame", place.uri(row.data["input_image_path"], row)),) if row.text(
        "input_image_path") else ()  # fmt: skip
    return Comparison(
        id=f"worldreward-{row.text('source_pair_id') or row.digest()}",
        prompt=_task_prompts(row.file.parent).get(str(task), ""),
        inputs=inputs,
        candidates=tuple(
            Candidate(str(k), place.uri(row.needed(f"model_{k}_video_path"), row), "video",
                      model=row.text(f"model_{k}") or None)
            for k in (1, 2)
        ),
        annotations=tuple(notes),
        task="i2v" if inputs else "t2v",
        group=f"worldreward:{task}",
        annotator={"type": "human"},
        meta={"task_id": task},
    )  # fmt: skip


@lru_cache(maxsize=4)
def _task_prompts(folder: Path) -> dict[str, str]:
    made: dict[str, str] = {}
    for file in sorted(folder.glob("*_with_prompts.json")):
        for item in json.loads(file.read_text(encoding="utf-8")):
            text = item.get("video_prompt") or item.get("video_prompt_difficult") or item.get("human_hint_en")
            made[str(item["id"])] = str(text or "").strip()
    return made


def vefx(row: Row, place: Place) -> Comparison:
    """Three ordinal ratings from 1 to 4 of one edited video."""
    notes = [
        rating(dim, [row.number_of(column)], 1, 4)
        for column, dim in VEFX_DIMENSIONS.items()
        if row.number_of(column) is not None
    ]
    if not notes:
        raise ValueError(f"no rating in any of {', '.join(VEFX_DIMENSIONS)}")
    return Comparison(
        id=f"vefx-{row.text('id') or row.digest()}",
        prompt=row.needed("instruction"),
        inputs=(MediaInput("source", place.uri(row.needed("original_video"), row), "video"),),
        candidates=(
            Candidate(
                "0", place.uri(row.needed("edited_video"), row), "video", model=row.text("model") or None
            ),
        ),
        annotations=tuple(notes),
        task="v2v",
        annotator={"type": "human"},
        meta={"category": row.text("category")} if row.text("category") else {},
    )


def solireward(row: Row, place: Place) -> Comparison:
    """win and lose may answer different prompts; equal quality is a win-tie. Item labels stay as ratings.

    What must not be split is both prompts; where none are told, all pairs of one better video.
    """
    if "videos" in row.data:
        files, qualities = row.list_of("videos", 2), row.list_of("quality", 2)
        prompts = ["", ""]
    else:
        sides = [row.needed("win"), row.needed("lose")]
        if not all(isinstance(side, dict) and side.get("video_path") for side in sides):
            raise ValueError("win and lose must each have a video_path")
        files, qualities = [s["video_path"] for s in sides], [s.get("quality") for s in sides]
        prompts = [str(s.get("prompt") or "") for s in sides]
    notes: list[Annotation] = []
    if None not in qualities:
        first, second = map(float, qualities)
        if first < second:
            raise ValueError(f"win has quality {first} and lose {second}: they are exchanged")
        label = by_scores(first, second)
        notes = [pair("overall", label, tie_kind="unknown" if label == "tie" else None)]
        notes.append(Annotation("quality", "rating", {"scores": qualities}))
    meta: dict[str, Any] = {"cross_prompt": prompts[0] != prompts[1] or not prompts[0]}
    return Comparison(
        id=f"solireward-{row.digest()}",
        prompt=prompts[0] if prompts[0] == prompts[1] else "",
        candidates=tuple(
            Candidate(name, place.uri(file, row), "video", meta={"prompt": said} if said else {})
            for name, file, said in zip(("win", "lose"), files, prompts, strict=True)
        ),
        annotations=tuple(notes) or (pair("overall", "i"),),
        task="t2v",
        group=_both(prompts) or f"solireward:{files[0]}",
        annotator={"type": "human"},
        meta=meta,
    )


def _both(prompts: Sequence[str]) -> str:
    """The group of two prompts, as that of one where they are alike; "" where none is told."""
    return group_of("\x1f".join(sorted(set(prompts)))) if any(prompts) else ""


_SIDE_COLUMNS = "Overall VQ MQ TA A_model B_model fps_A num_frames_A fps_B num_frames_B"
FORMATS = (
    Format("videoalign", "training CSV: A, B, same in VQ, MQ, TA", (names("path_A path_B prompt VQ MQ TA"),),
           videoalign, names(_SIDE_COLUMNS), "MIT"),
    Format("videogen-rewardbench", "test CSV: A, B, same in VQ, MQ, TA, Overall",
           (names("path_A path_B prompt VQ MQ TA Overall A_model B_model"),), videoalign,
           names(_SIDE_COLUMNS + " chosen_model question_id prompt_id id"), "Apache-2.0"),
    Format("videofeedback", "five ratings 1-4 a video", (names("text~prompt visual~quality"),), videofeedback,
           names("id images video~link temporal~consistency dynamic~degree text-to-video~alignment "
                 "factual~consistency conversations"), "Apache-2.0"),
    Format("uve-bench", "annotations.json (or its CSV): A better, B better, same good, same bad, by aspect",
           (names("video_a video_b preference aspect"),), uve,
           names("prompt subaspects subaspect dataset id model_a model_b"), "Apache-2.0"),
    Format("worldrewardbench", "statistics_model_pairs_*.json: two scored videos, ties included",
           (names("task_id model_1_video_path model_2_video_path score_1 score_2"),), worldreward,
           names("model_1 model_2 pair_type input_image_path score_gap gap_bin fine_gap_bin source_pair_id "
                 "is_order_swapped tie_label tie_quality"), "MIT"),
    Format("vefx", "edited videos rated 1-4 in IF, RQ, EE",
           (names("original_video edited_video instruction IF RQ EE"),), vefx,
           names("id model category subcategory Overall"), "Apache-2.0", verified=False),
    Format("solireward", "json of win and lose with quality (also in ms-swift's layout)",
           (names("win lose"), names("videos quality messages")), solireward,
           names("rejected_response meta"), "MIT"),
)  # fmt: skip
