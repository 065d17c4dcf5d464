"""Votes of arenas and mixed benchmarks: GenAI-Bench v1 (pictures, edits, videos) and MMRB2. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmalign.comparison import Annotation, Candidate, Comparison, MediaInput
from mmalign.data.importing.edits import VOTES
from mmalign.data.importing.formats import Format, Place, Row, chosen, names, pair

_GENAI = {word: VOTES[word] for word in ("leftvote", "rightvote", "tievote", "bothbad_vote")}
_GRADES = {"A": 3, "B": 2, "C": 1}
_TASKS = {"t2i": "t2i", "edit": "edit", "interleaved": "interleaved", "reasoning": "interleaved"}


def genai_bench(row: Row, place: Place) -> Comparison:
    """leftvote, rightvote; tievote is a good tie, bothbad_vote a bad one."""
    label, kind = chosen(row.needed("vote_type"), _GENAI, "vote_type")
    ending = next(e for e in ("_output_image", "_image", "_video") if f"left{e}" in row.data)
    task = {"_output_image": "edit", "_image": "t2i", "_video": "t2v"}[ending]
    inputs = (MediaInput("source", place.uri(row.needed("source_image"), row)),) if task == "edit" else ()
    return Comparison(
        id=f"genai-bench-{row.digest()}",
        prompt=row.needed("instruct_prompt" if task == "edit" else "prompt"),
        inputs=inputs,
        candidates=tuple(
            Candidate(side, place.uri(row.needed(f"{side}{ending}"), row), "video" if task == "t2v" else "image",
                      model=row.text(f"{side}_model") or None)
            for side in ("left", "right")
        ),
        annotations=(pair("overall", label, tie_kind=kind),),
        task=task,
        annotator={"type": "human", "n": 1},
        meta={k: row.data[k] for k in ("source_prompt", "target_prompt") if row.data.get(k)},
    )  # fmt: skip


def mmrb2(row: Row, place: Place) -> Comparison:
    """chosen is A or B. human_annotations from 1 (B much better) to 6, or 7, give the strength and each one's word.

    For the reasoning task they are grades A, B, C of each response, kept as ratings. Fields are called differently in
    the complete and the response-only files: both are read; without `prompt_content` the prompt is empty. What must
    not be split is the prompt, by its number in its source where it has one.
    """
    word = str(row.data.get("chosen") or row.data.get("human_preference") or "")
    if word not in ("A", "B"):
        raise ValueError(f"chosen is '{word}': it must be A or B")
    label = "i" if word == "A" else "j"
    said = row.data.get("human_annotations") or ()
    notes = _graded(label, said) if isinstance(said, dict) else _strong(label, list(said))
    parts, inputs, prompt = _prompt(row, place)
    task = _TASKS.get(row.file.name.split("_")[0].removesuffix(".json"), "interleaved")
    name = str(row.data.get("pair_id") or row.data.get("id") or row.digest())
    number = (row.data.get("prompt_metadata") or {}).get("id")
    return Comparison(
        id=f"mmrb2-{name}",
        prompt=prompt,
        inputs=tuple(MediaInput("source" if task == "edit" and len(inputs) == 1 else "reference", uri)
                     for uri in inputs),
        candidates=tuple(_response(row, side, place) for side in "ab"),
        annotations=tuple(notes),
        task="multiref" if task == "edit" and len(inputs) > 1 else task,
        group="" if number is None else f"mmrb2:{row.text('prompt_source')}:{number}",
        annotator={"type": "human", "n": 3},
        prompt_parts=tuple(parts) if inputs else (),
    )  # fmt: skip


def _strong(label: str, said: Sequence[int]) -> list[Annotation]:
    """The verdict with its strength, 1 to 3, and each annotator's own."""
    if not said:
        return [pair("overall", label)]
    if not all(isinstance(word, int) and 1 <= word <= 7 for word in said):
        raise ValueError(f"human_annotations are {said}: they must be whole numbers from 1 to 6 (or 7)")
    middle = 4.0 if 7 in said else 3.5
    mean = sum(said) / len(said)
    notes = [pair("overall", label, strength=max(1, min(3, round(abs(mean - middle) + 0.5))))]
    for number, word in enumerate(said):
        own = "i" if word > middle else "j" if word < middle else "tie"
        strength = None if own == "tie" else int(abs(word - middle) + 0.5)
        notes.append(pair("overall", own, strength=strength, annotator=str(number)))
    return notes


def _graded(label: str, said: dict[str, Any]) -> list[Annotation]:
    sides = [said.get(f"response_{side}_ratings") or () for side in "ab"]
    notes = [pair("overall", label)]
    for place, grades in enumerate(sides):
        for number, grade in enumerate(grades):
            if str(grade) not in _GRADES:
                raise ValueError(f"grade '{grade}' is none of {', '.join(_GRADES)}")
            scores = [_GRADES[str(grade)] if k == place else None for k in (0, 1)]
            data = {"scores": scores, "min": 1, "max": 3, "ordinal": True, "annotator": str(number)}
            notes.append(Annotation("grade", "rating", data))
    return notes


def _prompt(row: Row, place: Place) -> tuple[list[dict[str, Any]], list[str], str]:
    parts: list[dict[str, Any]] = []
    uris: list[str] = []
    for kind, value in row.data.get("prompt_content") or ():
        if kind == "image":
            parts.append({"type": "image", "media": len(uris)})
            uris.append(place.uri(value, row))
        else:
            parts.append({"type": "text", "value": str(value)})
    return parts, uris, "\n".join(p["value"] for p in parts if p["type"] == "text").strip()


def _response(row: Row, side: str, place: Place) -> Candidate:
    response = row.needed(f"response_{side}")
    model = response.get("model") or response.get("model_name")
    content = response.get("response_content") or ()
    uris = [place.uri(value, row) for kind, value in content if kind == "image"]
    words = [str(value) for kind, value in content if kind != "image"]
    if not uris and not words:
        raise ValueError(f"response_{side} is empty")
    if len(uris) == 1 and not words:
        return Candidate(side.upper(), uris[0], model=model)
    if not uris:
        return Candidate(side.upper(), None, "text", "\n".join(words), model)
    order = ["<image>" if kind == "image" else str(value) for kind, value in content]
    return Candidate(side.upper(), tuple(uris), "images", "".join(order) if words else None, model)


FORMATS = (
    Format("genai-bench", "GenAI-Bench v1, pictures: leftvote, rightvote, tievote, bothbad_vote",
           (names("prompt left_image right_image vote_type"),), genai_bench, names("left_model right_model"),
           "CC-BY-4.0"),
    Format("genai-bench-edit", "GenAI-Bench v1, edits",
           (names("source_image left_output_image right_output_image instruct_prompt vote_type"),), genai_bench,
           names("left_model right_model source_prompt target_prompt"), "CC-BY-4.0"),
    Format("genai-bench-video", "GenAI-Bench v1, videos", (names("prompt left_video right_video vote_type"),),
           genai_bench, names("left_model right_model"), "CC-BY-4.0"),
    Format("mmrb2", "t2i.json, edit.json, interleaved.json, reasoning.json: chosen with strength; texts, "
           "several pictures and references go to no reward",
           (names("response_a response_b chosen"), names("response_a response_b human_preference")), mmrb2,
           names("id pair_id prompt_source prompt_content prompt_metadata human_annotations"), "CC-BY-NC-4.0",
           inside="pairs"),
)  # fmt: skip
