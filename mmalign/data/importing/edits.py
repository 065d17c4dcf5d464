"""Preferences between edits: EditReward-Data, both EditReward-Benches, Pico-Banana-400K, AURORA-Bench. Needs no torch.

Differences between releases that are understood: EditReward-Data as json (path1 preferred) and as parquet (left, right,
vote_type). Not verified against the files themselves: the bench's scale (1-4 as in the training data), Pico-Banana's
`rejected_images`, AURORA's rating scale (left open).
"""

from __future__ import annotations

import re
from typing import Any

from mmalign.comparison import Annotation, Candidate, Comparison, MediaInput
from mmalign.data.importing.formats import Format, Place, Row, by_scores, chosen, names, pair, rating

VOTES = {
    "leftvote": ("i", None), "left": ("i", None), "left_win": ("i", None), "a>b": ("i", None),
    "rightvote": ("j", None), "right": ("j", None), "right_win": ("j", None), "b>a": ("j", None),
    "a<b": ("j", None), "tievote": ("tie", "good"), "tie": ("tie", "unknown"),
    "bothbad_vote": ("tie", "bad"), "both_bad": ("tie", "bad"), "a=b": ("tie", "unknown"),
    "a=b=good": ("tie", "good"), "a=b=bad": ("tie", "bad"),
}  # fmt: skip
EDITSCORE_DIMS = {
    "prompt_following": "instruction_following",
    "consistency": "consistency",
    "overall": "overall",
}


def editreward(row: Row, place: Place) -> Comparison:
    """path1 is the preferred one unless tie_case; dim1 is instruction following, dim2 visual quality, 1 to 4.

    A tie overall is possible with differing dimensions. Overall scores (2 to 8) are kept in `meta` only: they are the
    sum of the two.
    """
    tie = str(row.data.get("tie_case", False)).lower() in ("true", "1")
    notes = [pair("overall", "tie", tie_kind="unknown") if tie else pair("overall", "i")]
    for number, dim in ((1, "instruction_following"), (2, "visual_quality")):
        scores = [row.number_of(f"model{k}_dim{number}_score") for k in (1, 2)]
        if None not in scores:
            notes.append(rating(dim, scores, 1, 4))
    meta = {
        k: row.data[k]
        for k in ("model1_overall_score", "model2_overall_score")
        if row.data.get(k) is not None
    }
    return _edit(
        row, place, f"editreward-{row.digest()}", row.needed("prompt"), row.needed("path_src"),
        [(row.needed(f"path{k}"), row.text(f"model{k}")) for k in (1, 2)], notes, meta=meta,
    )  # fmt: skip


def editreward_parquet(row: Row, place: Place) -> Comparison:
    """The same data as released in parquet: left and right, vote_type."""
    sides = ("left", "right")
    overall = [row.number_of(f"{side}_overall_score") for side in sides]
    if row.text("vote_type"):
        label, kind = chosen(row.text("vote_type"), VOTES, "vote_type")
    elif overall[0] is not None and overall[1] is not None:
        label = by_scores(overall[0], overall[1])
        kind = "unknown" if label == "tie" else None
    else:
        raise ValueError("there is neither vote_type nor two overall scores")
    notes = [pair("overall", label, tie_kind=kind)]
    for column, dim in (
        ("instruction_following", "instruction_following"),
        ("quality_aesthetic", "visual_quality"),
    ):
        scores = [row.number_of(f"{side}_{column}_score") for side in sides]
        if None not in scores:
            notes.append(rating(dim, scores, 1, 4))
    return _edit(
        row, place, f"editreward-{row.text('unique_key') or row.digest()}", row.needed("instruction"),
        row.needed("source_img"),
        [(row.needed(f"{side}_output_image"), row.text(f"{side}_model")) for side in sides], notes,
        meta={"key": row.text("key")} if row.text("key") else {},
    )  # fmt: skip


