"""Published formats of videos, texts and mixed benchmarks, and what importing does with bad rows."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from mmalign.data.check import check
from mmalign.data.comparisons import pairs
from mmalign.data.formats import write_jsonl
from mmalign.data.importing import FORMATS, known, listing, reading
from mmalign.data.importing.videos import VEFX_DIMENSIONS, VIDEOALIGN_DIMENSIONS
from mmalign.data.records import group_of, to_record
from rewardmodels.catalog import CATALOG
from tests.unit.data.layouts import hub_image, imported, said, write_json, write_lines, write_parquet

HEADER = "path_A,path_B,prompt,VQ,MQ,TA,fps_A,num_frames_A,fps_B,num_frames_B\n"


def test_videoalign_rows_become_pairs_per_dimension(tmp_path: Path) -> None:
    rows = ["./v/a.mp4,v/b.mp4,a dog,A,B,same,24,48,30.0,", "./v/a.mp4,v/b.mp4,a dog,A,B,same,24,48,30.0,"]
    (tmp_path / "x.csv").write_text(HEADER + "\n".join(rows) + "\n")
    (one,) = imported(tmp_path / "x.csv", expect="videoalign")
    labels = {note.dim: note.data["label"] for note in one.annotations}
    assert labels == {"visual_quality": "i", "motion_quality": "j", "text_alignment": "tie"}
    assert [c.uri for c in one.candidates] == ["v/a.mp4", "v/b.mp4"]
    assert one.candidates[0].meta == {"fps": 24.0, "num_frames": 48.0}
    assert (one.split, one.task) == ("test", "t2v")


def test_an_invalid_dimension_of_videoalign_is_masked_alone(tmp_path: Path) -> None:
    rows = ["a.mp4,b.mp4,a dog,22,B,invalid,,,,", "c.mp4,d.mp4,a cat,22.0,22,22,,,,"]
    (tmp_path / "x.csv").write_text(HEADER + "\n".join(rows) + "\n")
    one, other = imported(tmp_path / "x.csv", expect="videoalign")
    labels = {note.dim: note.data["label"] for note in one.annotations}
    assert labels == {"visual_quality": "invalid", "motion_quality": "j", "text_alignment": "invalid"}
    assert {note.data["label"] for note in other.annotations} == {"invalid"}
    assert set(pairs(one, tmp_path)[0].labels) == {"motion_quality"} and pairs(other, tmp_path) == []


def test_videogen_rewardbench_has_four_dimensions(tmp_path: Path) -> None:
    fields = ["path_A", "path_B", "A_model", "B_model", "prompt", "VQ", "MQ", "TA", "Overall", "fps_A", "num_frames_A",
              "fps_B", "num_frames_B"]  # fmt: skip
    with (tmp_path / "bench.csv").open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerows([fields, ["a", "b", "x", "y", "p, q", "A", "A", "B", "same", 24, 48, 8, 16]])
    (one,) = imported(tmp_path / "bench.csv", expect="videogen-rewardbench")
    assert said(one) == {"i": 0, "j": 1, "label": "tie", "tie_kind": "unknown"}
    assert len(one.annotations) == 4 and one.candidates[1].model == "y" and one.prompt == "p, q"


def test_videofeedback(tmp_path: Path) -> None:
    row = {"id": "v1", "images": ["v1_00.jpg"], "text prompt": "a cat", "video link": "https://h/v1.mp4",
           "visual quality": 3, "temporal consistency": 2, "dynamic degree": 1, "text-to-video alignment": 4,
           "factual consistency": 2, "conversations": [{"from": "human", "value": "?"}]}  # fmt: skip
    (one,) = imported(write_parquet(tmp_path / "a.parquet", [row]), expect="videofeedback")
    assert said(one, "text_alignment") == {"scores": [4], "min": 1, "max": 4, "ordinal": True}
    assert len(one.annotations) == 5 and one.candidates[0].uri == "https://h/v1.mp4"


def test_uve_in_json_and_in_csv(tmp_path: Path) -> None:
    words = ("A is better", "B is better", "same good", "same bad")
    records = {
        f"set-dynamic-00007-{k}": {
            "video_a": "kling/t2v/kling_00007.mp4", "video_b": "gen3/t2v/gen3_00007.mp4", "prompt": None,
            "preference": word, "aspect": "dynamic_degree",
            "subaspects": ["dynamic_degree", "light_change"], "dataset": "set",
        }
        for k, word in enumerate(words)
    }  # fmt: skip
    found = imported(write_json(tmp_path / "annotations.json", records), expect="uve-bench")
    expected = [("i", None), ("j", None), ("tie", "good"), ("tie", "bad")]
    assert [
        (said(o, "dynamic_degree")["label"], said(o, "dynamic_degree").get("tie_kind")) for o in found
    ] == expected
    assert found[0].id == "uve-set-dynamic-00007-0" and found[0].group == "uve:set:00007"
    assert [c.model for c in found[0].candidates] == ["kling", "gen3"]
    header = "id,model_a,model_b,video_a,video_b,aspect,subaspect,preference,prompt,dataset"
    (tmp_path / "pairs.csv").write_text(f"{header}\n1,x,y,a.mp4,b.mp4,q,r|s,same bad,,d\n")
    (one,) = imported(tmp_path / "pairs.csv", expect="uve-bench")
    assert said(one, "r")["tie_kind"] == said(one, "s")["tie_kind"] == "bad" and one.meta["aspect"] == "q"
    assert {note.dim for one in found for note in one.annotations} == {"dynamic_degree", "light_change"}


def test_uve_judges_of_two_subaspects_are_two_comparisons(tmp_path: Path) -> None:
    header = "id,model_a,model_b,video_a,video_b,aspect,subaspect,preference,prompt,dataset"
    row = "{0}-00011-0,x,y,x_00011.mp4,y_00011.mp4,tv_alignment,tv_alignment|tv_alignment_{0},same good,p,set"
    rows = [header, row.format("motion"), row.format("appearance")]
    (tmp_path / "pairs.csv").write_text("\n".join(rows) + "\n")
    write_jsonl(tmp_path / "uve.jsonl", imported(tmp_path / "pairs.csv", expect="uve-bench"))
    report = check(tmp_path / "uve.jsonl", with_media=False)
    assert report.duplicate_comparisons == []
    assert {dim: found["pairs"] for dim, found in report.dimensions.items()} == {
        "tv_alignment": 2, "tv_alignment_motion": 1, "tv_alignment_appearance": 1,
    }  # fmt: skip


def test_worldrewardbench_takes_prompts_from_beside(tmp_path: Path) -> None:
    row = {"task_id": "1-a", "model_1": "x", "score_1": 4.1, "model_2": "y", "score_2": 3.9, "pair_type": "gap",
           "input_image_path": "i.png", "model_1_video_path": "x.mp4", "model_2_video_path": "y.mp4",
           "score_gap": 0.2, "gap_bin": "le2", "fine_gap_bin": "le1", "source_pair_id": "1-a::x::y",
           "is_order_swapped": False}  # fmt: skip
    tie = row | {"pair_type": "tie", "source_pair_id": "t", "tie_label": "A=B=Bad", "tie_quality": "bad"}
    write_json(tmp_path / "World_with_prompts.json", [{"id": "1-a", "video_prompt": "it falls"}])
    path = write_json(tmp_path / "pairs.json", [row, tie])
    won, even = imported(path, expect="worldrewardbench")
    assert said(won)["label"] == "i" and said(won, "score")["scores"] == [4.1, 3.9]
    assert said(even) == {"i": 0, "j": 1, "label": "tie", "tie_kind": "bad"}
    assert (won.prompt, won.task, won.inputs[0].role) == ("it falls", "i2v", "first_frame")


def test_dimensions_are_called_as_the_published_rewards_call_them() -> None:
    for name, mapping in (("vefx-reward", VEFX_DIMENSIONS), ("videoreward", VIDEOALIGN_DIMENSIONS)):
        assert {*CATALOG[name].dimensions, "overall"} == {*mapping.values(), "overall"}


def test_vefx_and_solireward(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text(
        "original_video,edited_video,instruction,IF,RQ,EE\no.mp4,e.mp4,add a hat,4,2,1\n"
    )
    (one,) = imported(tmp_path / "v.csv", expect="vefx")
    assert (
        said(one, "edit_exclusivity")["scores"] == [1] and one.task == "v2v" and one.inputs[0].type == "video"
    )
    rows = [{"win": {"video_path": "a.mp4", "quality": 1}, "lose": {"video_path": "b.mp4", "quality": 0}},
            {"win": {"video_path": "a.mp4", "quality": 1}, "lose": {"video_path": "c.mp4", "quality": 1}}]  # fmt: skip
    won, even = imported(write_json(tmp_path / "s.json", rows), expect="solireward")
    assert said(won)["label"] == "i" and said(even)["label"] == "tie"
    assert said(won, "quality") == {"scores": [1, 0]} and won.meta == {"cross_prompt": True}
    swift = {"messages": [{"role": "user", "content": "<video>"}], "rejected_response": "bad", "quality": [0.9, 0.1],
             "videos": ["a.mp4", "b.mp4"], "meta": {}}  # fmt: skip
    (one,) = imported(write_json(tmp_path / "w.json", [swift]), expect="solireward")
    assert said(one)["label"] == "i"


def test_solireward_candidates_keep_their_own_prompts_and_groups_do_not_run_together(tmp_path: Path) -> None:
    def row(win: str, lose: str, *prompts: str) -> dict[str, object]:
        sides = zip(("win", "lose"), (win, lose), (1, 0), prompts or ("", ""), strict=True)
        return {name: {"video_path": file, "quality": q, "prompt": said} for name, file, q, said in sides}

    rows = [row("a.mp4", "b.mp4", "a dog", "a cat"), row("c.mp4", "d.mp4", "a dog", "a dog"),
            row("e.mp4", "f.mp4"), row("g.mp4", "h.mp4")]  # fmt: skip
    found = imported(write_json(tmp_path / "s.json", rows), expect="solireward")
    first, second, *_ = (pairs(one, tmp_path)[0] for one in found)
    assert (first.a.prompt, first.b.prompt) == ("a dog", "a cat") and second.a.prompt == "a dog"
    assert len({one.group for one in found}) == 4 and found[1].group == group_of("a dog")


def test_mmrb2_prompts_without_a_number_are_groups_of_their_own(tmp_path: Path) -> None:
    def row(name: str, prompt: str | None, number: int | None) -> dict[str, object]:
        sides = {f"response_{s}": {"model": s, "response_content": [["image", f"{s}.png"]]} for s in "ab"}
        said = {} if prompt is None else {"prompt_content": [["text", prompt]]}
        about = {} if number is None else {"id": number}
        return {
            "pair_id": name,
            "prompt_source": "emu",
            "prompt_metadata": about,
            "chosen": "A",
            **said,
            **sides,
        }

    rows = [row("1", "a dog", 3), row("2", "a dog", 3), row("3", "a cat", None), row("4", "a fox", None),
            row("5", None, None), row("6", None, None)]  # fmt: skip
    found = imported(write_json(tmp_path / "t2i.json", {"pairs": rows}), expect="mmrb2")
    groups = [str(to_record(one)["group"]) for one in found]
    assert groups[0] == groups[1] == "mmrb2:emu:3" and len(set(groups)) == 5


def test_mmrb2_strength_and_annotators(tmp_path: Path) -> None:
    row = {"pair_id": "p1", "prompt_source": "emu", "prompt_metadata": {"id": 3},
           "prompt_content": [["image", "input_images/a.png"], ["text", "make it red"]],
           "response_a": {"model": "x", "response_content": [["image", "images/1.png"]]},
           "response_b": {"model": "y", "response_content": [["image", "images/2.png"]]},
           "chosen": "A", "human_annotations": [6, 6, 3]}  # fmt: skip
    weak = row | {"pair_id": "p2", "chosen": "B", "human_annotations": [3, 3, 4]}
    (one, two) = imported(write_json(tmp_path / "edit.json", {"pairs": [row, weak]}), expect="mmrb2")
    assert said(one) == {"i": 0, "j": 1, "label": "i", "strength": 2}  # mean 5, 1.5 from the middle
    assert [n.data["label"] for n in one.annotations[1:]] == ["i", "i", "j"]
    assert said(two)["strength"] == 1 and said(two)["label"] == "j"
    assert (one.task, one.inputs[0].role, one.prompt, one.group) == (
        "edit",
        "source",
        "make it red",
        "mmrb2:emu:3",
    )
    assert one.prompt_parts == ({"type": "image", "media": 0}, {"type": "text", "value": "make it red"})
    both = [["text", "see "], ["image", "1.png"], ["text", "!"]]
    mixed = {"id": "q", "prompt_source": "s", "prompt_metadata": {}, "chosen": "B",
             "response_a": {"model_name": "x", "response_content": both},
             "response_b": {"model_name": "y", "response_content": [["text", "no"]]},
             "human_annotations": {"response_a_ratings": ["B", "C"], "response_b_ratings": ["A"]}}  # fmt: skip
    (one,) = imported(
        write_json(tmp_path / "reasoning_response_only.json", {"pairs": [mixed]}), expect="mmrb2"
    )
    assert one.candidates[0].text == "see <image>!" and one.candidates[0].uri == ("1.png",)
    assert one.candidates[1].type == "text"
    assert [n.data["scores"] for n in one.annotations if n.dim == "grade"] == [
        [2, None],
        [1, None],
        [None, 3],
    ]


def test_what_no_reward_is_given_is_counted(tmp_path: Path) -> None:
    def row(name: str, a: list[list[str]], *shown: str) -> dict[str, object]:
        answers = {"response_a": {"model": "x", "response_content": a},
                   "response_b": {"model": "y", "response_content": [["image", "2.png"]]}}  # fmt: skip
        prompt = [*(["image", one] for one in shown), ["text", "make it red"]]
        return {"pair_id": name, "prompt_source": "emu", "prompt_content": prompt, "chosen": "A", **answers}

    one, two = [["image", "1.png"]], [["image", "1.png"], ["image", "3.png"]]
    rows = [
        row("alone", one, "s.png"),
        row("references", one, "s.png", "t.png"),
        row("several", two),
        row("words", [["text", "no"]]),
    ]
    outcome = reading.Outcome()
    path = write_json(tmp_path / "edit.json", {"pairs": rows})
    found = list(reading.read(path, format="mmrb2", root=tmp_path, split="train", outcome=outcome))
    assert {made.id: made.is_for_rewards for made in found} == {
        "mmrb2-alone": True, "mmrb2-references": False, "mmrb2-several": False, "mmrb2-words": False,
    }  # fmt: skip
    assert (outcome.num_comparisons, outcome.num_not_for_rewards) == (4, 3)
    assert all("no reward" in about for name, about in listing() if name in ("mmrb2", "r1-reward"))


def test_visionreward_checklist(tmp_path: Path) -> None:
    row = {"internal_id": "7", "url": "u", "prompt": "p", "image": hub_image(5),
           "annotation": {"symmetry": 1, "detail realism": -3, "object pairing": 1}, "meta_result": [1, 0, 1],
           "meta_mask": [1, 1, 0]}  # fmt: skip
    (one,) = imported(write_parquet(tmp_path / "v.parquet", [row]), expect="visionrewarddb")
    assert said(one, "detail_realism") == {"scores": [-3], "min": -3, "max": 1, "ordinal": True}
    assert said(one, "object_pairing") == {"scores": [1], "ordinal": True}
    answers = [note.data["answers"] for note in one.annotations if note.kind == "checklist"]
    assert answers == [[1], [0], [None]]


@pytest.mark.parametrize(
    ("answer", "media", "expected"),
    [
        ("Image 2 is better than Image 1.", 2, {"i": 0, "j": 1, "label": "j"}),
        ("Both images are equally good.", 2, {"i": 0, "j": 1, "label": "tie", "tie_kind": "good"}),
        ("<answer>Image 1 is better</answer>", 2, {"i": 0, "j": 1, "label": "i"}),
        ("Final Score: 3.5", 1, {"scores": [3.5], "min": 1, "max": 5, "ordinal": True}),
    ],
)
def test_unifiedreward_words(tmp_path: Path, answer: str, media: int, expected: dict[str, object]) -> None:
    asked = "<image>\nJudge. Your task is provided as follows:\nText Caption: [a red fox]"
    turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]
    row = {"id": "1", "images": [f"{k}.jpg" for k in range(media)], "conversations": turns}
    (one,) = imported(write_json(tmp_path / "u.json", [row]), expect="unifiedreward")
    assert said(one) == expected and one.prompt == "a red fox"
    assert one.annotations[-1].data["texts"] == [answer]


def test_unifiedreward_scores_of_two_are_pairs_by_respect(tmp_path: Path) -> None:
    told = "Alignment Score:\n Image 1: 0.4357\n Image 2: 0.5643\n\nCoherence Score:\n Image 1: 0.5\n Image 2: 0.5\n"
    asked = {"from": "human", "value": "Compare.\nText Caption: [a red fox]"}

    def row(name: str, answer: str) -> dict[str, object]:
        return {
            "id": name,
            "images": ["a.jpg", "b.jpg"],
            "conversations": [asked, {"from": "gpt", "value": answer}],
        }

    path = write_json(tmp_path / "u.json", [row("1", told), row("2", told.replace("0.5643", "0.9"))])
    outcome = reading.Outcome()
    (one,) = reading.read(path, format="unifiedreward", root=tmp_path, split="train", outcome=outcome)
    assert said(one, "alignment") == {"i": 0, "j": 1, "label": "j", "p": 0.4357}
    assert said(one, "coherence") == {"i": 0, "j": 1, "label": "tie", "tie_kind": "unknown"}
    assert outcome.num_bad == 1 and "must sum to 1" in outcome.bad[0] and not outcome.left_out


def test_unifiedreward_of_a_video_has_five_respects_and_a_final_score_to_ten(tmp_path: Path) -> None:
    told = (
        "visual quality: 4\ntemporal consistency: 3\ndynamic degree: 2\ntext-to-video alignment: 1\n"
        "factual consistency: 2\nFinal Score: 6"
    )
    turns = [
        {"from": "human", "value": "<video>\nText Prompt: [a red fox]"},
        {"from": "gpt", "value": told},
    ]
    row = {"id": "1", "video": "fox.mp4", "conversations": turns}
    (one,) = imported(write_json(tmp_path / "u.json", [row]), expect="unifiedreward")
    ratings = {note.dim: (note.data["scores"], note.data["max"]) for note in one.annotations[:-1]}
    assert ratings == {
        "visual_quality": ([4], 4), "temporal_consistency": ([3], 4), "dynamic_degree": ([2], 4),
        "text_alignment": ([1], 4), "factual_consistency": ([2], 4), "overall": ([6], 10),
    }  # fmt: skip
    assert (one.task, one.prompt, one.candidates[0].type) == ("t2v", "a red fox", "video")


def test_unifiedreward_of_two_edits_has_their_source(tmp_path: Path) -> None:
    asked = "- Source Image (before editing)\n- Text Instruction\n\n### Criteria\nText instruction - make it red\n"
    turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": "Edited Image 2 is better."}]
    row = {"id": "1", "images": ["s.jpg", "a.jpg", "b.jpg"], "conversations": turns}
    (one,) = imported(write_json(tmp_path / "u.json", [row]), expect="unifiedreward")
    assert (one.task, one.prompt, [item.uri for item in one.inputs]) == ("edit", "make it red", ["s.jpg"])
    assert [c.uri for c in one.candidates] == ["a.jpg", "b.jpg"] and said(one)["label"] == "j"


def test_r1_reward(tmp_path: Path) -> None:
    text = "Judge.\n###### [Response 1]:\nA cat.  \n\n###### [Response 2]:\nA dog."
    content = [{"type": "text", "text": text}, {"type": "image", "image": "images/x.jpg"}]
    message = json.dumps([{"role": "user", "content": content}])
    row = {"message": message, "question": "What is it?", "answer": ["<answer>2</answer>"]}
    (one,) = imported(write_lines(tmp_path / "r.jsonl", [row]), expect="r1-reward")
    assert [c.text for c in one.candidates] == ["A cat.", "A dog."]
    assert said(one)["label"] == "j" and one.inputs[0].uri == "images/x.jpg" and one.task == "text"


def test_bad_rows_are_counted_with_their_line_and_harm_no_other(tmp_path: Path) -> None:
    good = {"prompt": "p", "file_path": ["a", "b"], "human_preference": [1, 0], "extra": 1}
    lines = [json.dumps(good), "{broken", json.dumps(good | {"human_preference": [1, 1]}), "[1]",
             json.dumps(good | {"prompt": ""}), json.dumps(good | {"prompt": "q"}), json.dumps(good)]  # fmt: skip
    path, outcome = tmp_path / "x.jsonl", reading.Outcome()
    path.write_text("\n".join(lines) + "\n")
    found = list(reading.read(path, format="hpdv2", root=tmp_path, split="train", outcome=outcome))
    assert [one.prompt for one in found] == ["p", "q"]
    assert [line.split(": ")[0] for line in outcome.bad] == [
        "x.jsonl:2",
        "x.jsonl:3",
        "x.jsonl:4",
        "x.jsonl:5",
    ]
    assert (outcome.num_bad, outcome.num_repeated, outcome.unknown_columns) == (4, 1, {"extra"})
    with pytest.raises(ValueError, match=r"x\.jsonl:2: is not valid JSON"):
        list(reading.read(path, format="hpdv2", root=tmp_path, split="train"))


def test_a_list_cut_short_keeps_what_came_before(tmp_path: Path) -> None:
    row = {"prompt": "p", "file_path": ["a", "b"], "human_preference": [1, 0]}
    (tmp_path / "t.json").write_text(json.dumps([row, row | {"prompt": "q"}], indent=1)[:-60])
    outcome = reading.Outcome()
    found = list(reading.read(tmp_path / "t.json", format="auto", root=tmp_path, split="x", outcome=outcome))
    assert len(found) == 1 and "cannot be read on: line " in outcome.bad[0]


def test_broken_characters_spoil_their_row_only(tmp_path: Path) -> None:
    good = json.dumps({"prompt": "p", "file_path": ["a", "b"], "human_preference": [1, 0]}).encode()
    broken, half = good.replace(b'"p"', b'"\xff"'), good.replace(b'"p"', b'"\\ud800"')
    (tmp_path / "x.jsonl").write_bytes(b"\n".join((broken, half, good)))
    (tmp_path / "x.json").write_bytes(b"[" + b",\n".join((broken, half, good)) + b"]")
    (tmp_path / "x.csv").write_bytes((HEADER + "a,b,\xff,A,A,A,,,,\na,b,dog,A,A,A,,,,\n").encode("latin-1"))
    for name, num in (("x.jsonl", 2), ("x.json", 2), ("x.csv", 1)):
        outcome = reading.Outcome()
        found = list(reading.read(tmp_path / name, format="auto", root=tmp_path, split="x", outcome=outcome))
        assert len(found) == 1 and outcome.num_bad == num, (name, outcome.bad)
        write_jsonl(tmp_path / "out.jsonl", found)


def test_rows_below_the_asked_confidence_are_left_out(tmp_path: Path) -> None:
    row = {"prompt": "p", "path1": "a.jpg", "path2": "b.jpg", "choice_dist": [9, 1]}
    path = write_json(tmp_path / "h.json", [row | {"confidence": c} for c in (0.5, 0.96)])
    outcome = reading.Outcome()
    (one,) = reading.read(
        path, format="hpdv3", root=tmp_path, split="x", min_confidence=0.95, outcome=outcome
    )
    assert one.meta["confidence"] == 0.96 and outcome.left_out == {"is less certain than asked": 1}


def test_formats_are_told_apart_and_named(tmp_path: Path) -> None:
    (tmp_path / "y.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no format known here: it has a, b"):
        reading.read(tmp_path / "y.csv", format="auto", root=tmp_path, split="train")
    with pytest.raises(ValueError, match="did you mean 'hpdv3'"):
        known("hpdv33")
    assert [name for name, _ in listing()] == list(FORMATS) and len(FORMATS) >= 24


def test_media_paths_are_told_from_the_output(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    row = {"prompt": "p", "file_path": ["a.jpg", "/abs/b.jpg"], "human_preference": [1, 0]}
    path = write_json(tmp_path / "in" / "t.json", [row])
    (one,) = reading.read(path, format="hpdv2", root=tmp_path, split="x")
    assert [c.uri for c in one.candidates] == ["in/a.jpg", "/abs/b.jpg"]
    (one,) = reading.read(path, format="hpdv2", root=tmp_path, split="x", media=tmp_path / "m")
    assert one.candidates[0].uri == "m/a.jpg"
