"""Verdict parsers: what they read, and that everything else is refused with the start of the answer."""

from __future__ import annotations

import math

import pytest

from rewardmodels.judges.verdicts import Check, Layout, Number, Unreadable, checks, read
from rewardmodels.judges.winners import outcome

TWO = Layout("json_list", (Number("success", 0, 25), Number("preservation", 0, 25)))
MARKS = Layout("json_fields", (Number("execution", 1, 5), Number("text", 1, 5, optional=True)))
LINES = Layout(
    "lines",
    (Number("physical_quality", 1, 4), Number("text_rendering", 1, 4, optional=True)),
    notes={"refined_prompt": "Refined prompt"},
)
TAG = Layout("tag", (Number("final", -10, 10),), key="score")


@pytest.mark.parametrize(
    "text",
    [
        '{"reasoning": "fine", "score": [20, 17.5]}',
        'Here you are:\n```json\n{"score": [20, 17.5]}\n```',
        'Draft {"score": [1, 1]} no, rather {"score": [20, 17.5], "why": {"score": "x"}}',
        '<think>{"score": [3, 3]}</think>{"score": [20.0, 17.5]}',
        '{"reasoning": "a line\nbreak", "score": [20, 17.5]}',
        '{\n"reasoning" : "fine",\n"score" : [20, 17.5],\n}',
    ],
)
def test_lists_in_json_are_read(text: str) -> None:
    assert read(text, TWO).scores == {"success": 20.0, "preservation": 17.5}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no JSON object"),
        ("The score is [20, 17].", "no JSON object"),
        ('{"score": [20]}', "list of 2"),
        ('{"score": [20, 17, 3]}', "list of 2"),
        ('{"score": 20}', "list of 2"),
        ('{"score": [20, 26]}', "outside 0 to 25"),
        ('{"score": [-1, 20]}', "outside"),
        ('{"score": [20, NaN]}', "outside"),
        ('{"score": [20, true]}', "no number"),
        ('{"score": [20, "17"]}', "no number"),
        ('{"score": [20, null]}', "missing"),
        ('{"score": [20, 1' + "0" * 400 + "]}", "outside"),
        ('{"score": [20, 17', "no JSON object"),
        ('<think>{"score": [20, 17]}', "no JSON object"),
        ("{" * 5000, "no JSON object"),
        ("[" * 100000, "no JSON object"),
    ],
)
def test_what_is_no_list_is_refused_with_a_quote(text: str, why: str) -> None:
    with pytest.raises(Unreadable, match=why) as caught:
        read(text, TWO)
    assert "the answer starts" in str(caught.value) and len(str(caught.value)) < 300
    assert " ".join(text.split())[:20].strip() in str(caught.value)


def test_fields_in_json_and_missing_ones() -> None:
    assert read('{"execution": 4, "text": {"score": 2, "why": "ok"}}', MARKS).scores == {
        "execution": 4,
        "text": 2,
    }
    assert math.isnan(read('{"execution": 4, "text": "N/A"}', MARKS).scores["text"])
    with pytest.raises(Unreadable, match='lacks "text"'):
        read('{"execution": 4}', MARKS)
    with pytest.raises(Unreadable, match="'execution' is missing"):
        read('{"execution": "N/A", "text": 3}', MARKS)


def test_lines_keep_decimals_and_take_the_last() -> None:
    text = (
        "I weigh everything.\nPhysical quality: 1\n\n**Physical Quality:** 3.5/4\n- Text rendering: N/A\n"
        "Refined prompt: a red circle,\nwell lit\n\nDone."
    )
    found = read(text, LINES)
    assert found.scores["physical_quality"] == 3.5 and math.isnan(found.scores["text_rendering"])
    assert found.notes == {"refined_prompt": "a red circle,\nwell lit"}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("3/5", "out of 5"),
        ("7", "outside"),
        ("good", "no number"),
        ("75%", "no number"),
        ("-3", "outside"),
        ("3rd", "no number"),
        ("", "no number"),
    ],
)
def test_bad_lines_are_refused(line: str, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        read(f"Physical quality: {line}\nText rendering: 2", LINES)


BOXED = Layout("boxed", (Number("following", 1, 5),))


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        (r"1. **A dog**: there\n**Final Alignment Rating: 4**\n\boxed{4}", 4.0),
        (r"\boxed{2} no, \boxed{{[3]}}", 3.0),
        (r"\ boxed { 5 }", 5.0),
    ],
)
def test_the_last_box_counts(answer: str, number: float) -> None:
    assert read(answer, BOXED).scores == {"following": number}


@pytest.mark.parametrize("answer", ["4", r"\boxed{}", r"\boxed{6}", r"\boxed{four}", r"<think>\boxed{4}"])
def test_no_box_no_number(answer: str) -> None:
    with pytest.raises(Unreadable):
        read(answer, BOXED)


def test_tags_keep_the_sign() -> None:
    assert read("so <score> -2.5 </score>", TAG).scores == {"final": -2.5}
    with pytest.raises(Unreadable, match="no <score>"):
        read("-2.5", TAG)
    with pytest.raises(Unreadable, match="no number"):
        read("<score>minus two</score>", TAG)


@pytest.mark.parametrize(
    ("text", "style", "expected"),
    [
        ("Image 1 is better than Image 2.", "sentence", 1.0),
        ("image b is slightly better than image a", "sentence", 0.0),
        ("At first Image 1 is better ... in all, Image 2 is better than Image 1.", "sentence", 0.0),
        ("Both images are equally good.", "sentence", 0.5),
        ("Both images are equally bad.", "sentence", 0.5),
        ("<answer>2</answer>", "tag", 0.0),
        ("<answer>Image 1 is better</answer>", "tag", 1.0),
        ("<answer>tie</answer>", "tag", 0.5),
        ("<think><answer>1</answer></think> <answer>second</answer>", "tag", 0.0),
        ('{"answer": "A"}', "json", 1.0),
        ('{"answer": "both equally good"}', "json", 0.5),
    ],
)
def test_winners(text: str, style: str, expected: float) -> None:
    assert outcome(text, style).first == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("I like the first one", "sentence"),
        ("<answer>3</answer>", "tag"),
        ("1", "tag"),
        ('{"answer": "C"}', "json"),
    ],
)
def test_no_winner_is_refused_with_a_quote(text: str, style: str) -> None:
    with pytest.raises(Unreadable, match="the answer starts"):
        outcome(text, style)  # type: ignore[arg-type]


def test_checks_are_lines_of_known_kinds() -> None:
    text = "Plan:\n1. [follow] the hat is red\n2. [keep] the dog\n- [mood] happy"
    assert checks(text, ("follow", "keep")) == (Check("follow", "the hat is red"), Check("keep", "the dog"))
    with pytest.raises(Unreadable, match="0 found"):
        checks("the hat is red", ("follow",))
    with pytest.raises(Unreadable, match="3 found"):
        checks("[keep] a\n[keep] b\n[keep] c", ("keep",), most=2)
