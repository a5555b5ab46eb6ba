"""Sets of images: closed forms, degenerate samples, a plain second count, invariances."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from scipy.stats import ortho_group

from brainvae_core.metrics import (
    aggregate_codes,
    frechet_distance,
    generated_scores,
    pca_basis,
    pca_frechet_distance,
    sample_precision,
    sample_recall,
)

# ---- fréchet distance ----


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
        (r"\(8, 3\).*\(3, 8\).*columns", frechet_distance, a, a.T),
        ("scores_b.*at least 2 rows", frechet_distance, a, a[:1]),
        ("scores_a.*not finite", frechet_distance, np.where(a == a[0, 0], np.inf, a), a),
    ]
    refused(cases)
    images = brains(6)
    cases = [
        ("d = 6 .* 1 to 5", pca_basis, images, 6),
        ("span only 2", pca_basis, np.concatenate([images[:3], images[:3]]), 3),
        ("not finite", pca_basis, np.where(images == images[0, 0, 0], np.nan, images), 2),
    ]
    refused(cases)
    basis = pca_basis(images, 3)
    cases = [
        (r"\(6, 17, 12\).*12, 17", basis.project, images.transpose(0, 2, 1)),
        (
            r"images\[0\] has pixels that are not finite",
            lambda: basis.project(np.full_like(images, np.nan)),
        ),
        ("6 real and 5 generated", pca_frechet_distance, basis, images, images[:5]),
    ]
    refused(cases)


# ---- precision and recall of samples ----


def cloud(n=40, d=5, seed=0, spread=1.0, shift=0.0):
    return np.random.default_rng(seed).normal(shift, spread, (n, d))


def both(real, generated, k=3):
    return sample_precision(real, generated, k), sample_recall(real, generated, k)


def counted(real, generated, k):
    """Point by point, ball by ball."""

    def covered(points, balls):
        hits = 0
        for point in points:
            for i, centre in enumerate(balls):
                others = np.delete(balls, i, axis=0)
                radius = sorted(np.sqrt(((others - centre) ** 2).sum(axis=1)))[k - 1]
                if np.sqrt(((point - centre) ** 2).sum()) <= radius:
                    hits += 1
                    break
        return hits / len(points)

    return covered(generated, real), covered(real, generated)


@pytest.mark.parametrize("k", [1, 3, 6])
def test_a_plain_count_agrees(k):
    real, generated = cloud(23, 3), cloud(23, 3, 1, spread=1.4, shift=0.5)
    assert both(real, generated, k) == pytest.approx(counted(real, generated, k))


def test_nonsense_is_neither_precise_nor_recalled():
    a = cloud(8, 3)
    cases = [
        (r"real \(8, 3\) and generated \(7, 3\)", sample_precision, a, a[:7]),
        ("k=8 neighbours of 8 images; 1 to 7", sample_precision, a, a, 8),
        (
            "generated has entries that are not finite",
            lambda: sample_precision(a, np.where(a == a[0, 0], np.nan, a)),
        ),
    ]
    refused(cases)


# ---- codes of the aggregate posterior ----

IMAGES = np.random.default_rng(0).random((5, 4, 6)).astype(np.float32)
OTHERS = 1 + np.random.default_rng(1).random((4, 4, 6)).astype(np.float32)


class Points:
    def encode(self, images):
        return np.stack([images.mean(axis=(1, 2)), images[:, 0, 0]], axis=1)


class Clouds(Points):
    def posterior(self, images):
        return self.encode(images), np.full((len(images), 2), [0.5, 0.0])


def test_without_a_posterior_they_are_codes_of_brains_each_as_often_as_another():
    codes = aggregate_codes(Points(), IMAGES, 5000)
    own = Points().encode(IMAGES)
    which = np.abs(codes[:, None] - own).max(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(codes, own[which])
    np.testing.assert_allclose(np.bincount(which) / 5000, 0.2, atol=0.03)


def test_with_one_its_noise_is_drawn():
    codes = aggregate_codes(Clouds(), IMAGES, 20000)
    own = Points().encode(IMAGES)
    assert codes.dtype == np.float32 and codes.shape == (20000, 2)
    assert codes[:, 0].var() == pytest.approx(own[:, 0].var() + 0.25, rel=0.05)
    assert set(codes[:, 1]) <= set(own[:, 1])


def test_draws_follow_from_the_seed():
    first, again, other = (aggregate_codes(Clouds(), IMAGES, 7, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


class Painter(Clouds):
    latent_dim = 2

    def decode(self, z):
        return np.ones((len(z), 4, 6)) * z[:, :1, None] + 0.1 * z[:, 1:, None]


def test_images_of_three_kinds_are_as_many_scores_in_the_basis():
    basis = pca_basis(IMAGES, 3)
    found = generated_scores(Painter(), basis, OTHERS, IMAGES, seed=3)
    assert {kind: scores.shape for kind, scores in found.items()} == dict.fromkeys(
        ("reconstructions", "prior samples", "aggregate posterior"), (4, 3)
    )
    no_prior = generated_scores(Painter(), basis, OTHERS, IMAGES, has_prior=False)
    assert set(no_prior) == {"reconstructions", "aggregate posterior"}
    again = generated_scores(Painter(), basis, OTHERS, IMAGES, seed=3)
    np.testing.assert_array_equal(again["prior samples"], found["prior samples"])


def test_others_are_reconstructed_and_the_aggregate_posterior_is_of_training_brains():
    model, basis = Painter(), pca_basis(IMAGES, 3)
    found = generated_scores(model, basis, OTHERS, IMAGES, seed=3)
    codes = {
        "reconstructions": model.encode(OTHERS),
        "aggregate posterior": aggregate_codes(model, IMAGES, len(OTHERS), seed=3),
    }
    for kind, z in codes.items():
        np.testing.assert_allclose(found[kind], basis.project(model.decode(z)), err_msg=kind)


def test_a_latents_prior_is_standard_normal():
    basis = pca_basis(IMAGES, 1)
    found = generated_scores(Painter(), basis, np.repeat(OTHERS, 5000, axis=0), IMAGES)
    prior = found["prior samples"] - basis.project(Painter().decode(np.zeros((1, 2))))
    one_step = np.abs(basis.components.sum()) * np.hypot(1, 0.1)
    assert prior.std() == pytest.approx(one_step, rel=0.02)
    assert prior.mean() == pytest.approx(0, abs=0.03 * one_step)


def test_nonsense_generates_nothing():
    with pytest.raises(ValueError, match="n=0: draw at least 1"):
        aggregate_codes(Points(), IMAGES, 0)
    with pytest.raises(ValueError, match="images is"):
        aggregate_codes(Points(), IMAGES[:0], 3)