def editreward_bench(row: Row, place: Place) -> Comparison:
    """ranking is A>B, B>A, A=B=Good or A=B=Bad, and for more candidates an order such as C>A>B."""
    if "human_vote" in row.data:
        vote = row.needed("human_vote")
        ranking, files = str(vote.get("ranking") or ""), row.list_of("paths_generated")
        source, prompt = row.needed("path_src"), row.needed("prompt")
    else:
        ranking, source, prompt = row.needed("ranking"), row.needed("source_image"), row.needed("instruction")
        files = [
            row.data[f"candidate_{k}"] for k in range(1, 5) if row.data.get(f"candidate_{k}") is not None
        ]
    notes = [_ordered(ranking, len(files))]
    for column in ("instruction_following", "visual_quality"):
        scores = [row.number_of(f"{column}_{k}") for k in range(1, len(files) + 1)]
        if None not in scores:
            notes.append(rating(column, scores, 1, 4))
    models = [row.text(f"model_{k}") for k in range(1, len(files) + 1)]
    return _edit(
        row, place, f"editreward-bench-{row.digest()}", prompt, source,
        list(zip(files, models, strict=True)), notes,
        meta={"comparison_type": row.text("comparison_type")} if row.text("comparison_type") else {},
    )  # fmt: skip


def editscore_bench(row: Row, place: Place) -> Comparison:
    """output_images[0] is the preferred one, on the dimension that is named; no ties."""
    files, keys = row.list_of("output_images", 2), row.list_of("key", 2)
    dimension = row.needed("dimension")
    if dimension not in EDITSCORE_DIMS:
        raise ValueError(f"dimension is '{dimension}', which is none of {', '.join(EDITSCORE_DIMS)}")
    return _edit(
        row, place, f"editscore-bench-{keys[0]}-{keys[1]}-{dimension}", row.needed("instruction"),
        row.needed("input_image"), [(file, "") for file in files], [pair(EDITSCORE_DIMS[dimension], "i")],
        names_=list(map(str, keys)), meta={"task_type": row.text("task_type")},
    )  # fmt: skip


def pico_banana(row: Row, place: Place) -> Comparison | str:
    """output_image was found good by a judge, each of rejected_images bad; only rows with both compare."""
    rejected = row.data.get("rejected_images") or row.data.get("rejected_image") or ()
    rejected = [rejected] if isinstance(rejected, str) else list(rejected)
    if not rejected:
        return "has no rejected image (single-turn or multi-turn data for SFT)"
    notes = [
        Annotation("overall", "pair", {"i": 0, "j": k, "label": "i"}) for k in range(1, len(rejected) + 1)
    ]
    source = row.data.get("local_input_image") or row.needed("open_image_input_url")
    return _edit(
        row, place, f"pico-banana-{row.digest()}", row.needed("text"), source,
        [(file, "Nano-Banana") for file in (row.needed("output_image"), *rejected)], notes,
        who={"type": "vlm", "name": "Gemini-2.5-Pro", "n": 1},
        meta={k: row.data[k] for k in ("edit_type", "summarized_text") if row.data.get(k)},
    )  # fmt: skip


def aurora(row: Row, place: Place) -> Comparison:
    """Ratings of edits of one source and prompt, from which pairs follow."""
    files = row.list_of("gen")
    scores = [None if score is None else float(score) for score in row.list_of("score")]
    models = [str(m or "") for m in row.data.get("model") or [""] * len(files)]
    return _edit(
        row, place, f"aurora-{row.digest()}", str(row.list_of("prompt")[0]), row.list_of("input")[0],
        list(zip(files, models, strict=True)), [rating("overall", scores, None, None)],
        meta={"task": row.data["task"][0]} if row.data.get("task") else {},
    )  # fmt: skip


def aurora_pairs(row: Row, place: Place) -> Comparison:
    """winner is one of the two `models`, or tie."""
    models, files = list(map(str, row.list_of("models", 2))), row.list_of("gens", 2)
    winner = row.needed("winner")
    if winner not in (*models, "tie"):
        raise ValueError(f"winner is '{winner}', which is none of {', '.join(models)}, tie")
    label = "tie" if winner == "tie" else "i" if winner == models[0] else "j"
    return _edit(
        row, place, f"aurora-{row.digest()}", row.needed("prompt"), row.needed("input"),
        list(zip(files, models, strict=True)),
        [pair("overall", label, tie_kind="unknown" if label == "tie" else None)],
    )  # fmt: skip


