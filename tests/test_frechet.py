"""Fréchet distance: closed forms, degenerate samples, invariances, and the PCA basis."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from scipy.stats import ortho_group

from brainvae_core.metrics import (
    frechet_distance,
    pca_basis,
    pca_frechet_distance,
)


def sample(n, d, seed=0, shift=0.0):
    """Correlated, with unequal spreads."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + shift


def exactly(scores, mean, covariance):
    """The same sample, moved so that its mean and covariance are these to rounding."""
    centred = scores - scores.mean(axis=0)
    whiten = np.linalg.inv(np.linalg.cholesky(np.cov(centred.T))).T
    return centred @ whiten @ np.linalg.cholesky(covariance).T + mean


def by_matrix_square_root(a, b):
    """The textbook form in 50 digits."""
    with mpmath.workdps(50):
        centred_a, centred_b = (mpmath.matrix((s - s.mean(axis=0)).tolist()) for s in (a, b))
        cov_a = centred_a.T * centred_a / (len(a) - 1)
        cov_b = centred_b.T * centred_b / (len(b) - 1)
        values, _ = mpmath.eig(cov_a * cov_b)
        overlap = sum(mpmath.sqrt(abs(mpmath.re(v))) for v in values)
        trace = sum(cov_a[i, i] + cov_b[i, i] for i in range(cov_a.rows))
        return float(((a.mean(0) - b.mean(0)) ** 2).sum() + trace - 2 * overlap)


def brains(n, shape=(12, 17), seed=0, noise=0.01):
    """A few smooth ways of varying, and noise."""
    rng = np.random.default_rng(seed)
    ways = np.random.default_rng(99).random((4, *shape))
    weights = rng.standard_normal((n, 4)) * [0.2, 0.1, 0.05, 0.02]
    images = 0.5 + np.tensordot(weights, ways, 1) + noise * rng.standard_normal((n, *shape))
    return images.astype(np.float32)


def test_diagonal_gaussians_have_the_closed_form():
    mean_a, mean_b = np.array([0.0, 1.0, -2.0]), np.array([0.5, 1.0, 1.0])
    std_a, std_b = np.array([1.0, 2.0, 0.5]), np.array([3.0, 2.0, 0.1])
    a = exactly(sample(20, 3, 1), mean_a, np.diag(std_a**2))
    b = exactly(sample(31, 3, 2), mean_b, np.diag(std_b**2))
    expected = ((mean_a - mean_b) ** 2).sum() + ((std_a - std_b) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("n_a", "n_b", "d"), [(30, 41, 1), (30, 41, 4), (60, 50, 8)])
def test_full_covariances_agree_with_a_matrix_square_root_in_50_digits(n_a, n_b, d):
    a, b = sample(n_a, d, 3), sample(n_b, d, 4, shift=0.7)
    assert frechet_distance(a, b) == pytest.approx(by_matrix_square_root(a, b), rel=1e-9)


def test_fewer_samples_than_dimensions():
    a, b = sample(5, 9, 5), sample(7, 9, 6)
    assert frechet_distance(a, b) == pytest.approx(by_matrix_square_root(a, b), rel=1e-9)
    # A flat sample has no overlap in the direction it lacks.
    flat = sample(40, 3, 7) * [1, 1, 0]
    upright = np.zeros((25, 3))
    upright[:, 2] = np.random.default_rng(8).standard_normal(25)
    spread = flat.var(axis=0, ddof=1).sum() + upright.var(axis=0, ddof=1).sum()
    shift = ((flat.mean(0) - upright.mean(0)) ** 2).sum()
    assert frechet_distance(flat, upright) == pytest.approx(spread + shift, rel=1e-12)


@pytest.mark.parametrize(("n", "d"), [(50, 6), (4, 9), (2, 1)])
def test_a_sample_and_itself_are_at_0(n, d):
    a = sample(n, d)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-9)


def test_a_translation_costs_its_squared_length():
    a, move = sample(20, 5), np.array([1.0, -2.0, 0.5, 0.0, 3.0])
    assert frechet_distance(a, a + move) == pytest.approx((move**2).sum(), rel=1e-9)
    costs = [frechet_distance(a, a + step * move) for step in (0, 0.1, 0.5, 1, 2)]
    assert (np.diff(costs) > 0).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(2, 12), m=st.integers(2, 12), d=st.integers(2, 7))
