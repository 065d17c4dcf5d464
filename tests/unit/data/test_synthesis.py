"""Which pairs are sure enough: every filter by hand, in its order, and every dropped pair under one reason."""

from __future__ import annotations

import math

import pytest

from mmalign.data.labels import views
from mmalign.data.synthesis import Account, Rules, Scored, comparisons, groups_of, propose, settle


def samples(*scores: float | None, prompt: str = "p", **helpers: tuple[float | None, ...]) -> list[Scored]:
    return [
        Scored(f"{prompt}{k}", f"{prompt}{k}.png", prompt, score, None if score is not None else "damaged",
               {name: values[k] for name, values in helpers.items()})
        for k, score in enumerate(scores)
    ]  # fmt: skip


def kept(found: list[Scored], rules: Rules, **more: object) -> tuple[list[tuple[str, str]], Account]:
    account = Account()
    proposals = propose(groups_of(found, account), rules, account)
    settled = settle(proposals, rules, account, **more)  # type: ignore[arg-type]
    assert (
        account.kept + sum(account.dropped.values()) == account.num_pairs
    )  # nothing is lost or counted twice
    return [(one.i.id, one.j.id) for one in settled], account


def test_every_ordered_pair_without_rules_but_no_tie() -> None:
    found, account = kept(samples(0.5, 0.2, 0.5), Rules())
    assert found == [("p0", "p1"), ("p2", "p1")]
    assert account.dropped == {"scores too close": 1}


def test_margin_floor_and_rank() -> None:
    four = samples(0.1, 0.9, 0.4, 0.6)
    assert kept(four, Rules(rank="extremes"))[0] == [("p1", "p0")]
    assert kept(four, Rules(rank=2))[0] == [("p1", "p2"), ("p1", "p0"), ("p3", "p2"), ("p3", "p0")]
    assert kept(four, Rules(rank=9))[0] == kept(four, Rules(rank=2))[0]
    found, account = kept(four, Rules(margin=0.5))
    assert found == [("p1", "p2"), ("p1", "p0"), ("p3", "p0")] and account.dropped == {"scores too close": 3}
    assert kept(four, Rules(floor=0.8))[0] == [("p1", "p3"), ("p1", "p2"), ("p1", "p0")]


def test_the_top_share_is_over_all_prompts() -> None:
    found = samples(0.9, 0.1, prompt="a") + samples(0.5, 0.1, prompt="b") + samples(0.3, 0.1, prompt="c")
    assert kept(found, Rules(top_share=1 / 3))[0] == [("a0", "a1")]
    assert kept(found, Rules(top_share=0.5))[0] == [("a0", "a1"), ("b0", "b1")]


def test_what_has_no_score_is_in_no_pair() -> None:
    account = Account()
    groups = groups_of(samples(0.5, None, 0.1) + samples(0.7, None, prompt="q"), account)
    assert [[one.id for one in group] for group in groups] == [["p0", "p2"]]
    assert (account.num_groups, account.lonely_groups, account.unscored) == (2, 1, {"damaged": 2})


def test_the_pairwise_judge_must_name_the_same_winner() -> None:
    verdicts: list[float | str] = [0.9, 0.5, "no answer"]
    found, account = kept(samples(0.9, 0.5, 0.1), Rules(), verdicts=verdicts, judge="J")
    assert found == [("p0", "p1")]
    assert account.dropped == {"J does not confirm": 1, "J cannot say: no answer": 1}
    assert account.as_dict()["agreement"] == {"J": 0.5}
    assert kept(samples(0.9, 0.5), Rules(pair_confidence=0.95), verdicts=[0.9])[0] == []


def test_helpers_must_agree_all_or_a_number_of_them() -> None:
    three = samples(0.9, 0.5, 0.1, h=(3.0, 1.0, 2.0), g=(5.0, 4.0, None))
    found, account = kept(three, Rules())
    assert found == [("p0", "p1")]
    assert account.dropped == {"helper g has no score": 1, "helpers disagree": 1}
    assert kept(three, Rules(helpers_needed=1))[0] == [("p0", "p1"), ("p0", "p2")]
    assert kept(three, Rules(helpers_needed=0))[0] == [("p0", "p1"), ("p0", "p2"), ("p1", "p2")]
    assert kept(three, Rules(helper_margin=1.5))[0] == []
    assert account.asked == {"h": 3, "g": 1} and account.agreed == {"h": 2, "g": 1}


def test_comparisons_say_what_was_kept_in_an_order_that_tells_nothing() -> None:
    rules, account, firsts = Rules(rank="extremes", temperature=0.5), Account(), 0
    found = [
        one for k in range(60) for one in samples(0.1, 0.9, 0.5, prompt=f"prompt {k} ", h=(1.0, 2.0, 0.0))
    ]
    settled = settle(propose(groups_of(found, account), rules, account), rules, account)
    for one in comparisons(settled, rules=rules, reward="r", split="train", source="s"):
        (label,) = views(one.annotations).pairs
        better = label.i if (label.p or 0.0) > 0.5 else label.j
        assert one.candidates[better].id.endswith("1") and len(one.candidates) == 2
        assert max(label.p or 0, 1 - (label.p or 0)) == pytest.approx(1 / (1 + math.exp(-0.8 / 0.5)))
        assert one.candidates[better].meta == {"score": 0.9, "helpers": {"h": 2.0}}
        assert one.annotations[0].data["gap"] == pytest.approx(0.8)
        firsts += better == 0
    assert 18 < firsts < 42


def test_edits_and_videos_have_their_tasks() -> None:
    def task(**fields: object) -> str:
        two = [Scored(str(k), f"{k}.x", "p", float(k), **fields) for k in range(2)]  # type: ignore[arg-type]
        account = Account()
        settled = settle(propose(groups_of(two, account), Rules(), account), Rules(), account)
        (one,) = comparisons(settled, rules=Rules(), reward="r", split="s", source="s")
        return one.task

    assert task() == "t2i" and task(source="s.png") == "edit"
    assert task(video=True) == "t2v" and task(video=True, source="s.mp4") == "v2v"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rank": 0}, "a number from 1"),
        ({"top_share": 0.0}, "top_share"),
        ({"margin": -1.0}, "margins"),
        ({"pair_confidence": 0.4}, "pair_confidence"),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_rules_that_make_no_sense_are_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rules(**fields)  # type: ignore[arg-type]
