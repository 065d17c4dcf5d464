"""Measures of sets against closed forms: Gaussians, copies, orthogonal features."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from mmalign.stats.sets import (
    Gaussian,
    frechet,
    frechet_to,
    kernel,
    leave_one_out,
    mahalanobis,
    nearest,
    vendi,
)

RNG = np.random.default_rng(0)


def test_frechet_of_diagonal_gaussians_is_a_sum_over_axes() -> None:
    a = Gaussian(np.array([0.0, 1.0, 2.0]), np.diag([1.0, 4.0, 9.0]))
    b = Gaussian(np.array([1.0, 1.0, 0.0]), np.diag([4.0, 4.0, 1.0]))
    assert frechet(a, b) == pytest.approx((1 + 0 + 4) + (1 + 0 + 4))
    assert frechet(a, a) == pytest.approx(0.0, abs=1e-12) and frechet(a, b) == pytest.approx(frechet(b, a))


def test_frechet_of_full_covariances_is_that_of_the_matrix_root() -> None:
    x, y = RNG.normal(size=(50, 6)) @ RNG.normal(size=(6, 6)), RNG.normal(size=(70, 6)) + 1
    a, b = Gaussian.of(x), Gaussian.of(y)
    root = sqrtm(a.covariance @ b.covariance).real
    expected = np.sum((a.mean - b.mean) ** 2) + np.trace(a.covariance + b.covariance - 2 * root)
    assert frechet(a, b) == pytest.approx(expected, rel=1e-8)
    np.testing.assert_allclose(a.covariance, np.cov(x, rowvar=False))


def test_fewer_samples_than_features_is_the_same_number() -> None:
    few, reference = RNG.normal(size=(5, 12)), Gaussian.of(RNG.normal(size=(60, 12)) * 2)
    assert frechet_to(few, reference) == pytest.approx(frechet(Gaussian.of(few), reference), rel=1e-8)
    with pytest.raises(ValueError, match="two or more"):
        frechet_to(few[:1], reference)
    with pytest.raises(ValueError, match="12 and 3 features"):
        frechet_to(few, Gaussian.of(RNG.normal(size=(9, 3))))


def test_vendi_counts_kinds() -> None:
    assert vendi(np.eye(5)) == pytest.approx(5.0) and vendi(np.ones((7, 3))) == pytest.approx(1.0)
    kinds = np.repeat(np.eye(3), [4, 4, 4], axis=0)
    assert vendi(kinds) == pytest.approx(3.0) and vendi(kinds, order=0.5) == pytest.approx(3.0)
    share = np.array([0.9, 0.1])
    uneven = np.repeat(np.eye(2), [9, 1], axis=0)
    assert vendi(uneven) == pytest.approx(np.exp(-np.sum(share * np.log(share))))
    assert vendi(uneven, order=2.0) == pytest.approx(1 / np.sum(share**2))
    assert vendi(uneven * 17) == pytest.approx(vendi(uneven))


def test_credit_goes_to_the_one_that_is_different() -> None:
    features = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    credit = leave_one_out(vendi, features)
    share = np.array([2 / 3, 1 / 3])
    whole = np.exp(-np.sum(share * np.log(share)))
    np.testing.assert_allclose(credit, [whole - 2, whole - 2, whole - 1])


def test_frechet_credit_goes_to_what_lies_on_the_reference_side() -> None:
    reference = Gaussian(np.zeros(2), np.eye(2))
    rows = np.vstack([RNG.normal(size=(20, 2)), [[30.0, 30.0]]])
    credit = leave_one_out(lambda x: -frechet_to(x, reference), rows)
    assert credit.argmin() == 20 and credit[20] < 0


def test_closeness_to_exemplars() -> None:
    exemplars = np.array([[1.0, 0.0], [0.0, 2.0]])
    np.testing.assert_allclose(
        nearest([[5.0, 0.0], [1.0, 1.0], [-1.0, -1.0]], exemplars, num=1), [1, 0.5**0.5, -(0.5**0.5)]
    )
    np.testing.assert_allclose(nearest([[5.0, 0.0]], exemplars, num=9), [0.5])
    np.testing.assert_allclose(kernel([[1.0, 0.0]], exemplars, width=1.0), [(1 + np.exp(-2.5)) / 2])
    assert kernel([[0.5, 1.0]], exemplars) > kernel([[9.0, 9.0]], exemplars)
    unit = Gaussian(np.zeros(2), np.eye(2))
    np.testing.assert_allclose(mahalanobis([[3.0, 4.0]], unit), [-12.5])


def test_bad_features_are_refused() -> None:
    with pytest.raises(ValueError, match="finite numbers"):
        vendi([[float("nan"), 1.0]])
    with pytest.raises(ValueError, match="not all zero"):
        vendi([[0.0, 0.0]])