def test_symmetric_not_negative_and_blind_to_rotations(seed, n, m, d):
    a, b = sample(n, d, seed), sample(m, d, seed + 1, shift=0.3)
    rotation = ortho_group.rvs(d, random_state=seed)
    distance = frechet_distance(a, b)
    assert distance >= 0
    assert frechet_distance(b, a) == pytest.approx(distance, rel=1e-9, abs=1e-9)
    rotated = frechet_distance(a @ rotation, b @ rotation)
    assert rotated == pytest.approx(distance, rel=1e-9, abs=1e-9)


def test_the_distance_falls_with_n():
    def floor(n):
        return np.mean([frechet_distance(*np.split(sample(2 * n, 6, s), 2)) for s in range(10)])

    assert floor(10) > 2 * floor(60)


@pytest.mark.parametrize("n", [9, 40])
def test_the_basis_is_that_of_a_singular_value_decomposition(n):
    images = brains(n, noise=0.05)
    basis = pca_basis(images, 6)
    flat = images.reshape(n, -1).astype(np.float64)
    scores, values, components = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    assert basis.mean.shape == (12, 17) and basis.components.shape == (6, 12, 17)
    np.testing.assert_allclose(basis.mean, flat.mean(axis=0).reshape(12, 17), atol=1e-12)
    found = basis.components.reshape(6, -1)
    np.testing.assert_allclose(found @ found.T, np.eye(6), atol=1e-9)
    np.testing.assert_allclose(np.abs((found * components[:6]).sum(axis=1)), 1, atol=1e-9)
    projected = basis.project(images)
    assert projected.shape == (n, 6) and projected.dtype == np.float64
    np.testing.assert_allclose(np.abs(projected), np.abs(scores * values)[:, :6], atol=1e-8)


def test_blocks_change_nothing(monkeypatch):
    images = brains(11)
    whole = pca_basis(images, 5)
    monkeypatch.setattr("brainvae_core.metrics.frechet.BLOCK", 3 * 12 * 17 + 1)
    parts = pca_basis(images, 5)
    np.testing.assert_allclose(parts.project(images), whole.project(images), atol=1e-9)


def test_the_basis_is_nested():
    images = brains(20)
    small, large = pca_basis(images, 3), pca_basis(images, 8)
    np.testing.assert_allclose(large.components[:3], small.components, atol=1e-9)


def test_pca_distance_sees_what_generated_images_lack():
    basis, real, other = pca_basis(brains(60, seed=1), 6), brains(40, seed=2), brains(40, seed=3)
    floor = pca_frechet_distance(basis, real, other)
    collapsed = np.repeat(basis.mean[np.newaxis], 40, axis=0)
    assert pca_frechet_distance(basis, real, real) == pytest.approx(0, abs=1e-9)
    assert floor < pca_frechet_distance(basis, real, 0.5 * (other + basis.mean)) / 2
    spread = basis.project(real)
    worst = spread.var(axis=0, ddof=1).sum() + (spread.mean(axis=0) ** 2).sum()
    assert pca_frechet_distance(basis, real, collapsed) == pytest.approx(worst, rel=1e-9)


def test_nonsense_is_refused_by_name():
    a = sample(8, 3)
    cases = [
        (r"\(8, 3\).*\(3, 8\).*columns", lambda: frechet_distance(a, a.T)),
        ("scores_b.*at least 2 rows", lambda: frechet_distance(a, a[:1])),
        ("scores_a.*not finite", lambda: frechet_distance(np.where(a == a[0, 0], np.inf, a), a)),
    ]
    refused(cases)
    images = brains(6)
    cases = [
        ("d = 6 .* 1 to 5", lambda: pca_basis(images, 6)),
        ("span only 2", lambda: pca_basis(np.concatenate([images[:3], images[:3]]), 3)),
        ("not finite", lambda: pca_basis(np.where(images == images[0, 0, 0], np.nan, images), 2)),
    ]
    refused(cases)
    basis = pca_basis(images, 3)
    cases = [
        (r"\(6, 17, 12\).*12, 17", lambda: basis.project(images.transpose(0, 2, 1))),
        (
            r"images\[0\] has pixels that are not finite",
            lambda: basis.project(np.full_like(images, np.nan)),
        ),
        ("6 real and 5 generated", lambda: pca_frechet_distance(basis, images, images[:5])),
    ]
    refused(cases)
