"""Preferences between generated pictures: Pick-a-Pic, HPDv2, HPDv3, ImageRewardDB. Needs no torch."""

from __future__ import annotations

from typing import Any

from mmalign.comparison import Annotation, Candidate, Comparison
from mmalign.data.importing.formats import Format, Place, Row, names, pair, rating

PICKAPIC_DIM = "overall"


def pickapic(row: Row, place: Place) -> Comparison | str:
    """label_0, label_1 are (1, 0), (0, 1), or .5 each for a tie; rows without a label are left out."""
    if str(row.data.get("has_label", True)).lower() in ("false", "0"):
        return "has no label"
    labels = row.number_of("label_0"), row.number_of("label_1")
    meanings = {(1.0, 0.0): "i", (0.0, 1.0): "j", (0.5, 0.5): "tie"}
    if labels not in meanings:
        raise ValueError(f"label_0, label_1 are {labels}: they must be 1, 0 or 0, 1 or .5, .5")
    media = [row.data.get(f"jpg_{k}") or row.data.get(f"image_{k}_url") for k in (0, 1)]
    return Comparison(
        id=f"pickapic-{row.text('ranking_id') or row.digest()}",
        prompt=row.needed("caption"),
        candidates=tuple(
            Candidate(row.text(f"image_{k}_uid") or str(k), place.uri(media[k], row),
                      model=row.text(f"model_{k}") or None)
            for k in (0, 1)
        ),
        annotations=(pair(PICKAPIC_DIM, meanings[labels]),),
        annotator={"type": "human", "n": 1},
        meta=_known(row, "num_example_per_prompt", "user_id", "are_different", "best_image_uid"),
    )  # fmt: skip


def hpdv2(row: Row, place: Place) -> Comparison:
    """human_preference is [1, 0] or [0, 1], in the order of file_path; there are no ties."""
    files, said = row.list_of("file_path", 2), row.list_of("human_preference", 2)
    if sorted(map(float, said)) != [0.0, 1.0]:
        raise ValueError(f"human_preference is {said}: it must be [1, 0] or [0, 1]")
    return Comparison(
        id=f"hpdv2-{row.digest()}",
        prompt=row.needed("prompt"),
        candidates=tuple(Candidate(str(k), place.uri(file, row)) for k, file in enumerate(files)),
        annotations=(pair("overall", "i" if float(said[0]) == 1.0 else "j"),),
        annotator={"type": "human", "n": 1},
    )


def hpdv2_test(row: Row, place: Place) -> Comparison:
    """rank[k] is the averaged rank of image_path[k], 1 the best; raw_annotations the ranks of each annotator."""
    files = row.list_of("image_path")
    notes = [Annotation("overall", "rank", {"ranks": _ranks(row.list_of("rank"), len(files), "rank")})]
    for number, raw in enumerate(row.data.get("raw_annotations") or ()):
        who = str(raw.get("user_hash") or number)
        ranks = _ranks(raw.get("rank") or (), len(files), "raw_annotations")
        notes.append(Annotation("overall", "rank", {"ranks": ranks, "annotator": who}))
    return Comparison(
        id=f"hpdv2-test-{row.digest()}",
        prompt=row.needed("prompt"),
        candidates=tuple(Candidate(str(k), place.uri(file, row)) for k, file in enumerate(files)),
        annotations=tuple(notes),
        annotator={"type": "human", "n": max(1, len(notes) - 1)},
    )


def hpdv3(row: Row, place: Place) -> Comparison:
    """path1 is always the preferred one; choice_dist [n1, n2] are the votes, so p = n1 / (n1 + n2)."""
    votes = row.data.get("choice_dist")
    counts = None
    if votes is not None:
        first, second = (int(n) for n in row.list_of("choice_dist", 2))
        counts = [first, second, 0] if first + second else None
    label = None if counts is not None and counts[0] == counts[1] else "i"
    note: dict[str, Any] = {"i": 0, "j": 1, "label": label, "counts": counts}
    return Comparison(
        id=f"hpdv3-{row.digest()}",
        prompt=row.needed("prompt"),
        candidates=tuple(
            Candidate(str(k), place.uri(row.needed(f"path{k}"), row), model=row.text(f"model{k}") or None)
            for k in (1, 2)
        ),
        annotations=(Annotation("overall", "pair", {k: v for k, v in note.items() if v is not None}),),
        annotator={"type": "human", "n": sum(counts) if counts else None},
        meta=_known(row, "confidence"),
    )


