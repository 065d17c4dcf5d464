"""Published formats of pictures and edits: labels as their authors mean them, each in the layout they publish."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmalign.data.importing import reading
from mmalign.data.uris import MediaStore
from tests.unit.data.layouts import (
    hub_image,
    imported,
    png,
    said,
    write_arrow,
    write_json,
    write_lines,
    write_parquet,
)


def test_pickapic(tmp_path: Path) -> None:
    base = {"caption": "a dog", "image_0_uid": "u0", "image_1_uid": "u1", "are_different": True, "has_label": True,
            "best_image_uid": "u0", "num_example_per_prompt": 3, "model_0": "m0", "model_1": "m1"}  # fmt: skip
    labels = [(1.0, 0.0, True), (0.0, 1.0, True), (0.5, 0.5, True), (0.0, 0.0, False)]
    rows = [
        base | {"jpg_0": png(k), "jpg_1": png(100 + k), "label_0": a, "label_1": b, "has_label": c}
        for k, (a, b, c) in enumerate(labels)
    ]
    path = write_parquet(tmp_path / "validation.parquet", rows)
    found = imported(path, expect="pickapic-v2")
    assert [said(one)["label"] for one in found] == ["i", "j", "tie"]
    assert (found[0].candidates[0].id, found[0].candidates[1].model) == ("u0", "m1")
    assert found[2].candidates[1].uri == "table://validation.parquet::2/jpg_1"
    store = MediaStore(tmp_path, cache=tmp_path / "cache")
    for row, one in zip(rows, found, strict=False):
        for k in (0, 1):
            file = store.path(str(one.candidates[k].uri))
            assert file.suffix == ".png"
            assert file.read_bytes() == row[f"jpg_{k}"]


def test_pickapic_without_a_label_is_left_out_and_counted(tmp_path: Path) -> None:
    row = {
        "caption": "x",
        "jpg_0": png(1),
        "jpg_1": png(2),
        "label_0": 0.0,
        "label_1": 0.0,
        "has_label": False,
    }
    outcome = reading.Outcome()
    path = write_parquet(tmp_path / "p.parquet", [row])
    assert not list(reading.read(path, format="pickapic-v2", root=tmp_path, split="x", outcome=outcome))
    assert outcome.left_out == {"has no label": 1} and outcome.num_bad == 0


def test_hpdv2(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "file_path": ["a.jpg", "b.jpg"], "human_preference": [0, 1]}]
    (one,) = imported(write_json(tmp_path / "train.json", rows), expect="hpdv2")
    assert said(one) == {"i": 0, "j": 1, "label": "j"}
    ranked = [{"prompt": "p", "image_path": ["a", "b", "c"], "rank": [2, 1, 3],
               "raw_annotations": [{"rank": [1, 2, 3], "user_hash": "u"}]}]  # fmt: skip
    (one,) = imported(write_json(tmp_path / "test.json", ranked), expect="hpdv2-test")
    assert [dict(note.data) for note in one.annotations] == [
        {"ranks": [2, 1, 3]},
        {"ranks": [1, 2, 3], "annotator": "u"},
    ]


def test_hpdv3_votes_give_p(tmp_path: Path) -> None:
    row = {"prompt": "p", "path1": "a.jpg", "path2": "b.jpg", "confidence": 0.9, "model1": "x", "model2": "y"}
    rows = [row | {"choice_dist": [12, 4]}, row | {"choice_dist": [5, 5]}, row | {"choice_dist": None}]
    won, even, bare = imported(write_json(tmp_path / "hpdv3.json", rows), expect="hpdv3")
    assert said(won) == {"i": 0, "j": 1, "label": "i", "counts": [12, 4, 0]}
    assert said(even) == {"i": 0, "j": 1, "counts": [5, 5, 0]}
    assert said(bare) == {"i": 0, "j": 1, "label": "i"}
    assert won.meta == {"confidence": 0.9} and won.annotator == {"type": "human", "n": 16}


def test_imagereward_rows_of_one_prompt_come_together(tmp_path: Path) -> None:
    rows = [
        {"image_path": f"images/{g}-{k}.webp", "prompt_id": g, "prompt": f"prompt {g}", "classification": "People",
         "image_amount_in_total": 3, "rank": rank, "overall_rating": 7 - k, "image_text_alignment_rating": 5,
         "fidelity_rating": 6}
        for g, ranks in (("a", (1, 2, 2)), ("b", (3, 2, 1)))
        for k, rank in enumerate(ranks)
    ]  # fmt: skip
    mixed = [rows[k] for k in (0, 3, 1, 4, 2, 5)]
    first, second = imported(write_parquet(tmp_path / "metadata.parquet", mixed), expect="imagerewarddb")
    assert said(first) == {"ranks": [1, 2, 2]} and said(second) == {"ranks": [3, 2, 1]}
    assert said(first, "overall_rating")["scores"] == [7, 6, 5]
    assert first.candidates[2].uri == "images/a-2.webp" and first.prompt == "prompt a"
    test = [{"id": "7", "prompt": "p", "generations": ["a.webp", "b.webp"], "ranking": [2, 1]}]
    (one,) = imported(write_json(tmp_path / "test.json", test), expect="imagerewarddb-test")
    assert said(one) == {"ranks": [2, 1]}


def test_editreward_data_in_both_releases(tmp_path: Path) -> None:
    row = {"prompt": "make it red", "path_src": "s.jpg", "path1": "a.jpg", "path2": "b.jpg", "model1": "x",
           "model2": "y", "model1_dim1_score": 4, "model1_dim2_score": 3, "model1_overall_score": 7,
           "model2_dim1_score": 3, "model2_dim2_score": 3, "model2_overall_score": 6, "tie_case": False}  # fmt: skip
    rows = [row, row | {"path2": "c.jpg", "tie_case": True}]
    won, tie = imported(write_json(tmp_path / "train.json", rows), expect="editreward-data")
    assert said(won)["label"] == "i" and said(tie) == {"i": 0, "j": 1, "label": "tie", "tie_kind": "unknown"}
    assert said(won, "instruction_following") == {"scores": [4, 3], "min": 1, "max": 4, "ordinal": True}
    assert said(won, "visual_quality")["scores"] == [3, 3]
    assert (won.task, won.inputs[0].role, won.inputs[0].uri) == ("edit", "source", "s.jpg")
    hub = {"key": "k", "unique_key": "k-1", "pair_index": 1, "instruction": "i", "source_img": hub_image(1),
           "left_output_image": hub_image(2), "right_output_image": hub_image(3), "left_model": "x",
           "right_model": "y", "left_overall_score": 4.0, "right_overall_score": 6.0, "vote_type": "rightvote",
           "left_instruction_following_score": 2.0, "right_instruction_following_score": 3.0,
           "left_quality_aesthetic_score": 2.0, "right_quality_aesthetic_score": 3.0}  # fmt: skip
    bare = hub | {"unique_key": "k-2", "vote_type": None, "right_overall_score": 4.0}
    path = write_parquet(tmp_path / "hub.parquet", [hub, bare])
    right, even = imported(path, expect="editreward-data-parquet")
    assert said(right)["label"] == "j" and said(even)["label"] == "tie"
    assert said(right, "instruction_following")["scores"] == [2, 3]
    assert MediaStore(tmp_path).digest(right.inputs[0].uri)


@pytest.mark.parametrize(
    ("ranking", "expected"),
    [
        ("A>B", {"i": 0, "j": 1, "label": "i"}),
        ("B>A", {"i": 0, "j": 1, "label": "j"}),
        ("A=B=Good", {"i": 0, "j": 1, "label": "tie", "tie_kind": "good"}),
        ("A=B=Bad", {"i": 0, "j": 1, "label": "tie", "tie_kind": "bad"}),
    ],
)
def test_editreward_bench_pairs(tmp_path: Path, ranking: str, expected: dict[str, object]) -> None:
    row = {"instruction": "i", "source_image": hub_image(1), "candidate_1": hub_image(2), "candidate_2": hub_image(3),
           "ranking": ranking, "comparison_type": "2pair", "model_1": "x", "model_2": "y",
           "instruction_following_1": 4, "instruction_following_2": 2, "visual_quality_1": 3,
           "visual_quality_2": 3}  # fmt: skip
    (one,) = imported(write_parquet(tmp_path / "b.parquet", [row]), expect="editreward-bench")
    assert said(one) == expected
    assert said(one, "instruction_following")["scores"] == [4, 2]


def test_editreward_bench_of_several_candidates(tmp_path: Path) -> None:
    row = {"prompt": "i", "path_src": "s.jpg", "paths_generated": ["a", "b", "c"]}
    rows = [row | {"human_vote": {"ranking": "C>A>B"}}, row | {"human_vote": {"ranking": "B>A=C"}}]
    strict, tied = imported(write_json(tmp_path / "k.json", rows), expect="editreward-bench")
    assert said(strict) == {"ranks": [2, 3, 1]} and said(tied) == {"ranks": [2, 1, 2]}
    path = write_json(tmp_path / "bad.json", [row | {"human_vote": {"ranking": "A>B"}}])
    with pytest.raises(ValueError, match="no order of 3 candidates"):
        list(reading.read(path, format="editreward-bench", root=tmp_path, split="x"))


def test_editscore_bench_in_arrow(tmp_path: Path) -> None:
    row = {"key": ["k1", "k2"], "instruction": "i", "input_image": hub_image(1),
           "output_images": [hub_image(2), hub_image(3)], "task_type": "add",
           "dimension": "prompt_following"}  # fmt: skip
    (tmp_path / "state.json").write_text("{}")
    write_arrow(tmp_path / "data-00000-of-00001.arrow", [row, row | {"dimension": "consistency"}])
    first, second = imported(tmp_path, expect="editscore-bench")
    assert (
        said(first, "instruction_following")["label"] == "i" and said(second, "consistency")["label"] == "i"
    )
    assert [c.id for c in first.candidates] == ["k1", "k2"]
    store = MediaStore(tmp_path.parent, cache=tmp_path / "cache")
    place = f"table://{tmp_path.as_posix()}/data-00000-of-00001.arrow::0/output_images/1"
    assert store.path(place).read_bytes() == png(3)


def test_pico_banana(tmp_path: Path) -> None:
    row = {"open_image_input_url": "https://host/o.jpg", "text": "remove it", "output_image": "images/p/1.png",
           "edit_type": "Remove", "summarized_text": "gone"}  # fmt: skip
    rows = [row | {"rejected_images": ["images/n/1.png", "images/n/2.png"]}, row]
    path, outcome = write_lines(tmp_path / "preference.jsonl", rows), reading.Outcome()
    (one,) = reading.read(path, format="auto", root=tmp_path, split="train", outcome=outcome)
    assert outcome.format == "pico-banana-400k" and len(outcome.left_out) == 1
    assert [(n.data["i"], n.data["j"], n.data["label"]) for n in one.annotations] == [
        (0, 1, "i"),
        (0, 2, "i"),
    ]
    assert one.inputs[0].uri == "https://host/o.jpg" and one.annotator["type"] == "vlm"
    assert one.license == "CC-BY-NC-ND-4.0"


def test_aurora(tmp_path: Path) -> None:
    rows = [{"input": "i.png", "gen": f"{m}.png", "prompt": "p", "score": s, "model": m, "task": "t"}
            for m, s in (("x", 1.0), ("y", 2.5))]  # fmt: skip
    (one,) = imported(write_json(tmp_path / "human_ratings.json", rows), expect="aurora-bench")
    assert said(one) == {"scores": [1, 2.5], "ordinal": True}
    assert [c.model for c in one.candidates] == ["x", "y"]
    row = {"input": "i.png", "gens": ["x.png", "y.png"], "prompt": "p", "models": ["x", "y"]}
    rows = [row | {"winner": word} for word in ("y", "tie")]
    lost, tie = imported(write_json(tmp_path / "pairwise.json", rows), expect="aurora-bench-pairs")
    assert said(lost)["label"] == "j" and said(tie)["label"] == "tie"


def test_genai_bench(tmp_path: Path) -> None:
    votes = ("leftvote", "rightvote", "tievote", "bothbad_vote")
    expected = [("i", None), ("j", None), ("tie", "good"), ("tie", "bad")]
    base = {"left_model": "x", "right_model": "y"}
    pictures = base | {"prompt": "p", "left_image": hub_image(1), "right_image": hub_image(2)}
    edits = base | {"source_prompt": "s", "target_prompt": "t", "instruct_prompt": "i", "source_image": hub_image(1),
                    "left_output_image": hub_image(2), "right_output_image": hub_image(3)}  # fmt: skip
    videos = base | {"prompt": "p", "left_video": "https://h/l.mp4", "right_video": "https://h/r.mp4"}
    for name, row, task in (("genai-bench", pictures, "t2i"), ("genai-bench-edit", edits, "edit"),
                            ("genai-bench-video", videos, "t2v")):  # fmt: skip
        rows = [row | {"vote_type": vote} for vote in votes]
        found = imported(write_parquet(tmp_path / f"{name}.parquet", rows), expect=name)
        assert [(said(one)["label"], said(one).get("tie_kind")) for one in found] == expected
        assert {one.task for one in found} == {task}
    assert found[0].candidates[0].type == "video"