def _ordered(ranking: str, num: int) -> Annotation:
    """A pair or a rank from words such as A>B, A=B=Bad, C>A=B."""
    if num == 2:
        label, kind = chosen(ranking.replace(" ", ""), VOTES, "ranking")
        return pair("overall", label, tie_kind=kind)
    ranks: dict[int, int] = {}
    for tier in ranking.replace(" ", "").split(">"):
        place = 1 + len(ranks)
        for letter in tier.split("="):
            if not re.fullmatch("[A-Z]", letter) or ord(letter) - ord("A") in ranks:
                raise ValueError(f"ranking '{ranking}' is no order of {num} candidates")
            ranks[ord(letter) - ord("A")] = place
    if sorted(ranks) != list(range(num)):
        raise ValueError(f"ranking '{ranking}' is no order of {num} candidates")
    return Annotation("overall", "rank", {"ranks": [ranks[k] for k in range(num)]})


def _edit(
    row: Row, place: Place, id: str, prompt: str, source: Any, outputs: list[tuple[Any, str]],
    notes: list[Annotation], *, who: dict[str, Any] | None = None, meta: dict[str, Any] | None = None,
    names_: list[str] | None = None,
) -> Comparison:  # fmt: skip
    called = names_ or [str(k) for k in range(len(outputs))]
    return Comparison(
        id=id,
        prompt=prompt,
        inputs=(MediaInput("source", place.uri(source, row)),),
        candidates=tuple(
            Candidate(name, place.uri(file, row), model=model or None)
            for name, (file, model) in zip(called, outputs, strict=True)
        ),
        annotations=tuple(notes),
        task="edit",
        annotator=who or {"type": "human"},
        meta=meta or {},
    )


def _of_source(row: Row) -> tuple[str, int | None]:
    return f"{row.needed('input')}\x1f{row.needed('prompt')}", None


FORMATS = (
    Format(
        "editreward-data", "json: path1 preferred, tie_case, two dimensions from 1 to 4",
        (names("prompt path_src path1 path2"),), editreward,
        names("model1 model2 model1_dim1_score model1_dim2_score model2_dim1_score model2_dim2_score tie_case "
              "model1_overall_score model2_overall_score choice_dist confidence"), "CC-BY-NC-4.0",
    ),
    Format(
        "editreward-data-parquet", "the same as on the hub: left, right, vote_type, pictures inside",
        (names("instruction source_img left_output_image right_output_image"),), editreward_parquet,
        names("key unique_key pair_index left_model right_model left_overall_score right_overall_score vote_type "
              "left_instruction_following_score right_instruction_following_score left_quality_aesthetic_score "
              "right_quality_aesthetic_score metadata_index left_img_rel right_img_rel"), "CC-BY-NC-4.0",
        verified=False,
    ),
    Format(
        "editreward-bench", "TIGER's bench, 2 to 4 candidates: A>B, A=B=Good, C>A>B, ...",
        (names("instruction source_image candidate_1 candidate_2 ranking"),
         names("prompt path_src paths_generated human_vote")), editreward_bench,
        names("candidate_3 candidate_4 comparison_type model_1 model_2 model_3 model_4 instruction_following_1 "
              "instruction_following_2 instruction_following_3 instruction_following_4 visual_quality_1 "
              "visual_quality_2 visual_quality_3 visual_quality_4 key id"), "Apache-2.0", verified=False,
    ),
    Format("editscore-bench", "EditScore's EditReward-Bench: output_images[0] preferred, by dimension",
           (names("key instruction input_image output_images dimension"),), editscore_bench,
           names("task_type"), "Apache-2.0"),
    Format("pico-banana-400k", "preference.jsonl: one good edit and rejected ones, judged by a model",
           (names("open_image_input_url text output_image rejected_images"), names("open_image_input_url text")),
           pico_banana, names("output_image edit_type summarized_text local_input_image rejected_image"),
           "CC-BY-NC-ND-4.0", verified=False),
    Format("aurora-bench", "human_ratings.json: edits rated one by one; pairs follow",
           (names("input gen prompt score"),), aurora, names("model task filename id"), "MIT", verified=False,
           gather=_of_source),
    Format("aurora-bench-pairs", "human_ratings_pairwise.json: winner is a model or tie",
           (names("input gens prompt winner models"),), aurora_pairs, names("task id"), "MIT", verified=False),
)  # fmt: skip
