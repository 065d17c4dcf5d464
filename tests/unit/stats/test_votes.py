"""EM finds the annotators it was not told about, and never makes the votes less likely."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from mmalign.stats.peers import peer_review
from mmalign.stats.soft_labels import soft_labels, soft_shares
from mmalign.stats.votes import (
    Votes,
    bradley_terry,
    crowd_bradley_terry,
    dawid_skene,
)


def crowd(accuracy: list[float], num: int, rng: np.random.Generator) -> tuple[Votes, np.ndarray]:
    """Every annotator votes on every pair and is right with this chance."""
    truth = rng.integers(0, 2, num)
    rows = [
        (i, f"a{k}", int(t if rng.random() < right else 1 - t))
        for i, t in enumerate(truth.tolist())
        for k, right in enumerate(accuracy)
    ]
    return Votes.of(rows), truth


def test_dawid_skene_recovers_annotators_and_beats_the_majority() -> None:
    accuracy = [0.95, 0.9, 0.5, 0.5, 0.5, 0.5, 0.5]
    votes, truth = crowd(accuracy, 600, np.random.default_rng(0))
    found = dawid_skene(votes)
    np.testing.assert_allclose(found.reliability, accuracy, atol=0.06)
    majority = (votes.counts()[:, 1] > votes.counts()[:, 0]).astype(int)
    by_model = (found.p < 0.5).astype(int)
    assert (by_model == truth).mean() > (majority == truth).mean() + 0.1
    assert (np.diff(found.log_likelihood) >= -1e-9).all() and len(found.log_likelihood) > 2


def test_dawid_skene_by_hand_for_one_step() -> None:
    """Two annotators who agree on one pair: every step is an average of counts."""
    found = dawid_skene(Votes.of([("p", "x", 0), ("p", "y", 0)]), strength=0.0, num_steps=1)
    np.testing.assert_allclose(found.confusion[:, 0, 0], 1.0, atol=1e-2)
    assert found.posterior[0, 0] > 0.99 and found.p[0] > 0.99


def test_ties_and_who_always_says_first() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 500)
    rows = [
        (i, f"good{k}", int(t) if rng.random() < 0.85 else int(rng.integers(3)))
        for k in range(3)
        for i, t in enumerate(truth)
    ]
    rows += [(i, "lazy", 0) for i in range(500)]
    found = dawid_skene(Votes.of(rows), symmetric=False)
    lazy = found.confusion[-1]
    np.testing.assert_allclose(lazy[:, 0], 1.0, atol=0.05)  # whatever is true
    assert (found.posterior.argmax(1) == truth).mean() > 0.9
    swapped = dawid_skene(Votes.of([(i, a, (1, 0, 2)[v]) for i, a, v in rows]))
    np.testing.assert_allclose(swapped.p, 1 - dawid_skene(Votes.of(rows)).p, atol=1e-6)  # symmetric: a mirror


def features(num: int, careless: list[float], rng: np.random.Generator):
    weights = np.array([3.0, -2.0, 1.0, 0.0])
    x = rng.normal(size=(num, 4))
    who = rng.integers(0, len(careless), num)
    view = rng.random(num) < expit(x @ weights)
    blind = rng.random(num) < np.array(careless)[who]
    return weights, x, np.where(blind, rng.random(num) < 0.5, view).astype(float), who


def test_crowd_bradley_terry_finds_weights_and_the_careless() -> None:
    careless = [0.0, 0.1, 1.0, 1.0, 0.5]
    weights, x, y, who = features(4000, careless, np.random.default_rng(2))
    found = crowd_bradley_terry(x, y, who)
    np.testing.assert_allclose(found.attention, 1 - np.array(careless), atol=0.12)
    np.testing.assert_allclose(found.weights, weights, rtol=0.15, atol=0.15)
    plain = bradley_terry(x, y)
    assert np.linalg.norm(plain) < 0.6 * np.linalg.norm(weights)  # blind votes flatten the plain fit
    assert (np.diff(found.log_likelihood) >= -1e-9).all()


def test_an_annotator_who_turns_every_vote_round_is_used_not_lost() -> None:
    _, x, y, who = features(1500, [0.0, 0.0, 0.0], np.random.default_rng(3))
    y = np.where(who == 2, 1 - y, y)
    found = crowd_bradley_terry(x, y, who)
    assert found.attention[2] < -0.8 and (found.attention[:2] > 0.8).all()


def test_careful_annotators_leave_the_plain_fit_as_it_is() -> None:
    _, x, y, who = features(3000, [0.0, 0.0], np.random.default_rng(4))
    found, plain = crowd_bradley_terry(x, y, who).weights, bradley_terry(x, y)
    assert found @ plain / np.linalg.norm(found) / np.linalg.norm(plain) > 0.999


def test_bradley_terry_in_one_dimension_is_the_log_odds() -> None:
    made = bradley_terry(np.ones((4, 1)), [1, 1, 1, 0], ridge=1e-9)
    assert made[0] == pytest.approx(np.log(3), abs=1e-6)
    weighted = bradley_terry(np.ones((2, 1)), [1, 0], weight=[5.0, 1.0], ridge=1e-9)
    assert weighted[0] == pytest.approx(np.log(5), abs=1e-6)


def test_shares_keep_ties_apart_and_say_the_same_p() -> None:
    table = [[3, 1, 2], [1, 0, 1], [1, 1, 1], [0, 0, 1], [2, 5, 4]]
    shares = soft_shares(table, prior=2.0)
    np.testing.assert_allclose(shares[0], [4 / 8, 2 / 8, 2 / 8])
    np.testing.assert_allclose(shares[1], [0.625 - 0.25, 0.375 - 0.25, 0.5])  # the most votes: not shrunk
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    np.testing.assert_allclose(shares[:, 0] + shares[:, 2] / 2, soft_labels(table, prior=2.0))
    for prior in (0.02, 2.0, 200.0):
        rows = soft_shares(table, prior=prior)
        assert (rows >= 0).all()
        assert (rows[:, 2] >= rows.max(axis=1)).tolist() == [False, True, True, True, False]


def test_soft_labels_by_hand_and_fitted() -> None:
    np.testing.assert_allclose(soft_labels([[2, 0, 1]], prior=1.0), [3 / 4])
    agreed = soft_labels([[5, 0, 0], [0, 5, 0]] * 20)
    coins = soft_labels([[3, 2, 0], [2, 3, 0]] * 20)
    assert agreed[0] > 0.98 and 0.5 < coins[0] < 0.51  # unanimous votes are believed, coin-like ones are not
    with pytest.raises(ValueError, match="at least one"):
        soft_labels([[0, 0, 0]])


def test_peer_review_finds_the_turned_labels() -> None:
    rng = np.random.default_rng(5)
    truth = rng.normal(size=2000) * 4
    margins = [truth + rng.normal(size=2000) for _ in range(2)]
    clean = (truth > 0).astype(float)
    turned = rng.random(2000) < 0.25
    label = np.where(turned, 1 - clean, clean)
    review = peer_review(*margins, label)
    assert review.share_wrong == pytest.approx((0.25, 0.25), abs=0.04)
    assert turned[review.keep].mean() < 0.1 and review.keep[~turned].mean() > 0.95
    assert review.p[~turned].mean() > 0.9 > 0.3 > review.p[turned].mean()


def test_peer_review_leaves_ties_and_needs_both_to_object() -> None:
    margins = np.array([5.0, -5.0] * 100)
    label = np.array([1.0, 0.0] * 100)
    label[0], label[1] = 0.0, 0.5
    one_objects = peer_review(margins, np.where(np.arange(200) == 0, -5.0, margins), label)
    both = peer_review(margins, margins, label)
    assert one_objects.keep.all() and not both.keep[0] and both.keep[1:].all()
    with pytest.raises(ValueError, match="every label is a tie"):
        peer_review([1.0], [1.0], [0.5])


@pytest.mark.parametrize("prior, label", [((1.0, 4.0), [1.0]), ((4.0, 1.0), [0.3])])
def test_nonsense_is_refused(prior: tuple[float, float], label: list[float]) -> None:
    with pytest.raises(ValueError, match=r"faithful|votes must be"):
        crowd_bradley_terry([[1.0]], label, [0], prior=prior)
    with pytest.raises(ValueError, match="no votes"):
        Votes.of([])