def imagereward(row: Row, place: Place) -> Comparison:
    """Rows of one prompt_id together: rank (1 best, ties allowed) and three ratings from 1 to 7 of each picture."""
    files = row.list_of("image_path") if "image_path" in row.data else row.list_of("image")
    notes = [Annotation("overall", "rank", {"ranks": _ranks(row.list_of("rank"), len(files), "rank")})]
    for column, dim in IMAGEREWARD_RATINGS.items():
        scores = row.data.get(column)
        if scores is not None and any(score is not None for score in scores):
            notes.append(rating(dim, scores, 1, 7))
    group, prompt = str(row.list_of("prompt_id")[0]), str(row.list_of("prompt")[0])
    total = (row.data.get("image_amount_in_total") or [None])[0]
    return Comparison(
        id=f"imagereward-{group}",
        prompt=prompt,
        candidates=tuple(Candidate(str(k), place.uri(file, row)) for k, file in enumerate(files)),
        annotations=tuple(notes),
        annotator={"type": "human", "n": 1},
        meta={} if total in (None, len(files)) else {"image_amount_in_total": total},
    )


def imagereward_test(row: Row, place: Place) -> Comparison:
    """ranking[k] is the rank of generations[k], 1 the best, ties allowed."""
    files = row.list_of("generations")
    return Comparison(
        id=f"imagereward-test-{row.needed('id')}",
        prompt=row.needed("prompt"),
        candidates=tuple(Candidate(str(k), place.uri(file, row)) for k, file in enumerate(files)),
        annotations=(
            Annotation("overall", "rank", {"ranks": _ranks(row.list_of("ranking"), len(files), "ranking")}),
        ),
        annotator={"type": "human", "n": 1},
    )


IMAGEREWARD_RATINGS = {
    "overall_rating": "overall_rating",  # not "overall": a rating must not outvote the ranking of the same people
    "image_text_alignment_rating": "text_alignment",
    "fidelity_rating": "fidelity",
}


def _ranks(values: Any, num: int, name: str) -> list[float]:
    if len(values) != num:
        raise ValueError(f"'{name}' has {len(values)} ranks for {num} pictures")
    return [int(v) if float(v).is_integer() else float(v) for v in values]


def _known(row: Row, *fields: str) -> dict[str, Any]:
    return {name: row.data[name] for name in fields if row.data.get(name) is not None}


def _of_prompt(row: Row) -> tuple[str, int | None]:
    total = row.number_of("image_amount_in_total")
    return str(row.needed("prompt_id")), None if total is None else int(total)


FORMATS = (
    Format(
        "pickapic-v2", "parquet of pairs with the pictures inside; ties .5, rows without a label left out",
        (names("caption label_0 label_1"),), pickapic,
        names("jpg_0 jpg_1 image_0_uid image_1_uid image_0_url image_1_url are_different has_label best_image_uid "
              "num_example_per_prompt model_0 model_1 ranking_id user_id created_at __index_level_0__"),
    ),
    Format("hpdv2", "train.json: pairs without ties", (names("prompt file_path human_preference"),), hpdv2,
           license="Apache-2.0"),
    Format("hpdv2-test", "test.json: pictures ranked, 1 best", (names("prompt image_path rank"),), hpdv2_test,
           names("raw_annotations"), "Apache-2.0"),
    Format("hpdv3", "json list: path1 preferred, choice_dist votes give p",
           (names("prompt path1 path2 choice_dist confidence"),), hpdv3, names("model1 model2")),
    Format(
        "imagerewarddb", "metadata by picture (parquet or json): ranks with ties, ratings 1-7",
        (names("prompt_id prompt rank image_path"), names("prompt_id prompt rank image")), imagereward,
        names("classification image_amount_in_total overall_rating image_text_alignment_rating fidelity_rating"),
        "Apache-2.0", gather=_of_prompt,
    ),
    Format("imagerewarddb-test", "test.json: generations ranked, 1 best",
           (names("id prompt generations ranking"),), imagereward_test, license="Apache-2.0"),
)  # fmt: skip
