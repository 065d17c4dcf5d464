"""What a judge is taught to write is what its parser reads, for every judge file that can be trained."""

from __future__ import annotations

import math

import pytest

from rewardmodels.judges.settings import FOLDER, Ask, Pair, Points, Principles, read_judge
from rewardmodels.judges.text import layout_of
from rewardmodels.judges.verdicts import Layout, Number, checks, read, tagged
from rewardmodels.judges.winners import PARTS, outcome
from rewardmodels.judges.writing import (
    examples,
    grid,
    holds_text,
    on_grid,
    outcome_text,
    pieces,
    plan_text,
    verdict_text,
)

FILES = sorted(file.stem for file in FOLDER.glob("*.yaml"))
CRITIQUES = ("", "It is 3 of 4 well made.")


def kinds(kind: type) -> list[str]:
    return [name for name in FILES if isinstance(read_judge(name).judge, kind)]


PAIRS = [name for name in kinds(Pair) if getattr(read_judge(name).judge, "style", "") != "probability"]


def in_order(text: str) -> list[str]:
    """The pieces of a text, as often as they come."""
    made: list[str] = []
    while text := text.lstrip(" "):
        made.append(pieces([text])[0])
        text = text[len(made[-1]) :]
    return made


def spaced(text: str) -> str:
    """As a tokenizer without a decoder writes it."""
    return " ".join(in_order(text))


def asks() -> list[tuple[str, Ask]]:
    return [
        (f"{name}-{ask.name}", ask)
        for name in kinds(Points)
        for ask in read_judge(name).judge.asks  # type: ignore[union-attr]
    ]


@pytest.mark.parametrize("critique", CRITIQUES, ids=["bare", "critique"])
@pytest.mark.parametrize(("name", "ask"), asks(), ids=[name for name, _ in asks()])
def test_numbers_are_read_as_they_were_written(name: str, ask: Ask, critique: str) -> None:
    layout = layout_of(ask)
    if not layout.fields:
        if critique:
            assert read(verdict_text({}, layout, critique), layout).scores == {}
        else:
            with pytest.raises(ValueError, match="needs a critique"):
                verdict_text({}, layout)
        return
    for place in range(26):  # every field at another place of its range
        known = {f.name: grid(f) for f in layout.fields}
        said = {n: row[(place + 7 * k) % len(row)] for k, (n, row) in enumerate(known.items())}
        text = verdict_text(said, layout, critique)
        assert read(text, layout).scores == said and read(spaced(text), layout).scores == said
    for field in layout.fields:
        missing = {**said, field.name: math.nan}
        if field.optional:
            text = verdict_text(missing, layout, critique)
            for found in (read(text, layout).scores, read(spaced(text), layout).scores):
                assert math.isnan(found[field.name])
        else:
            with pytest.raises(ValueError, match="cannot be N/A"):
                verdict_text(missing, layout, critique)


@pytest.mark.parametrize("critique", CRITIQUES, ids=["bare", "critique"])
@pytest.mark.parametrize("name", PAIRS)
def test_the_better_of_two_is_read_as_it_was_written(name: str, critique: str) -> None:
    judge = read_judge(name).judge
    assert isinstance(judge, Pair) and judge.style != "probability"
    for first in (1.0, 0.0, 0.5):
        text = outcome_text(first, judge, critique)
        for found in (outcome(text, judge.style, judge.key), outcome(spaced(text), judge.style, judge.key)):
            side = 0.5 if found.first == 0.5 else float(found.first > 0.5)
            assert side == first and set(found.parts) == set(PARTS.get(judge.style, ()))
            assert all((one > other) - (one < other) == 2 * first - 1 for one, other in found.parts.values())


@pytest.mark.parametrize("name", kinds(Principles))
def test_plans_and_what_holds_are_read_as_they_were_written(name: str) -> None:
    judge = read_judge(name).judge
    assert isinstance(judge, Principles)
    wanted = {kind: f"{kind}: make it red" for kind in judge.kinds}
    for text in (plan_text(wanted), spaced(plan_text(wanted))):
        found = {check.kind: check.text.replace(" :", ":") for check in checks(text, tuple(judge.kinds))}
        assert found == wanted
    for share, word in ((0.0, "no"), (0.3, "no"), (0.5, "partly"), (0.7, "yes"), (1.0, "yes")):
        text = holds_text(share, "It is so.")
        assert tagged(text, "answer") == word and tagged(spaced(text), "answer").strip() == word


@pytest.mark.parametrize("name", FILES)
def test_all_that_can_be_taught_is_made_of_the_pieces(name: str) -> None:
    """Nothing but whitespace is lost when a text is cut."""
    texts = list(examples(read_judge(name), "Fine."))
    known = set(pieces(texts))
    for text in texts:
        assert "".join("".join(in_order(text)).split()) == "".join(text.split())
        assert set(in_order(text)) <= known


def test_places_in_a_range_are_answers() -> None:
    whole, share = Number("x", 1, 5), Number("x", 0, 1)
    assert [on_grid(at, whole) for at in (-1.0, 0.0, 0.3, 0.5, 0.99, 7.0)] == [1, 1, 2, 3, 5, 5]
    assert grid(share)[3] == 0.3 and on_grid(0.34, share) == 0.3
    assert verdict_text({"x": 0.3}, Layout("lines", (share,))) == "X: 0.3"
